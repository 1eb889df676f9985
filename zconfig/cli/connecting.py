"""The commands that connect: `check`, `wait` and `doctor`."""

from __future__ import annotations

import sys

import click

from zconfig.cli.doctor import Findings, examined
from zconfig.cli.doctor_view import findings_github, findings_json, findings_junit, findings_table
from zconfig.cli.ending import write
from zconfig.cli.junit import render_junit
from zconfig.cli.live import shown
from zconfig.cli.options import epilog, output, which_aliases, with_quiet, with_timeout
from zconfig.cli.render import Format, render_github, render_json, render_table
from zconfig.cli.report import Report, checked
from zconfig.cli.session import Session, pass_session
from zconfig.cli.waiting import patience_s, waited


@click.command(
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
@output("table", "json", "github", "junit")
@with_quiet
@pass_session
def check(  # noqa: PLR0913, PLR0917 - one parameter an option
    session: Session,
    aliases: tuple[str, ...],
    more: tuple[str, ...],
    timeout: float | None,
    wait: float | None,
    format_: Format,
) -> None:
    """Connect ALIASES, by default all, and report.

    A container's HEALTHCHECK and a pipeline's preflight.
    """
    named = (*aliases, *more)
    with shown(session, named):
        report = checked(session.connections, named, wait=wait, timeout=timeout)
    finish(session, report, rendered(report, format_, "check"))


@click.command(
    epilog=epilog(
        "zconfig wait", "zconfig wait prod --timeout 300", "zconfig wait --quiet && exec my-service"
    )
)
@which_aliases
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds in all; by default ZCONFIG_WAIT, or 60.",
)
@output("table", "json", "github", "junit")
@with_quiet
@pass_session
def wait(
    session: Session,
    aliases: tuple[str, ...],
    more: tuple[str, ...],
    timeout: float | None,
    format_: Format,
) -> None:
    """Wait until ALIASES, by default all, are connected, and report as `check` does.

    For init containers. A server that is not up, or has no name yet, is waited for. What waiting
    cannot mend, such as a wrong configuration or a refused password, ends it at once. An alias
    with REQUIRED=false gets one attempt.
    """
    named = (*aliases, *more)
    total_s = patience_s(session.connections, timeout)
    with shown(session, named, total_s=total_s):
        report = waited(session.connections, named, total_s)
    finish(session, report, rendered(report, format_, "wait"))


@click.command(
    epilog=epilog(
        "zconfig doctor", "zconfig doctor prod --timeout 3", "zconfig doctor --format json"
    )
)
@which_aliases
@with_timeout
@output("table", "json", "github", "junit")
@with_quiet
@pass_session
def doctor(
    session: Session,
    aliases: tuple[str, ...],
    more: tuple[str, ...],
    timeout: float | None,
    format_: Format,
) -> None:
    """Look at each stage of connecting ALIASES, by default all.

    Configuration, file material, DNS, TCP, TLS, HTTP/2, Milvus, credentials, database: what was
    seen in each and how long it took, up to the first that fails, and what to do then. Warns of
    certificates that expire within 30 days, and of what is unwise in the surroundings.
    """
    named = (*aliases, *more)
    with shown(session, named):
        findings = examined(session.connections, named, timeout=timeout)
    finish(session, findings.report, _rendered_findings(findings, format_))


def rendered(report: Report, format_: Format, command: str) -> str:
    """Return a report as it is written.

    Args:
        report: What was found out.
        format_: How it is written.
        command: Which command found it out.
    """
    match format_:
        case "json":
            return render_json(report)
        case "github":
            return render_github(report)
        case "junit":
            return render_junit(report, command)
    return render_table(report)


def _rendered_findings(findings: Findings, format_: Format) -> str:
    match format_:
        case "json":
            return findings_json(findings)
        case "github":
            return findings_github(findings)
        case "junit":
            return findings_junit(findings)
    return findings_table(findings)


def finish(session: Session, report: Report, result: str) -> None:
    """Write a result where it belongs, and end with the report's exit code."""
    if not session.is_quiet:
        write(result)
    elif report.exit_code:
        click.echo(report.summary(), err=True)
    sys.exit(report.exit_code)
