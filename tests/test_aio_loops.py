"""Event loops share the connections of the process: several, closed ones, and nothing left over."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support import PATIENCE_S, faults
from tests.support.loops import Faces, aside, faces
from zconfig._connection import CHANNELS, State
from zconfig.aio import AsyncConnection
from zconfig.errors import ClosedError, ConnectError
from zconfig.testing import FakeServer, fake_server

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
POLLER = "(_poll_wrapper)"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def face(server: FakeServer, caplog: pytest.LogCaptureFixture) -> Iterator[Faces]:
    """Return faces of a registry whose event loops are to make no noise."""
    with faces(ZILLIZ_URI=server.uri) as both:
        yield both
        gc.collect()
    noise = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert noise == []


def pollers() -> int:
    return sum(thread.name.endswith(POLLER) for thread in threading.enumerate())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def opened(face: Faces) -> AsyncConnection:
    connection = await face.aio.get()
    assert await connection.ping() > 0
    return connection


# --- one after the other --------------------------------------------------------------------


def test_twenty_event_loops_in_a_row_and_a_thread_make_one_connect(
    face: Faces, server: FakeServer
) -> None:
    found = [asyncio.run(opened(face)) for _ in range(20)]
    assert len(set(found)) == 20
    assert face.blocking["default"].ping() > 0
    assert len(server.calls("Connect")) == 1
    assert face.ears.names().count("connected") == 1


def test_the_end_of_an_event_loop_closes_its_channels_and_no_connection(
    face: Faces, server: FakeServer
) -> None:
    connection = asyncio.run(opened(face))
    assert connection.state is State.READY
    assert face.ears.names()[-1] == "connected"
    wait_for(lambda: pollers() == 0)
    assert face.blocking.stats()["default"].state == "connected"


def test_a_connection_of_another_event_loop_is_refused(face: Faces, server: FakeServer) -> None:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(opened(face))
    channel = connection.channel
    method = channel.unary_unary(GET_VERSION)

    async def elsewhere() -> None:
        uses: list[Callable[[], Any]] = [
            connection.ping,
            connection.health,
            lambda: method(b""),
            channel.channel_ready,
        ]
        for use in uses:
            with pytest.raises(ClosedError, match=r"zconfig\.aio\.get"):
                await use()
        with pytest.raises(ClosedError):
            channel.unary_stream("/t/us")(b"")

    asyncio.run(elsewhere())
    assert loop.run_until_complete(connection.ping()) > 0
    loop.run_until_complete(face.aio.close())
    loop.close()
    assert len(server.calls("GetVersion")) == 2


def test_what_a_closed_event_loop_left_is_let_go_of_and_not_touched(face: Faces) -> None:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(opened(face))
    loop.close()
    reference = weakref.ref(loop)
    del loop
    asyncio.run(opened(face))
    asyncio.run(closed(connection))
    del connection
    gc.collect()
    assert reference() is None
    wait_for(lambda: pollers() == 0)


async def closed(connection: AsyncConnection) -> None:
    with pytest.raises(ClosedError):
        await connection.ping()
    await connection.close()


def test_an_event_loop_closed_amid_a_connect_leaves_the_next_one_alone(
    face: Faces, server: FakeServer
) -> None:
    async def begin() -> None:
        server.hold()
        asking = asyncio.create_task(face.aio.get())
        await aside(lambda: server.wait_for("Connect"))
        del asking

    asyncio.run(begin())
    server.recover()
    asyncio.run(opened(face))


# --- side by side ---------------------------------------------------------------------------


def test_event_loops_of_several_threads_work_side_by_side(face: Faces, server: FakeServer) -> None:
    begun = threading.Barrier(4)

    async def work() -> int:
        connection = await face.aio.get()
        method = connection.channel.unary_unary(GET_VERSION)
        await aside(lambda: begun.wait(PATIENCE_S))
        for _ in range(50):
            await asyncio.gather(method(b""), connection.ping(), face.aio.ping())
        return 150

    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(asyncio.run, work()) for _ in range(4)]
        assert sum(each.result(3 * PATIENCE_S) for each in made) == 600
    assert len(server.calls("Connect")) == 1
    assert len(server.calls("GetVersion")) == 600
    wait_for(lambda: pollers() == 0)


def test_event_loops_get_what_a_thread_has_connected_elsewhere(
    server: FakeServer,
) -> None:
    begun, reloaded = threading.Barrier(4), threading.Event()

    async def work() -> str:
        await face.aio.get()
        await aside(lambda: begun.wait(PATIENCE_S))
        await aside(lambda: reloaded.wait(PATIENCE_S))
        connection = await face.aio.get()
        await connection.ping()
        return str(connection.endpoint)

    with (
        fake_server() as other,
        faces(ZILLIZ_URI=server.uri) as face,
        ThreadPoolExecutor(3) as pool,
    ):
        made = [pool.submit(asyncio.run, work()) for _ in range(3)]
        begun.wait(PATIENCE_S)
        face.blocking.disconnect("default")
        face.blocking.connect("default", uri=other.uri)
        reloaded.set()
        assert {each.result(PATIENCE_S) for each in made} == {other.uri}


# --- nothing is left ------------------------------------------------------------------------


def held() -> dict[str, int]:
    gc.collect()
    kinds = (grpc.aio.Channel, asyncio.AbstractEventLoop)
    alive = gc.get_objects()
    others = ("ThreadPoolExecutor", "asyncio_")  # the server's, and those of `aside`
    threads = [t for t in threading.enumerate() if not t.name.startswith(others)]
    return {
        "threads": len(threads),
        "descriptors": len(list(Path("/dev/fd").iterdir())),
        "tasks": sum(isinstance(each, asyncio.Task) for each in alive),
        **{kind.__name__: sum(isinstance(each, kind) for each in alive) for kind in kinds},
    }


def nothing_more_than(before: dict[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    # A thread of gRPC's own may come late; what leaves one each time leaves many.
    allowed = {**before, "threads": before["threads"] + 1}
    while leaked := {what: n for what, n in held().items() if n > allowed[what]}:
        names = [thread.name for thread in threading.enumerate()]
        assert time.monotonic() < deadline, f"{before} became {leaked} with {names}"
        time.sleep(0.05)


def test_connecting_and_closing_on_one_event_loop_leaves_nothing(face: Faces) -> None:
    async def repeat(count: int) -> None:
        for _ in range(count):
            await opened(face)
            await face.aio.close()

    async def main() -> None:
        await repeat(20)
        before = held()
        await repeat(200)
        await aside(lambda: nothing_more_than(before))

    asyncio.run(main())


@pytest.mark.parametrize("closing", [True, False])
def test_event_loops_in_turn_leave_nothing(face: Faces, closing: bool) -> None:
    async def main() -> None:
        await opened(face)
        if closing:
            await face.aio.close()

    for _ in range(10):
        asyncio.run(main())
    before = held()
    for _ in range(100):
        asyncio.run(main())
    nothing_more_than(before)
    wait_for(lambda: pollers() == 0)


def test_failed_connects_leave_nothing() -> None:
    async def repeat(count: int) -> None:
        for _ in range(count):
            with pytest.raises(ConnectError):
                await face.aio.get()

    async def main() -> None:
        await repeat(20)
        before = held()
        await repeat(200)
        await aside(lambda: nothing_more_than(before))

    with faults.refused() as port, faces(ZILLIZ_URI=f"http://127.0.0.1:{port}") as face:
        asyncio.run(main())


def test_cancelled_connects_leave_nothing(server: FakeServer, lite_uri: str) -> None:
    async def main() -> None:
        for alias in ("held", "lite"):
            server.hold()
            for pause_s in (0.0, 0.001, 0.02, 0.2):
                asking = asyncio.create_task(face.aio.get(alias))
                await asyncio.sleep(pause_s)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await face.aio.disconnect(alias)
            server.recover()
        await aside(lambda: wait_for(lambda: CHANNELS._channel_pool == {}))
        assert await face.aio.ping("lite") > 0

    with faces(ZILLIZ_HELD_URI=server.uri, ZILLIZ_LITE_URI=lite_uri) as face:
        asyncio.run(main())


def test_nothing_is_left_when_a_close_has_ended(server: FakeServer) -> None:
    async def main() -> None:
        await opened(face)
        await face.aio.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert server.peers()
        connection = await opened(face)
        await connection.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_a_registry_that_is_dropped_is_collected(server: FakeServer) -> None:
    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(opened(face))
        reference = weakref.ref(face.blocking)
        del face
    gc.collect()
    assert reference() is None
