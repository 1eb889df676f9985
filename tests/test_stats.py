"""How it goes with each alias, told from what is known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ears import Ears
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy
from tests.support.loops import faces
from tests.support.registries import registry
from zconfig import events
from zconfig._registry.stats import _summary
from zconfig.errors import AutoconnectError, RefusedError, RejectedCredentialsError
from zconfig.testing import FakeServer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def path(server: FakeServer) -> Iterator[BreakableProxy]:
    with breakable_proxy(server.port) as proxy:
        yield proxy


def test_an_alias_that_was_never_used_is_idle_and_nothing_is_dialed(server: FakeServer) -> None:
    before = datetime.now(UTC)
    with registry(ZILLIZ_URI=server.uri) as connections:
        (stats,) = connections.stats().values()
        assert (stats.state, stats.required, stats.last_error) == ("idle", True, "")
        assert (stats.connects, stats.failures, stats.round_trips) == (0, {}, None)
        assert before <= stats.since <= datetime.now(UTC)
    assert server.calls() == []


def test_what_happens_to_an_alias_is_counted(server: FakeServer, path: BreakableProxy) -> None:
    with registry(ZILLIZ_URI=f"http://{LOOPBACK}:{path.port}") as connections:
        ears = Ears(connections)
        connections["default"]
        connected = connections.stats()["default"]
        assert (connected.state, connected.connects, connected.losses) == ("connected", 1, 0)
        path.cut()
        ears.wait_for(events.ConnectionLost)
        lost = connections.stats()["default"]
        assert (lost.state, lost.losses, lost.reconnects) == ("lost", 1, 0)
        assert "connection refused" in lost.last_error
        assert connected.since < lost.since
        path.heal()
        ears.wait_for(events.ConnectionRecovered)
        back = connections.stats()["default"]
        assert (back.state, back.last_error, back.reconnects) == ("connected", "", 1)
        connections.disconnect("default")
        assert connections.stats()["default"].state == "idle"
        connections["default"]
        assert connections.stats()["default"].connects == 2


def test_failures_are_counted_by_their_cause_attempt_by_attempt(
    server: FakeServer, path: BreakableProxy
) -> None:
    server.accept("right")
    with registry(ZILLIZ_URI=f"http://{LOOPBACK}:{path.port}", ZILLIZ_TOKEN="wrong") as connections:
        with pytest.raises(RejectedCredentialsError):
            connections["default"]
        path.cut()
        with pytest.raises(AutoconnectError):
            connections.autoconnect("default", wait=2)
        failures = connections.stats()["default"].failures
        assert failures[RejectedCredentialsError.cause] == 1
        assert failures[RefusedError.cause] >= 2


def test_new_credentials_are_counted(server: FakeServer) -> None:
    file_with_token("one")
    with registry(ZILLIZ_URI=server.uri) as connections:
        connections["default"]
        file_with_token("two")
        connections.reload()
        assert connections.stats()["default"].rotations == 1


def file_with_token(token: str) -> None:
    with open(".env", "w", encoding="utf-8") as file:  # noqa: PTH123 - shorter
        file.write(f"ZILLIZ_TOKEN={token}\n")


def test_pings_are_measured_on_both_faces(server: FakeServer) -> None:
    with faces(ZILLIZ_URI=server.uri) as face:
        first = face.blocking["default"].ping()
        second = asyncio.run(face.aio.ping())
        round_trips = face.blocking.stats()["default"].round_trips
    assert round_trips is not None
    assert (round_trips.count, round_trips.last_ms) == (2, second)
    assert (round_trips.p50_ms, round_trips.p99_ms) == (min(first, second), max(first, second))


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_percentile_is_a_time_that_was_measured_and_so_many_did_not_exceed(
    round_trips_ms: list[float],
) -> None:
    summary = _summary(round_trips_ms)
    assert summary is not None
    for share, value in ((50, summary.p50_ms), (95, summary.p95_ms), (99, summary.p99_ms)):
        assert value in round_trips_ms
        below = sum(each <= value for each in round_trips_ms)
        assert below * 100 >= share * len(round_trips_ms)
        assert sum(each < value for each in round_trips_ms) * 100 < share * len(round_trips_ms)


def test_what_an_event_loop_has_open_is_known(server: FakeServer, path: BreakableProxy) -> None:
    async def main() -> None:
        await face.aio.get()
        assert face.blocking.stats()["default"].state == "connected"
        path.cut()
        await asyncio.to_thread(face.ears.wait_for, events.ConnectionLost)
        assert face.blocking.stats()["default"].state == "lost"
        assert "connection refused" in face.blocking.stats()["default"].last_error

    with faces(ZILLIZ_URI=f"http://{LOOPBACK}:{path.port}") as face:
        asyncio.run(main())


def test_what_an_override_hides_is_not_told(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        connections["default"]
        with connections.override({"other": {"uri": server.uri}}):
            assert {a: s.state for a, s in connections.stats().items()} == {"other": "idle"}
        assert connections.stats()["default"].state == "connected"
