"""What the doctor finds, as values: the stages of each connection, one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from zconfig.cli.report import Failure, Report, Row, checked
from zconfig.connection.judging import probe_target
from zconfig.diagnosis import StageResult, Surroundings, stages, warnings
from zconfig.diagnosis.verdict import StageError
from zconfig.endpoint import Family, Transport
from zconfig.errors import ConfigurationError, Stage, with_names
from zconfig.registry import Connections
from zconfig.settings.arguments import check_seconds, wanted_alias
from zconfig.sources.process import process_environment
from zconfig.spec import ConnectionSpec
from zconfig.topology import fetch_topology

State = Literal["ok", "failed", "skipped"]

# A probe is timed alone where it can be; one that hangs is not waited for.
_HEAD_START_S = 0.5

_STAGES = tuple(Stage)
_SAID_BY_SERVER = (Stage.MILVUS, Stage.CREDENTIALS, Stage.DATABASE)
# Where gRPC may fail though the probe, which went the same way a moment ago, did not.
_TOLD_BY_GRPC = (Stage.MATERIAL, Stage.TLS, Stage.HTTP2, *_SAID_BY_SERVER)


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of one connection.

    Args:
        stage: Which one.
        state: `ok`, `failed`, or `skipped`: not reached, or not needed.
        seen: What was seen in it, or why it is not needed.
        elapsed_ms: Milliseconds it took; `None` where nothing was measured.
    """

    stage: Stage
    state: State
    seen: str = ""
    elapsed_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out about one connection.

    Args:
        row: What `check` reports of it.
        steps: Every stage, in order.
        warnings: What to look after, though it does not fail.
    """

    row: Row
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out about all of them.

    Args:
        report: What `check` reports; its exit code counts.
        examinations: One for each row of it.
    """

    report: Report
    examinations: tuple[Examination, ...]


def examined(
    connections: Connections, aliases: Iterable[str], *, timeout: float | None
) -> Findings:
    """Connect aliases, by default all, and look at each stage on the way.

    What `check` does decides; beside it a probe of our own goes the same way, within the same time.

    Args:
        connections: The registry.
        aliases: Which ones; all of them count as required then.
        timeout: Seconds for each.
    """
    named = tuple(wanted_alias(alias) for alias in aliases)
    specs = {
        alias: connections.spec(alias) for alias in named or connections if alias in connections
    }
    executor = ThreadPoolExecutor(max(len(specs), 1), thread_name_prefix="zconfig-doctor")
    try:
        probes = {alias: executor.submit(_probed, spec, timeout) for alias, spec in specs.items()}
        wait(probes.values(), _HEAD_START_S)
        report = checked(connections, named, wait=0, timeout=timeout)
        results = {alias: probe.result() for alias, probe in probes.items()}
    finally:
        executor.shutdown(wait=False)  # Ctrl-C must not wait for a probe that hangs
    load_ms = connections.configuration.elapsed_ms
    examinations = (
        _examination(row, specs.get(row.alias), results.get(row.alias, ()), load_ms)
        for row in report.rows
    )
    return Findings(report, tuple(examinations))


def _probed(spec: ConnectionSpec, timeout: float | None) -> tuple[StageResult, ...]:
    """Go through the stages, unless there is nothing to dial yet, or no time to do it in."""
    timeout_s = spec.timeout_s if timeout is None else timeout
    try:
        check_seconds(spec.alias, timeout=timeout_s)
    except ConfigurationError:  # the connect says so
        return ()
    if spec.endpoint.transport is Transport.LITE:
        return ()
    deadline = time.monotonic() + timeout_s
    try:
        return stages(probe_target(_dialed(spec, deadline)), deadline)
    except StageError:  # the connect asks as well, and says why
        return ()


def _dialed(spec: ConnectionSpec, deadline: float) -> ConnectionSpec:
    """Return a specification of what is really dialed: a global cluster's primary."""
    if spec.endpoint.family is not Family.GLOBAL_CLUSTER:
        return spec
    topology = fetch_topology(spec, probe_target(spec), deadline)
    return replace(spec, endpoint=topology.primary.endpoint)


