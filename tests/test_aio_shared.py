"""Threads and event loops that share one connection an alias."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fastapi import FastAPI

from tests import test_global_cluster
from tests.support import PATIENCE_S, faults
from tests.support.loops import Faces, LoopThread, aside, faces, faces_of, loop_thread
from tests.support.servers import CREDENTIALS
from tests.support.topology import demote
from tests.test_aio_fork import CHILDREN, script
from tests.test_fork import run
from tests.test_rotation import Source, sent
from zconfig import events
from zconfig._channel.channels import SharedChannel
from zconfig._connection import CHANNELS, ManagedConnection, State, managed, monitor
from zconfig.aio.connection import BorrowedConnection
from zconfig.aio.loop_pool import LoopPool, loop_pool
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConflictError,
    ConnectError,
    RefusedError,
    ServerSilentError,
    ZConfigError,
)
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from tests.support.certificates import Certificates
    from tests.support.servers import RealMilvus

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

cluster = test_global_cluster.cluster
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(databases=["default"]) as fake:
        yield fake


@pytest.fixture
def source(tmp_path: Path, server: FakeServer) -> Source:
    server.accept("key-1")
    source = Source(tmp_path, server.uri)
    source.write("key-1")
    return source


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody see that a secret file was rewritten."""
    monkeypatch.setattr("zconfig._connection.monitor.credentials_stamp", lambda _: {})


@pytest.fixture
def five_loops() -> Iterator[Sequence[LoopThread]]:
    with ExitStack() as stack:
        yield [stack.enter_context(loop_thread()) for _ in range(5)]


@pytest.fixture
def two_loops() -> Iterator[tuple[LoopThread, LoopThread]]:
    with loop_thread() as one, loop_thread() as other:
        yield one, other


# --- one connection -------------------------------------------------------------------------


async def get(app: FastAPI, path: str) -> tuple[int, Any]:
    """Return the status and the body of one request to an application."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)


@pytest.mark.usefixtures("unwatched")
def test_endpoints_of_both_kinds_of_an_application_connect_and_rotate_once(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        app = FastAPI(lifespan=face.aio.lifespan)

        @app.get("/thread")
        def in_thread() -> float:
            return face.blocking["prod"].ping()

        @app.get("/loop")
        async def on_loop() -> float:
            return await face.aio.ping("prod")

        async with app.router.lifespan_context(app):
            paths = 8 * ("/thread", "/loop")
            assert {status for status, _ in await ask(app, paths)} == {200}
            server.accept("key-2")
            source.write("key-2")
            assert {status for status, _ in await ask(app, paths)} == {200}

    async def ask(app: FastAPI, paths: tuple[str, ...]) -> list[tuple[int, Any]]:
        return await asyncio.gather(*(get(app, path) for path in paths))

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
        names = face.ears.names()
    assert [names.count(name) for name in ("connected", "rotated", "closed")] == [1, 1, 1]
    assert sent(server, "Connect") == ["key-1", "key-2"]


def test_each_event_loop_has_a_connection_of_its_own_to_the_server(
    server: FakeServer, two_loops: tuple[LoopThread, LoopThread]
) -> None:
    with faces(ZILLIZ_URI=server.uri) as face:
        for loop in two_loops:
            loop.submit(face.aio.ping()).result(PATIENCE_S)
        face.blocking["default"].ping()
    assert len({call.peer for call in server.calls("GetVersion")}) == 3
    assert len(server.calls("Connect")) == 1


def test_three_event_loops_and_four_threads_share_one_connection(server: FakeServer) -> None:
    begun = threading.Barrier(7)

    async def on_loop() -> None:
        await aside(lambda: begun.wait(PATIENCE_S))
        connection = await face.aio.get()
        await asyncio.gather(*(connection.ping() for _ in range(5)))

    def in_thread() -> None:
        begun.wait(PATIENCE_S)
        for _ in range(5):
            face.blocking["default"].ping()

    with faces(ZILLIZ_URI=server.uri) as face, ThreadPoolExecutor(7) as pool:
        server.hold()
        work = [pool.submit(asyncio.run, on_loop()) for _ in range(3)]
        work += [pool.submit(in_thread) for _ in range(4)]
        server.wait_for("Connect")
        server.recover()
        for each in work:
            each.result(PATIENCE_S)
        stats = face.blocking.stats()["default"]
        assert (stats.state, stats.connects) == ("connected", 1)
        assert stats.round_trips
        assert stats.round_trips.count == 35
        assert face.ears.names().count("connecting") == face.ears.names().count("connected") == 1
    assert len(server.calls("Connect")) == 1


# --- cancellation ---------------------------------------------------------------------------


def join_threads(name: str) -> None:
    """Wait until every thread of that name has ended."""
    for thread in threading.enumerate():
        if thread.name.endswith(name):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


async def nothing_is_left(face: Faces, other: FakeServer) -> None:
    """Make sure that nothing is half open, so that the alias can be connected elsewhere."""
    await aside(lambda: join_threads("zconfig-aio"))
    await face.aio.disconnect("prod")
    assert CHANNELS._channel_pool == {}
    connection = await face.aio.connect("prod", uri=other.uri)
    assert await connection.ping() > 0
    await aside(lambda: face.blocking.remove_connection("prod"))
    assert CHANNELS._channel_pool == {}


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Others:
    """Who else wants a connection: a task of the same event loop, another loop, or a thread."""

    KINDS = ("a task", "another event loop", "a thread")

    def __init__(self, kind: str, face: Faces, loop: LoopThread, pool: ThreadPoolExecutor) -> None:
        self._kind = kind
        self._face = face
        self._loop = loop
        self._pool = pool

    def begin(self) -> Awaitable[Any]:
        """Begin to wait for the connection."""
        if self._kind == "a task":
            return asyncio.ensure_future(self._face.aio.get("prod"))
        future: Future[Any]
        if self._kind == "another event loop":
            future = self._loop.submit(self._face.aio.get("prod"))
        else:
            future = self._pool.submit(lambda: self._face.blocking["prod"])
        return asyncio.wrap_future(future)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Count those who begin to wait for the connect of another thread."""
    count, join = threading.Semaphore(0), managed.PendingConnect.join

    def counted(*args: Any) -> None:
        count.release()
        join(*args)

    monkeypatch.setattr(managed.PendingConnect, "join", counted)
    return count


