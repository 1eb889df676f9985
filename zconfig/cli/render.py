"""A report → a table for people, JSON for programs, annotations for GitHub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from rich.text import Text

from zconfig.cli.drawing import draw, new_table
from zconfig.cli.report import Report, Row
from zconfig.errors import Problem

Format = Literal["table", "json", "github"]

_LONG = {"endpoint", "state", "configured by"}
_STYLES = {"connected": "green", "failed": "red", "configured": ""}


def render_table(report: Report) -> str:
    """Return a table with the failures and problems in full below it."""
    shows_server = any(row.state != "configured" for row in report.rows)
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
    return json.dumps(report_values(report), indent=2)


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
    """Return GitHub Actions' workflow commands: an annotation for each thing that is wrong.

    Source: GitHub Docs, "Workflow commands for GitHub Actions".
    """
    lines = [_annotation(p.severity, str(p), p) for p in report.problems]
    for row in report.rows:
        if row.failure and row.endpoint:
            lines.append(_annotation("error" if row.required else "warning", row.failure.message))
        elif row.state == "connected":
            lines.append(f"{row.alias}: connected to {row.endpoint} ({row.server_version})")
    return "\n".join(lines)


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
    return {**asdict(problem), "origin": str(problem.origin) if problem.origin else None}


def _annotation(severity: str, message: str, problem: Problem | None = None) -> str:
    origin = problem.origin if problem else None
    place = f" file={origin.path},line={origin.line}" if origin and origin.line else ""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{severity}{place}::{escaped}"
