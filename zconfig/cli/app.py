"""The commands and their options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zconfig._version import __version__
from zconfig.cli.explaining import explanation_json, explanation_table
from zconfig.cli.initialise import append_privately, dotenv_lines, ignore_in_git
from zconfig.cli.render import Format, render_github, render_json, render_table
from zconfig.cli.report import Report, checked, listed
from zconfig.errors import ConfigurationError, ExitCode, Problem
from zconfig.log import configure_logging, log_as_configured
from zconfig.registry import Connections
from zconfig.settings.arguments import fold_alias, from_arguments, hide
from zconfig.settings.explain import Explanation
from zconfig.settings.load import load
from zconfig.settings.names import DEFAULT_ALIAS
from zconfig.settings.reference import env_example, json_schema
from zconfig.sources.process import process_environment

F = TypeVar("F", bound=Callable[..., Any])

_EXIT_CODES = """
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

_RENDERERS: dict[Format, Callable[[Report], str]] = {
    "table": render_table,
    "json": render_json,
    "github": render_github,
}

_EXPLAINERS: dict[str, Callable[[Explanation], str]] = {
    "table": explanation_table,
    "json": explanation_json,
}


def _output_options(command: F) -> F:
    """Add the options that every reporting command has."""
    for option in (
        click.option(
            "--format",
            "format_",
            type=click.Choice(tuple(_RENDERERS)),
            default="table",
            show_default=True,
            help="How the result is written.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Print nothing but failures."),
    ):
        command = option(command)
    return command


@click.group(epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="zconfig")
@click.option("--env-file", multiple=True, metavar="PATH", help="Read this .env file; repeatable.")
@click.option("--profile", metavar="NAME", help="Read .env.NAME as well.")
@click.option("--secrets-dir", multiple=True, metavar="PATH", help="Read secret files there, too.")
@click.option("--strict", is_flag=True, help="Take unknown ZILLIZ_* names for errors.")
@click.option("--verbose", "-v", is_flag=True, help="Show the lifecycle events.")
@click.pass_context
def zconfig(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    env_file: tuple[str, ...],
    profile: str | None,
    secrets_dir: tuple[str, ...],
    *,
    strict: bool,
    verbose: bool,
) -> None:
    """Look after the connections to Zilliz Cloud and Milvus that the environment declares."""
    given = {
        "env_file": env_file or None,
        "profile": profile,
        "secrets_dir": secrets_dir or None,
        "strict": strict or None,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    connections = Connections(lambda: load(process_environment(), Path(), given=chosen))
    if verbose:
        configure_logging("console", "debug")
    connections.subscribe(log_as_configured(lambda: connections.configuration.options))
    context.obj = connections
    context.call_on_close(connections.close)


@zconfig.command(epilog=_EXIT_CODES)
@click.argument("aliases", nargs=-1)
@click.option("--alias", "more", multiple=True, metavar="ALIAS", help="As the argument.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds an alias.")
@click.option("--wait", type=click.FloatRange(min=0), help="Seconds to retry what may pass.")
@_output_options
@click.pass_obj
def check(  # noqa: PLR0913, PLR0917 - one parameter an option
    connections: Connections,
    aliases: tuple[str, ...],
    more: tuple[str, ...],
    timeout: float | None,
    wait: float | None,
    format_: Format,
    *,
    quiet: bool,
) -> None:
    r"""Connect ALIASES, by default all, and report.

    A container's HEALTHCHECK and a pipeline's preflight.

    \b
    Examples:
      zconfig check
      zconfig check prod --wait 60
      zconfig check --quiet --timeout 3
      zconfig check --format json
    """
    report = checked(connections, (*aliases, *more), wait=wait, timeout=timeout)
    _finish(report, format_, quiet=quiet)


@zconfig.command("list", epilog=_EXIT_CODES)
@_output_options
@click.pass_obj
def list_(connections: Connections, format_: Format, *, quiet: bool) -> None:
    r"""List what is configured, and from where; nothing is connected.

    \b
    Examples:
      zconfig list
      zconfig list --format json
    """
    _finish(listed(connections), format_, quiet=quiet)


@zconfig.command(epilog=_EXIT_CODES)
@click.argument("alias", required=False)
@click.option(
    "--format", "format_", type=click.Choice(("table", "json")), default="table", show_default=True
)
@click.pass_obj
def explain(connections: Connections, alias: str | None, format_: str) -> None:
    r"""Show where each value of ALIAS, by default of all, comes from.

    For each field its value, without secrets; the variable, or the file and line, that set it;
    and what it takes precedence over. A secret's fingerprint is the same wherever the secret is.

    \b
    Examples:
      zconfig explain prod
      zconfig explain --format json
    """
    try:
        explanation = connections.explain(alias)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    click.echo(_EXPLAINERS[format_](explanation))
    problems = (*explanation.problems, *(p for a in explanation.aliases for p in a.problems))
    wrong = any(problem.severity == "error" for problem in problems)
    sys.exit(ExitCode.CONFIGURATION if wrong else ExitCode.OK)


@zconfig.command()
@click.option("--alias", default=DEFAULT_ALIAS, show_default=True, help="The connection's name.")
@click.option("--uri", help="Where the server is; asked for if it is not given.")
@click.option("--token/--no-token", default=True, help="Whether to ask for a token, without echo.")
@click.option("--file", "path", default=".env", show_default=True, help="The file to add to.")
def init(alias: str, uri: str | None, path: str, *, token: bool) -> None:
    r"""Declare a connection in a .env file that only you can read.

    Asks for what is not given; a token is not echoed, and never an argument. What the file holds
    stays. `.env` is added to .gitignore.

    \b
    Examples:
      zconfig init
      zconfig init --alias prod --uri http://localhost:19530 --no-token
    """
    fields = {"uri": uri or click.prompt("URI", default="./milvus.db")}
    if token:
        fields["token"] = click.prompt("Token (empty for none)", default="", hide_input=True)
    try:
        name = fold_alias(alias)
        from_arguments(name, hide(fields), "zconfig init")
        _refuse_declared(name, Path(path))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    append_privately(Path(path), dotenv_lines(name, fields))
    click.echo(f"declared `{name}` in {path}; try: zconfig check {name}")
    if ignore_in_git(Path(path).parent):
        click.echo("added .env to .gitignore")


def _refuse_declared(alias: str, path: Path) -> None:
    """Refuse to declare an alias that a file declares already.

    Raises:
        ConfigurationError: It does.
    """
    declared = load({}, path.parent, given={"env_file": (str(path),)}, remote=False)
    origins = [p.origin for (each, _), p in declared.provenance.items() if each == alias]
    if path.exists() and origins:
        problem = Problem(
            "already_declared",
            "declares it already",
            "edit the file, or choose another alias",
            alias=alias,
            origin=origins[0],
        )
        raise ConfigurationError([problem])


@zconfig.command("env-example")
def env_example_() -> None:
    r"""Print a `.env` with every variable explained.

    \b
    Example:
      zconfig env-example > .env
    """
    click.echo(env_example(), nl=False)


@zconfig.command()
def schema() -> None:
    """Print a JSON Schema of the variables."""
    click.echo(json.dumps(json_schema(), indent=2))


def _finish(report: Report, format_: Format, *, quiet: bool) -> None:
    """Write a report where it belongs, and end with its exit code."""
    if not quiet:
        click.echo(_RENDERERS[format_](report))
    elif report.exit_code:
        click.echo(report.summary(), err=True)
    sys.exit(report.exit_code)


def main() -> None:
    """Run the command."""
    zconfig(prog_name="zconfig")
