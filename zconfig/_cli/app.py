"""The command, with its global options and everything it can do."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from zconfig._cli.exit import fail
from zconfig._cli.options import EXIT_CODES, global_options
from zconfig._version import __version__
from zconfig.errors import ZConfigError

COMMANDS = {
    "check": ("check:check", "Connect ALIASES, by default all, and report."),
    "completion": (
        "generate:completion",
        "Print a script that completes commands, options and aliases in SHELL.",
    ),
    "doctor": ("doctor:doctor", "Look at each stage of connecting ALIASES, by default all."),
    "env-example": ("generate:env_example_", "Print a `.env` with every variable explained."),
    "exec": (
        "exec:exec_",
        (
            "Run COMMAND with the values of ALIAS, by default the default one, as environment"
            " variables."
        ),
    ),
    "explain": (
        "inspect:explain_",
        "Show where each value of ALIAS, by default of all, comes from.",
    ),
    "init": ("generate:init", "Declare a connection in a .env file that only you can read."),
    "list": ("inspect:list_", "List what is configured, and from where; nothing is connected."),
    "schema": (
        "generate:schema",
        "Print a JSON Schema of the variables, or of a command's JSON.",
    ),
    "version": (
        "inspect:version",
        "Show the versions of zconfig, Python, gRPC, pymilvus and Milvus Lite.",
    ),
    "wait": (
        "check:wait",
        "Wait until ALIASES, by default all, are connected, and report as `check` does.",
    ),
}
"""By name: the module and function of a command, and the first sentence of its help.

A command is imported when it is run: help needs neither gRPC nor rich.
"""


class Commands(click.Group):
    """Commands that take the global options after their name, too."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, function = COMMANDS[cmd_name][0].partition(":")
            self.add_command(getattr(import_module(f"zconfig._cli.{module}"), function))
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; click compares an unknown name with those it knows."""
        if args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, and import none."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))  # as click does
        rows = [
            (name, click.Command(name, help=COMMANDS[name][1]).get_short_help_str(limit))
            for name in sorted(COMMANDS)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

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
