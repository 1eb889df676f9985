"""pymilvus clients on our connections: one an alias, on the proven channel, through everything."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymilvus
import pytest
from pymilvus import AsyncMilvusClient, MilvusException

import zconfig
from tests.support.ears import Ears
from tests.support.faults import LOOPBACK, breakable_proxy
from tests.support.loops import faces
from tests.support.processes import run_python
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus
from tests.test_fork import run as forks
from zconfig import events
from zconfig._registry import Connections
from zconfig.errors import ClosedError, ConfigurationError, MissingExtraError
from zconfig.interop.pymilvus import async_client_of, client_of
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def prod(server: FakeServer) -> Iterator[Connections]:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        yield connections


def test_an_alias_has_one_client_whoever_asks(prod: Connections) -> None:
    connection = prod["prod"]
    with ThreadPoolExecutor(16) as pool:
        clients = set(pool.map(lambda _: id(client_of(connection)), range(64)))
    assert len(clients) == 1


def test_a_client_with_options_of_its_own_is_another_one(prod: Connections) -> None:
    connection = prod["prod"]
    assert client_of(connection, timeout=3.0) is not client_of(connection)


def value() -> str:
    return "S3cret-value"


@pytest.mark.parametrize("face", ["client", "async_client"])
@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("uri", r"connections\.connect\(alias, uri=\.\.\.\)"),
        ("url", r"connections\.connect\(alias, uri=\.\.\.\)"),
        ("host", r"connect\(alias, host="),
        ("address", r"connect\(alias, address="),
        ("secure", r"connect\(alias, secure="),
        ("token", r"connect\(alias, token="),
        ("api_key", r"connect\(alias, token="),
        ("password", r"connect\(alias, password="),
        ("server_pem_path", r"connect\(alias, server_pem_path="),
        ("client_key_path", r"connect\(alias, client_key_path="),
        ("server_name", r"connect\(alias, server_name="),
        ("database", "did you mean db_name"),
        ("channel", "remove it"),
        ("grpc_options", "remove it"),
    ],
)
def test_an_option_that_says_where_or_how_to_connect_is_refused(
    face: str, option: str, remedy: str
) -> None:
    async def ask() -> object:
        made = getattr(zconfig, face)("prod", timeout=3.0, **{option: value()})
        return await made if face == "async_client" else made

    with (
        zconfig.connections.override({"prod": {"uri": f"http://{LOOPBACK}:1"}}),
        pytest.raises(ConfigurationError, match=remedy) as caught,
    ):
        asyncio.run(ask())
    [problem] = caught.value.problems
    assert (problem.code, str(problem.origin)) == ("unknown_argument", f"{option} (zconfig.{face})")
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "S3cret" not in "".join(shown.format())


@pytest.mark.parametrize("make", [client_of, async_client_of])
@pytest.mark.parametrize("option", ["uri", "token", "channel", "server_pem_path"])
def test_such_an_option_is_refused_beside_a_connection_too(make: Any, option: str) -> None:
    no_connection: Any = None  # the options are checked first
    with pytest.raises(
        ConfigurationError, match=rf"^{option} \({make.__name__}\): is not"
    ) as caught:
        make(no_connection, timeout=3.0, **{option: value()})
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "S3cret" not in "".join(shown.format())


def test_a_client_takes_the_options_that_are_its_own(server: FakeServer) -> None:
    with zconfig.connections.override({"prod": {"uri": server.uri}}):
        client = zconfig.client("prod", timeout=20.0, db_name="default", dedicated=True)
        assert client.get_server_version() == VERSION


def test_making_a_client_asks_the_server_nothing(prod: Connections, server: FakeServer) -> None:
    connection = prod["prod"]
    before = len(server.calls())
    client = client_of(connection)
    assert len(server.calls()) == before
    assert client.get_server_version() == VERSION
    assert len(server.peers()) == 1


def test_a_client_that_was_closed_is_replaced(prod: Connections) -> None:
    client = client_of(prod["prod"])
    client.close()
    newer = client_of(prod["prod"])
    assert newer is not client
    assert newer.get_server_version() == VERSION


def test_a_disconnect_drops_the_client_which_says_so(prod: Connections) -> None:
    client = client_of(prod["prod"])
    prod.disconnect("prod")
    with pytest.raises(MilvusException, match="prod: this connection is closed"):
        client.get_server_version()
    newer = client_of(prod["prod"])
    assert newer is not client
    assert newer.get_server_version() == VERSION


def test_a_clients_failure_names_the_cause(server: FakeServer) -> None:
    with (
        breakable_proxy(server.port) as path,
        registry(ZILLIZ_PROD_URI=f"http://{LOOPBACK}:{path.port}") as connections,
    ):
        ears = Ears(connections)
        client = client_of(connections["prod"])
        path.cut()
        lost = ears.wait_for(events.ConnectionLost)
        with pytest.raises(MilvusException) as caught:
            client.get_server_version(timeout=1.0)
        assert lost.problem in str(caught.value)
        assert "illegal connection params" not in str(caught.value)
        path.heal()
        ears.wait_for(events.ConnectionRecovered)
        assert client.get_server_version() == VERSION


def test_a_client_made_before_a_fork_works_in_the_child(server: FakeServer) -> None:
    # In a process of its own: gRPC does not promise that one with a server survives its fork.
    script = """
