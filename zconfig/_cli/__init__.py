"""The command `zconfig`: results go to standard output, the log to standard error."""

import os
from typing import NoReturn

from zconfig._sources.environment import process_environment

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command."""
    # gRPC would log errors that the command reports itself; it reads this variable when it is
    # loaded.
    if "GRPC_VERBOSITY" not in process_environment():
        os.putenv("GRPC_VERBOSITY", "NONE")

    from zconfig._cli.app import zconfig
    from zconfig._cli.exit import run

    run(zconfig)
