"""How events reach hooks: once, in order for each alias, outside all locks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE_S
from tests.support.ears import Ears
from tests.support.registries import registry
from zconfig import events
from zconfig._event_bus import Dispatcher
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.errors import ClosedError
from zconfig.testing import FakeServer, fake_server

request: ContextVar[str] = ContextVar("request")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


def event(number: int, alias: str = "prod") -> events.ConnectionClosed:
    return events.ConnectionClosed(alias=alias, endpoint=f"http://db:{number}")


class Stuck:
    """A hook that stays in its first event until it is let go."""

    def __init__(self) -> None:
        self.heard: list[events.Event] = []
        self.is_in = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, event: events.Event) -> None:
        self.heard.append(event)
        if not self.is_in.is_set():
            self.is_in.set()
            assert self.go_on.wait(PATIENCE_S)


def test_what_comes_while_another_thread_delivers_is_left_to_that_one() -> None:
    dispatcher, hook = Dispatcher(), Stuck()
    dispatcher.subscribe(hook)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(dispatcher.publish, event(1))
        assert hook.is_in.wait(PATIENCE_S)
        dispatcher.publish(event(2))  # returns, though the other thread cannot go on
        assert hook.heard == [event(1)]
        hook.go_on.set()
        first.result(PATIENCE_S)
    assert hook.heard == [event(1), event(2)]


def test_a_hook_that_is_stuck_holds_up_no_other_alias() -> None:
    dispatcher, hook = Dispatcher(), Stuck()
    dispatcher.subscribe(hook)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(dispatcher.publish, event(1, "prod"))
        assert hook.is_in.wait(PATIENCE_S)
        dispatcher.publish(event(2, "docs"))
        assert hook.heard == [event(1, "prod"), event(2, "docs")]
        hook.go_on.set()
        first.result(PATIENCE_S)


def test_each_hook_hears_what_a_hook_causes_after_what_caused_it() -> None:
    dispatcher, heard = Dispatcher(), list[events.Event]()

    def answer(heard: events.Event) -> None:
        if heard == event(1):
            dispatcher.publish(event(2))

    dispatcher.subscribe(answer)
    dispatcher.subscribe(heard.append)
    dispatcher.publish(event(1))
    assert heard == [event(1), event(2)]


def test_many_threads_deliver_each_event_once_and_in_the_order_of_the_lock() -> None:
    threads, rounds = 8, 300
    dispatcher, heard, lock = Dispatcher(), list[str](), threading.Lock()
    dispatcher.subscribe(lambda event: heard.append(event.endpoint), events.ConnectionEvent)
    enqueue = list[str]()

    def work() -> None:
        for _ in range(rounds):
            with lock:
                enqueue.append(f"http://db:{len(enqueue)}")
                dispatcher.enqueue(event(len(enqueue) - 1))
            dispatcher.flush("prod")

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for each in [pool.submit(work) for _ in range(threads)]:
                each.result(PATIENCE_S)
    finally:
        sys.setswitchinterval(interval_s)
    assert len(heard) == threads * rounds
    assert heard == enqueue


def test_hooks_run_in_the_context_in_which_it_happened_whoever_delivers() -> None:
    dispatcher, hook, heard = Dispatcher(), Stuck(), list[str]()
    dispatcher.subscribe(hook)
    dispatcher.subscribe(lambda _: heard.append(request.get()))

    def work(name: str, number: int) -> None:
        request.set(name)
        dispatcher.publish(event(number))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work, "r1", 1)
        assert hook.is_in.wait(PATIENCE_S)
        pool.submit(work, "r2", 2).result(PATIENCE_S)
        hook.go_on.set()
        first.result(PATIENCE_S)
    assert heard == ["r1", "r2"]


def test_a_hook_that_is_interrupted_loses_no_later_event() -> None:
    dispatcher, heard = Dispatcher(), list[events.Event]()

    def interrupt(heard: events.Event) -> None:
        if heard == event(1):
            raise KeyboardInterrupt

    dispatcher.subscribe(interrupt)
    dispatcher.subscribe(heard.append)
    dispatcher.enqueue(event(1))
    dispatcher.enqueue(event(2))
    with pytest.raises(KeyboardInterrupt):
        dispatcher.flush("prod")
    dispatcher.flush("prod")
    assert heard == [event(2)]


def test_a_child_delivers_nothing_of_its_parent() -> None:
    dispatcher, heard = Dispatcher(), list[events.Event]()
    dispatcher.subscribe(heard.append)
    dispatcher.enqueue(event(1))
    vars(Dispatcher)["_outboxes"].renew()
    dispatcher.publish(event(2))
    assert heard == [event(2)]


# --- of real connections ------------------------------------------------------------------------


def test_a_disconnect_in_another_thread_is_told_after_the_connect(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, ThreadPoolExecutor(1) as pool:
        hook = Stuck()
        connections.subscribe(hook, events.ConnectionConnected)
        ears = Ears(connections)
        opening = pool.submit(connections.connect, "prod")
        assert hook.is_in.wait(PATIENCE_S)
        connections.disconnect("prod")
        hook.go_on.set()
        assert isinstance(opening.exception(PATIENCE_S), ClosedError)
        assert ears.names()[-3:] == ["connecting", "connected", "closed"]


def test_an_alias_is_told_of_before_it_is_connected_whoever_reads_it(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, ThreadPoolExecutor(1) as pool:
        hook = Stuck()
        connections.subscribe(hook, events.ConnectionConfigured)
        ears = Ears(connections)
        announcing = pool.submit(connections.connect, "prod")
        assert hook.is_in.wait(PATIENCE_S)
        connections.connect("prod")
        hook.go_on.set()
        announcing.result(PATIENCE_S)
        assert ears.names() == ["loaded", "configured", "connecting", "connected"]


def locks_of(connections: Connections) -> dict[str, Any]:
    registry = connections._registry
    lifecycle = registry.pool.managed("prod")
    locks = {
        "rereading": registry._reloader.lock,
        "configured": registry._reloader.table_lock,
        "announcing": registry._publishing,
        "pool": registry.pool._lock,
        "table": registry.known._lock,
    }
    if lifecycle:
        locks |= {"lifecycle": lifecycle._lock, "renewing": lifecycle.refresher._lock}
        locks |= {"rotating": lifecycle.rotating}
    return locks


@contextmanager
def asking_for_locks(connections: Connections) -> Iterator[dict[str, list[str]]]:
    """For each event that is told, have another thread try every lock; return those it missed."""
    missed: dict[str, list[str]] = {}

    def try_all() -> list[str]:
        left = []
        for name, lock in locks_of(connections).items():
            if lock.acquire(timeout=PATIENCE_S / 4):
                lock.release()
            else:
                left.append(name)
        return left

    with ThreadPoolExecutor(1) as pool:
        connections.subscribe(
            lambda event: missed.update({event.name: pool.submit(try_all).result()})
        )
        yield missed


def test_hooks_are_called_outside_all_locks(server: FakeServer, tmp_path: Path) -> None:
    server.accept("key-1", "key-2")
    dotenv = tmp_path / ".env"

    def write(**variables: str) -> None:
        lines = [f"ZILLIZ_{name}={value}\n" for name, value in variables.items()]
        dotenv.write_text("".join(lines))

    write(PROD_URI=server.uri, PROD_TOKEN="key-1")
    connections = Connections(lambda: load({}, tmp_path, system_secrets=str(tmp_path / "none")))
    told: dict[str, list[str]]
    with asking_for_locks(connections) as told:
        assert connections["prod"]
        write(PROD_URI=server.uri, PROD_TOKEN="key-2")
        connections.reload()  # rotated
        server.accept("key-2")
        write(PROD_URI=server.uri, PROD_TOKEN="key-3")
        connections.reload()  # a problem: refused
        write(PROD_URI=server.uri, PROD_TOKEN="key-2", PROD_POOL_SIZE="2")
        connections.reload()  # closed, to be opened anew
        assert connections["prod"]
        write(OTHER_URI=server.uri)
        connections.reload()  # removed
        connections.close()
    names = {name.rpartition(".")[2] for name in told}
    assert names == {
        *("loaded", "problem", "configured", "connecting", "connected", "rotated"),
        *("closed", "removed"),
    }
    assert not any(told.values()), told


def test_a_hook_may_wait_for_another_thread_that_reads_again(
    server: FakeServer, tmp_path: Path
) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, ThreadPoolExecutor(1) as pool:
        waited: list[Callable[[], object]] = []

        def reload_elsewhere(_: events.Event) -> None:
            waited.append(pool.submit(connections.reload).result(PATIENCE_S))

        connections.subscribe(reload_elsewhere, events.ConnectionConnected)
        connections.connect("prod")
        assert len(waited) == 1
