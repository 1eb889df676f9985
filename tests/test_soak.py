"""The soak: a short one passes, and whatever goes wrong in one is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from pymilvus import MilvusException

from benchmarks.results import summary_of
from benchmarks.soak import __main__ as command
from benchmarks.soak.driver import StuckError
from benchmarks.soak.report import report
from benchmarks.soak.servers import USER
from benchmarks.soak.soak import Plan, soak
from benchmarks.soak.values import Call, Child, End, Holdings, Record, Sample, Window
from benchmarks.soak.verdict import (
    CLOSING_S,
    LARGEST_GROWTH_KB_PER_MINUTE,
    LARGEST_POOL,
    MARGIN_S,
    POOLS,
    RECOVERY_S,
    broken,
    recoveries,
    slope,
)
from benchmarks.soak.ways import blocking, end_of
from zconfig.errors import ClosedError, RefusedError
from zconfig.testing import FakeServer, fake_server

SHORT = Plan(
    seconds=1.0,
    seed=7,
    threads=2,
    kinds=("rotate", "reload", "resize", "fork"),
    with_lite=False,
    longest_gap_s=0.1,
    longest_outage_s=0.3,
    resting_s=0.5,
    settling_s=4.0,
)

HELD = Holdings(threads={"python": 9}, descriptors=20, objects={"View": 3}, memory_kb=100_000)
OUTAGE = Window("kill a", frozenset({"a", "a_far"}), 10.0, 14.0, End.FAILED, RECOVERY_S)
CLOSE = Window("disconnect b", frozenset({"b"}), 20.0, 20.1, End.CLOSED, CLOSING_S)
WELL = Record(
    fine={"ping a": 100, "ping b": 100},
    calls=(),
    windows=(OUTAGE, CLOSE),
    children=(Child(3.0), Child(4.0, without_asyncio=True)),
    before=HELD,
    after=HELD,
    samples=tuple(Sample(10.0 * n, 100_000 + n) for n in range(20)),
    troubles={"kill": 1, "disconnect": 1},
)


def call(began: float, alias: str = "a", end: End = End.FAILED, took_s: float = 0.1) -> Call:
    return Call("ping", alias, began, took_s, limit_s=6.0, end=end, said="RefusedError: refused")


def faults_of(**changes: object) -> list[str]:
    return broken(replace(WELL, **changes))


# --- a short one -----------------------------------------------------------------------------


class Impostor:
    """A fake Milvus that stands in for a real one, as far as the short soak needs it."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake
        self.port = fake.port

    def set_password(self, _old: str | None, new: str) -> None:
        self._fake.accept(f"{USER}:{new}")


@pytest.mark.stress
def test_a_short_soak_goes_well(tmp_path: Path) -> None:
    log: list[str] = []
    with fake_server() as one, fake_server() as other:
        record = soak(SHORT, tmp_path, {"a": Impostor(one), "b": Impostor(other)}, log.append)
    assert broken(record) == [], (tmp_path / "application.log").read_text()
    assert record.troubles.keys() == set(SHORT.kinds)
    assert record.children
    assert {name.rpartition(" ")[0] for name in record.fine} >= {
        "aio ping",
        "aio pymilvus",
        "pymilvus",
        *(way.name for way in blocking()),
    }
    assert any("rotate the password of" in line for line in log)


# --- the verdict -----------------------------------------------------------------------------


def test_a_soak_in_which_nothing_went_wrong_has_no_faults() -> None:
    assert broken(WELL) == []


@pytest.mark.parametrize("began", [9.95, 10.0, 13.9, 14.0 + RECOVERY_S])
def test_a_call_that_failed_in_an_outage_is_not_lost(began: float) -> None:
    assert faults_of(calls=[call(began)]) == []