@pytest.mark.parametrize("kind", Others.KINDS)
@pytest.mark.parametrize("who", ["the first", "the second"])
def test_one_that_is_cancelled_amid_the_connect_takes_it_from_nobody(
    server: FakeServer, joined: threading.Semaphore, kind: str, who: str
) -> None:
    async def main() -> None:
        for number in range(3):
            face.blocking.add_connection(prod={"uri": server.uri})
            server.hold()
            arrived, count = len(server.calls("Connect")), 2 * number + 1
            asking = asyncio.create_task(face.aio.get("prod")) if who == "the first" else None
            if asking:
                await aside(partial(server.wait_for, "Connect", arrived + 1))
            waiting = others.begin()
            if not asking:
                await aside(partial(server.wait_for, "Connect", arrived + 1))
                asking = asyncio.create_task(face.aio.get("prod"))
            if kind == "a task":
                await asyncio.sleep(0)
            else:
                assert await aside(lambda: joined.acquire(timeout=PATIENCE_S))
            await cancel(asking)
            server.recover()
            assert (await waiting).ping
            # Another thread may have connected: it tells of that after the others have gone on.
            await aside(partial(face.ears.wait_for, events.ConnectionConnected, count))
            assert face.ears.names().count("connected") == count
            await nothing_is_left(face, other)
        assert "failed" not in face.ears.names()

    with (
        fake_server() as other,
        faces() as face,
        loop_thread() as loop,
        ThreadPoolExecutor(1) as pool,
    ):
        others = Others(kind, face, loop, pool)
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["nobody", *Others.KINDS])
def test_a_get_may_be_cancelled_at_any_step_of_the_event_loop(
    server: FakeServer, kind: str
) -> None:
    async def main() -> None:
        for steps in (*range(16), 24, 48, 96, 192):
            face.blocking.add_connection(prod={"uri": server.uri})
            asking = asyncio.create_task(face.aio.get("prod"))
            waiting = None if kind == "nobody" else others.begin()
            for _ in range(steps):
                await asyncio.sleep(0)
            await cancel(asking)
            if waiting:
                assert (await waiting).ping
            await nothing_is_left(face, other)

    with (
        fake_server() as other,
        faces() as face,
        loop_thread() as loop,
        ThreadPoolExecutor(1) as pool,
    ):
        others = Others(kind, face, loop, pool)
        asyncio.run(main())


