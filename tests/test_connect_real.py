"""Connecting to real servers: Milvus 2.3.5 and Milvus Lite."""

from __future__ import annotations

import base64
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from milvus_lite.server_manager import server_manager_instance
from pymilvus.client.grpc_handler import GrpcHandler
from pymilvus.exceptions import MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from tests.support import PATIENCE_S, faults
from tests.support.faults import Listener, forward
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig import events
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConnectError,
    DatabaseMissingError,
    ExitCode,
    MissingCredentialsError,
    RefusedError,
    RejectedCredentialsError,
)
from zconfig.interop.pymilvus import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymilvus import MilvusClient

    from tests.support.certificates import Certificates
    from zconfig._connection import Connection
    from zconfig._registry import Connections

USER, PASSWORD = CREDENTIALS.split(":")
WRONG = "wr0ng-passw0rd"
SALES = f"sales_{token_hex(4)}"  # a running server may have those of earlier runs


def prod(server: RealMilvus, **fields: str) -> dict[str, str]:
    """Return the environment of the alias `prod` on a server, with its credentials."""
    given = {"URI": server.uri, "TOKEN": CREDENTIALS, **fields}
    return {f"ZILLIZ_PROD_{name}": value for name, value in given.items()}


def connect_error(connections: Connections, alias: str = "prod") -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        connections.connect(alias)
    assert not connections.has_connection(alias)
    return caught.value


@pytest.fixture(scope="module")
def sales(milvus: RealMilvus) -> str:
    """The name of a second database on `milvus`, with a collection of its own."""
    with registry(**prod(milvus)) as connections:
        stub = milvus_pb2_grpc.MilvusServiceStub(connections["prod"].channel)
        request = milvus_pb2.CreateDatabaseRequest(db_name=SALES)
        assert stub.CreateDatabase(request, timeout=PATIENCE_S).code == 0
    return SALES


# --- credentials ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credentials",
    [{"TOKEN": CREDENTIALS}, {"TOKEN": "", "USER": USER, "PASSWORD": PASSWORD}],
    ids=["token", "user and password"],
)
def test_the_right_credentials_connect(milvus: RealMilvus, credentials: dict[str, str]) -> None:
    with registry(**prod(milvus, **credentials)) as connections:
        connection = connections.connect("prod")
        assert connection.server.version == milvus.version
        assert connection.ping() > 0


@pytest.mark.parametrize(
    ("credentials", "named"),
    [
        ({"TOKEN": f"root:{WRONG}"}, "ZILLIZ_PROD_TOKEN"),
        ({"TOKEN": f"nobody:{WRONG}"}, "ZILLIZ_PROD_TOKEN"),
        ({"TOKEN": WRONG}, "ZILLIZ_PROD_TOKEN"),
        ({"TOKEN": "", "USER": USER, "PASSWORD": WRONG}, "ZILLIZ_PROD_PASSWORD"),
    ],
    ids=["password", "user", "api key", "pair"],
)
def test_wrong_credentials_are_rejected_and_never_repeated(
    milvus: RealMilvus, credentials: dict[str, str], named: str
) -> None:
    with registry(**prod(milvus, **credentials)) as connections:
        error = connect_error(connections)
    assert type(error) is RejectedCredentialsError
    assert error.permanent
    assert error.exit_code is ExitCode.AUTHENTICATION
    assert error.origin == f"{named} (environment)"
    assert WRONG not in "".join((str(error), repr(error), repr(error.__context__)))


def test_missing_credentials_are_told_from_wrong_ones(milvus: RealMilvus) -> None:
    with registry(**prod(milvus, TOKEN="")) as connections:
        error = connect_error(connections)
    assert type(error) is MissingCredentialsError
    assert error.origin == "ZILLIZ_PROD_URI (environment)"


