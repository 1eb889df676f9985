"""`zconfig doctor`: each stage of each connection."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from dataclasses import field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import click
from rich.table import Table
from rich.text import Text

from zconfig._channel.interruptible import begin
from zconfig._cli.exit import finish
from zconfig._cli.options import (
    Format,
    Session,
    epilog,
    output,
    pass_session,
    which_aliases,
    with_timeout,
)
from zconfig._cli.progress import show_progress
from zconfig._cli.render import (
    Part,
    annotation,
    new_table,
    render,
    unreported,
)
from zconfig._cli.report import Failure, Report, Row, check_aliases, copy_fields
from zconfig._connection.error_mapping import probe_target
from zconfig._diagnosis import HostEnvironment, StageResult, advisories, stages
from zconfig._diagnosis.model import StageError
from zconfig._endpoint import Family, TransportType
from zconfig._registry import Connections
from zconfig._settings.arguments import wanted_alias
from zconfig._sources.environment import process_environment
from zconfig._spec import ConnectionSpec
from zconfig._topology import fetch_topology
from zconfig._value import Value, value
from zconfig.errors import Stage, with_names

State = Literal["ok", "failed", "skipped"]

# Probes run alone first, for accurate times; the connect does not wait for one that hangs.
_HEAD_START_S = 0.5

# The stages in which gRPC may fail although the probe passed them a moment ago.
_SEEN_BY_GRPC = {*Stage} - {Stage.PARSE, Stage.DNS, Stage.TCP}


def _name(stage: Stage) -> str:
    return "configuration" if stage is Stage.PARSE else str(stage)


@value
class Step(Value):
    """One stage of one connection.

    Args:
        stage: The name of the stage.
        state: `skipped`: not reached, or not needed.
        seen: The observation, or the reason why the stage is not needed.
        elapsed_ms: Duration in milliseconds; `None` if it was not measured.
    """

    stage: Stage = field(metadata={"json": _name})
    state: State
    seen: str = ""
    elapsed_ms: float | None = None


@value
class Examination(Row):
    """The findings for one alias.

    Args:
        stages: Every stage, in order.
        warnings: Warnings about problems that do not prevent the connection.
    """

    stages: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()


@value
class Findings(Report):
    """The findings for all aliases, with the exit code of `check`.

    Args:
        aliases: The aliases, in the order of the arguments or of their declaration.
    """

    aliases: tuple[Examination, ...]


def examine(connections: Connections, aliases: Iterable[str], *, timeout: float | None) -> Findings:
    """Connect aliases, by default all, and examine each stage.

    The result is that of `check`. A probe of DNS, TCP and TLS to the same address runs beside it,
    within the same timeout.

    Args:
        connections: The registry.
        aliases: The aliases; those that are named count as required.
        timeout: Seconds for each alias.
    """
    named = tuple(wanted_alias(alias) for alias in aliases)
    specs = {
        alias: connections.spec(alias) for alias in named or connections if alias in connections
    }
    probes = {alias: begin(partial(_probe, spec, timeout)) for alias, spec in specs.items()}
    wait(probes.values(), _HEAD_START_S)
    report = check_aliases(connections, named, wait=0, timeout=timeout)
    results = {alias: probe.result() for alias, probe in probes.items()}
    load_ms = connections.configuration.elapsed_ms
    examinations = (
        _examine(row, specs.get(row.alias), results.get(row.alias, ()), load_ms)
        for row in report.aliases
    )
    return copy_fields(Findings, report, aliases=tuple(examinations))


def _probe(spec: ConnectionSpec, timeout: float | None) -> tuple[StageResult, ...]:
    """Probe the stages, unless there is no address to dial."""
    if spec.endpoint.transport is TransportType.LITE:
        return ()
    deadline = time.monotonic() + (spec.timeout_s if timeout is None else timeout)
    try:
        return stages(probe_target(_dialed_spec(spec, deadline)), deadline)
    except StageError:  # the connect fetches the topology too, and reports the cause
        return ()


def _dialed_spec(spec: ConnectionSpec, deadline: float) -> ConnectionSpec:
    """Return the specification with the address that is dialed: a global cluster's primary."""
    if spec.endpoint.family is not Family.GLOBAL_CLUSTER:
        return spec
    topology = fetch_topology(spec, probe_target(spec), deadline)
    return replace(spec, endpoint=topology.primary)


