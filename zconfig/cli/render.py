"""A report → a table for people, JSON for programs, annotations for GitHub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Literal

from rich.text import Text

from zconfig.cli.drawing import as_json, draw, new_table
from zconfig.cli.places import in_workspace, place
from zconfig.cli.report import Report, Row
from zconfig.errors import Problem
from zconfig.redaction import without_commands

Format = Literal["table", "json", "github", "junit"]

_LONG = {"endpoint", "state", "configured by"}
_STYLES = {"connected": "green", "failed": "red", "configured": "", "given up": "yellow"}


def render_table(report: Report) -> str:
    """Return a table with the failures and problems in full below it."""
    shows_server = any(row.state == "connected" for row in report.rows)
    server = ("server", "round trip") if shows_server else ()
    headers = ("alias", "endpoint", "database", "state", *server, "configured by")
    table = new_table(*headers, wraps=_LONG)
    for row in report.rows:
        table.add_row(*_cells(row, shows_server=shows_server))
    told = [row.failure.message for row in report.rows if row.failure]
    told += untold(report)
    parts = [table] if report.rows else []
    return draw([*parts, *(Text(line) for line in told)])


def render_json(report: Report) -> str:
    """Return one JSON object; its keys are documented, and only ever added to."""
    return as_json(report_values(report))


def report_values(report: Report) -> dict[str, Any]:
    """Return a report in JSON's own types."""
    return {
        "ok": report.exit_code == 0,
        "exit_code": int(report.exit_code),
        "elapsed_ms": round(report.elapsed_ms, 3),
        "aliases": [_row(row) for row in report.rows],
        "problems": [_problem(problem) for problem in report.problems],
    }


def render_github(report: Report) -> str:
    """Return GitHub Actions' workflow commands: an annotation for each thing that is wrong."""
    return "\n".join(github_lines(report))


def github_lines(report: Report) -> Iterator[str]:
    """Yield an annotation for each thing that is wrong, and a line for each that is connected."""
    told = {problem.alias for problem in report.problems if problem.severity == "error"}
    for problem in report.problems:
        yield annotation(problem.severity, str(problem), *place(problem.origin))
    for row in report.rows:
        failure = row.failure
        if failure and (row.endpoint or row.alias not in told):
            severity = "error" if row.required else "warning"
            yield annotation(severity, failure.message, failure.file, failure.line)
        elif row.state == "connected":
            line = f"{row.alias}: connected to {row.endpoint} ({row.server_version})"
            yield without_commands(line)


def annotation(
    severity: str, message: str, file: str | None = None, line: int | None = None
) -> str:
    """Return one workflow command, escaped as the runner reads it.

    Source: GitHub Docs, "Workflow commands for GitHub Actions"; actions/toolkit,
    packages/core/src/command.ts.

    Args:
        severity: `error`, `warning` or `notice`.
        message: What is wrong; it may have several lines.
        file: Where, if it is in a file.
        line: The line in it.

    Example:
        >>> annotation("error", "50% is no port", "a,b.env", 2)
        '::error file=a%2Cb.env,line=2::50%25 is no port'
    """
    path = in_workspace(file) if file else None
    properties = (("file", path), ("line", line if path else None))
    given = (f"{name}={_escaped_property(str(each))}" for name, each in properties if each)
    return f"::{severity} {','.join(given)}".rstrip() + f"::{_escaped(without_commands(message))}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _cells(row: Row, *, shows_server: bool) -> Iterable[Text]:
    yield Text(row.alias, style="bold")
    yield Text(row.endpoint or "")
    yield Text(row.db_name or "")
    state = row.state if row.required else f"{row.state} (optional)"
    yield Text(f"{state}: {row.failure.cause}" if row.failure else state, _STYLES[row.state])
    if shows_server:
        yield Text(row.server_version or "")
        yield Text("" if row.round_trip_ms is None else f"{row.round_trip_ms:.1f} ms")
    yield Text(row.origin or "")


def untold(report: Report) -> list[str]:
    """Return the problems that no row's failure repeats, a line each."""
    failed = {row.alias for row in report.rows if row.failure and not row.endpoint}
    left = (p for p in report.problems if p.severity == "warning" or p.alias not in failed)
    return [f"{problem.severity}: {problem}" for problem in left]


def rounded(milliseconds: float | None) -> float | None:
    """Return a duration with the digits that mean something."""
    return None if milliseconds is None else round(milliseconds, 3)


def _row(row: Row) -> dict[str, Any]:
    values = asdict(row)
    values["round_trip_ms"] = rounded(row.round_trip_ms)
    if row.failure:
        values["failure"]["exit_code"] = int(row.failure.exit_code)
        values["failure"]["elapsed_ms"] = rounded(row.failure.elapsed_ms)
    return values


def _problem(problem: Problem) -> dict[str, Any]:
    file, line = place(problem.origin)
    origin = str(problem.origin) if problem.origin else None
    return {**asdict(problem), "origin": origin, "file": file, "line": line}