def _examination(
    row: Row, spec: ConnectionSpec | None, results: tuple[StageResult, ...], load_ms: float
) -> Examination:
    if spec is None or row.endpoint is None:
        return Examination(row, tuple(_until(Stage.PARSE, {}, row.failure)))
    passed = {
        Stage.PARSE: Step(Stage.PARSE, "ok", row.origin or "", load_ms),
        **_not_needed(spec),
        **{each.stage: _probe_step(each) for each in results},
        **_told_by_server(row, spec),
    }
    failed = _failing_stage(row.failure, results) if row.failure else None
    steps = _until(failed, passed, row.failure)
    surroundings = Surroundings.detect(process_environment())
    looked_after = warnings(probe_target(spec), results, surroundings, datetime.now(UTC))
    named = (with_names(each, spec.name_of) for each in looked_after)
    hinted = row.failure.hint if row.failure else ""
    return Examination(row, tuple(steps), tuple(each for each in named if each not in hinted))


def _probe_step(result: StageResult) -> Step:
    return Step(result.stage, "ok" if result.ok else "failed", result.detail, result.elapsed_ms)


def _not_needed(spec: ConnectionSpec) -> dict[Stage, Step]:
    """Return the stages that a connection does not have, and why."""
    endpoint = spec.endpoint
    if endpoint.transport is Transport.LITE:
        dialed = dict.fromkeys((Stage.DNS, Stage.TCP, Stage.TLS, Stage.HTTP2), "embedded")
        opened = Step(Stage.MATERIAL, "ok", endpoint.path or "")
        return {Stage.MATERIAL: opened, **_skipped(dialed)}
    reasons = {} if endpoint.secure else dict.fromkeys((Stage.MATERIAL, Stage.TLS), "plaintext")
    if endpoint.transport is Transport.UNIX:
        reasons[Stage.DNS] = "a Unix socket"
    return _skipped(reasons)


def _skipped(reasons: Mapping[Stage, str]) -> dict[Stage, Step]:
    return {stage: Step(stage, "skipped", why) for stage, why in reasons.items()}


def _told_by_server(row: Row, spec: ConnectionSpec) -> dict[Stage, Step]:
    """Return what it means that the server accepted us."""
    credentials = Step(Stage.CREDENTIALS, "skipped", "none are set, and none are wanted")
    if spec.endpoint.transport is Transport.LITE:
        credentials = Step(Stage.CREDENTIALS, "skipped", "Milvus Lite looks at none")
    elif spec.credentials:
        user = spec.credentials.user
        credentials = Step(Stage.CREDENTIALS, "ok", f"the user {user}" if user else "an API key")
    seen = row.server_version or "it answered"
    return {
        Stage.MILVUS: Step(Stage.MILVUS, "ok", seen, row.round_trip_ms),
        Stage.CREDENTIALS: credentials,
        Stage.DATABASE: Step(Stage.DATABASE, "ok", spec.db_name),
    }


def _failing_stage(failure: Failure, results: Iterable[StageResult]) -> Stage:
    """Return the stage to show a failure in: where the probe met it, or else where gRPC did."""
    if failure.stage is None:
        return Stage.MATERIAL if failure.cause == "missing_extra" else Stage.PARSE
    met = next((result.stage for result in results if not result.ok), None)
    told = Stage(failure.stage)
    return met or (told if told in _TOLD_BY_GRPC else Stage.MILVUS)


def _until(
    failed: Stage | None, passed: Mapping[Stage, Step], failure: Failure | None
) -> Iterator[Step]:
    """Yield the stages as they went, up to the one that failed; what comes after is skipped."""
    end = _STAGES.index(failed) if failed else len(_STAGES)
    for at, stage in enumerate(_STAGES):
        step = passed.get(stage) if at <= end else None
        if stage is failed and failure and (step is None or step.state != "failed"):
            seen = failure.detail or failure.problem or failure.message
            step = Step(stage, "failed", seen, failure.elapsed_ms)
        yield step or Step(stage, "skipped")
