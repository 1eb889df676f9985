"""What the doctor found → tables for people, JSON for programs, annotations and JUnit for CI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from zconfig.cli.doctor import Examination, Findings, Step
from zconfig.cli.drawing import Part, as_json, draw, new_table
from zconfig.cli.junit import render_junit
from zconfig.cli.render import annotation, github_lines, report_values, rounded, untold
from zconfig.cli.report import Report, Row
from zconfig.errors import Stage

_STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim"}
_SHORTEST_MS = 0.1


def findings_table(findings: Findings) -> str:
    """Return for each connection its stages, what went wrong and what to look after."""
    return draw(_parts(findings))


def findings_json(findings: Findings) -> str:
    """Return one JSON object: that of `check`, with the stages and warnings of each alias."""
    values = report_values(findings.report)
    for row, examination in zip(values["aliases"], findings.examinations, strict=True):
        row["stages"] = [_step_values(step) for step in examination.steps]
        row["warnings"] = list(examination.warnings)
    return as_json(values)


def findings_github(findings: Findings) -> str:
    """Return the annotations of `check`, and one for each warning."""
    warnings = (
        annotation("warning", f"{each.row.alias}: {warning}")
        for each in findings.examinations
        for warning in each.warnings
    )
    return "\n".join((*github_lines(findings.report), *warnings))


def findings_junit(findings: Findings) -> str:
    """Return the test cases of `check`, with the stages and warnings as their output."""
    outputs = {each.row.alias: "\n".join(_lines(each)) for each in findings.examinations}
    return render_junit(findings.report, "doctor", outputs)


def _lines(examination: Examination) -> Iterator[str]:
    for step in examination.steps:
        told = (_name(step.stage), step.state, _time(step), step.seen)
        yield "  ".join(filter(None, told))
    yield from (f"warning  {warning}" for warning in examination.warnings)


def _parts(findings: Findings) -> Iterator[Part]:
    for examination in findings.examinations:
        yield _heading(examination)
        if examination.row.endpoint:
            yield _stages(examination)
        remarks = _remarks(examination, findings.report)
        if remarks.row_count:
            yield remarks
            yield Text("")
    yield from (Text(line) for line in untold(findings.report))
    if len(findings.examinations) > 1:
        yield Text(_summary(findings))


def _heading(examination: Examination) -> Text:
    row = examination.row
    state = row.state if row.required else f"{row.state} (optional)"
    heading = Text(row.alias, style="bold")
    heading.append(f"  {row.endpoint}" if row.endpoint else "", "not bold")
    return heading.append(f"  {state}", "not bold " + _STYLES["failed" if row.failure else "ok"])


def _stages(examination: Examination) -> Table:
    table = new_table("stage", "state", "time", "seen", wraps={"seen"})
    table.columns[2].justify = "right"
    for step in examination.steps:
        style = _STYLES[step.state]
        table.add_row(
            Text(_name(step.stage)), Text(step.state, style), Text(_time(step)), Text(step.seen)
        )
    return table


def _name(stage: Stage) -> str:
    return "configuration" if stage is Stage.PARSE else str(stage)


def _time(step: Step) -> str:
    if step.elapsed_ms is None:
        return ""
    return "< 0.1 ms" if step.elapsed_ms < _SHORTEST_MS else f"{step.elapsed_ms:.1f} ms"


def _remarks(examination: Examination, report: Report) -> Table:
    """Return what went wrong, what to do about it, and what to look after."""
    remarks = Table.grid(padding=(0, 2))
    for name, text in _said_of(examination.row, report):
        remarks.add_row(Text(name, _STYLES["failed"] if name == "failed" else "bold"), Text(text))
    for warning in examination.warnings:
        remarks.add_row(Text("warning", "yellow"), Text(warning))
    return remarks


def _said_of(row: Row, report: Report) -> Iterator[tuple[str, str]]:
    """Yield the parts of a failure, or of each problem where the configuration is wrong."""
    failure = row.failure
    wrong = [p for p in report.problems if p.alias == row.alias and p.severity == "error"]
    if failure is None:
        return
    if row.endpoint is None and wrong:
        for problem in wrong:
            place = f"{problem.origin}: " if problem.origin else ""
            yield "failed", f"{place}{problem.message} ({problem.code})"
            yield "remedy", problem.remedy
        return
    lasting = "" if failure.permanent else ", which may pass"
    what = f"{failure.problem} ({failure.cause}{lasting})" if failure.problem else failure.message
    parts = (("set by", failure.origin), ("remedy", failure.remedy), ("hint", failure.hint))
    yield "failed", what
    yield from ((name, text) for name, text in parts if text)


def _summary(findings: Findings) -> str:
    fine = sum(not each.row.failure for each in findings.examinations)
    return f"{fine} of {len(findings.examinations)} connections are fine"


def _step_values(step: Step) -> dict[str, Any]:
    return {
        "stage": _name(step.stage),
        "state": step.state,
        "seen": step.seen,
        "elapsed_ms": rounded(step.elapsed_ms),
    }
