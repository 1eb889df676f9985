"""The command `zconfig`, its global options and its subcommands."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from zconfig._cli.exit import fail
from zconfig._cli.options import epilog, global_options
from zconfig._version import __version__
from zconfig.errors import ZConfigError

COMMANDS = {
    "check": ("check:check", "Connect aliases and report the result."),
    "completion": ("generate:completion", "Print a shell's completion script."),
    "doctor": ("doctor:doctor", "Connect aliases and report each stage."),
    "env-example": ("generate:env_example_", "Print a .env file that explains every variable."),
    "exec": ("exec:exec_", "Run a program with an alias' values in its environment."),
    "explain": ("inspect:explain_", "Show where each value of an alias is set."),
    "init": ("generate:init", "Add an alias to a .env file that only you can read."),
    "list": ("inspect:list_", "List the configured aliases without connecting."),
    "schema": ("generate:schema", "Print a JSON Schema of the variables or of a result."),
    "version": ("inspect:version", "Show the versions of zconfig and its dependencies."),
    "wait": ("check:wait", "Wait until aliases are connected, then report the result."),
}
"""By name: the module and function of a command, and the first sentence of its help.

A command is imported when it is run: the help imports neither gRPC nor rich.
"""

# These do not read the configuration; they accept the global options, which have no effect.
_WITHOUT_CONFIGURATION = {"completion", "env-example", "schema", "version"}


class Commands(click.Group):
    """Commands that accept the global options also after their name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, function = COMMANDS[cmd_name][0].partition(":")
            self.add_command(getattr(import_module(f"zconfig._cli.{module}"), function))
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; import all for an unknown name, since click suggests similar ones."""
        if args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))  # as click does
        rows = [
            (name, click.Command(name, help=COMMANDS[name][1]).get_short_help_str(limit))
            for name in sorted(COMMANDS)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, with the global options that it does not define itself."""
        own = {spelling for parameter in cmd.params for spelling in parameter.opts}
        for each in global_options():
            if own.isdisjoint(each.opts):
                each.hidden = cmd.name in _WITHOUT_CONFIGURATION or each.name == "format"
                cmd.params.append(each)
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; end it with the message and exit code of an error of zconfig."""
        try:
            return super().invoke(ctx)
        except ZConfigError as error:
            message, code = str(error), error.exit_code
        return fail(message, code)


@click.group(
    cls=Commands,
    params=global_options(),
    epilog=epilog(),
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.version_option(__version__, prog_name="zconfig")
def zconfig() -> None:
    """Check, wait for, explain and diagnose connections to Milvus and Zilliz Cloud.

    Connections are configured by environment variables, .env files and secret managers. The options
    below are accepted before and after the command.
    """
