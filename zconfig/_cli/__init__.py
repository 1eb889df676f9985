"""The command `zconfig`: results on standard output, the log on standard error."""

import os
from typing import NoReturn

from zconfig._sources.environment import process_environment

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command."""
    # gRPC writes to standard error what the errors of the command say better; it looks for this
    # when it is loaded.
    if "GRPC_VERBOSITY" not in process_environment():
        os.putenv("GRPC_VERBOSITY", "NONE")

    from zconfig._cli.app import zconfig
    from zconfig._cli.exit import run

    run(zconfig)