@pytest.mark.parametrize(
    "lost",
    [
        call(9.0),
        call(14.1 + RECOVERY_S),
        call(12.0, alias="b"),
        call(12.0, end=End.CLOSED),
        call(12.0, end=End.ODD),
        call(20.0, alias="b"),
        call(20.2 + CLOSING_S, alias="b", end=End.CLOSED),
    ],
)
def test_a_call_that_failed_otherwise_is_lost(lost: Call) -> None:
    (fault,) = faults_of(calls=[lost])
    assert fault.startswith(f"lost, {lost.end}: ping {lost.alias} at {lost.began:.1f} s")
    assert fault.endswith("RefusedError: refused")


def test_a_call_on_a_connection_that_is_just_closed_is_not_lost() -> None:
    assert faults_of(calls=[call(20.0, alias="b", end=End.CLOSED)]) == []


@pytest.mark.parametrize("end", [End.FINE, End.FAILED])
def test_a_call_that_outlives_its_deadline_is_reported(end: End) -> None:
    late = call(12.0, end=end, took_s=6.1 + MARGIN_S)
    (fault,) = faults_of(calls=[late])
    assert fault == "late: ping a at 12.0 s took 11.1 s instead of 6.0 s at most"


def test_a_call_that_never_ends_is_reported_even_if_it_began_in_an_outage() -> None:
    (fault,) = faults_of(calls=[call(12.0, end=End.NEVER, took_s=60.0)])
    assert fault.startswith("lost, never: ping a")


def test_a_call_that_has_time_left_is_not_reported() -> None:
    assert faults_of(calls=[call(60.0, end=End.NEVER, took_s=1.0)]) == []


def test_a_way_to_call_on_which_nothing_went_well_is_reported() -> None:
    assert faults_of(fine={"ping b": 1}, calls=[call(12.0)]) == ["no call went well: ping a"]
    assert faults_of(fine={}) == ["no call went well at all"]


def test_a_child_in_which_something_went_wrong_is_reported() -> None:
    stuck = Child(5.0, "it was stuck for 30 s")
    assert faults_of(children=[stuck]) == ["child forked at 5.0 s: it was stuck for 30 s"]


@pytest.mark.parametrize(
    ("after", "fault"),
    [
        (replace(HELD, threads={"python": 10}), "threads: {'python': 9} became {'python': 10}"),
        (replace(HELD, descriptors=21), "descriptors: 20 became 21"),
        (replace(HELD, objects={"View": 4}), "objects: 3 of View became 4"),
        (replace(HELD, objects={"View": 3, "Line": 1}), "objects: 0 of Line became 1"),
    ],
)
def test_what_there_is_more_of_is_reported(after: Holdings, fault: str) -> None:
    assert faults_of(after=after) == [fault]


def test_what_there_is_less_of_is_not_reported() -> None:
    less = Holdings(threads={"other": 8}, descriptors=19, objects={}, memory_kb=90_000)
    assert faults_of(after=less) == []


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("count", "is_reported"), [(LARGEST_POOL, False), (40, True)])
def test_a_pool_may_fill_up_and_no_more(pool: str, count: int, is_reported: bool) -> None:
    after = replace(HELD, threads={**HELD.threads, pool: count})
    assert bool(faults_of(after=after)) is is_reported


def growing(kb_per_minute: float) -> list[Sample]:
    return [Sample(s, 100_000 + round(s / 60 * kb_per_minute)) for s in range(0, 300, 15)]


def test_memory_that_grows_steadily_is_reported() -> None:
    after = replace(HELD, memory_kb=HELD.memory_kb + 8_000)
    (fault,) = faults_of(samples=growing(2 * LARGEST_GROWTH_KB_PER_MINUTE), after=after)
    assert fault.startswith("memory grows by 1024 KB a minute")


def test_memory_that_is_given_back_at_rest_is_not_reported() -> None:
    assert faults_of(samples=growing(2 * LARGEST_GROWTH_KB_PER_MINUTE)) == []


def test_peaks_of_memory_are_not_reported() -> None:
    peaks = [
        replace(each, memory_kb=each.memory_kb + (50_000 if number % 4 == 3 else 0))
        for number, each in enumerate(growing(10))
    ]
    assert slope(peaks) == pytest.approx(10, abs=15)
    assert faults_of(samples=peaks) == []