def test_wrong_credentials_are_not_tried_again(milvus: RealMilvus) -> None:
    with (
        registry(**prod(milvus, TOKEN=WRONG)) as connections,
        pytest.raises(AutoconnectError) as caught,
    ):
        connections.autoconnect(wait=PATIENCE_S)
    failure = caught.value.failures["prod"]
    assert isinstance(failure, RejectedCredentialsError)
    assert failure.attempts == 1


# --- a server that is down, or late --------------------------------------------------------


def test_a_server_that_is_down_refuses(milvus: RealMilvus) -> None:
    with faults.refused() as port:
        uri = f"http://127.0.0.1:{port}"
        with registry(**prod(milvus, URI=uri)) as connections:
            error = connect_error(connections)
    assert type(error) is RefusedError
    assert (error.alias, error.endpoint, error.attempts) == ("prod", uri, 1)
    assert error.exit_code is ExitCode.UNREACHABLE
    assert not error.permanent


@pytest.mark.usefixtures("server_wheel")
def test_a_server_that_comes_up_late_is_waited_for(tmp_path_factory: Any) -> None:
    late = RealMilvus(tmp_path_factory.mktemp("late"))
    with registry(**prod(late)) as connections, ThreadPoolExecutor(1) as pool:
        refused = threading.Event()

        def note(event: events.Event) -> None:
            if isinstance(event, events.ConnectionRetrying) and event.cause == "refused":
                refused.set()

        connections.subscribe(note)
        flight = pool.submit(connections.autoconnect, wait=90)
        try:
            assert refused.wait(PATIENCE_S)
            late.start()
            connection = flight.result(90)["prod"]
            assert connection.ping() > 0
        finally:
            connections.close()
            late.stop()


def test_a_connection_survives_a_restart_of_its_server(own_milvus: RealMilvus) -> None:
    with registry(**prod(own_milvus)) as connections:
        connection = connections["prod"]
        own_milvus.stop()
        with pytest.raises(RefusedError):
            connection.ping(timeout=2)
        own_milvus.start()
        own_milvus.wait_ready()
        assert patient_ping(connection) > 0
        assert connections["prod"] is connection


def patient_ping(connection: Connection) -> float:
    """Ping until gRPC has dialed again, which it does after a pause."""
    paused = threading.Event()
    for _ in range(300):
        try:
            return connection.ping(timeout=PATIENCE_S)
        except RefusedError:
            paused.wait(0.1)
    raise AssertionError("the connection did not come back")


# --- databases -----------------------------------------------------------------------------


def test_two_databases_of_one_server_are_two_aliases(milvus: RealMilvus, sales: str) -> None:
    environ = prod(milvus) | {
        "ZILLIZ_SALES_URI": f"{milvus.uri}/{sales}",
        "ZILLIZ_SALES_TOKEN": CREDENTIALS,
    }
    with registry(**environ) as connections:
        opened = connections.autoconnect()
        with a_collection(opened["sales"], "only_in_sales"):
            assert "only_in_sales" in collections_of(opened["sales"])
            assert "only_in_sales" not in collections_of(opened["prod"])


@contextmanager
def a_collection(connection: Connection, name: str) -> Iterator[None]:
    """Have a collection, made and dropped with pymilvus' generated stub."""
    stub = milvus_pb2_grpc.MilvusServiceStub(connection.channel)
    schema = schema_pb2.CollectionSchema(
        name=name,
        fields=[
            schema_pb2.FieldSchema(name="id", data_type=schema_pb2.Int64, is_primary_key=True),
            schema_pb2.FieldSchema(
                name="vector",
                data_type=schema_pb2.FloatVector,
                type_params=[common_pb2.KeyValuePair(key="dim", value="4")],
            ),
        ],
    )
    creation = milvus_pb2.CreateCollectionRequest(
        collection_name=name, schema=schema.SerializeToString()
    )
    assert stub.CreateCollection(creation, timeout=PATIENCE_S).code == 0
    yield
    drop = milvus_pb2.DropCollectionRequest(collection_name=name)
    assert stub.DropCollection(drop, timeout=PATIENCE_S).code == 0


