"""Render results as tables, JSON, GitHub annotations and JUnit XML."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zconfig._cli.options import Format
from zconfig._cli.report import Report, Row, place
from zconfig._cli.schemas import json_value
from zconfig._redaction import without_commands
from zconfig._sources.environment import process_environment

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

Part = Table | Text
Columns = dict[str, Callable[[Row], Text]]
R = TypeVar("R", bound=Report)

# Wide enough for one line a row, since logs are searched by line.
_LOG_WIDTH = 1000
# Narrower terminals have no room for the database, nor for the origin of a dialed alias.
_WIDE = 100


def new_table(*headers: str, wraps: Collection[str]) -> Table:
    """Return an empty table.

    Args:
        *headers: The columns.
        wraps: The columns that become narrower on a narrow terminal.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header not in wraps)
    return table


def render_json(value: Any, indent: int | None = 2) -> str:
    r"""Return a value as JSON that contains no command for a pipeline runner, which scans for `##`.

    The keys of an object are documented. Keys are added, but never removed.

    Examples:
        >>> print(render_json("##[error]forged"))
        "\u0023\u0023[error]forged"
    """
    return json.dumps(json_value(value), indent=indent).replace("##", r"\u0023\u0023")


def draw(parts: Iterable[Part]) -> str:
    """Draw for the current terminal, or without colour and wrapping if there is none."""
    terminal = Console(stderr=False)
    stream = StringIO()
    console = Console(
        file=stream,
        force_terminal=terminal.is_terminal,
        no_color=terminal.no_color,
        width=_width(),
        highlight=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text) and not terminal.is_terminal)
    drawn = click.unstyle(stream.getvalue()) if terminal.no_color else stream.getvalue()
    drawn = without_commands(drawn)
    return "\n".join(line.rstrip() for line in drawn.splitlines()).strip("\n")


def _width() -> int:
    """Return the columns of the terminal, or of a log."""
    terminal = Console()
    return terminal.width if terminal.is_terminal else _LOG_WIDTH


def in_workspace(file: str) -> str:
    """Return a path relative to the GitHub workspace; a step may run in another directory.

    Args:
        file: A path relative to the working directory.
    """
    workspace = process_environment().get("GITHUB_WORKSPACE")
    path = Path(os.path.abspath(file))  # noqa: PTH100 - pathlib's does not take `..` away
    if workspace and path.is_relative_to(workspace):
        return str(path.relative_to(workspace))
    return file


def render(  # noqa: PLR0913 - the formats need different arguments
    report: R,
    format_: Format,
    command: str,
    parts: Callable[[R], Iterable[Part]] | None = None,
    *,
    annotations: Iterable[str] = (),
    outputs: Mapping[str, str] | None = None,
) -> str:
    """Return a report in one of the formats.

    Args:
        report: The report.
        format_: The format.
        command: The name of the command.
        parts: Returns the parts to draw on a terminal; a table by default.
        annotations: Additional annotations for GitHub.
        outputs: Additional output by alias, for JUnit XML.
    """
    match format_:
        case "json":
            return render_json(report)
        case "github":
            return "\n".join((*github_lines(report), *annotations))
        case "junit":
            return render_junit(report, command, outputs or {})
    return draw((parts or table_parts)(report))


# Characters that XML 1.0 does not allow, not even escaped. To compile this takes milliseconds, so
# only JUnit XML does.
_UNFIT = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def render_junit(report: Report, command: str, outputs: Mapping[str, str]) -> str:
    """Return JUnit XML: a test suite with a test case for each alias.

    JUnit XML has no single standard. The elements and attributes are those that all readers
    support, with a `classname` for each case: GitLab identifies cases by class and name
    (gitlab-org/gitlab-foss#50964).

    Args:
        report: The report.
        command: The name of the command.
        outputs: Additional output by alias.
    """
    from xml.etree import ElementTree as ET

    cases = [_case(row, command, outputs.get(row.alias)) for row in report.aliases]
    if general := [p for p in unreported(report) if p.startswith("error")]:
        case = _element("testcase", classname=f"zconfig.{command}", name="configuration", time="0")
        what = "the configuration is wrong"
        error = _element("error", "\n".join(general), type="configuration", message=what)
        case.append(error)
        cases.append(case)
    tags = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counted = {
        name: str(sum(case.find(tag) is not None for case in cases)) for name, tag in tags.items()
    }
    totals = {"tests": str(len(cases)), **counted, "time": _seconds(report.elapsed_ms)}
    suites = ET.Element("testsuites", {"name": "zconfig", **totals})
    ET.SubElement(suites, "testsuite", {"name": f"zconfig {command}", **totals}).extend(cases)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _case(row: Row, command: str, output: str | None) -> ET.Element:
    failure = row.failure
    time = _seconds((failure.elapsed_ms if failure else row.round_trip_ms) or 0.0)
    case = _element("testcase", classname=f"zconfig.{command}", name=row.alias, time=time)
    if failure and failure.file:
        case.set("file", _fit(failure.file))
    if failure and row.required:
        what = failure.problem or failure.message
        case.append(_element("failure", failure.message, type=failure.cause, message=what))
    elif failure:
        case.append(_element("skipped", message=f"optional: {failure.message}"))
    elif row.state != "connected":
        case.append(_element("skipped", message=row.state))
    if output:
        case.append(_element("system-out", output))
    return case


