"""The command `zconfig`: results on standard output, the log on standard error."""

from zconfig.cli.app import main

__all__ = ["main"]
