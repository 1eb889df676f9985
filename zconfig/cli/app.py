"""The commands and their options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from zconfig._version import __version__
from zconfig.cli.doctor import Findings, examined
from zconfig.cli.doctor_view import findings_json, findings_table
from zconfig.cli.explaining import explanation_json, explanation_table
from zconfig.cli.initialise import append_privately, check_file, dotenv_lines, ignore_in_git
from zconfig.cli.options import EXIT_CODES, epilog, output, which_aliases, with_quiet, with_timeout
from zconfig.cli.render import Format, render_github, render_json, render_table
from zconfig.cli.report import Report, checked, listed
from zconfig.errors import ConfigurationError, ExitCode
from zconfig.log import configure_logging, log_as_configured
from zconfig.registry import Connections
from zconfig.settings.arguments import fold_alias, from_arguments, hide
from zconfig.settings.explain import Explanation
from zconfig.settings.load import load
from zconfig.settings.names import DEFAULT_ALIAS
from zconfig.settings.reference import env_example, json_schema
from zconfig.sources.process import process_environment

_RENDERERS: dict[Format, Callable[[Report], str]] = {
    "table": render_table,
    "json": render_json,
    "github": render_github,
}

_EXAMINERS: dict[str, Callable[[Findings], str]] = {
    "table": findings_table,
    "json": findings_json,
}

_EXPLAINERS: dict[str, Callable[[Explanation], str]] = {
    "table": explanation_table,
    "json": explanation_json,
}


@click.group(epilog=EXIT_CODES)
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


@zconfig.command(
    epilog=epilog(
        "zconfig check",
        "zconfig check prod --wait 60",
        "zconfig check --quiet --timeout 3",
        "zconfig check --format json",
    )
)
@which_aliases
@with_timeout
@click.option("--wait", type=click.FloatRange(min=0), help="Seconds to retry what may pass.")
@output(*_RENDERERS)
@with_quiet
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
    """Connect ALIASES, by default all, and report.

    A container's HEALTHCHECK and a pipeline's preflight.
    """
    report = checked(connections, (*aliases, *more), wait=wait, timeout=timeout)
    _finish(report, format_, quiet=quiet)


@zconfig.command(
    epilog=epilog(
        "zconfig doctor", "zconfig doctor prod --timeout 3", "zconfig doctor --format json"
    )
)
@which_aliases
@with_timeout
@output(*_EXAMINERS)
@click.pass_obj
def doctor(
    connections: Connections,
    aliases: tuple[str, ...],
    more: tuple[str, ...],
    timeout: float | None,
    format_: str,
) -> None:
    """Look at each stage of connecting ALIASES, by default all.

    Configuration, file material, DNS, TCP, TLS, HTTP/2, Milvus, credentials, database: what was
    seen in each and how long it took, up to the first that fails, and what to do then. Warns of
    certificates that expire within 30 days, and of what is unwise in the surroundings.
    """
    findings = examined(connections, (*aliases, *more), timeout=timeout)
    click.echo(_EXAMINERS[format_](findings))
    sys.exit(findings.report.exit_code)


@zconfig.command("list", epilog=epilog("zconfig list", "zconfig list --format json"))
@output(*_RENDERERS)
@with_quiet
@click.pass_obj
def list_(connections: Connections, format_: Format, *, quiet: bool) -> None:
    """List what is configured, and from where; nothing is connected."""
    _finish(listed(connections), format_, quiet=quiet)


@zconfig.command(epilog=epilog("zconfig explain prod", "zconfig explain --format json"))
@click.argument("alias", required=False)
@output(*_EXPLAINERS)
@click.pass_obj
def explain(connections: Connections, alias: str | None, format_: str) -> None:
    """Show where each value of ALIAS, by default of all, comes from.

    For each field its value, without secrets; the variable, or the file and line, that set it;
    and what it takes precedence over. A secret's fingerprint is the same wherever the secret is.
    """
    try:
        explanation = connections.explain(alias)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    click.echo(_EXPLAINERS[format_](explanation))
    problems = (*explanation.problems, *(p for a in explanation.aliases for p in a.problems))
    wrong = any(problem.severity == "error" for problem in problems)
    sys.exit(ExitCode.CONFIGURATION if wrong or not explanation.aliases else ExitCode.OK)


@zconfig.command(
    epilog=epilog(
        "zconfig init",
        "zconfig init --alias prod --uri http://localhost:19530 --no-token",
        exit_codes=False,
    )
)
@click.option("--alias", default=DEFAULT_ALIAS, show_default=True, help="The connection's name.")
@click.option("--uri", help="Where the server is; asked for if it is not given.")
@click.option("--token/--no-token", default=True, help="Whether to ask for a token, without echo.")
@click.option("--file", "path", default=".env", show_default=True, help="The file to add to.")
def init(alias: str, uri: str | None, path: str, *, token: bool) -> None:
    """Declare a connection in a .env file that only you can read.

    Asks for what is not given; a token is not echoed, and never an argument. What the file holds
    stays. `.env` is added to .gitignore.
    """
    file = Path(path)
    try:
        name = fold_alias(alias)
        check_file(name, file)
        fields = _ask(uri, token=token)
        from_arguments(name, hide(fields), "zconfig init")
        append_privately(file, dotenv_lines(name, fields))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    click.echo(f"declared `{name}` in {path}; try: zconfig check {name}")
    if ignore_in_git(file):
        click.echo(f"added {file.name} to .gitignore")


def _ask(uri: str | None, *, token: bool) -> dict[str, str]:
    fields = {"uri": uri or click.prompt("URI", default="./milvus.db")}
    if token:
        asked = "Token (empty for none)"
        fields["token"] = click.prompt(asked, default="", show_default=False, hide_input=True)
    return fields


@zconfig.command("env-example", epilog=epilog("zconfig env-example > .env", exit_codes=False))
def env_example_() -> None:
    """Print a `.env` with every variable explained."""
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
