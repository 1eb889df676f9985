"""One run of the command: what its global options say, and the registry they lead to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, Literal, TypeVar, cast, get_args

import click
from click.shell_completion import CompletionItem

from zconfig._log import configure_logging, log_as_configured
from zconfig._origin import working_directory
from zconfig._registry import Connections
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.environment import process_environment

_LOADER_OPTIONS = ("env_file", "profile", "secrets_dir", "strict")


class Session:
    """What was chosen before and after the command's name, and what is made of it when asked for.

    Attributes:
        chosen: The global options that were given, by name.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, Any] = {}

    @property
    def is_quiet(self) -> bool:
        """Whether nothing but failures is printed."""
        return "quiet" in self.chosen

    @property
    def is_verbose(self) -> bool:
        """Whether the lifecycle events are shown."""
        return "verbose" in self.chosen

    @cached_property
    def connections(self) -> Connections:
        """The registry; it reads everything, and is closed when the command ends."""
        connections = Connections(self.configuration)
        if self.is_verbose:
            configure_logging("console", "debug")
        connections.subscribe(log_as_configured(lambda: connections.configuration.options))
        click.get_current_context().find_root().call_on_close(connections.close)
        return connections

    def configuration(self, *, remote: bool = True) -> Configuration:
        """Read the configuration.

        Args:
            remote: Whether to read also what may need the network.
        """
        given = {name: self.chosen[name] for name in _LOADER_OPTIONS if name in self.chosen}
        return load(process_environment(), working_directory(), given=given, remote=remote)


pass_session = click.make_pass_decorator(Session, ensure=True)


F = TypeVar("F", bound=Callable[..., Any])

Format = Literal["table", "json", "github", "junit"]
FORMATS: tuple[Format, ...] = get_args(Format)

EXIT_CODES = """
\b
Exit codes:
  0  every required alias is fine
  1  unexpected
  2  usage
  3  configuration
  4  unreachable: DNS, refused, timeout
  5  TLS
  6  authentication or permission
  7  not Milvus
  8  database missing
"""


def epilog(*examples: str, exit_codes: bool = True) -> str:
    """Return what stands at the end of a command's help.

    Args:
        *examples: Command lines.
        exit_codes: Whether its exit codes follow.
    """
    lines = (
        "\b",
        f"Example{'s' if len(examples) > 1 else ''}:",
        *(f"  {each}" for each in examples),
    )
    return "\n".join(lines) + (f"\n{EXIT_CODES}" if exit_codes else "")


_QUIET_NAMES = ("--quiet", "-q")
_QUIET: dict[str, Any] = {"is_flag": True, "help": "Print nothing but failures."}


def global_options(*, hidden: bool = False) -> list[click.Parameter]:
    """Return the options that stand before the name of a command, or after it.

    Args:
        hidden: Whether the help leaves them out.
    """
    common: dict[str, Any] = {"expose_value": False, "callback": _choose, "hidden": hidden}
    path: dict[str, Any] = {"multiple": True, "type": click.Path(), "metavar": "PATH"}
    return [
        click.Option(["--env-file"], help="Read this .env file; repeatable.", **path, **common),
        click.Option(["--profile"], metavar="NAME", help="Read .env.NAME as well.", **common),
        click.Option(["--secrets-dir"], help="Read secret files there, too.", **path, **common),
        click.Option(
            ["--strict"],
            is_flag=True,
            help="Take ZILLIZ_* names near known ones for errors.",
            **common,
        ),
        click.Option(
            ["--format"],
            type=click.Choice(FORMATS),
            help="How results are written; not every command has every format.",
            **common,
        ),
        click.Option(_QUIET_NAMES, **_QUIET, **common),
        click.Option(
            ["--verbose", "-v"], is_flag=True, help="Show the lifecycle events.", **common
        ),
    ]


def _choose(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep a global option; one after the command's name replaces the same before it."""
    session = context.ensure_object(Session)
    if value and parameter.name:
        session.chosen[parameter.name] = value


def complete_alias(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of an alias, without reading anything from the network."""
    configuration = context.ensure_object(Session).configuration(remote=False)
    wrong = (problem.alias for problem in configuration.errors if problem.alias)
    names = dict.fromkeys((*configuration.aliases, *wrong))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def which_aliases(command: F) -> F:
    """Add the ways to name aliases, as arguments and by an option; the command takes `aliases`."""

    @click.argument("aliases", nargs=-1, shell_complete=complete_alias)
    @click.option(
        "--alias",
        "more",
        multiple=True,
        metavar="ALIAS",
        help="As the argument.",
        shell_complete=complete_alias,
    )
    @wraps(command)
    def with_all(
        *args: Any, aliases: tuple[str, ...], more: tuple[str, ...], **options: Any
    ) -> Any:
        return command(*args, aliases=(*aliases, *more), **options)

    return cast("F", with_all)


with_timeout = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds an alias."
)
"""Adds the time that each alias gets."""
with_quiet = click.option(*_QUIET_NAMES, **_QUIET, expose_value=False, callback=_choose)
"""Shows the global option `--quiet` among the command's own."""


def output(*formats: str) -> Callable[[F], F]:
    """Return a decorator that adds the choice of a format; the first is the default."""

    def choose(context: click.Context, _: click.Parameter, value: str | None) -> str:
        chosen = value or context.ensure_object(Session).chosen.get("format") or formats[0]
        if chosen in formats:
            return chosen
        known = f"{', '.join(formats[:-1])} and {formats[-1]}"
        raise click.BadParameter(f"`{context.info_name}` has no {chosen}; it has {known}")

    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats),
        callback=choose,
        help=f"How the result is written; {formats[0]} by default.",
    )