def _examine(
    row: Row, spec: ConnectionSpec | None, results: tuple[StageResult, ...], load_ms: float
) -> Examination:
    if spec is None:
        steps = _steps_until(Stage.PARSE, (), row.failure)
        return copy_fields(Examination, row, stages=tuple(steps), warnings=())
    passed = (
        Step(Stage.PARSE, "ok", row.origin or "", load_ms),
        *_not_needed(spec),
        *map(_probe_step, results),
        *_passed_at_server(row, spec),
    )
    failed = _failing_stage(row.failure, results) if row.failure else None
    steps = _steps_until(failed, passed, row.failure)
    host_environment = HostEnvironment.detect(process_environment())
    found = advisories(probe_target(spec), results, host_environment, datetime.now(UTC))
    hint = row.failure.hint if row.failure else ""
    warnings = (with_names(each, spec.name_of) for each in found)
    new = tuple(each for each in warnings if each not in hint)
    return copy_fields(Examination, row, stages=tuple(steps), warnings=new)


def _probe_step(result: StageResult) -> Step:
    return Step(result.stage, "ok" if result.ok else "failed", result.detail, result.elapsed_ms)


def _not_needed(spec: ConnectionSpec) -> Iterator[Step]:
    """Yield the stages that the connection does not need, with the reason."""
    transport, reasons = spec.endpoint.transport, dict[Stage, str]()
    if transport is TransportType.LITE:
        yield Step(Stage.MATERIAL, "ok", spec.endpoint.path or "")
        reasons = dict.fromkeys((Stage.DNS, Stage.TCP, Stage.TLS, Stage.HTTP2), "embedded")
    elif not spec.endpoint.secure:
        reasons = dict.fromkeys((Stage.MATERIAL, Stage.TLS), "plaintext")
    if transport is TransportType.UNIX:
        reasons[Stage.DNS] = "a Unix socket"
    yield from (Step(stage, "skipped", why) for stage, why in reasons.items())


def _passed_at_server(row: Row, spec: ConnectionSpec) -> Iterator[Step]:
    """Yield the stages that pass once the server accepts the connection."""
    yield Step(Stage.MILVUS, "ok", row.server_version or "the server answered", row.round_trip_ms)
    if spec.endpoint.transport is TransportType.LITE:
        yield Step(Stage.CREDENTIALS, "skipped", "Milvus Lite ignores credentials")
    elif spec.credentials:
        user = spec.credentials.user
        yield Step(Stage.CREDENTIALS, "ok", f"user {user}" if user else "API key")
    else:
        yield Step(Stage.CREDENTIALS, "skipped", "none set, and none required")
    yield Step(Stage.DATABASE, "ok", spec.db_name)


def _failing_stage(failure: Failure, results: Iterable[StageResult]) -> Stage:
    """Return the stage that failed in the probe, or else in gRPC."""
    if failure.stage is None:
        return Stage.MATERIAL if failure.cause == "missing_extra" else Stage.PARSE
    met = next((result.stage for result in results if not result.ok), None)
    told = Stage(failure.stage)
    return met or (told if told in _SEEN_BY_GRPC else Stage.MILVUS)


def _steps_until(
    failed: Stage | None, passed: Iterable[Step], failure: Failure | None
) -> Iterator[Step]:
    """Yield the stages up to the one that failed; the later ones are skipped."""
    steps = {step.stage: step for step in passed}
    for stage in Stage:
        step = steps.get(stage)
        if stage is failed and failure and (step is None or step.state != "failed"):
            seen = failure.detail or failure.problem or failure.message
            step = Step(stage, "failed", seen, failure.elapsed_ms)
        yield step or Step(stage, "skipped")
        if stage is failed:
            steps = {}


_STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim", "warning": "yellow"}
_SHORTEST_MS = 0.1