client = zconfig.client()

def in_child():
    print(client.get_server_version(), zconfig.client().get_server_version())

print(client.get_server_version())
forked(in_child)
print(client.get_server_version())
"""
    assert forks(script, ZILLIZ_URI=server.uri) == [VERSION, f"{VERSION} {VERSION}", VERSION]
    assert len(server.calls("Connect")) == 2


def test_a_client_rotates_with_its_connection(milvus: RealMilvus, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.touch(mode=0o600)
    secret.write_text("turned:First-1")
    environ = {"ZILLIZ_TURNED_URI": milvus.uri, "ZILLIZ_TURNED_TOKEN_FILE": str(secret)}
    with registry(ZILLIZ_URI=milvus.uri, ZILLIZ_TOKEN=CREDENTIALS, **environ) as connections:
        root = client_of(connections.default)
        root.create_user("turned", "First-1")
        try:
            client = client_of(connections["turned"])
            client.list_collections()
            secret.write_text("turned:Second-2")
            root.update_password("turned", "First-1", "Second-2")
            client.list_collections()
            assert client_of(connections["turned"]) is client
        finally:
            root.drop_user("turned")


# --- asyncio -------------------------------------------------------------------------------


def test_an_alias_has_one_asynchronous_client_an_event_loop(server: FakeServer) -> None:
    async def use() -> AsyncMilvusClient:
        connection = await face.aio.get("prod")
        client = async_client_of(connection)
        assert async_client_of(connection) is client
        assert async_client_of(connection, timeout=3.0) is not client
        assert await client.get_server_version() == VERSION
        await client.close()
        newer = async_client_of(connection)
        assert newer is not client
        assert await newer.get_server_version() == VERSION
        return newer

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        clients = [asyncio.run(use()) for _ in range(2)]
    assert clients[0] is not clients[1]


def test_an_asynchronous_client_of_a_closed_alias_says_so(server: FakeServer) -> None:
    async def use() -> None:
        client = async_client_of(await face.aio.get("prod"))
        await face.aio.disconnect("prod")
        with pytest.raises((MilvusException, ClosedError), match="prod: this connection is closed"):
            await client.get_server_version()

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(use())


def test_a_pymilvus_that_is_too_old_is_told_with_one_that_is_not(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        async_client_of(await face.aio.get("prod"))

    monkeypatch.delattr(pymilvus, "AsyncMilvusClient")
    told = "a pymilvus that has AsyncMilvusClient is not installed; .*'pymilvus>=2.6'"
    with (
        faces(ZILLIZ_PROD_URI=server.uri) as face,
        pytest.raises(MissingExtraError, match=told),
    ):
        asyncio.run(ask())


def test_the_package_hands_out_asynchronous_clients(server: FakeServer) -> None:
    source = """
        import asyncio, zconfig

        async def main():
            client = await zconfig.async_client()
            print(await client.get_server_version())
            await zconfig.aio.close()

        asyncio.run(main())
    """
    done = run_python(source, environ={"ZILLIZ_URI": server.uri}, warnings="default")
    assert done.stdout == f"{VERSION}\n", done.stderr