@pytest.mark.parametrize("kind", Others.KINDS)
@pytest.mark.parametrize("event", [events.ConnectionConnecting, events.ConnectionConnected])
def test_a_get_may_be_cancelled_while_a_hook_runs(
    server: FakeServer, kind: str, event: type[events.Event]
) -> None:
    hooked, may_go_on = threading.Event(), threading.Event()

    def hook(_: events.Event) -> None:
        hooked.set()
        assert may_go_on.wait(PATIENCE_S)

    async def main() -> None:
        asking = asyncio.create_task(face.aio.get("prod"))
        assert await aside(lambda: hooked.wait(PATIENCE_S))
        waiting = others.begin()
        await cancel(asking)
        may_go_on.set()
        assert (await waiting).ping
        await nothing_is_left(face, other)

    with (
        fake_server() as other,
        faces(ZILLIZ_PROD_URI=server.uri) as face,
        loop_thread() as loop,
        ThreadPoolExecutor(1) as pool,
    ):
        face.blocking.subscribe(hook, event)
        others = Others(kind, face, loop, pool)
        asyncio.run(main())


def test_a_connect_to_elsewhere_succeeds_at_once_after_a_get_was_cancelled(
    server: FakeServer,
) -> None:
    async def main() -> None:
        for number in range(20):
            face.blocking.add_connection(prod={"uri": server.uri})
            asking = asyncio.create_task(face.aio.get("prod"))
            await aside(partial(server.wait_for, "Connect", number + 1))
            await cancel(asking)
            assert (await face.aio.connect("prod", uri=other.uri)).state is State.READY
            await aside(lambda: face.blocking.remove_connection("prod"))

    with fake_server() as other, faces() as face:
        server.hold()
        asyncio.run(main())