def _lines(examination: Examination) -> Iterator[str]:
    for step in examination.stages:
        told = (_name(step.stage), step.state, _time(step), step.seen)
        yield "  ".join(filter(None, told))
    yield from (f"warning  {warning}" for warning in examination.warnings)


def _parts(findings: Findings) -> Iterator[Part]:
    for examination in findings.aliases:
        yield _heading(examination)
        if examination.endpoint:
            yield _stages(examination)
        remarks = Table.grid(padding=(0, 2))
        for name, text in _remarks(examination, findings):
            remarks.add_row(Text(name, _STYLES.get(name, "bold")), Text(text))
        if remarks.row_count:
            yield remarks
            yield Text("")
    yield from (Text(line) for line in unreported(findings))
    if len(findings.aliases) > 1:
        fine = sum(not each.failure for each in findings.aliases)
        yield Text(f"{fine} of {len(findings.aliases)} aliases are connected")


def _heading(row: Row) -> Text:
    state = row.state if row.required else f"{row.state} (optional)"
    heading = Text(row.alias, style="bold")
    heading.append(f"  {row.endpoint}" if row.endpoint else "", "not bold")
    return heading.append(f"  {state}", "not bold " + _STYLES["failed" if row.failure else "ok"])


def _stages(examination: Examination) -> Table:
    table = new_table("stage", "state", "time", "seen", wraps={"seen"})
    table.columns[2].justify = "right"
    for step in examination.stages:
        style = _STYLES[step.state]
        table.add_row(
            Text(_name(step.stage)), Text(step.state, style), Text(_time(step)), Text(step.seen)
        )
    return table


def _time(step: Step) -> str:
    if step.elapsed_ms is None:
        return ""
    return "< 0.1 ms" if step.elapsed_ms < _SHORTEST_MS else f"{step.elapsed_ms:.1f} ms"


def _remarks(examination: Examination, report: Report) -> Iterator[tuple[str, str]]:
    """Yield the failure, its remedy and the warnings, each with its label."""
    failure = examination.failure
    problems = [p for p in report.problems if p.alias == examination.alias]
    wrong = [] if examination.endpoint else [p for p in problems if p.severity == "error"]
    for problem in wrong if failure else ():
        place = f"{problem.origin}: " if problem.origin else ""
        yield "failed", f"{place}{problem.message} ({problem.code})"
        yield "remedy", problem.remedy
    if failure and not wrong:
        lasting = "" if failure.permanent else ", transient"
        cause = f" ({failure.cause}{lasting})" if failure.problem else ""
        yield "failed", f"{failure.problem or failure.message}{cause}"
        parts = (("set by", failure.origin), ("remedy", failure.remedy), ("hint", failure.hint))
        yield from ((name, text) for name, text in parts if text)
    yield from (("warning", warning) for warning in examination.warnings)


@click.command(
    epilog=epilog(
        "zconfig doctor", "zconfig doctor prod --timeout 3", "zconfig doctor --format json"
    )
)
@which_aliases
@with_timeout
@output("table", "json", "github", "junit")
@pass_session
def doctor(
    session: Session,
    aliases: tuple[str, ...],
    timeout: float | None,
    format_: Format,
) -> None:
    """Connect aliases and report each stage.

    Connects ALIASES, by default all. The stages are configuration, file material (certificates,
    keys or the Milvus Lite database), DNS, TCP, TLS, HTTP/2, Milvus, credentials and database.
    Reports the result and the duration of each stage, up to the first that fails, and the remedy.
    Warns about certificates that expire within 30 days, and about risks in the environment.
    """
    with show_progress(session, aliases):
        findings = examine(session.connections, aliases, timeout=timeout)
    warned = ((each.alias, warning) for each in findings.aliases for warning in each.warnings)
    text = render(
        findings,
        format_,
        "doctor",
        _parts,
        annotations=[annotation("warning", f"{alias}: {warning}") for alias, warning in warned],
        outputs={each.alias: "\n".join(_lines(each)) for each in findings.aliases},
    )
    finish(session, findings, text)
