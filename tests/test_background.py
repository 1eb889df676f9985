"""Optional aliases that fail at start-up: tried in the background until they come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE_S
from tests.support.ears import Ears
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy, listening, swallow
from tests.support.loops import faces
from tests.support.registries import registry
from zconfig import events
from zconfig._registry.background import BackgroundWorker, Retry
from zconfig._registry.registry import Registry
from zconfig._spec import ConnectionSpec
from zconfig.errors import (
    AutoconnectError,
    ConfigurationError,
    RefusedError,
    RejectedCredentialsError,
    ServerSilentError,
    ZConfigError,
)
from zconfig.testing import FakeServer, fake_server

pytestmark = pytest.mark.usefixtures("patient_diagnosis")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def path(server: FakeServer) -> Iterator[BreakableProxy]:
    """Put something that is cut between us and the server."""
    with breakable_proxy(server.port) as proxy:
        proxy.cut()
        yield proxy


def variables(server: FakeServer, path: BreakableProxy) -> dict[str, str]:
    """Return an alias that is there, and an optional one that is not."""
    return {
        "ZILLIZ_PROD_URI": server.uri,
        "ZILLIZ_EXTRA_URI": f"http://{LOOPBACK}:{path.port}",
        "ZILLIZ_EXTRA_REQUIRED": "false",
    }


def test_an_optional_alias_that_fails_is_tried_until_it_comes(
    server: FakeServer, path: BreakableProxy
) -> None:
    with registry(**variables(server, path)) as connections:
        ears = Ears(connections)
        assert list(connections.autoconnect()) == ["prod"]
        assert repr(connections) == "<Connections {prod: connected, extra: retrying}>"
        ears.wait_for(events.ConnectionRetrying, 2)
        path.heal()
        ears.wait_for(events.ConnectionConnected, 2)
        assert repr(connections) == "<Connections {prod: connected, extra: connected}>"
        assert connections["extra"].ping() > 0
    # One failure at the start, and one after the other in the background.
    told = [event.name.rpartition(".")[2] for event in ears.of(events.Event) if of_extra(event)]
    assert told[:3] == ["connecting", "failed", "connecting"]
    assert set(told[3:-2]) == {"retrying", "connecting"}
    assert told[-2:] == ["connected", "closed"]
    attempts = [event.attempt for event in ears.of(events.ConnectionRetrying)]
    assert attempts == list(range(2, len(attempts) + 2))
    assert {event.cause for event in ears.of(events.ConnectionRetrying)} == {RefusedError.cause}


def of_extra(event: events.Event) -> bool:
    connects = (
        events.ConnectionConnecting,
        events.ConnectionFailed,
        events.ConnectionRetrying,
        events.ConnectionConnected,
        events.ConnectionClosed,
    )
    return isinstance(event, connects) and event.alias == "extra"


def test_an_event_loop_tries_its_optional_alias_until_it_comes(
    server: FakeServer, path: BreakableProxy
) -> None:
    async def main() -> None:
        assert list(await face.aio.autoconnect()) == ["prod"]
        assert face.blocking.stats()["extra"].state == "retrying"
        await asyncio.to_thread(face.ears.wait_for, events.ConnectionRetrying, 2)
        path.heal()
        await asyncio.to_thread(face.ears.wait_for, events.ConnectionConnected, 2)
        assert face.blocking.stats()["extra"].state == "connected"
        assert await face.aio.ping("extra") > 0

    with faces(**variables(server, path)) as face:
        asyncio.run(main())
        assert len(face.ears.of(events.ConnectionFailed)) == 1


def test_nothing_is_tried_where_the_application_does_not_start(
    server: FakeServer, path: BreakableProxy
) -> None:
    with registry(**variables(server, path) | {"ZILLIZ_EXTRA_REQUIRED": "true"}) as connections:
        with pytest.raises(AutoconnectError):
            connections.autoconnect()
        assert connections.stats()["extra"].state == "idle"


@pytest.mark.parametrize("verb", ["disconnect", "remove_connection", "close"])
def test_closing_ends_it(server: FakeServer, path: BreakableProxy, verb: str) -> None:
    with registry(**variables(server, path)) as connections:
        ears = Ears(connections)
        connections.autoconnect()
        ears.wait_for(events.ConnectionRetrying)
        getattr(connections, verb)(*[] if verb == "close" else ["extra"])
        threads_end()
        before = ears.names()
        path.heal()
        threading.Event().wait(1.0)
        assert ears.names() == before
        assert not connections.has_connection("extra")


def test_what_an_event_loop_could_not_connect_is_tried_in_the_background_after_its_end(
    server: FakeServer, path: BreakableProxy
) -> None:
    async def main() -> None:
        await face.aio.autoconnect()
        await face.aio.close()

    with faces(**variables(server, path)) as face:
        asyncio.run(main())
        face.ears.wait_for(events.ConnectionRetrying)
        path.heal()
        face.ears.wait_for(events.ConnectionConnected, 2)


def test_an_alias_that_is_disconnected_before_it_is_tried_stays_closed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_meanwhile(self: Registry, spec: ConnectionSpec, *given: Any, **named: Any) -> Any:
        found = intent(self, spec, *given, **named)
        self.close(spec.alias)
        tried.set()
        return found

    tried, intent = threading.Event(), Registry.intent
    monkeypatch.setattr(Registry, "intent", close_meanwhile)
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        connections.keep_trying("prod")
        assert tried.wait(PATIENCE_S)
        threads = [each for each in threading.enumerate() if each.name == "zconfig-check"]
        for each in threads:
            each.join(PATIENCE_S)
        assert not connections.has_connection("prod")
        assert server.calls("Connect") == []


def test_a_worker_that_gets_no_thread_gets_one_at_its_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Tasks:
        def all(self) -> Sequence[Retry]:
            asked.set()
            return ()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asked, tasks = threading.Event(), Tasks()
    worker = BackgroundWorker(tasks.all)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        worker.call()
    worker.call()
    assert asked.wait(PATIENCE_S)


def test_a_keeper_that_gets_no_thread_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chores:
        alias = "prod"

        def __init__(self) -> None:
            self.done = threading.Event()

        def is_due(self) -> bool:
            return not self.done.is_set()

        def check(self) -> None:
            self.done.set()

        def all(self) -> list[Chores]:
            return [] if self.done.is_set() else [self]

    start, refused = threading.Thread.start, []

    def start_the_second_time(thread: threading.Thread) -> None:
        if thread.name == "zconfig-check" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_the_second_time)
    chores = Chores()
    BackgroundWorker(chores.all).call()
    assert chores.done.wait(PATIENCE_S)
    assert refused


def threads_end() -> None:
    """Wait until nothing is being looked after."""
    for thread in threading.enumerate():
        if thread.name == "zconfig-check":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_who_needs_it_meanwhile_need_not_wait_for_the_next_try(
    server: FakeServer, path: BreakableProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zconfig._registry.background.backoff_s", lambda *_: 1e6)
    with registry(**variables(server, path)) as connections:
        connections.autoconnect()
        path.heal()
        assert connections["extra"].ping() > 0
        assert connections.stats()["extra"].state == "connected"


def test_a_failure_is_not_told_after_the_connect_that_came_next(
    server: FakeServer, path: BreakableProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    postpone, put_off_once = Retry.postpone, threading.Event()

    def connected_meanwhile(retry: Retry, error: ZConfigError) -> object:
        event = postpone(retry, error)
        if error is not known:
            path.heal()
            # gRPC may tell of the refusal before once more.
            connections.attempt("extra", wait=PATIENCE_S)
            put_off_once.set()
        return event

    with registry(**variables(server, path)) as connections:
        ears = Ears(connections)
        with pytest.raises(RefusedError) as caught:
            connections.connect("extra")
        known = caught.value
        monkeypatch.setattr(Retry, "postpone", connected_meanwhile)
        connections._registry.keep_trying({"extra": known})
        assert put_off_once.wait(PATIENCE_S)
        connections["extra"].ping()
        connections.close()
    told = [event.name.rpartition(".")[2] for event in ears.of(events.Event) if of_extra(event)]
    told = [name for name in told if name != "retrying"]
    assert told == ["connecting", "failed", "connecting", "connecting", "connected", "closed"]


def test_a_reload_that_corrects_it_counts_at_the_next_try(
    server: FakeServer, path: BreakableProxy
) -> None:
    server.accept("right")
    file = Path(".env")
    file.write_text(f"ZILLIZ_EXTRA_URI=http://{LOOPBACK}:{path.port}\nZILLIZ_EXTRA_REQUIRED=false")
    with registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TOKEN="right") as connections:
        ears = Ears(connections)
        connections.autoconnect()
        file.write_text(f"ZILLIZ_EXTRA_URI={server.uri}\nZILLIZ_EXTRA_TOKEN=right")
        connections.reload()
        connected = ears.wait_for(events.ConnectionConnected, 2)
        assert (connected.alias, connected.endpoint) == ("extra", server.uri)


def test_any_alias_can_be_connected_in_the_background(
    server: FakeServer, path: BreakableProxy
) -> None:
    with registry(**variables(server, path)) as connections:
        ears = Ears(connections)
        connections.keep_trying("prod")
        ears.wait_for(events.ConnectionConnected)
        assert connections.has_connection("prod")
        connections.keep_trying()
        ears.wait_for(events.ConnectionRetrying)
        assert len(server.calls("Connect")) == 1


def test_what_is_not_configured_cannot_be_connected_in_the_background() -> None:
    with (
        registry(ZILLIZ_URI="./x.db") as connections,
        pytest.raises(ConfigurationError, match="ZILLIZ_NOBODY_URI"),
    ):
        connections.keep_trying("nobody")


def test_a_server_that_is_silent_keeps_the_keeper_from_nobody_else(
    server: FakeServer, path: BreakableProxy
) -> None:
    path.heal()
    with (
        listening(swallow) as port,
        registry(**variables(server, path), **silent(port)) as connections,
    ):
        ears = Ears(connections)
        connections.autoconnect("prod", "extra")
        connections.keep_trying("silent")
        path.cut()
        ears.wait_for(events.ConnectionLost)
        path.heal()
        ears.wait_for(events.ConnectionRecovered)
        assert not ears.of(events.ConnectionRetrying)  # it is still waited for
        connections.disconnect("silent")


def silent(port: int) -> dict[str, str]:
    return {
        "ZILLIZ_SILENT_URI": f"http://{LOOPBACK}:{port}",
        "ZILLIZ_SILENT_TIMEOUT": str(PATIENCE_S),
    }


@pytest.mark.parametrize(
    ("error", "shortest_s"),
    [(RejectedCredentialsError, 30.0), (ServerSilentError, 0.0)],
)
def test_the_pauses_grow_to_thirty_seconds_and_are_that_long_for_what_does_not_pass(
    error: type[RejectedCredentialsError], shortest_s: float
) -> None:
    retry = Retry("prod", lambda _: None)
    assert retry.is_due()
    delays_s = []
    for _ in range(200):
        told = retry.postpone(error("prod", endpoint="http://db:19530", origin="", detail=""))
        assert told is not None
        delays_s.append(told.delay_ms / 1e3)
    assert not retry.is_due()
    assert retry.last_error.startswith("prod: ")
    assert shortest_s <= min(delays_s) <= max(delays_s) <= 30.0
    assert max(delays_s) > 20.0


def test_a_wrong_configuration_is_put_off_without_a_word_about_a_server() -> None:
    retry = Retry("prod", lambda _: None)
    assert retry.postpone(ConfigurationError([])) is None
    assert not retry.is_due()
