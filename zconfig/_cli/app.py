"""The command, with its global options and everything it can do."""

from __future__ import annotations

from typing import Any

import click

from zconfig._cli.check import check, wait
from zconfig._cli.doctor import doctor
from zconfig._cli.exec import exec_
from zconfig._cli.exit import fail
from zconfig._cli.generate import completion, env_example_, init, schema
from zconfig._cli.inspect import explain_, list_, version
from zconfig._cli.options import EXIT_CODES, global_options
from zconfig._version import __version__
from zconfig.errors import ZConfigError


class Commands(click.Group):
    """Commands that take the global options after their name, too."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, and to it the global options that it does not have by itself."""
        own = {spelling for parameter in cmd.params for spelling in parameter.opts}
        cmd.params += [each for each in global_options(hidden=True) if own.isdisjoint(each.opts)]
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and end with what zconfig says is wrong."""
        try:
            return super().invoke(ctx)
        except ZConfigError as error:
            message, code = str(error), error.exit_code
        return fail(message, code)


@click.group(cls=Commands, params=global_options(), epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="zconfig")
def zconfig() -> None:
    """Look after the connections to Zilliz Cloud and Milvus that the environment declares.

    The options may stand after the command as well.
    """


for _command in (
    check,
    wait,
    list_,
    explain_,
    doctor,
    exec_,
    init,
    schema,
    env_example_,
    completion,
    version,
):
    zconfig.add_command(_command)
