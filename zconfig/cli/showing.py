"""The commands that show what there is, and connect nothing."""

from __future__ import annotations

import json
import sys

import click

from zconfig.cli.connecting import finish, rendered
from zconfig.cli.ending import write
from zconfig.cli.explaining import explanation_json, explanation_table
from zconfig.cli.options import complete_alias, epilog, output, with_quiet
from zconfig.cli.render import Format
from zconfig.cli.report import listed
from zconfig.cli.session import Session, pass_session
from zconfig.cli.versions import versions, versions_table
from zconfig.errors import ExitCode
from zconfig.redaction import without_commands


@click.command("list", epilog=epilog("zconfig list", "zconfig list --format json"))
@output("table", "json", "github")
@with_quiet
@pass_session
def list_(session: Session, format_: Format) -> None:
    """List what is configured, and from where; nothing is connected."""
    report = listed(session.connections)
    finish(session, report, rendered(report, format_, "list"))


@click.command(epilog=epilog("zconfig explain prod", "zconfig explain --format json"))
@click.argument("alias", required=False, shell_complete=complete_alias)
@output("table", "json")
@pass_session
def explain(session: Session, alias: str | None, format_: Format) -> None:
    """Show where each value of ALIAS, by default of all, comes from.

    For each field its value, without secrets; the variable, or the file and line, that set it;
    and what it takes precedence over. A secret's fingerprint is the same wherever the secret is.
    """
    explanation = session.connections.explain(alias)
    problems = (*explanation.problems, *(p for a in explanation.aliases for p in a.problems))
    errors = [problem for problem in problems if problem.severity == "error"]
    if not session.is_quiet:
        write((explanation_json if format_ == "json" else explanation_table)(explanation))
    elif errors:
        click.echo(without_commands("\n".join(map(str, errors))), err=True)
    sys.exit(ExitCode.CONFIGURATION if errors or not explanation.aliases else ExitCode.OK)


@click.command(epilog=epilog("zconfig version", "zconfig version --format json", exit_codes=False))
@output("table", "json")
def version(format_: Format) -> None:
    """Show the versions of zconfig, Python, gRPC, pymilvus and Milvus Lite."""
    found = versions()
    write(json.dumps(found, indent=2) if format_ == "json" else versions_table(found))
