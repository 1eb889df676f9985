"""Who keeps a pymilvus client, and on which channel, in whatever version is installed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest

from tests.support.applications import eventually
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.aio import AsyncConnections
from zconfig.errors import ClosedError
from zconfig.interop.pymilvus import async_client_of, client_of
from zconfig.testing import FakeServer, fake_server

with import_without_side_effects():
    import pymilvus

TOKEN = "root:Milvus"
HANDLERS = ("GrpcHandler", "AsyncGrpcHandler")
# Whether clients are in pymilvus' registry, by a name that can be given to them.
NAMED_BY_USERS = bool(find_spec("pymilvus.milvus_client._utils")) and not find_spec(
    "pymilvus.client.connection_manager"
)


class Face(Protocol):
    """A way to have clients of the alias `prod`, and to use them."""

    connections: Connections

    def client(self, **options: Any) -> Any:
        """Return a client."""

    def call(self, client: Any, times: int = 1) -> None:
        """Make so many calls, side by side where that can be."""

    def close(self, client: Any) -> None:
        """Close a client by hand."""

    def disconnect(self) -> None:
        """Close the alias' connection."""


class Blocking:
    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def client(self, **options: Any) -> Any:
        return client_of(self.connections["prod"], **options)

    def call(self, client: Any, times: int = 1) -> None:
        for _ in range(times):
            client.release_collection("docs")

    def close(self, client: Any) -> None:
        client.close()

    def disconnect(self) -> None:
        self.connections.disconnect("prod")


class OnALoop:
    def __init__(self, connections: Connections, loop: asyncio.Runner) -> None:
        self.connections = connections
        self._aio, self._loop = AsyncConnections(connections), loop

    def client(self, **options: Any) -> Any:
        async def get() -> Any:
            return async_client_of(await self._aio.get("prod"), **options)

        return self._loop.run(get())

    def call(self, client: Any, times: int = 1) -> None:
        async def call() -> None:
            await asyncio.gather(*(client.release_collection("docs") for _ in range(times)))

        self._loop.run(call())

    def close(self, client: Any) -> None:
        self._loop.run(client.close())

    def disconnect(self) -> None:
        self._loop.run(self._aio.disconnect("prod"))


@contextmanager
def blocking(connections: Connections) -> Iterator[Face]:
    yield Blocking(connections)


@contextmanager
def on_a_loop(connections: Connections) -> Iterator[Face]:
    with asyncio.Runner() as loop:
        yield OnALoop(connections, loop)


FACES = [blocking, on_a_loop] if hasattr(pymilvus, "AsyncMilvusClient") else [blocking]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        server.accept(TOKEN)
        server.answer("ReleaseCollection", b"")
        yield server


@pytest.fixture
def environ(server: FakeServer) -> dict[str, str]:
    """What is in the environment, also after a reload."""
    return {"ZILLIZ_PROD_URI": server.uri, "ZILLIZ_PROD_TOKEN": TOKEN}


@pytest.fixture(params=FACES, ids=[each.__name__ for each in FACES])
def face(request: pytest.FixtureRequest, environ: dict[str, str]) -> Iterator[Face]:
    connections = Connections(lambda: load(environ, Path.cwd(), system_secrets="no secrets"))
    try:
        with request.param(connections) as made:
            yield made
    finally:
        connections.close()


class Remains:
    """What is left of clients and their handlers, those of other tests aside."""

    def __init__(self) -> None:
        self._before = weakref.WeakSet(handlers())
        self._left: weakref.WeakSet[Any] = weakref.WeakSet()

    def watch(self, client: Any) -> None:
        """Look out for a client that has made a call, and for what it calls through."""
        self._left.add(client)
        made = [each for each in handlers() if each not in self._before]
        assert made
        self._left.update(made)

    def vanish(self) -> None:
        """Make sure that nothing is left, or else in a moment: threads may hold something."""

        def have() -> bool:
            gc.collect()
            return not self._left

        eventually(have, lambda: f"left: {list(self._left)}")

    def count(self) -> int:
        """Return how many handlers there are."""
        return sum(each not in self._before for each in handlers())


def handlers() -> list[Any]:
    """Return every handler of pymilvus' in this process."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each).__name__ in HANDLERS]


@pytest.fixture
def remains() -> Remains:
    return Remains()


def use(face: Face, remains: Remains, **options: Any) -> None:
    """Have a client, make a call, and let go of it."""
    client = face.client(**options)
    face.call(client)
    remains.watch(client)


def test_nothing_is_left_of_the_client_of_an_alias_that_was_disconnected(
    face: Face, remains: Remains
) -> None:
    for _ in range(3):
        use(face, remains)
        face.disconnect()
    remains.vanish()


def test_nothing_is_left_of_a_client_with_options_that_nobody_has(
    face: Face, remains: Remains
) -> None:
    use(face, remains, timeout=20)
    remains.vanish()


def test_nothing_is_left_of_a_client_that_was_closed(face: Face, remains: Remains) -> None:
    def use_and_close() -> None:
        client = face.client()
        face.call(client)
        remains.watch(client)
        face.close(client)
        face.close(client)

    use_and_close()
    remains.vanish()


def test_nothing_is_left_of_a_client_that_was_closed_after_its_connection(
    face: Face, remains: Remains
) -> None:
    def use_and_close() -> None:
        client = face.client()
        face.call(client)
        remains.watch(client)
        face.disconnect()
        face.close(client)

    use_and_close()
    remains.vanish()


def test_a_client_that_somebody_has_says_that_its_connection_is_closed(
    face: Face, remains: Remains
) -> None:
    def use_when_closed() -> None:
        client = face.client()
        face.call(client)
        remains.watch(client)
        face.disconnect()
        use(face, remains)  # there is a new connection
        gc.collect()
        with pytest.raises((pymilvus.MilvusException, ClosedError), match="connection is closed"):
            face.call(client)

    use_when_closed()
    face.disconnect()
    remains.vanish()


def test_a_connection_that_a_reload_changed_keeps_its_client(
    face: Face, environ: dict[str, str], server: FakeServer
) -> None:
    client = face.client()
    face.call(client)
    server.accept("root:Second-2")
    environ |= {"ZILLIZ_PROD_TOKEN": "root:Second-2", "ZILLIZ_PROD_POOL_SIZE": "2"}
    face.connections.reload()
    gc.collect()
    assert face.client() is client
    face.call(client)


def test_first_calls_side_by_side_leave_nothing(face: Face, remains: Remains) -> None:
    def use_side_by_side() -> None:
        client = face.client()
        face.call(client, times=4)
        remains.watch(client)
        assert remains.count() == 1

    use_side_by_side()
    face.disconnect()
    remains.vanish()


def test_a_client_stays_on_its_channel_when_the_server_is_unavailable(
    face: Face, server: FakeServer
) -> None:
    client = face.client()
    face.call(client)
    before = server.peers()
    failing = server.fail(grpc.StatusCode.UNAVAILABLE, times=2, method="ReleaseCollection")
    with failing, suppress(pymilvus.MilvusException, grpc.RpcError):  # some versions try again
        face.call(client)
    face.call(client)
    assert server.peers() == before
    assert server.calls("ReleaseCollection")[-1].token == TOKEN


if NAMED_BY_USERS:

    def test_a_client_that_its_user_named_stays_in_the_registry_by_that_name(face: Face) -> None:
        face.call(face.client(alias="docs"))
        gc.collect()
        assert pymilvus.connections.has_connection("docs")
        face.close(face.client(alias="docs"))
        assert not pymilvus.connections.has_connection("docs")
