"""Everything at once for a few seconds: nothing deadlocks, and afterwards everything connects."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support import PATIENCE_S
from tests.support.registries import registry
from zconfig._channel.fork_gate import GATE
from zconfig._connection import CHANNELS
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.errors import AutoconnectError, ClosedError, ConflictError, ZConfigError
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 8
LONG_S = 4.0
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
ALIASES = ("a", "b", "c")


@pytest.fixture
def _restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


# --- without a lock ------------------------------------------------------------------------


KINDS = (type(threading.Lock()), type(threading.RLock()), threading.Condition)


def locks_within(root: object) -> list[Any]:
    """Return every lock of the objects of zconfig's that one leads to."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    todo = [root]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, KINDS):
            found[id(each)] = each
        elif isinstance(each, dict):
            todo += each.values()
        elif isinstance(each, list | tuple | set):
            todo += each
        elif type(each).__module__.startswith("zconfig."):
            todo += gc.get_referents(each)
    return list(found.values())


@contextmanager
def all_held(locks: list[Any]) -> Iterator[None]:
    """Hold every lock at once, though a thread may hold one of them and wait for another."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with ExitStack() as held:
            for lock in locks:
                if not lock.acquire(timeout=0.2):
                    break
                held.callback(lock.release)
            else:
                yield
                return
    pytest.fail("a lock is never free")


def test_looking_a_live_connection_up_takes_no_lock() -> None:
    with fake_server() as server, registry(ZILLIZ_PROD_URI=server.uri) as connections:
        connection = connections["prod"]
        looks: list[Callable[[], Any]] = [
            lambda: connections["prod"],
            lambda: connections.default,
            lambda: connections.has_connection("prod"),
            connections.list_connections,
            lambda: connections.get_connection_addr("prod"),
            lambda: connection.state,
            lambda: connection.server,
            lambda: connection.target,
            lambda: connection.channel.unary_unary(GET_VERSION),
        ]
        managed = connections._pool.managed("prod")
        assert managed
        assert managed.bound
        shared = managed.bound.shared
        known: list[Any] = [connections._pool._lock, managed._lock, shared._lock]
        known += [connections._registry._reloader.lock]
        found = locks_within(connections)
        assert all(any(lock is each for each in found) for lock in known)
        locks = [CHANNELS._lock, GATE._lock, *found]
        with ThreadPoolExecutor(1) as pool, all_held(locks):
            for look in looks:
                assert pool.submit(look).result(PATIENCE_S)


@pytest.mark.usefixtures("_restless")
def test_many_threads_that_want_an_alias_in_every_way_make_one_connect() -> None:
    with fake_server() as server, registry(ZILLIZ_PROD_URI=server.uri) as connections:
        ways: list[Callable[[], Any]] = [
            lambda: connections["prod"],
            lambda: connections.default,
            lambda: connections.connect("prod"),
            lambda: connections.autoconnect()["prod"],
        ]
        barrier = threading.Barrier(64, timeout=PATIENCE_S)

        def want(number: int) -> Any:
            barrier.wait()
            return ways[number % len(ways)]()

        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(want, range(64)))
        assert {id(each) for each in found} == {id(connections["prod"])}
    assert len(server.calls("Connect")) == 1


# --- everything at once --------------------------------------------------------------------


class Disorder:
    """Deeds that get in each other's way, each chosen at random.

    Args:
        servers: Where the aliases lead, by turns.
    """

    def __init__(self, servers: list[FakeServer]) -> None:
        self._servers = servers
        self._environ = {f"ZILLIZ_{alias}_URI": servers[0].uri for alias in ALIASES}
        self._environ |= {f"ZILLIZ_{alias}_TOKEN": "user:first" for alias in ALIASES}
        nowhere = str(Path.cwd() / "none")
        self.connections = Connections(
            lambda: load(dict(self._environ), Path.cwd(), system_secrets=nowhere)
        )
        self.done: Counter[str] = Counter()

    def go_on_until(self, end: float, choose: random.Random) -> None:
        """Do one deed after the other until an instant."""
        deeds = (
            *(self.look_up, self.ping, self.call, self.call_later, self.ask_for_all),
            *(self.connect, self.disconnect, self.close, self.rotate, self.move, self.reload),
        )
        while time.monotonic() < end:
            deed, alias = choose.choice(deeds), choose.choice(ALIASES)
            try:
                deed(alias, choose)
            except (ZConfigError, grpc.RpcError) as error:
                if not is_expected(error):
                    raise
                self.done[type(error).__name__] += 1
            else:
                self.done[deed.__name__] += 1

    def look_up(self, alias: str, _: random.Random) -> None:
        assert self.connections[alias].alias == alias

    def ping(self, alias: str, _: random.Random) -> None:
        assert self.connections[alias].ping() > 0

    def call(self, alias: str, _: random.Random) -> None:
        stub: Any = self.connections[alias].channel.unary_unary(GET_VERSION)
        assert stub(b"", timeout=PATIENCE_S)

    def call_later(self, alias: str, _: random.Random) -> None:
        stub: Any = self.connections[alias].channel.unary_unary(GET_VERSION)
        assert stub.future(b"", timeout=PATIENCE_S).result()

    def ask_for_all(self, _alias: str, _: random.Random) -> None:
        self.connections.autoconnect()

    def connect(self, alias: str, _: random.Random) -> None:
        self.connections.connect(alias)

    def disconnect(self, alias: str, _: random.Random) -> None:
        self.connections.disconnect(alias)

    def close(self, _alias: str, choose: random.Random) -> None:
        if choose.random() < 0.2:
            self.connections.close()

    def rotate(self, alias: str, choose: random.Random) -> None:
        self._environ[f"ZILLIZ_{alias}_TOKEN"] = f"user:{choose.random()}"
        self.connections.reload()

    def move(self, alias: str, choose: random.Random) -> None:
        self._environ[f"ZILLIZ_{alias}_URI"] = choose.choice(self._servers).uri
        self.connections.reload()

    def reload(self, _alias: str, _: random.Random) -> None:
        self.connections.reload()


def is_expected(error: Exception) -> bool:
    """Tell whether it is no more than that somebody else has closed or changed the connection."""
    if isinstance(error, AutoconnectError):
        return all(map(is_expected, error.failures.values()))
    if isinstance(error, grpc.RpcError):
        # It was in flight on a channel that was closed.
        return error.code() is grpc.StatusCode.CANCELLED
    return isinstance(error, ClosedError | ConflictError)


@pytest.mark.stress
@pytest.mark.usefixtures("_restless")
def test_whatever_threads_do_at_once_every_alias_connects_afterwards(seed: int) -> None:
    with fake_server() as one, fake_server() as other:
        disorder = Disorder([one, other])
        connections, end = disorder.connections, time.monotonic() + LONG_S

        def begin(number: int) -> None:
            disorder.go_on_until(end, random.Random(f"{seed}/{number}"))  # noqa: S311 - no secret

        with ThreadPoolExecutor(THREADS) as pool:
            for flight in [pool.submit(begin, number) for number in range(THREADS)]:
                flight.result(LONG_S + PATIENCE_S)
        assert {"look_up", "ping", "call", "call_later", "rotate", "move"} <= disorder.done.keys()
        for alias in ALIASES:
            connections.disconnect(alias)
            assert connections[alias].ping() > 0
        connections.close()
        targets = {f"127.0.0.1:{server.port}" for server in (one, other)}
        assert not any(target in targets for target, *_ in CHANNELS._channel_pool)
