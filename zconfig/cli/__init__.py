"""The command `zconfig`: results on standard output, the log on standard error."""

import os
from typing import NoReturn

from zconfig.sources.process import process_environment

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command."""
    # gRPC writes to standard error what the errors of the command say better; it looks for this
    # when it is loaded.
    if "GRPC_VERBOSITY" not in process_environment():
        os.putenv("GRPC_VERBOSITY", "NONE")

    from zconfig.cli.app import zconfig
    from zconfig.cli.ending import run

    run(zconfig)
