"""Results → text: tables with colour on a terminal, a row a line in a log; JSON and JUnit XML."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

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

Part = Table | Text
Columns = dict[str, Callable[[Row], Text]]
R = TypeVar("R", bound=Report)

# Wide enough for a row to be a line: a log is searched by lines.
_LOG_WIDTH = 1000


def new_table(*headers: str, wraps: Collection[str]) -> Table:
    """Return an empty table.

    Args:
        *headers: Its columns.
        wraps: The columns that give way where the terminal is narrow.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header not in wraps)
    return table


def render_json(value: Any, indent: int | None = 2) -> str:
    r"""Return a value as JSON, in which no runner of a pipeline finds a command: it looks for `##`.

    The keys of an object are documented, and only ever added to.

    Example:
        >>> print(render_json("##[error]forged"))
        "\u0023\u0023[error]forged"
    """
    return json.dumps(json_value(value), indent=indent).replace("##", r"\u0023\u0023")


def draw(parts: Iterable[Part]) -> str:
    """Draw for the terminal there is, and without colour or wrapping for none."""
    terminal = Console(stderr=False)
    stream = StringIO()
    console = Console(
        file=stream,
        force_terminal=terminal.is_terminal,
        no_color=terminal.no_color,
        width=terminal.width if terminal.is_terminal else _LOG_WIDTH,
        highlight=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
    drawn = click.unstyle(stream.getvalue()) if terminal.no_color else stream.getvalue()
    drawn = without_commands(drawn)
    return "\n".join(line.rstrip() for line in drawn.splitlines()).strip("\n")


def in_workspace(file: str) -> str:
    """Return a path as a job of GitHub Actions knows it: its steps may run in another directory.

    Args:
        file: As it was named, from the working directory.
    """
    workspace = process_environment().get("GITHUB_WORKSPACE")
    path = Path(os.path.abspath(file))  # noqa: PTH100 - pathlib's does not take `..` away
    if workspace and path.is_relative_to(workspace):
        return str(path.relative_to(workspace))
    return file


def render(  # noqa: PLR0913 - each format has more to show for one command
    report: R,
    format_: Format,
    command: str,
    parts: Callable[[R], Iterable[Part]] | None = None,
    *,
    annotations: Iterable[str] = (),
    outputs: Mapping[str, str] | None = None,
) -> str:
    """Return a report as it is written.

    Args:
        report: What was found out.
        format_: How it is written.
        command: Which command found it out.
        parts: What a terminal shows of it; by default a table.
        annotations: What else GitHub shows.
        outputs: By alias what else JUnit XML has.
    """
    match format_:
        case "json":
            return render_json(report)
        case "github":
            return "\n".join((*github_lines(report), *annotations))
        case "junit":
            return render_junit(report, command, outputs or {})
    return draw((parts or table_parts)(report))


# All that XML 1.0 cannot hold, not even escaped.
_UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report, command: str, outputs: Mapping[str, str]) -> str:
    """Return JUnit XML: a test suite with a test case for each alias.

    There is no one standard. The elements and attributes that all readers know are used, with a
    `classname` for each case: by it and the name GitLab tells cases apart
    (gitlab-org/gitlab-foss#50964).

    Args:
        report: What was found out.
        command: The command that found it out.
        outputs: By alias what else there is to read.
    """
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
    element = ET.Element(tag, {name: _fit(each) for name, each in attributes.items()})
    element.text = None if text is None else _fit(text)
    return element


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.6f}"


def _fit(text: str) -> str:
    return without_commands(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text))


_LONG = {"endpoint", "state", "configured by", "so far"}
_STYLES = {"connected": "green", "failed": "red", "configured": "", "given up": "yellow"}


def table_parts(report: Report) -> Iterator[Part]:
    """Yield a table, and the failures and problems in full below it."""
    columns: Columns = {
        "alias": lambda row: Text(row.alias, style="bold"),
        "endpoint": lambda row: Text(row.endpoint or ""),
        "database": lambda row: Text(row.db_name or ""),
        "state": _state,
    }
    if any(row.state == "connected" for row in report.aliases):
        columns["server"] = lambda row: Text(row.server_version or "")
        columns["round trip"] = lambda row: _milliseconds(row.round_trip_ms)
    columns["configured by"] = lambda row: Text(row.origin or "")
    yield from _with_messages(report, columns)


def watch_parts(report: Report, note: str = "") -> Iterator[Part]:
    """Yield the parts of one round of `check --watch`: when it was, a table, what is wrong.

    Args:
        report: What was found out, with the counts of each alias.
        note: What the heading ends with.
    """
    connected = sum(row.state == "connected" for row in report.aliases)
    heading = (
        f"{report.at:%Y-%m-%d %H:%M:%S}Z  {connected} of {len(report.aliases)} connected{note}"
    )
    yield Text(heading, style="bold")
    columns: Columns = {
        "alias": lambda row: Text(row.alias, style="bold"),
        "endpoint": lambda row: Text(row.endpoint or "", no_wrap=True, overflow="ellipsis"),
        "state": _state,
        "last": lambda row: _milliseconds(row.round_trip_ms),
        "p50": _median,
        "so far": _so_far,
    }
    yield from _with_messages(report, columns)


def _with_messages(report: Report, columns: Columns) -> Iterator[Part]:
    """Yield a table of the aliases, if there are any, and all that is wrong."""
    if report.aliases:
        table = new_table(*columns, wraps=_LONG)
        for row in report.aliases:
            table.add_row(*(cell(row) for cell in columns.values()))
        yield table
    yield from (Text(row.failure.message) for row in report.aliases if row.failure)
    yield from map(Text, unreported(report))


def github_lines(report: Report) -> Iterator[str]:
    """Yield an annotation for each thing that is wrong, and a line for each that is connected."""
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


def _median(row: Row) -> Text:
    trips = row.stats and row.stats.round_trips
    return _milliseconds(trips.p50_ms if trips else None)


def _so_far(row: Row) -> Text:
    """Return how often a connect failed, by cause, and how often each other event happened."""
    stats = row.stats
    if stats is None:
        return Text("")
    events = {"lost": stats.losses, "recovered": stats.reconnects, "rotated": stats.rotations}
    counts = {**stats.failures, **events}
    return Text(", ".join(f"{name} {count}" for name, count in counts.items() if count))


def _state(row: Row) -> Text:
    state = row.state if row.required else f"{row.state} (optional)"
    return Text(f"{state}: {row.failure.cause}" if row.failure else state, _STYLES[row.state])


def _milliseconds(duration_ms: float | None) -> Text:
    return Text("" if duration_ms is None else f"{duration_ms:.1f} ms")


def unreported(report: Report) -> list[str]:
    """Return the problems that no row's failure repeats, a line each."""
    failed = {row.alias for row in report.aliases if row.failure and not row.endpoint}
    left = (p for p in report.unquoted() if p.severity == "warning" or p.alias not in failed)
    return [f"{problem.severity}: {problem}" for problem in left]
