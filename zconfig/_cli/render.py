"""Results → text: tables with colour on a terminal, a row a line in a log; JSON and JUnit XML."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zconfig._cli.report import Failure, Report, Row, place
from zconfig._cli.schemas import json_value
from zconfig._redaction import without_commands
from zconfig._registry.stats import AliasStats
from zconfig._sources.environment import process_environment

Format = Literal["table", "json", "github", "junit"]
Part = Table | Text

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


def as_json(value: Any, indent: int | None = 2) -> str:
    r"""Return a value as JSON, in which no runner of a pipeline finds a command: it looks for `##`.

    Example:
        >>> print(as_json("##[error]forged"))
        "\u0023\u0023[error]forged"
    """
    return json.dumps(value, indent=indent).replace("##", r"\u0023\u0023")


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


# All that XML 1.0 cannot hold, not even escaped.
_UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report, name: str, besides: Mapping[str, str] | None = None) -> str:
    """Return JUnit XML: a test suite with a test case for each alias.

    There is no one standard. The elements and attributes that all readers know are used, with a
    `classname` for each case: by it and the name GitLab tells cases apart
    (gitlab-org/gitlab-foss#50964).

    Args:
        report: What was found out.
        name: The command that found it out.
        besides: By alias what else there is to read.
    """
    cases = [_case(row, name, (besides or {}).get(row.alias, "")) for row in report.aliases]
    general = [p for p in unreported(report) if p.startswith("error")]
    if general:
        cases.append(_general("\n".join(general), name))
    counted = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": _seconds(report.elapsed_ms),
    }
    suites = ET.Element("testsuites", {"name": "zconfig", **counted})
    ET.SubElement(suites, "testsuite", {"name": f"zconfig {name}", **counted}).extend(cases)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _case(row: Row, name: str, besides: str) -> ET.Element:
    failure = row.failure
    took_ms = (failure.elapsed_ms if failure else row.round_trip_ms) or 0.0
    case = _element("testcase", classname=f"zconfig.{name}", name=row.alias, time=_seconds(took_ms))
    if failure and failure.file:
        case.set("file", _fit(failure.file))
    if failure and row.required:
        case.append(_failure(failure))
    elif failure:
        case.append(_element("skipped", message=f"optional: {failure.message}"))
    elif row.state != "connected":
        case.append(_element("skipped", message=row.state))
    if besides:
        case.append(_element("system-out", besides))
    return case


def _failure(failure: Failure) -> ET.Element:
    what = failure.problem or failure.message
    return _element("failure", failure.message, type=failure.cause, message=what)


def _general(message: str, name: str) -> ET.Element:
    """Return what is wrong, and concerns no alias in particular."""
    case = _element("testcase", classname=f"zconfig.{name}", name="configuration", time="0")
    what = "the configuration is wrong"
    case.append(_element("error", message, type="configuration", message=what))
    return case


def _element(tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    element = ET.Element(tag, {name: _fit(each) for name, each in attributes.items()})
    element.text = None if text is None else _fit(text)
    return element


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.6f}"


def _fit(text: str) -> str:
    return without_commands(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text))


_LONG = {"endpoint", "state", "configured by"}
_STYLES = {"connected": "green", "failed": "red", "configured": "", "given up": "yellow"}


def render_table(report: Report) -> str:
    """Return a table with the failures and problems in full below it."""
    shows_server = any(row.state == "connected" for row in report.aliases)
    server = ("server", "round trip") if shows_server else ()
    headers = ("alias", "endpoint", "database", "state", *server, "configured by")
    table = new_table(*headers, wraps=_LONG)
    for row in report.aliases:
        table.add_row(*_cells(row, shows_server=shows_server))
    parts = [table] if report.aliases else []
    return draw([*parts, *_messages(report)])


def render_watch(report: Report) -> str:
    """Return one round of `check --watch`: when it was, a table, and what is wrong below it."""
    return draw(watch_parts(report)) + "\n"


def watch_parts(report: Report, note: str = "") -> Iterator[Part]:
    """Yield the parts of one round of `check --watch`.

    Args:
        report: What was found out, with the counts of each alias.
        note: What the heading ends with.
    """
    connected = sum(row.state == "connected" for row in report.aliases)
    heading = (
        f"{report.at:%Y-%m-%d %H:%M:%S}Z  {connected} of {len(report.aliases)} connected{note}"
    )
    yield Text(heading, style="bold")
    if report.aliases:
        headers = ("alias", "endpoint", "state", "last", "p50", "so far")
        table = new_table(*headers, wraps={*_LONG, "so far"})
        for row in report.aliases:
            table.add_row(*_watch_cells(row))
        yield table
    yield from _messages(report)


def _messages(report: Report) -> Iterator[Text]:
    """Yield what is wrong, whole."""
    yield from (Text(row.failure.message) for row in report.aliases if row.failure)
    yield from map(Text, unreported(report))


def render_json(report: Report, indent: int | None = 2) -> str:
    """Return one JSON object; its keys are documented, and only ever added to."""
    return as_json(json_value(report), indent)


def render_github(report: Report) -> str:
    """Return GitHub Actions' workflow commands: an annotation for each thing that is wrong."""
    return "\n".join(github_lines(report))


def github_lines(report: Report) -> Iterator[str]:
    """Yield an annotation for each thing that is wrong, and a line for each that is connected."""
    told = {problem.alias for problem in report.problems if problem.severity == "error"}
    for problem in report.unquoted():
        yield annotation(problem.severity, str(problem), *place(problem.origin))
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


def _cells(row: Row, *, shows_server: bool) -> Iterable[Text]:
    yield Text(row.alias, style="bold")
    yield Text(row.endpoint or "")
    yield Text(row.db_name or "")
    yield _state(row)
    if shows_server:
        yield Text(row.server_version or "")
        yield _milliseconds(row.round_trip_ms)
    yield Text(row.origin or "")


def _watch_cells(row: Row) -> Iterable[Text]:
    yield Text(row.alias, style="bold")
    yield Text(row.endpoint or "", no_wrap=True, overflow="ellipsis")
    yield _state(row)
    yield _milliseconds(row.round_trip_ms)
    trips = row.stats and row.stats.round_trips
    yield _milliseconds(trips.p50_ms if trips else None)
    yield Text(_so_far(row.stats) if row.stats else "")


def _so_far(stats: AliasStats) -> str:
    """Return how often a connect failed, by cause, and how often each other event happened."""
    events = {"lost": stats.losses, "recovered": stats.reconnects, "rotated": stats.rotations}
    counts = {**stats.failures, **events}
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


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