def test_a_connect_to_elsewhere_succeeds_though_the_thread_that_cancels_is_late(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, go_on, run = list[str](), threading.Event(), threading.Thread.run

    def run_late(thread: threading.Thread) -> None:
        if thread.name in late:
            late.remove(thread.name)
            assert go_on.wait(PATIENCE_S)
        run(thread)

    async def main() -> None:
        asking = asyncio.create_task(face.aio.get("prod"))
        await aside(partial(server.wait_for, "Connect"))
        late.append("zconfig-aio")
        await cancel(asking)
        try:
            assert (await face.aio.connect("prod", uri=other.uri)).state is State.READY
        finally:
            assert late == []
            go_on.set()
        await aside(server.wait_until_idle)
        assert await face.aio.ping("prod") > 0

    monkeypatch.setattr(threading.Thread, "run", run_late)
    with fake_server() as other, faces() as face:
        face.blocking.add_connection(prod={"uri": server.uri})
        server.hold()
        asyncio.run(main())


def is_configured_and_open(face: Faces) -> tuple[bool, bool]:
    connected = face.blocking.has_connection("prod")
    return "prod" in face.blocking, connected


@pytest.mark.parametrize("event", [events.ConnectionConnecting, events.ConnectionConnected])
def test_a_connect_that_is_cancelled_while_a_hook_runs_is_open_and_configured_or_neither(
    server: FakeServer, event: type[events.Event]
) -> None:
    hooked, may_go_on = threading.Event(), threading.Event()

    def hook(_: events.Event) -> None:
        hooked.set()
        assert may_go_on.wait(PATIENCE_S)

    async def main() -> None:
        connecting = asyncio.create_task(face.aio.connect("prod", uri=server.uri))
        assert await aside(lambda: hooked.wait(PATIENCE_S))
        await cancel(connecting)
        may_go_on.set()
        await aside(lambda: join_threads("zconfig-aio"))
        assert is_configured_and_open(face) in {(True, True), (False, False)}
        await nothing_is_left(face, other)

    with fake_server() as other, faces() as face:
        face.blocking.subscribe(hook, event)
        asyncio.run(main())


def test_a_connect_that_is_cancelled_at_any_step_is_open_and_configured_or_neither(
    server: FakeServer,
) -> None:
    async def main() -> None:
        for steps in (*range(16), 24, 48, 96, 192):
            connecting = asyncio.create_task(face.aio.connect("prod", uri=server.uri))
            for _ in range(steps):
                await asyncio.sleep(0)
            await cancel(connecting)
            await aside(lambda: join_threads("zconfig-aio"))
            assert is_configured_and_open(face) in {(True, True), (False, False)}
            await nothing_is_left(face, other)

    with fake_server() as other, faces() as face:
        asyncio.run(main())


def test_an_attempt_ends_with_the_event_loop_of_the_only_task_that_waits_for_it(
    server: FakeServer,
) -> None:
    async def begin(tasks: set[asyncio.Task[Any]]) -> None:
        arrived = len(server.calls("Connect"))
        tasks.add(asyncio.create_task(face.aio.get("prod")))
        await aside(partial(server.wait_for, "Connect", arrived + 1))

    for _ in range(8):  # in which order tasks are cancelled differs
        with faces(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="60") as face:
            server.hold()
            asyncio.run(begin(set()))
            server.wait_until_idle()
            join_threads("zconfig-aio")
            server.recover()
            assert face.blocking["prod"].ping() > 0


# --- load -----------------------------------------------------------------------------------


# A call that fails at once would be made again all the time, in place of what mends it.
AFTER_A_FAILURE_S = 0.01


class Load:
    """Calls in tasks of event loops and in threads, without a pause but after a failure.

    Attributes:
        made: How many calls succeeded.
        failures: For each call that failed, when it was begun, and what it raised.
    """

    def __init__(self, face: Faces, alias: str = "prod") -> None:
        self.made = 0
        self.failures: list[tuple[float, Exception]] = []
        self._face = face
        self._alias = alias
        self._over = threading.Event()
        self._changed = threading.Condition()

    async def on_loop(self, tasks: int, **options: Any) -> None:
        """Call in tasks of the running event loop.

        Args:
            tasks: How many.
            **options: Arguments of each call.
        """
        connection = await self._face.aio.get(self._alias)
        method = connection.channel.unary_unary(GET_VERSION)
        given = {"timeout": PATIENCE_S, **options}

        async def call() -> None:
            while not self._over.is_set():
                begun = time.monotonic()
                try:
                    await method(b"", **given)
                except (grpc.RpcError, ZConfigError) as error:
                    self._note(begun, error)
                    await asyncio.sleep(AFTER_A_FAILURE_S)
                else:
                    self._note(begun)

        await asyncio.gather(*(call() for _ in range(tasks)))

    def in_thread(self) -> None:
        """Call in this thread."""
        stub: Any = self._face.blocking[self._alias].channel.unary_unary(GET_VERSION)
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                stub(b"", timeout=PATIENCE_S)
            except (grpc.RpcError, ZConfigError) as error:
                self._note(begun, error)
                self._over.wait(AFTER_A_FAILURE_S)
            else:
                self._note(begun)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more calls succeeded."""
        with self._changed:
            wanted = self.made + count
            assert self._changed.wait_for(lambda: self.made >= wanted, PATIENCE_S)

    def end(self) -> None:
        """Begin no more calls."""
        self._over.set()

    def _note(self, begun: float, error: Exception | None = None) -> None:
        with self._changed:
            if error:
                self.failures.append((begun, error))
            else:
                self.made += 1
            self._changed.notify_all()


@contextmanager
def under_load(face: Faces, loops: Sequence[LoopThread], *, threads: int = 0) -> Iterator[Load]:
    """Have four tasks of each event loop call, and some threads; all of them end well."""
    load = Load(face)
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        work: list[Future[None]] = [loop.submit(load.on_loop(4)) for loop in loops]
        work += [pool.submit(load.in_thread) for _ in range(threads)]
        try:
            load.wait_for_more(20)
            yield load
        finally:
            load.end()
        for each in work:
            each.result(PATIENCE_S)


# --- credentials ----------------------------------------------------------------------------


@pytest.mark.usefixtures("unwatched")
def test_a_reload_with_new_credentials_loses_no_call_of_two_event_loops(
    source: Source, server: FakeServer, two_loops: tuple[LoopThread, LoopThread]
) -> None:
    with source.connections() as connections:
        face = faces_of(connections)
        with under_load(face, two_loops, threads=1) as load:
            for number in range(2, 6):
                server.accept(f"key-{number - 1}", f"key-{number}")
                source.write(f"key-{number}")
                connections.reload()
                load.wait_for_more(100)
        assert load.failures == []
        assert face.ears.names().count("rotated") == 4
        assert face.ears.names().count("connected") == 1
    assert sent(server, "Connect") == [f"key-{number}" for number in range(1, 6)]


@pytest.mark.usefixtures("unwatched")
def test_refused_credentials_are_replaced_once_for_event_loops_and_threads(
    source: Source, server: FakeServer, two_loops: tuple[LoopThread, LoopThread]
) -> None:
    with source.connections() as connections:
        face = faces_of(connections)
        with under_load(face, two_loops, threads=2) as load:
            before = source.reads
            source.write("key-2")
            server.accept("key-2")
            load.wait_for_more(200)
        assert load.failures == []
        assert source.reads == before + 1
        assert face.ears.names().count("rotated") == 1
    assert sent(server, "Connect") == ["key-1", "key-2"]


# --- outages --------------------------------------------------------------------------------


@contextmanager
def fake_behind_proxy(
    certificates: Certificates | None = None,
) -> Iterator[tuple[FakeServer, faults.BreakableProxy, dict[str, str]]]:
    """Serve a fake Milvus behind a proxy; also yield the variables of an alias `prod` there."""
    tls = None
    if certificates:
        pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
        tls = grpc.ssl_server_credentials([pair])
    with fake_server(credentials=tls) as server, faults.breakable_proxy(server.port) as path:
        environ = {"ZILLIZ_PROD_URI": f"http://127.0.0.1:{path.port}"}
        if certificates:
            environ["ZILLIZ_PROD_URI"] = f"https://localhost:{path.port}"
            environ["ZILLIZ_PROD_TLS_CA"] = str(certificates.ca)
        yield server, path, environ


def recovered_at(face: Faces) -> list[float]:
    """Return the instants at which `recovered` is heard, a list that grows."""
    instants: list[float] = []
    face.blocking.subscribe(lambda _: instants.append(time.monotonic()), events.ConnectionRecovered)
    return instants


@pytest.mark.parametrize("secure", [False, True])
def test_an_outage_is_reported_once_and_no_call_fails_after_recovered(
    certificates: Certificates, five_loops: Sequence[LoopThread], secure: bool
) -> None:
    with (
        fake_behind_proxy(certificates if secure else None) as (_, path, environ),
        faces(**environ) as face,
        under_load(face, five_loops, threads=2) as load,
    ):
        recovered = recovered_at(face)
        path.cut()
        face.ears.wait_for(events.ConnectionLost)
        threading.Event().wait(1.6)  # gRPC waits longer and longer before it dials again
        path.heal()
        face.ears.wait_for(events.ConnectionRecovered)
        load.wait_for_more(200)
        assert load.failures
        assert [error for begun, error in load.failures if begun > recovered[0]] == []
        assert (face.ears.names().count("lost"), face.ears.names().count("recovered")) == (1, 1)
        stats = face.blocking.stats()["prod"]
        assert (stats.state, stats.losses, stats.reconnects) == ("connected", 1, 1)


def test_calls_that_wait_for_the_server_keep_no_event_loop_from_dialing_anew(
    five_loops: Sequence[LoopThread],
) -> None:
    with fake_behind_proxy() as (_, path, environ), faces(**environ) as face:
        waiting = Load(face)
        work = [loop.submit(waiting.on_loop(2, wait_for_ready=True)) for loop in five_loops]
        with under_load(face, five_loops) as load:
            recovered = recovered_at(face)
            path.cut()
            cut_at = time.monotonic()
            face.ears.wait_for(events.ConnectionLost)
            threading.Event().wait(1.6)
            path.heal()
            face.ears.wait_for(events.ConnectionRecovered)
            load.wait_for_more(200)
            waiting.wait_for_more(50)
        waiting.end()
        for each in work:
            each.result(PATIENCE_S)
        assert [error for begun, error in load.failures if begun > recovered[0]] == []
        # A call that was under way when the connection broke fails; none that has waited does.
        assert [error for begun, error in waiting.failures if begun > cut_at] == []


def test_a_restart_of_the_real_server_is_reported_once_and_no_call_fails_after_recovered(
    own_milvus: RealMilvus, five_loops: Sequence[LoopThread]
) -> None:
    environ = {"ZILLIZ_PROD_URI": own_milvus.uri, "ZILLIZ_PROD_TOKEN": CREDENTIALS}
    with faces(**environ) as face, under_load(face, five_loops, threads=1) as load:
        recovered = recovered_at(face)
        own_milvus.stop()
        face.ears.wait_for(events.ConnectionLost)
        own_milvus.start()
        face.ears.wait_for(events.ConnectionRecovered, budget_s=90.0)
        load.wait_for_more(200)
        assert [error for begun, error in load.failures if begun > recovered[0]] == []
        assert (face.ears.names().count("lost"), face.ears.names().count("recovered")) == (1, 1)
        assert face.ears.names().count("connected") == 1


@pytest.mark.parametrize("whose", ["the event loop's", "the threads'"])
def test_a_fault_of_one_channel_alone_is_mended_without_a_loss(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, is_due = threading.Semaphore(0), monitor.Monitor.is_due

    def counted(looked_after: monitor.Monitor) -> bool:
        is_now = is_due(looked_after)
        rounds.release()
        return is_now

    monkeypatch.setattr(monitor.Monitor, "is_due", counted)

    async def main(server: FakeServer, path: faults.BreakableProxy) -> None:
        connection = await face.aio.get("prod")
        blocking = face.blocking["prod"]
        await aside(blocking.ping)
        threads_peer = server.calls("GetVersion")[-1].peer
        for number in range(5):
            await connection.ping()
            loops_peer = server.calls("GetVersion")[-1].peer
            assert loops_peer != threads_peer
            path.close_connection(loops_peer if whose == "the event loop's" else threads_peer)
            await until(connection.ping)
            await until(lambda: aside(blocking.ping))
            threads_peer = server.calls("GetVersion")[-1].peer
            assert connection.state is State.READY, number
        for _ in range(rounds._value + 2):  # what is suspected by now is looked into
            assert await aside(lambda: rounds.acquire(timeout=PATIENCE_S))
        assert {"lost", "recovered", "closed"}.isdisjoint(face.ears.names())

    async def until(ask: Callable[[], Awaitable[float]]) -> None:
        """Ask until there is an answer, as gRPC may notice the end of a connection by a call."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await ask()
                except ConnectError:
                    continue
                return

    with fake_behind_proxy() as (server, path, environ), faces(**environ) as face:
        asyncio.run(main(server, path))


# --- another server -------------------------------------------------------------------------


def test_a_reload_amid_a_connect_takes_threads_and_event_loops_to_the_new_server_at_once(
    source: Source,
    server: FakeServer,
    joined: threading.Semaphore,
    two_loops: tuple[LoopThread, LoopThread],
) -> None:
    async def on_loop() -> str:
        got = await asyncio.gather(*(face.aio.get("prod") for _ in range(2)))
        return str(got[0].endpoint)

    with (
        fake_server() as other,
        source.connections() as connections,
        ThreadPoolExecutor(3) as pool,
    ):
        face = faces_of(connections)
        server.hold()
        work = [loop.submit(on_loop()) for loop in two_loops]
        work += [pool.submit(lambda: str(connections["prod"].endpoint)) for _ in range(3)]
        for _ in range(4):  # five threads want it, and one of them connects
            assert joined.acquire(timeout=PATIENCE_S)
        server.wait_for("Connect")
        source.point_at(other.uri)
        begun = time.monotonic()
        connections.reload()
        assert {each.result(PATIENCE_S) for each in work} == {other.uri}
        assert time.monotonic() - begun < 9.0  # the TIMEOUT is 10 s
        assert len(other.calls("Connect")) == 1
        server.wait_until_idle()
    assert len(server.calls("Connect")) == 1


def test_event_loops_follow_the_primary_and_close_their_channels_to_the_old_one(
    cluster: test_global_cluster.Cluster, two_loops: tuple[LoopThread, LoopThread]
) -> None:
    with faces(**cluster.environ) as face:
        for loop in two_loops:
            loop.submit(face.aio.ping("world")).result(PATIENCE_S)
        assert face.blocking["world"].ping() > 0
        old, new = cluster.paths
        assert len(old.peers) == 3
        cluster.promote(1)
        demote(cluster.members[0], "error")
        with pytest.raises(ConnectError):
            two_loops[0].submit(face.aio.ping("world")).result(PATIENCE_S)
        face.ears.wait_for(events.ConnectionMoved)
        for loop in two_loops:
            assert loop.submit(face.aio.ping("world")).result(PATIENCE_S) > 0
        old.wait_for_peers(0)
        assert len(new.peers) == 3
        assert face.ears.names().count("moved") == face.ears.names().count("connected") == 1
        assert "lost" not in face.ears.names()


# --- closing --------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_ping_whose_alias_is_closed_meanwhile_looks_it_up_once_more(
    server: FakeServer, times: int
) -> None:
    async def main() -> None:
        await face.aio.get("prod")
        server.hold()
        pinging = asyncio.create_task(face.aio.ping("prod"))
        await aside(lambda: server.wait_for("GetVersion"))
        await aside(lambda: face.blocking.disconnect("prod"))
        await aside(lambda: server.wait_for("Connect", 2))
        if times == 2:
            await face.aio.disconnect("prod")
            with pytest.raises(ClosedError):
                await pinging
        server.recover()
        if times == 1:
            assert await pinging > 0

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_disconnects_amid_pings_end_none_of_them_but_with_a_closed_error(
    server: FakeServer, two_loops: tuple[LoopThread, LoopThread]
) -> None:
    over = threading.Event()

    async def ping() -> None:
        answered = False
        # Until one is answered: on a busy machine each may meet a disconnect while these last.
        while not (over.is_set() and answered):
            with suppress(ClosedError):  # it was closed twice
                await face.aio.ping("prod")
                answered = True

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        work = [loop.submit(ping()) for loop in two_loops for _ in range(2)]
        pause = threading.Event()
        for number in range(50):
            pause.wait(0.01)
            if number % 2:
                face.blocking.disconnect("prod")
            else:
                two_loops[0].submit(face.aio.disconnect("prod")).result(PATIENCE_S)
        over.set()
        for each in work:
            each.result(PATIENCE_S)
        assert two_loops[1].submit(face.aio.ping("prod")).result(PATIENCE_S) > 0
        face.blocking.disconnect("prod")
        join_threads("zconfig-aio")
        assert CHANNELS._channel_pool == {}