def collections_of(connection: Connection) -> list[str]:
    """Ask with pymilvus' generated stub, which sends nothing along of its own."""
    stub = milvus_pb2_grpc.MilvusServiceStub(connection.channel)
    reply = stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(), timeout=PATIENCE_S)
    assert reply.status.code == 0, reply.status
    return list(reply.collection_names)


@pytest.mark.parametrize("where", ["field", "path"])
def test_a_missing_database_is_not_found_on_connect(milvus: RealMilvus, where: str) -> None:
    fields = {"DB_NAME": "nosuch"} if where == "field" else {"URI": f"{milvus.uri}/nosuch"}
    with registry(**prod(milvus, **fields)) as connections:
        error = connect_error(connections)
    assert type(error) is DatabaseMissingError
    assert error.exit_code is ExitCode.DATABASE_MISSING
    assert error.permanent
    named = "ZILLIZ_PROD_DB_NAME" if where == "field" else "ZILLIZ_PROD_URI"
    assert error.origin == f"{named} (environment)"


def test_a_missing_database_of_milvus_lite_is_not_found_on_connect(lite_uri: str) -> None:
    with registry(ZILLIZ_PROD_URI=lite_uri, ZILLIZ_PROD_DB_NAME="nosuch") as connections:
        error = connect_error(connections)
    assert type(error) is DatabaseMissingError


# --- several aliases -----------------------------------------------------------------------


def two(milvus: RealMilvus, milvus_b: RealMilvus) -> dict[str, str]:
    return prod(milvus) | {"ZILLIZ_B_URI": milvus_b.uri, "ZILLIZ_B_TOKEN": CREDENTIALS}


def test_two_aliases_on_two_servers(milvus: RealMilvus, milvus_b: RealMilvus) -> None:
    with registry(**two(milvus, milvus_b)) as connections:
        opened = connections.autoconnect()
        assert set(opened) == {"prod", "b"}
        with a_collection(opened["b"], "only_in_b"):
            assert "only_in_b" in collections_of(opened["b"])
            assert "only_in_b" not in collections_of(opened["prod"])
        connections.disconnect("b")
        assert opened["prod"].ping() > 0


def test_every_failure_is_told_and_the_good_ones_stay(
    milvus: RealMilvus, milvus_b: RealMilvus
) -> None:
    with faults.refused() as port:
        bad = {
            "ZILLIZ_WRONG_URI": milvus.uri,
            "ZILLIZ_WRONG_TOKEN": WRONG,
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
        }
        with registry(**two(milvus, milvus_b), **bad) as connections:
            with pytest.raises(AutoconnectError) as caught:
                connections.autoconnect()
            error = caught.value
            assert {alias: type(each) for alias, each in error.failures.items()} == {
                "wrong": RejectedCredentialsError,
                "down": RefusedError,
            }
            assert set(error.connected) == {"prod", "b"}
            assert error.exit_code is ExitCode.AUTHENTICATION
            assert all(alias in str(error) for alias in ("prod", "b", "wrong", "down"))
            assert WRONG not in str(error)
            assert connections["prod"].ping() > 0
            assert connections["b"].ping() > 0


def test_an_optional_alias_may_fail(milvus: RealMilvus) -> None:
    with faults.refused() as port:
        down = {"ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}", "ZILLIZ_DOWN_REQUIRED": "false"}
        with registry(**prod(milvus), **down) as connections:
            assert set(connections.autoconnect()) == {"prod"}
            assert connections.list_connections() == [("prod", connections["prod"]), ("down", None)]


# --- one connection ------------------------------------------------------------------------