def _element(tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    from xml.etree import ElementTree as ET

    element = ET.Element(tag, {name: _fit(each) for name, each in attributes.items()})
    element.text = None if text is None else _fit(text)
    return element


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.6f}"


def _fit(text: str) -> str:
    return without_commands(re.sub(_UNFIT, "\N{REPLACEMENT CHARACTER}", text))


_LONG = {"endpoint", "state", "configured by", "so far"}
_STYLES = {"connected": "green", "failed": "red", "configured": "", "given up": "yellow"}


def table_parts(report: Report) -> Iterator[Part]:
    """Yield a table, and the failures and problems in full below it."""
    is_wide = _width() >= _WIDE
    columns: Columns = {
        "alias": lambda row: Text(row.alias, style="bold"),
        "endpoint": _endpoint,
    }
    if is_wide:
        columns["database"] = lambda row: Text(row.db_name or "")
    columns["state"] = _state
    if any(row.state == "connected" for row in report.aliases):
        columns["server"] = lambda row: Text(row.server_version or "")
        columns["round trip"] = lambda row: _milliseconds(row.round_trip_ms)
    if is_wide or all(row.state == "configured" for row in report.aliases):
        columns["configured by"] = lambda row: Text(row.origin or "")
    yield from _with_messages(report, columns)


def watch_parts(report: Report, note: str = "") -> Iterator[Part]:
    """Yield the parts of one check with `--watch`: the time, a table and the failures.

    Args:
        report: The report, with the statistics of each alias.
        note: A text at the end of the heading.
    """
    connected = sum(row.state == "connected" for row in report.aliases)
    heading = (
        f"{report.at:%Y-%m-%d %H:%M:%S}Z  {connected} of {len(report.aliases)} connected{note}"
    )
    yield Text(heading, style="bold")
    columns: Columns = {
        "alias": lambda row: Text(row.alias, style="bold"),
        "endpoint": _endpoint,
        "state": _state,
        "last": lambda row: _milliseconds(row.round_trip_ms),
        "p50": _median,
        "so far": _so_far,
    }
    yield from _with_messages(report, columns)


def _with_messages(report: Report, columns: Columns) -> Iterator[Part]:
    """Yield a table of the aliases, if there are any, and all failures and problems."""
    if report.aliases:
        table = new_table(*columns, wraps=_LONG)
        for row in report.aliases:
            table.add_row(*(cell(row) for cell in columns.values()))
        yield table
    yield from (Text(row.failure.message) for row in report.aliases if row.failure)
    yield from map(Text, unreported(report))


def github_lines(report: Report) -> Iterator[str]:
    """Yield an annotation for each problem, and a line for each connected alias."""
    told = {problem.alias for problem in report.problems if problem.severity == "error"}
    for problem in report.unquoted():
        yield annotation(problem.severity, str(problem), **place(problem.origin))
    for row in report.aliases:
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
    """Return one workflow command, escaped for the runner.

    Source: GitHub Docs, "Workflow commands for GitHub Actions"; actions/toolkit,
    packages/core/src/command.ts.

    Args:
        severity: `error`, `warning` or `notice`.
        message: The message; it may have several lines.
        file: The file at fault, if there is one.
        line: The line in that file.

    Examples:
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


def _median(row: Row) -> Text:
    trips = row.stats and row.stats.round_trips
    return _milliseconds(trips.p50_ms if trips else None)


def _so_far(row: Row) -> Text:
    """Return the number of failures by cause, and of each other event."""
    stats = row.stats
    if stats is None:
        return Text("")
    events = {"lost": stats.losses, "recovered": stats.reconnects, "rotated": stats.rotations}
    counts = {**stats.failures, **events}
    return Text(", ".join(f"{_words(name)} {count}" for name, count in counts.items() if count))


def _endpoint(row: Row) -> Text:
    return Text(row.endpoint or "", no_wrap=True, overflow="ellipsis")


def _state(row: Row) -> Text:
    state = row.state if row.required else f"{row.state} (optional)"
    cause = f": {_words(row.failure.cause)}" if row.failure else ""
    return Text(f"{state}{cause}", _STYLES[row.state])


def _words(cause: str) -> str:
    """Return a cause as words for people; programs read the cause itself in the JSON."""
    return cause.replace("_", " ")


def _milliseconds(duration_ms: float | None) -> Text:
    return Text("" if duration_ms is None else f"{duration_ms:.1f} ms")


def unreported(report: Report) -> list[str]:
    """Return the problems that the failures of the aliases do not include, one line each."""
    failed = {row.alias for row in report.aliases if row.failure and not row.endpoint}
    left = (p for p in report.unquoted() if p.severity == "warning" or p.alias not in failed)
    return [f"{problem.severity}: {problem}" for problem in left]