def test_a_get_keeps_nothing_of_a_connection_that_is_closed_meanwhile(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClosedMeanwhile(BorrowedConnection):
        def __init__(self, managed: ManagedConnection, pool: LoopPool) -> None:
            managed.close()
            super().__init__(managed, pool)

    monkeypatch.setattr("zconfig.aio.async_connections.BorrowedConnection", ClosedMeanwhile)

    async def main() -> None:
        with pytest.raises(ClosedError):
            await face.aio.get("prod")
        assert loop_pool().kept == {}

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_a_connection_is_let_go_outside_its_lock(server: FakeServer) -> None:
    class Caller:
        def dial_soon(self, shared: SharedChannel, *, redial: bool) -> None:
            pass

        def forget(self) -> None:
            is_locked.append(managed._lock.locked())

    is_locked: list[bool] = []
    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        managed = face.blocking["prod"]._managed
        caller = Caller()
        managed.add_borrower(caller)
        managed.close()
    assert is_locked == [False]


@pytest.mark.parametrize("first", ["another event loop", "a thread"])
def test_an_alias_that_is_being_connected_or_live_is_connected_nowhere_else(
    server: FakeServer, two_loops: tuple[LoopThread, LoopThread], first: str
) -> None:
    def connect(uri: str, in_loop: bool) -> Any:
        if in_loop:
            return two_loops[0].submit(face.aio.connect("prod", uri=uri)).result(PATIENCE_S)
        return face.blocking.connect("prod", uri=uri)

    def conflicts() -> None:
        with pytest.raises(ConflictError, match="endpoint"):
            two_loops[1].submit(face.aio.connect("prod", uri=other.uri)).result(PATIENCE_S)
        with pytest.raises(ConflictError, match="endpoint"):
            face.blocking.connect("prod", uri=other.uri)

    with fake_server() as other, faces() as face, ThreadPoolExecutor(1) as pool:
        server.hold()
        connecting = pool.submit(connect, server.uri, first == "another event loop")
        server.wait_for("Connect")
        conflicts()
        server.recover()
        assert str(connecting.result(PATIENCE_S).endpoint) == server.uri
        conflicts()
        assert two_loops[1].submit(face.aio.ping("prod")).result(PATIENCE_S) > 0
        assert other.calls() == []


# --- event loops that end -------------------------------------------------------------------


@pytest.mark.parametrize("when", ["in its last step", "after it", "after it is closed"])
def test_a_close_leaves_nothing_of_an_event_loop_that_was_not_shut_down(
    server: FakeServer, when: str
) -> None:
    async def main() -> None:
        await face.aio.ping()
        if when == "in its last step":
            face.blocking.close()

    gc.collect()  # calls of other tests that failed may be left in cycles, with their channels
    with faces(ZILLIZ_URI=server.uri) as face, warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        if when == "after it is closed":
            loop.close()
        if when != "in its last step":
            face.blocking.close()
        join_threads("(_poll_wrapper)")
        assert asyncio.all_tasks(loop) == set()
        loop.close()


# --- hooks ----------------------------------------------------------------------------------


def test_no_hook_runs_on_the_thread_of_an_event_loop(server: FakeServer) -> None:
    heard: dict[str, list[bool]] = {}

    def hook(event: events.Event) -> None:
        heard.setdefault(event.name.rpartition(".")[2], []).append(runs_a_loop())

    async def main(path: faults.BreakableProxy, other: FakeServer) -> None:
        connection = await face.aio.get("prod")
        await aside(lambda: face.blocking.connect("code", uri=server.uri))
        await face.aio.connect("more", uri=server.uri, token="secret")
        with pytest.raises(ConnectError):
            await face.aio.connect("none", uri=f"{server.uri}/none")
        await aside(path.cut)
        with pytest.raises(ConnectError):
            await connection.ping()
        await aside(lambda: face.ears.wait_for(events.ConnectionLost))
        await aside(path.heal)
        await aside(lambda: face.ears.wait_for(events.ConnectionRecovered))
        await aside(face.blocking.reload)
        await aside(lambda: face.blocking.add_connection(last={"uri": other.uri}))
        await face.aio.autoconnect("last", "prod")
        await face.aio.keep_trying("last")
        await connection.close()
        await face.aio.disconnect("last")
        async with face.aio.lifespan():
            pass

    with (
        fake_behind_proxy() as (_, path, environ),
        fake_server() as other,
        faces(**environ) as face,
    ):
        face.blocking.subscribe(hook)
        asyncio.run(main(path, other))
    expected = {"connecting", "connected", "failed", "lost", "recovered", "closed"}
    assert expected <= set(heard)
    assert {name for name, where in heard.items() if any(where)} == set()


def runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_a_hook_hands_an_event_over_to_an_event_loop(server: FakeServer) -> None:
    async def main() -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[events.Event]()
        face.blocking.subscribe(lambda event: loop.call_soon_threadsafe(heard.put_nowait, event))
        connection = await face.aio.get("prod")
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(await heard.get(), events.ConnectionConnected):
                pass
        await connection.close()
        async with asyncio.timeout(PATIENCE_S):
            assert isinstance(await heard.get(), events.ConnectionClosed)

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


CHILD_HOOK = """
async def main():
    await aio.ping()

def hook(event):
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        print("thread", event.name.rpartition(".")[2])
    else:
        print("loop", event.name)

asyncio.run(main())
connections.subscribe(hook)
fork()
"""


def test_no_hook_of_a_forked_child_runs_on_the_thread_of_its_event_loop(
    server: FakeServer,
) -> None:
    child = "on_a_new_loop(aio.ping)"
    heard = run(script(CHILD_HOOK, child), ZILLIZ_URI=server.uri)
    assert heard == ["thread forked", "thread connecting", "thread connected"]


# --- forks ----------------------------------------------------------------------------------


FORKS_UNDER_LOAD = """
over = threading.Event()

async def call():
    connection = await aio.get()
    while not over.is_set():
        assert await connection.ping() > 0

async def load():
    await asyncio.gather(*(call() for _ in range(4)))

threads = [threading.Thread(target=lambda: asyncio.run(load())) for _ in range(2)]
for thread in threads:
    thread.start()
while not connected():
    pass
fork()
over.set()
for thread in threads:
    thread.join()
print(len(connected()))
"""


@pytest.mark.stress
def test_thirty_children_work_that_are_forked_while_two_event_loops_call(
    server: FakeServer,
) -> None:
    kinds = ("the blocking face", "an event loop of its own", "both, and one more event loop")
    children = 10 * [CHILDREN[kind] for kind in kinds]
    assert run(script(FORKS_UNDER_LOAD, *children), ZILLIZ_URI=server.uri) == ["1"]


# --- deadlines ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a task", "another event loop", "a thread"])
def test_one_with_less_time_leaves_and_the_first_hears_what_its_connect_failed_of(
    two_loops: tuple[LoopThread, LoopThread], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zconfig._connection.connector.backoff_s", lambda _: 0.05)
    hears: dict[str, Callable[[], Future[Any]]] = {
        "a task": lambda: two_loops[0].submit(face.aio.autoconnect("prod", timeout=0.2)),
        "another event loop": lambda: two_loops[1].submit(
            face.aio.autoconnect("prod", timeout=0.2)
        ),
        "a thread": lambda: pool.submit(face.blocking.autoconnect, "prod", timeout=0.2),
    }
    with (
        faults.refused() as port,
        faces(ZILLIZ_PROD_URI=f"http://127.0.0.1:{port}") as face,
        ThreadPoolExecutor(1) as pool,
    ):
        first = two_loops[0].submit(face.aio.autoconnect("prod", wait=2.0, timeout=2.0))
        face.ears.wait_for(events.ConnectionConnecting)
        with pytest.raises(AutoconnectError) as caught:
            hears[where]().result(PATIENCE_S)
        failure = caught.value.failures["prod"]
        assert isinstance(failure, ServerSilentError)
        assert "still connecting" in failure.detail
        with pytest.raises(AutoconnectError) as caught:
            first.result(PATIENCE_S)
        failure = caught.value.failures["prod"]
        assert isinstance(failure, RefusedError)
        assert failure.attempts > 1
    assert face.ears.names().count("failed") == 1


def test_the_first_hears_of_a_silent_server_at_its_deadline(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        begun = time.monotonic()
        first = asyncio.create_task(face.aio.ping("prod", timeout=0.5))
        await aside(lambda: server.wait_for("Connect"))
        with pytest.raises(ServerSilentError, match="another task is still connecting"):
            await face.aio.ping("prod", timeout=0.1)
        with pytest.raises(ServerSilentError) as caught:
            await first
        assert "still connecting" not in str(caught.value)
        assert 0.5 <= time.monotonic() - begun < PATIENCE_S

    with faces(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="60") as face:
        asyncio.run(main())


def test_a_timeout_of_asyncio_ends_a_get_and_the_attempt(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await face.aio.get("prod")
        await aside(server.wait_until_idle)
        server.recover()
        assert await face.aio.ping("prod") > 0

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())
