"""pymilvus on our channels, in whatever version is installed: its clients, and its ORM."""

from __future__ import annotations

import socket
import types
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

import zconfig
from tests.interop.conftest import SERVER, place_of
from tests.interop.embedding import ANSWER
from tests.interop.moving import both_answer
from tests.support.certificates import Certificates
from tests.support.faults import LOOPBACK, breakable_proxy
from tests.support.processes import run_python
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._connection import Connection
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.errors import AutoconnectError, ConfigurationError
from zconfig.interop._orm import REGISTRATIONS, find_registry
from zconfig.interop.connection_args import connection_args_of
from zconfig.interop.pymilvus import client_of, install

with import_without_side_effects():
    import pymilvus
    from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, db, utility
    from pymilvus.client import grpc_handler

# The ORM warns that it is going, in 3.0.
pytestmark = pytest.mark.filterwarnings("ignore:.*ORM-style:FutureWarning")

VERSION = tuple(int(part) for part in version("pymilvus").split(".")[:3])
# Milvus Lite 3 serves pymilvus' own messages, and needs a field that 2.6.0 does not have.
HAS_LITE = VERSION >= (2, 6, 1) and find_spec("milvus_lite") is not None
VECTORS = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
FIRST_PASSWORD, SECOND_PASSWORD = "password-1", "password-2"
CALL_S = 10
RECOVERY_S = 40  # up to 1.67, gRPC may take 16 s to dial a Milvus server again, also without us
# pymilvus raises one or the other, by method and version.
REFUSALS = (pymilvus.MilvusException, grpc.RpcError)


@pytest.fixture(params=["lite", SERVER] if HAS_LITE else [SERVER])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return the URI and the credentials of each kind of server that there is for this version."""
    return place_of(request)


@pytest.fixture
def prod(place: tuple[str, str]) -> Iterator[Connection]:
    """A connection to it."""
    uri, token = place
    with registry(ZILLIZ_PROD_URI=uri, ZILLIZ_PROD_TOKEN=token) as connections:
        yield connections["prod"]


def settings(server: RealMilvus, alias: str = "prod", token: str = CREDENTIALS) -> dict[str, str]:
    stem = f"ZILLIZ_{alias.upper()}"
    return {f"{stem}_URI": server.uri, f"{stem}_TOKEN": token}


@contextmanager
def in_the_registry(**connections: Connection) -> Iterator[None]:
    """Have connections in pymilvus' registry, and nothing afterwards."""
    REGISTRATIONS.register(find_registry(), connections)
    try:
        yield
    finally:
        for alias in connections:
            pymilvus.connections.remove_connection(alias)


@pytest.fixture
def root(milvus: RealMilvus) -> Iterator[str]:
    """Have an alias in pymilvus' registry that may do everything on the server."""
    with (
        registry(**settings(milvus, "root")) as connections,
        in_the_registry(**connections.autoconnect()),
    ):
        yield "root"


@pytest.fixture
def user(root: str) -> Iterator[str]:
    """Have a user on the server who may do nothing but look, with `FIRST_PASSWORD`."""
    name = new_name("u")
    utility.create_user(name, FIRST_PASSWORD, using=root)
    yield name
    utility.delete_user(name, using=root)


def new_name(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:12]}"


# --- the arguments that frameworks are given ---------------------------------------------------


def arguments_work(environ: dict[str, str]) -> bool:
    """Have pymilvus dial by itself with the arguments of an alias, as frameworks do."""
    with registry(**environ) as connections:
        client = pymilvus.MilvusClient(**connection_args_of(connections.spec("prod")))
        return bool(client.list_collections(timeout=CALL_S) is not None)


def test_the_arguments_connect_with_credentials(milvus: RealMilvus) -> None:
    assert arguments_work(settings(milvus))