def test_a_leap_of_memory_is_not_reported() -> None:
    leap = [replace(each, memory_kb=each.memory_kb + 20_000) for each in growing(10)[10:]]
    assert faults_of(samples=[*growing(10)[:10], *leap]) == []


def test_whatever_else_went_wrong_is_reported() -> None:
    assert faults_of(faults=["reload at 3.0 s: no guest"]) == ["reload at 3.0 s: no guest"]


def test_a_recovery_counts_from_the_end_of_the_last_outage_before_it() -> None:
    before = replace(OUTAGE, what="cut a", began=8.0, ended=9.5)
    found = recoveries([call(12.0), call(14.5), call(15.25)], [before, OUTAGE, CLOSE])
    assert found == {"cut": [0.0], "kill": [1.25], "disconnect": [0.0]}


# --- how calls end ---------------------------------------------------------------------------


class Status(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (RefusedError("a", endpoint="", origin=""), End.FAILED),
        (Status(grpc.StatusCode.UNAVAILABLE), End.FAILED),
        (MilvusException(message="[get_server_version] Retry timeout: 3.0s"), End.FAILED),
        (ClosedError("a"), End.CLOSED),
        (Status(grpc.StatusCode.CANCELLED), End.CLOSED),
        (MilvusException(message=str(ClosedError("a"))), End.CLOSED),
        (Status(grpc.StatusCode.UNAUTHENTICATED), End.ODD),
        (MilvusException(message="illegal connection params or server unavailable"), End.ODD),
        (AttributeError("channel"), End.ODD),
    ],
)
def test_an_error_tells_how_a_call_ended(error: Exception, end: End) -> None:
    assert end_of(error) is end


# --- the command -----------------------------------------------------------------------------


@contextmanager
def no_servers(_: Path) -> Iterator[dict[str, object]]:
    yield {}


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (WELL, "nothing was lost"),
        (replace(WELL, calls=[call(9.0)]), "lost, failed: ping a at 9.0 s"),
        (StuckError("fork: no answer for 180 s"), "fork: no answer for 180 s"),
    ],
)
def test_the_command_fails_with_the_seed_if_anything_is_broken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Record | StuckError,
    said: str,
) -> None:
    code = 0 if outcome is WELL else 1

    def run(_plan: Plan, directory: Path, *_: object) -> Record:
        (directory / "application.log").write_text("the end of the log")
        if isinstance(outcome, StuckError):
            raise outcome
        return outcome

    monkeypatch.setattr(command, "_KEPT_LOGS", tmp_path)
    monkeypatch.setattr(command, "two_servers", no_servers)
    monkeypatch.setattr(command, "soak", run)
    summary = tmp_path / "summary.json"
    options = ["--minutes", "2", "--seed", "5", "--threads", "3", "--summary", str(summary)]
    monkeypatch.setattr("sys.argv", ["soak", *options])
    assert command.main() == code
    told = summary_of(json.loads(summary.read_text()))
    assert (told.minutes, told.seed, bool(told.rows)) == (2, 5, isinstance(outcome, Record))
    assert [each.partition(" at ")[0] for each in told.faults] == [said.partition(" at ")[0]] * code
    output = capsys.readouterr().out
    again = "python -m benchmarks.soak --minutes 2 --seed 5 --threads 3"
    assert output.count(again) == 1 + code
    assert said in output
    assert (tmp_path / "5.log").exists() == bool(code)


def test_the_report_counts_what_happened() -> None:
    record = replace(WELL, calls=[call(12.0), call(9.0)])
    lines = dict(line.split(":", 1) for line in report(record).splitlines())
    found = {name.strip(): value.strip() for name, value in lines.items()}
    assert found["calls that went well"] == "200"
    assert (found["calls failed in outages"], found["calls lost"]) == ("1", "1")
    assert found["children"] == "2, 0 failed"
    assert found["memory"] == "100000 KB before, 100000 KB after, +6 KB a minute"
