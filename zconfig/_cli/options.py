"""The options of the command, and the configuration and registry that they select."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property, wraps
from typing import Any, Literal, TypeVar, cast, get_args

import click
from click.shell_completion import CompletionItem

from zconfig._log import configure_logging, log_as_configured
from zconfig._origin import working_directory
from zconfig._registry import Connections
from zconfig._settings.configuration import Configuration
from zconfig._settings.fields import LONGEST_S
from zconfig._settings.load import load
from zconfig._sources.environment import process_environment
from zconfig.errors import ExitCode

_LOADER_OPTIONS = ("env_file", "profile", "secrets_dir", "strict")


class Session:
    """The global options of one run, and the registry, created on first use.

    Attributes:
        chosen: The global options that were given, by name.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, Any] = {}

    @property
    def is_quiet(self) -> bool:
        """Whether only failures are printed."""
        return "quiet" in self.chosen

    @property
    def is_verbose(self) -> bool:
        """Whether the lifecycle events are shown."""
        return "verbose" in self.chosen

    @cached_property
    def connections(self) -> Connections:
        """The registry; it reads all sources, and is closed when the command ends."""
        connections = Connections(self.configuration)
        if self.is_verbose:
            configure_logging("console", "debug")
        connections.subscribe(log_as_configured(lambda: connections.configuration.options))
        click.get_current_context().find_root().call_on_close(connections.close)
        return connections

    def configuration(self, *, remote: bool = True) -> Configuration:
        """Read the configuration.

        Args:
            remote: Whether to read also sources that may use the network.
        """
        given = {name: self.chosen[name] for name in _LOADER_OPTIONS if name in self.chosen}
        return load(process_environment(), working_directory(), given=given, remote=remote)


pass_session = click.make_pass_decorator(Session, ensure=True)


F = TypeVar("F", bound=Callable[..., Any])

Format = Literal["table", "json", "github", "junit"]
FORMATS: tuple[Format, ...] = get_args(Format)

EXIT_CODES = {
    ExitCode.OK: "success",
    ExitCode.UNEXPECTED: "unexpected error",
    ExitCode.USAGE: "invalid arguments or options",
    ExitCode.CONFIGURATION: "invalid configuration",
    ExitCode.UNREACHABLE: "server unreachable (DNS, refused, timeout)",
    ExitCode.TLS: "TLS failed",
    ExitCode.AUTHENTICATION: "credentials rejected, or permission denied",
    ExitCode.NOT_MILVUS: "the server is not Milvus",
    ExitCode.DATABASE_MISSING: "the database does not exist",
}
"""The meaning of each exit code."""
OFFLINE_CODES = (ExitCode.OK, ExitCode.UNEXPECTED, ExitCode.USAGE, ExitCode.CONFIGURATION)
"""The exit codes of a command that does not connect."""


def epilog(*examples: str, exit_codes: Iterable[ExitCode] = EXIT_CODES) -> str:
    """Return the end of a command's help: examples, then exit codes.

    Args:
        *examples: Command lines.
        exit_codes: The exit codes of the command; all by default.
    """
    codes = [f"{int(code)}  {EXIT_CODES[code]}" for code in exit_codes]
    parts = {f"Example{'s' if len(examples) > 1 else ''}:": examples, "Exit codes:": codes}
    shown = ((title, *(f"  {each}" for each in lines)) for title, lines in parts.items() if lines)
    return "\n\n".join("\n".join(("\b", *lines)) for lines in shown)


def global_options() -> list[click.Option]:
    """Return the options that are accepted before and after the name of a command."""
    common: dict[str, Any] = {"expose_value": False, "callback": _choose}
    path: dict[str, Any] = {"multiple": True, "type": click.Path(), "metavar": "PATH"}
    return [
        click.Option(
            ["--env-file"],
            help="Read this .env file instead of the default ones; repeatable.",
            **path,
            **common,
        ),
        click.Option(["--profile"], metavar="NAME", help="Also read .env.NAME.", **common),
        click.Option(
            ["--secrets-dir"],
            help="Also read the secret files in this directory; repeatable.",
            **path,
            **common,
        ),
        click.Option(
            ["--strict"],
            is_flag=True,
            help="Fail on misspelt ZILLIZ_* names and unknown ZCONFIG_* names.",
            **common,
        ),
        click.Option(
            ["--format"],
            type=click.Choice(FORMATS),
            help="Format of the result; not every command has every format.",
            **common,
        ),
        click.Option(["--quiet", "-q"], is_flag=True, help="Print only failures.", **common),
        click.Option(
            ["--verbose", "-v"],
            is_flag=True,
            help="Log the lifecycle events to standard error.",
            **common,
        ),
    ]


def _choose(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Store a global option; after the command's name it replaces the one before."""
    session = context.ensure_object(Session)
    if value and parameter.name:
        session.chosen[parameter.name] = value


def complete_alias(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of an alias, without using the network."""
    configuration = context.ensure_object(Session).configuration(remote=False)
    wrong = (problem.alias for problem in configuration.errors if problem.alias)
    names = dict.fromkeys((*configuration.aliases, *wrong))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def which_aliases(command: F) -> F:
    """Add aliases as arguments and as the option `--alias`; the command takes `aliases`."""

    @click.argument("aliases", nargs=-1, shell_complete=complete_alias)
    @click.option(
        "--alias",
        "more",
        multiple=True,
        metavar="ALIAS",
        help="Same as the argument; repeatable.",
        shell_complete=complete_alias,
    )
    @wraps(command)
    def with_all(
        *args: Any, aliases: tuple[str, ...], more: tuple[str, ...], **options: Any
    ) -> Any:
        return command(*args, aliases=(*aliases, *more), **options)

    return cast("F", with_all)


class Seconds(click.FloatRange):
    """A number of seconds, with a minimum."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or fail with a message without the notation of a range."""
        with suppress(click.BadParameter):
            seconds: float = super().convert(value, param, ctx)
            if seconds <= LONGEST_S:  # not if it is NaN
                return seconds
        least = f"{'more than' if self.min_open else 'at least'} {self.min:g}"
        what = f"{value!r} is not a number of seconds, {least} and at most {LONGEST_S}"
        return self.fail(what, param, ctx)


with_timeout = click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Timeout of each connection attempt; by default the TIMEOUT of the alias.",
)
"""Adds the timeout of each connection attempt."""


def output(*formats: str) -> Callable[[F], F]:
    """Return a decorator that adds the choice of a format; the first is the default."""

    def choose(context: click.Context, _: click.Parameter, value: str | None) -> str:
        chosen = value or context.ensure_object(Session).chosen.get("format") or formats[0]
        if chosen in formats:
            return chosen
        known = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise click.BadParameter(f"`{context.info_name}` does not support {chosen}; use {known}")

    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats),
        callback=choose,
        help=f"Format of the result; {formats[0]} by default.",
    )