def test_the_arguments_connect_with_an_authority(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    assert arguments_work(settings(milvus_tls) | {"ZILLIZ_PROD_TLS_CA": str(certificates.ca)})


def test_the_arguments_connect_with_a_client_certificate(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    files = {
        "ca": certificates.ca,
        "cert": certificates.client.cert,
        "key": certificates.client.key,
    }
    tls = {f"ZILLIZ_PROD_TLS_{name.upper()}": str(path) for name, path in files.items()}
    assert arguments_work(settings(milvus_mtls) | tls)


def test_the_arguments_lead_to_the_database(milvus: RealMilvus, root: str, name: str) -> None:
    database = new_name("d")
    db.create_database(database, using=root)
    environ = settings(milvus) | {"ZILLIZ_PROD_DB_NAME": database}
    with registry(**environ) as connections:
        args = connection_args_of(connections.spec("prod"))
        client_of(connections["prod"]).create_collection(name, dimension=4)
        assert pymilvus.MilvusClient(**args).list_collections() == [name]
        client_of(connections["prod"]).drop_collection(name)
    db.drop_database(database, using=root)


# --- a client ------------------------------------------------------------------------------


def test_a_client_creates_inserts_and_searches(prod: Connection, name: str) -> None:
    client = client_of(prod)
    client.create_collection(name, dimension=4, metric_type="COSINE", consistency_level="Strong")
    client.insert(name, [{"id": i, "vector": each} for i, each in enumerate(VECTORS)])
    hits = client.search(name, data=[[0.1, 0.9, 0.0, 0.0]], limit=2)
    assert [hit["id"] for hit in hits[0]] == [1, 0]
    client.drop_collection(name)
    assert name not in client.list_collections()


def test_a_client_dials_nothing_itself(prod: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_dialing(monkeypatch)
    client_of(prod).list_collections()


def forbid_dialing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("pymilvus dialed by itself")

    theirs = types.ModuleType("grpc")
    theirs.__dict__.update(vars(grpc), insecure_channel=refuse, secure_channel=refuse)
    monkeypatch.setattr(grpc_handler, "grpc", theirs)


def test_two_aliases_of_a_server_stay_two_users(milvus: RealMilvus, user: str, name: str) -> None:
    environ = settings(milvus) | settings(milvus, "look", f"{user}:{FIRST_PASSWORD}")
    with registry(**environ) as connections:
        look, prod = client_of(connections["look"]), client_of(connections["prod"])
        for _ in range(2):
            with pytest.raises(REFUSALS, match="permission deny"):
                look.create_collection(name, dimension=4, timeout=CALL_S)
            prod.create_collection(name, dimension=4, timeout=CALL_S)
            prod.drop_collection(name)


def test_an_alias_works_in_its_database(milvus: RealMilvus, root: str, name: str) -> None:
    database = new_name("d")
    db.create_database(database, using=root)
    environ = settings(milvus, "there") | {"ZILLIZ_THERE_DB_NAME": database}
    with registry(**environ) as connections, in_the_registry(**connections.autoconnect()):
        client = client_of(connections["there"])
        client.create_collection(name, dimension=4)
        assert client.list_collections() == [name]
        assert utility.list_collections(using="there") == [name]
        assert name not in utility.list_collections(using=root)
        client.drop_collection(name)
    db.drop_database(database, using=root)


# --- new credentials, and an outage -----------------------------------------------------------

CALLS = {
    "client": lambda connection: client_of(connection).list_collections,
    "orm": lambda _: lambda **options: utility.list_collections(using="prod", **options),
}
Calls = Callable[[Connection], Callable[..., list[str]]]
both = pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)


@both
def test_new_credentials_are_taken_up_without_a_failed_call(
    calls: Calls, milvus: RealMilvus, root: str, user: str
) -> None:
    environ = settings(milvus, "prod", f"{user}:{FIRST_PASSWORD}")
    nowhere = Path("no secrets")
    connections = Connections(lambda: load(environ, Path.cwd(), system_secrets=str(nowhere)))
    with closing(connections), in_the_registry(**connections.autoconnect()):
        call = calls(connections["prod"])
        call()
        environ |= settings(milvus, "prod", f"{user}:{SECOND_PASSWORD}")
        utility.update_password(user, FIRST_PASSWORD, SECOND_PASSWORD, using=root)
        call()


@pytest.mark.long  # an old gRPC takes up to 16 s to dial a server again
@both
def test_after_an_outage_the_same_client_works_on_the_same_channel(
    calls: Calls, milvus: RealMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with breakable_proxy(milvus.port) as path:
        uri = f"http://{LOOPBACK}:{path.port}"
        with (
            registry(**settings(milvus) | {"ZILLIZ_PROD_URI": uri}) as connections,
            in_the_registry(prod=connections["prod"]),
        ):
            call = calls(connections["prod"])
            forbid_dialing(monkeypatch)
            call()
            path.cut()
            with pytest.raises(REFUSALS):
                call(timeout=1)  # 2.4.0 heeds whole numbers only, and goes on for minutes
            path.heal()
            call(timeout=RECOVERY_S)


# --- the ORM -------------------------------------------------------------------------------


def test_a_collection_of_the_orm_inserts_and_searches(prod: Connection, name: str) -> None:
    with in_the_registry(prod=prod):
        fields = [
            FieldSchema("id", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=4),
        ]
        collection = Collection(
            name, CollectionSchema(fields), using="prod", consistency_level="Strong"
        )
        collection.insert([[0, 1, 2], VECTORS])
        index = {"index_type": "FLAT", "metric_type": "COSINE", "params": {}}
        collection.create_index("vector", index)
        collection.load()
        parameters = {"metric_type": "COSINE", "params": {}}
        hits = collection.search([[0.1, 0.9, 0.0, 0.0]], "vector", parameters, limit=2)
        assert list(hits[0].ids) == [1, 0]
        collection.drop()
        assert not utility.has_collection(name, using="prod")


def installed() -> dict[str, object]:
    """Return the handlers of our names in pymilvus' registry."""
    handlers = dict(pymilvus.connections.list_connections())
    return {name: handlers[name] for name in ("one", "One", "other") if handlers.get(name)}


@contextmanager
def two_aliases(server: RealMilvus) -> Iterator[None]:
    one = {"uri": server.uri, "token": CREDENTIALS}
    with zconfig.connections.override({"one": one, "other": one}):
        yield
    assert installed() == {}  # what was overridden is closed, and so is taken out


def test_install_registers_every_alias_and_leaves_alone_what_is_registered(
    milvus: RealMilvus,
) -> None:
    with two_aliases(milvus):
        opened = install()
        assert list(opened) == ["one", "other"]
        handlers = installed()
        assert install() == install("one", "other") == opened
        assert installed() == handlers
        utility.list_collections(using="one")
        utility.list_collections(using="other")


def test_what_is_closed_is_taken_out_and_what_opens_again_is_installed_again(
    milvus: RealMilvus,
) -> None:
    with two_aliases(milvus):
        opened = install()
        handlers = installed()
        ways: list[Callable[[], None]] = [
            lambda: zconfig.connections.disconnect("one"),
            lambda: zconfig.connections["one"].close(),  # noqa: PLW0108 - another one by then
            lambda: zconfig.connections.remove_connection("one"),
        ]
        for close in ways:
            close()
            with pytest.raises(pymilvus.exceptions.ConnectionNotExistException):
                utility.list_collections(using="one")
            utility.list_collections(using="other")
            assert "one" not in dict(pymilvus.connections.list_connections())
            if "one" in zconfig.connections:
                assert install("one")["one"] is not opened["one"]
                utility.list_collections(using="one")
        assert installed()["other"] is handlers["other"]


def test_an_alias_is_registered_by_the_spelling_that_it_is_installed_by(
    milvus: RealMilvus,
) -> None:
    with two_aliases(milvus):
        assert list(install("One")) == ["one"]
        assert utility.list_collections(using="One") == utility.list_collections(using="one")
        zconfig.connections.disconnect("one")
        assert not {"one", "One"} & {name for name, _ in pymilvus.connections.list_connections()}


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_an_ipv6_address_does_for_the_orm_and_for_a_client(milvus: RealMilvus) -> None:
    one = {"host": "::1", "port": milvus.port, "token": CREDENTIALS}
    with zconfig.connections.override({"one": one}):
        install()
        assert utility.list_collections(using="one") == zconfig.client("one").list_collections()


def test_an_alias_that_a_reload_opens_anew_stays_registered(milvus: RealMilvus) -> None:
    environ = settings(milvus)
    nowhere = str(Path("no secrets"))
    connections = Connections(lambda: load(environ, Path.cwd(), system_secrets=nowhere))
    with closing(connections), in_the_registry(**connections.autoconnect()):
        REGISTRATIONS.follow(find_registry(), connections)
        environ["ZILLIZ_PROD_KEEPALIVE"] = "60"
        assert connections.reload().changed == {"prod": ("keepalive_s",)}
        utility.list_collections(using="prod")


def test_install_takes_over_what_pymilvus_knew_by_that_name(
    milvus: RealMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: Callable[..., None] = grpc_handler.GrpcHandler._wait_for_channel_ready
    meanwhile: list[object] = []

    def wait(handler: object, **options: object) -> None:
        meanwhile.append(installed().get("one"))
        waits(handler, **options)

    user, _, password = CREDENTIALS.partition(":")
    pymilvus.connections.connect("one", uri=milvus.uri, user=user, password=password)
    theirs = installed()["one"]
    monkeypatch.setattr(grpc_handler.GrpcHandler, "_wait_for_channel_ready", wait)
    with zconfig.connections.override({"one": {"uri": milvus.uri, "token": CREDENTIALS}}):
        install()
        assert meanwhile == [theirs]  # a replacement has no moment without
        assert installed()["one"] is not theirs
        utility.list_collections(using="one")


def test_a_registration_that_fails_leaves_what_was_there(
    milvus: RealMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise pymilvus.MilvusException(message="it went away")

    pymilvus.connections.add_connection(one={"host": LOOPBACK, "port": 1})
    before = pymilvus.connections.list_connections()
    monkeypatch.setattr(grpc_handler.GrpcHandler, "_wait_for_channel_ready", fail)
    with (
        zconfig.connections.override({"one": {"uri": milvus.uri, "token": CREDENTIALS}}),
        pytest.raises(pymilvus.MilvusException, match="it went away"),
    ):
        install()
    assert pymilvus.connections.list_connections() == before
    pymilvus.connections.remove_connection("one")


def test_install_says_why_an_alias_cannot_be_connected() -> None:
    one = {"uri": f"http://{LOOPBACK}:1"}
    with (
        zconfig.connections.override({"one": one}),
        pytest.raises(AutoconnectError, match="connection refused"),
    ):
        install()
    assert not pymilvus.connections.has_connection("one")


def test_install_without_a_registry_names_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(pymilvus, "connections")
    with pytest.raises(ConfigurationError, match=r"use zconfig\.client\(alias\)"):
        install()


# --- an application ------------------------------------------------------------------------


@pytest.mark.long
def test_an_application_moves_over_by_configuration_and_one_import(
    place: tuple[str, str],
) -> None:
    before, after = both_answer("pymilvus", *place, new_name("c"))
    assert before == after
    assert ANSWER in after


# --- what an import does -------------------------------------------------------------------

PROGRAM = """
import io, logging, os
theirs = logging.StreamHandler(io.StringIO())
logging.getLogger().addHandler(theirs)
before = dict(os.environ)
import zconfig
from zconfig.interop.pymilvus import install
zconfig.client("prod").list_collections()
install("prod")
from pymilvus import utility
utility.list_collections(using="prod")
assert dict(os.environ) == before
assert logging.getLogger().handlers == [theirs]
logging.getLogger("pymilvus.x").error("heard")
assert "heard" in theirs.stream.getvalue()
"""


def test_another_milvus_uri_and_the_import_of_pymilvus_change_nothing(milvus: RealMilvus) -> None:
    environ = settings(milvus) | {"MILVUS_URI": f"http://{LOOPBACK}:1"}
    done = run_python(PROGRAM, environ=environ, warnings="ignore")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
