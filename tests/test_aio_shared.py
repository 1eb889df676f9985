"""Threads and event loops that share one connection an alias."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.support.fake_milvus import PATIENCE_S, FakeMilvus, fake_milvus
from tests.support.loops import Faces, LoopThread, aside, faces, faces_of, loop_thread
from tests.test_rotation import Source, sent
from zconfig import events
from zconfig._connection import CHANNELS, State, managed

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@pytest.fixture
def server() -> Iterator[FakeMilvus]:
    with fake_milvus() as fake:
        yield fake


@pytest.fixture
def source(tmp_path: Path, server: FakeMilvus) -> Source:
    server.secrets = {"key-1"}
    source = Source(tmp_path, server.uri)
    source.write("key-1")
    return source


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody see that a secret file was rewritten."""
    monkeypatch.setattr("zconfig._connection.monitor.credentials_stamp", lambda _: {})


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
    source: Source, server: FakeMilvus
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
            server.secrets = {"key-2"}
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


def test_three_event_loops_and_four_threads_share_one_connection(server: FakeMilvus) -> None:
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
        server.wait_for(1)
        server.let_go()
        for each in work:
            each.result(PATIENCE_S)
        stats = face.blocking.stats()["default"]
        assert (stats.state, stats.connects) == ("connected", 1)
        assert stats.round_trips
        assert stats.round_trips.count == 35
        assert face.ears.names().count("connecting") == face.ears.names().count("connected") == 1
    assert server.count("Connect") == 1


# --- cancellation ---------------------------------------------------------------------------


def join_threads(name: str) -> None:
    """Wait until every thread of that name has ended."""
    for thread in threading.enumerate():
        if thread.name.endswith(name):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


async def nothing_is_left(face: Faces, other: FakeMilvus) -> None:
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
    server: FakeMilvus, joined: threading.Semaphore, kind: str, who: str
) -> None:
    async def main() -> None:
        for number in range(3):
            face.blocking.add_connection(prod={"uri": server.uri})
            server.hold()
            arrived = server.count("Connect")
            asking = asyncio.create_task(face.aio.get("prod")) if who == "the first" else None
            if asking:
                await aside(partial(server.wait_for, arrived + 1))
            waiting = others.begin()
            if not asking:
                await aside(partial(server.wait_for, arrived + 1))
                asking = asyncio.create_task(face.aio.get("prod"))
            if kind == "a task":
                await asyncio.sleep(0)
            else:
                assert await aside(lambda: joined.acquire(timeout=PATIENCE_S))
            await cancel(asking)
            server.let_go()
            assert (await waiting).ping
            assert face.ears.names().count("connected") == 2 * number + 1
            await nothing_is_left(face, other)
        assert "failed" not in face.ears.names()

    with (
        fake_milvus() as other,
        faces() as face,
        loop_thread() as loop,
        ThreadPoolExecutor(1) as pool,
    ):
        others = Others(kind, face, loop, pool)
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["nobody", *Others.KINDS])
def test_a_get_may_be_cancelled_at_any_step_of_the_event_loop(
    server: FakeMilvus, kind: str
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
        fake_milvus() as other,
        faces() as face,
        loop_thread() as loop,
        ThreadPoolExecutor(1) as pool,
    ):
        others = Others(kind, face, loop, pool)
        asyncio.run(main())


@pytest.mark.parametrize("kind", Others.KINDS)
@pytest.mark.parametrize("event", [events.ConnectionConnecting, events.ConnectionConnected])
def test_a_get_may_be_cancelled_while_a_hook_runs(
    server: FakeMilvus, kind: str, event: type[events.Event]
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
        fake_milvus() as other,
        faces(ZILLIZ_PROD_URI=server.uri) as face,
        loop_thread() as loop,
        ThreadPoolExecutor(1) as pool,
    ):
        face.blocking.subscribe(hook, event)
        others = Others(kind, face, loop, pool)
        asyncio.run(main())


def test_a_connect_to_elsewhere_succeeds_at_once_after_a_get_was_cancelled(
    server: FakeMilvus,
) -> None:
    async def main() -> None:
        for number in range(20):
            face.blocking.add_connection(prod={"uri": server.uri})
            asking = asyncio.create_task(face.aio.get("prod"))
            await aside(partial(server.wait_for, number + 1))
            await cancel(asking)
            assert (await face.aio.connect("prod", uri=other.uri)).state is State.READY
            await aside(lambda: face.blocking.remove_connection("prod"))

    with fake_milvus() as other, faces() as face:
        server.hold()
        asyncio.run(main())


def is_configured_and_open(face: Faces) -> tuple[bool, bool]:
    connected = face.blocking.has_connection("prod")
    return "prod" in face.blocking, connected


@pytest.mark.parametrize("event", [events.ConnectionConnecting, events.ConnectionConnected])
def test_a_connect_that_is_cancelled_while_a_hook_runs_is_open_and_configured_or_neither(
    server: FakeMilvus, event: type[events.Event]
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

    with fake_milvus() as other, faces() as face:
        face.blocking.subscribe(hook, event)
        asyncio.run(main())


def test_a_connect_that_is_cancelled_at_any_step_is_open_and_configured_or_neither(
    server: FakeMilvus,
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

    with fake_milvus() as other, faces() as face:
        asyncio.run(main())


def test_an_attempt_ends_with_the_event_loop_of_the_only_task_that_waits_for_it(
    server: FakeMilvus,
) -> None:
    async def begin(tasks: set[asyncio.Task[Any]]) -> None:
        tasks.add(asyncio.create_task(face.aio.get("prod")))
        await aside(lambda: server.wait_for(1))

    for _ in range(8):  # in which order tasks are cancelled differs
        with faces(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="60") as face:
            server.calls.clear()
            server.hold()
            asyncio.run(begin(set()))
            server.wait_until_cancelled()
            join_threads("zconfig-aio")
            server.let_go()
            assert face.blocking["prod"].ping() > 0