def test_a_connection_knows_its_server(milvus: RealMilvus) -> None:
    with registry(**prod(milvus)) as connections:
        connection = connections["prod"]
        assert connection.server.version == milvus.version
        assert connection.server.deploy_mode == "STANDALONE"
        assert connection.server.identifier
        assert 0 < connection.round_trip_ms < PATIENCE_S * 1e3


def test_a_started_server_becomes_healthy(milvus: RealMilvus) -> None:
    with registry(**prod(milvus)) as connections:
        connection, paused = connections["prod"], threading.Event()
        # It answers some ten seconds before it calls itself healthy.
        for _ in range(1200):
            health = connection.health()
            if health.healthy:
                break
            assert health.reasons
            paused.wait(0.1)
        assert health.healthy
        assert health.reasons == ()


def test_milvus_lite_is_a_server_like_any_other(lite_uri: str) -> None:
    with registry(ZILLIZ_URI=lite_uri) as connections:
        connection = connections.default
        assert connection.server.version.startswith("milvus_lite-3")
        assert connection.server.identifier is None
        assert connection.ping() > 0
        assert connection.health().healthy
        assert connection.target.startswith("127.0.0.1:")
        assert collections_of(connection) == []


def test_milvus_lite_that_ended_is_not_taken_for_a_host(lite_uri: str) -> None:
    with registry(ZILLIZ_URI=lite_uri) as connections:
        connection = connections.default
        address = connection.target
        server_manager_instance.release_server(lite_uri)
        with pytest.raises(RefusedError) as caught:
            connection.ping()
        assert caught.value.detail.startswith(address)
        assert caught.value.hint == ""
        connections.disconnect("default")
        assert connections.default.ping() > 0


