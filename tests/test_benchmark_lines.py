"""The benchmarks measure what they say, as far as a moment shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from benchmarks import lines_calls, lines_growth, lines_lookup
from benchmarks.lines import ROUND_TRIP_MS, Lab, Line, lab, missed
from benchmarks.profiling import called, sampled
from benchmarks.traffic import rate
from tests.support.registries import registry
from zconfig._redaction import Masker
from zconfig.testing import FakeServer, fake_server

SECRET = "root:Milvus"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        server.accept(SECRET)
        yield server


@pytest.fixture
def quick(fake: FakeServer) -> Iterator[Lab]:
    with lab(quick=True) as shared:
        vars(shared)["server"] = fake  # instead of the real one, which is made when it is asked for
        yield shared


def test_every_line_of_calls_has_samples_of_us_and_of_the_floor(
    quick: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_calls, "_SLICE_S", 0.01)
    monkeypatch.setattr(lines_calls, "_PROFILED_S", 0.05)
    monkeypatch.setattr(lines_calls, "_CALLS", 5)
    measured = list(lines_calls.measure(quick))
    assert len({line.name for line in measured}) == len(measured) == 5
    for line in measured:
        assert isinstance(line, Line)
        assert list(line.samples) == ["zconfig", "floor", "floor, another"]
        assert all(len(samples) == 3 and min(samples) > 0 for samples in line.samples.values())
        assert bool(missed(line)) == bool(line.profile)


def test_the_floor_of_a_call_carries_what_ours_carries_over_a_connection_of_its_own(
    fake: FakeServer,
) -> None:
    with lines_calls.calls(fake.uri, SECRET) as programs:
        for call in programs.values():
            call()
    ours, *floors = fake.calls("GetVersion")
    for call in (ours, *floors):
        assert call.token == SECRET
        assert call.metadata["identifier"] == ours.metadata["identifier"]
    assert len({call.peer for call in (ours, *floors)}) == len(programs)


def test_a_lookup_is_compared_with_that_of_a_dictionary(quick: Lab) -> None:
    (line,) = lines_lookup.measure(quick)
    assert list(line.samples) == ["zconfig", "dict"]
    (goal,) = line.goals
    assert (goal.program, goal.against, goal.at_most) == ("zconfig", "dict", 5)


def test_each_alias_of_many_has_a_connection_of_its_own(fake: FakeServer) -> None:
    sample = json.loads(lines_growth.grow("connected", "3", fake.uri, SECRET))
    assert sample["count"] == 3
    assert sample["ms"] > 0
    assert len(fake.calls("Connect")) == len(fake.peers()) == 1 + 3  # the first one is a rehearsal


@pytest.mark.parametrize("where", ["environment", "dotenv"])
def test_aliases_are_read_from_where_they_are_said_to_stand(where: str) -> None:
    assert json.loads(lines_growth.grow(where, "20"))["count"] == 20


def test_growth_is_told_by_alias_and_explained_where_it_is_not_linear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines_growth, "grow", lambda *arguments: f"profile of {arguments}")
    few, many = (lines_growth.Case(str(n), n, ("environment", str(n))) for n in (10, 100))
    grown = partial(lines_growth.an_alias, "read", "An alias read", "ms", few=few)
    linear = grown(taken={few: (20.0,), many: (200.0,)})
    worse = grown(taken={few: (20.0,), many: (250.0,)})
    assert linear.samples == {"10": (2.0,), "100": (2.0,)}
    assert not linear.profile
    assert worse.profile == "profile of ('environment', '100', '--profile')"


def test_a_far_server_is_a_round_trip_away(quick: Lab) -> None:
    with registry(ZILLIZ_URI=quick.far_uri, ZILLIZ_TOKEN=SECRET) as connections:
        assert connections.default.ping() > ROUND_TRIP_MS - 1


def test_all_threads_make_calls() -> None:
    callers: set[int] = set()
    assert rate(lambda: callers.add(threading.get_ident()), threads=4, seconds=0.01) > 0
    assert len(callers) == 4


def test_a_profile_names_our_functions(fake: FakeServer) -> None:
    masker = Masker(lambda: ())
    assert "zconfig/_redaction.py" in called(lambda: masker.mask("text"))
    with registry(ZILLIZ_URI=fake.uri, ZILLIZ_TOKEN=SECRET) as connections:
        connection = connections.default
        where = sampled(lambda: [connection.ping() for _ in range(50)])
    assert "BoundChannel._ask" in where