def test_milvus_lite_is_reached_though_a_proxy_is_configured(
    lite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.refused() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with registry(ZILLIZ_URI=lite_uri) as connections:
            assert connections.default.ping() > 0


def test_the_channel_carries_the_credentials_for_any_stub(milvus: RealMilvus) -> None:
    with registry(**prod(milvus)) as connections:
        names = collections_of(connections["prod"])
    assert isinstance(names, list)
    with grpc.insecure_channel(f"127.0.0.1:{milvus.port}") as bare:
        stub = milvus_pb2_grpc.MilvusServiceStub(bare)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


# --- pymilvus ------------------------------------------------------------------------------


def use(client: MilvusClient, name: str) -> None:
    """Create, fill and search a collection."""
    client.create_collection(name, dimension=4, consistency_level="Strong")
    rows = [{"id": n, "vector": [float(n == m) for m in range(4)]} for n in range(4)]
    assert client.insert(name, rows)["insert_count"] == 4
    ((nearest, *_),) = client.search(name, [[0.0, 0.9, 0.1, 0.0]], limit=2)
    assert nearest["id"] == 1
    client.drop_collection(name)


@contextmanager
def counted(server: RealMilvus) -> Iterator[tuple[str, list[int]]]:
    """Stand before a server, and count the TCP connections: its URI, and a number for each."""
    accepted: list[int] = []

    def carry(conn: Any) -> None:
        accepted.append(len(accepted))
        with socket.create_connection((faults.LOOPBACK, server.port)) as upstream:
            forward(conn, upstream)

    with closing(Listener(carry)) as listener:
        yield f"http://127.0.0.1:{listener.port}", accepted


def test_a_client_works_through_our_channel_and_no_other(milvus: RealMilvus) -> None:
    with counted(milvus) as (uri, accepted), registry(**prod(milvus, URI=uri)) as connections:
        connection = connections["prod"]
        client = client_of(connection)
        use(client, "through_our_channel")
        client.close()
        assert connection.ping() > 0
        client_of(connection, timeout=5).close()
        assert len(accepted) == 1
        connections.close()


def test_a_client_works_on_milvus_lite(lite_uri: str) -> None:
    with registry(ZILLIZ_URI=lite_uri) as connections:
        connection = connections.default
        client = client_of(connection)
        use(client, "on_milvus_lite")
        client.close()
        assert connection.ping() > 0


def test_a_client_works_through_our_channel_with_mutual_tls(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    pair = {"TLS_CERT": str(certificates.client.cert), "TLS_KEY": str(certificates.client.key)}
    with registry(**prod(milvus_mtls, TLS_CA=str(certificates.ca), **pair)) as connections:
        assert isinstance(client_of(connections["prod"]).list_collections(), list)


def test_a_client_is_in_the_alias_database(milvus: RealMilvus, sales: str) -> None:
    with registry(**prod(milvus, DB_NAME=sales)) as connections:
        connection = connections["prod"]
        with a_collection(connection, "in_sales"):
            assert client_of(connection).list_collections() == ["in_sales"]


def test_clients_of_two_users_of_one_server_are_told_apart(milvus: RealMilvus) -> None:
    with registry(**prod(milvus)) as connections, a_user(connections["prod"], "reader") as password:
        connections.connect("reader", uri=milvus.uri, user="reader", password=password)
        root, reader = (client_of(connections[alias]) for alias in ("prod", "reader"))
        assert "reader" in root.list_users()
        with pytest.raises(grpc.RpcError) as caught:
            reader.list_users()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@contextmanager
def a_user(connection: Connection, name: str) -> Iterator[str]:
    """Have a user without any privilege, with this password."""
    stub = milvus_pb2_grpc.MilvusServiceStub(connection.channel)
    password = "Reader-123"
    encoded = base64.b64encode(password.encode()).decode()
    creation = milvus_pb2.CreateCredentialRequest(username=name, password=encoded)
    assert stub.CreateCredential(creation, timeout=PATIENCE_S).code == 0
    yield password
    deletion = milvus_pb2.DeleteCredentialRequest(username=name)
    assert stub.DeleteCredential(deletion, timeout=PATIENCE_S).code == 0


def test_after_a_reconnect_a_new_client_works_and_the_old_one_says_why_not(
    milvus: RealMilvus,
) -> None:
    with registry(**prod(milvus)) as connections:
        old = client_of(connections["prod"])
        connections.disconnect("prod")
        with pytest.raises(MilvusException, match="this connection is closed"):
            old.list_collections()
        assert isinstance(client_of(connections["prod"]).list_collections(), list)


def test_a_client_of_a_closed_connection_is_a_closed_error(milvus: RealMilvus) -> None:
    with registry(**prod(milvus)) as connections:
        connection = connections["prod"]
        connections.disconnect("prod")
        with pytest.raises(ClosedError):
            client_of(connection)


def test_a_client_keeps_to_our_channel_when_its_server_was_away(
    milvus: RealMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    recoveries: list[Any] = []
    monkeypatch.setattr(GrpcHandler, "reconnect", lambda self, **_: recoveries.append(self))
    with (
        faults.breakable_proxy(milvus.port) as proxy,
        registry(**prod(milvus, URI=f"http://127.0.0.1:{proxy.port}")) as connections,
    ):
        client = client_of(connections["prod"])
        proxy.cut()
        with pytest.raises(MilvusException):
            client.list_collections(timeout=0.5)
        proxy.heal()
        patient_ping(connections["prod"])
        assert isinstance(client.list_collections(timeout=PATIENCE_S), list)
        assert recoveries == []
        connections.close()


def test_a_client_works_over_a_unix_socket(milvus: RealMilvus, tmp_path: Path) -> None:
    path = tmp_path / "milvus.sock"

    def carry(conn: socket.socket) -> None:
        with socket.create_connection((faults.LOOPBACK, milvus.port)) as upstream:
            forward(conn, upstream)

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        with (
            closing(Listener(carry, sock)),
            registry(**prod(milvus, URI=f"unix:{path}")) as connections,
        ):
            assert isinstance(collections_of(connections["prod"]), list)
            assert isinstance(client_of(connections["prod"]).list_collections(), list)
            connections.close()
