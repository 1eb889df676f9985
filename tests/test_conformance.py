"""`zconfig.connections` in place of `pymilvus.connections`: what is the same, and what is not.

Each row of the tables in `docs/migration.md` is a case here: one sequence of calls, made on both
registries against servers of their own. Where a table says `same`, the same comes of it; elsewhere
what comes of it is written down for both. A state machine then makes any sequence.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import grpc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import SecretStr

from tests.support.faults import refused
from tests.support.processes import REPOSITORY
from tests.support.registries import registry
from zconfig import errors
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._registry import Connections
from zconfig.errors import ConfigurationError, ConnectError, MissingExtraError, ZConfigError
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates, KeyPair

    Drive = Callable[[Any, "World"], object]

with import_without_side_effects():
    from milvus_lite.server_manager import server_manager_instance as lite
    from pymilvus.client.grpc_handler import GrpcHandler
    from pymilvus.exceptions import ConnectionConfigException, MilvusException, ParamError
    from pymilvus.orm.connections import Connections as PymilvusConnections
    from pymilvus.settings import Config

# Each call of pymilvus' registry says that it will be removed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is an ORM-style PyMilvus API")

PAGE = REPOSITORY / "docs" / "migration.md"
SECRET = "c0rrect-h0rse"

# The rows that a sequence of calls can come upon: there the machine brings both into step again.
CRASHES = "no address, an alias that was connected"
FORGETS = "a failed connect, an alias that was added"


# --- both registries, each in a world of its own --------------------------------------------


class World:
    """Servers and files that a sequence of calls may name, made when they are asked for."""

    def __init__(self, certificates: Certificates, stack: ExitStack) -> None:
        self.certificates = certificates
        self.servers: dict[str, FakeServer] = {}
        self._stack = stack

    def __getitem__(self, name: str) -> Any:
        """Return what a placeholder such as `{server.uri}` stands for."""
        pairs = {"tls": "server", "mtls": "server", "renamed": "other_host"}
        if name in {"ca", "client"}:
            return getattr(self.certificates, name)
        if name not in self.servers:
            pair = getattr(self.certificates, pairs[name]) if name in pairs else None
            credentials = pair and self._credentials(pair, demanding=name == "mtls")
            server = self._stack.enter_context(fake_server(credentials=credentials))
            server.databases = ("default", "sales")
            self.servers[name] = server
        return self.servers[name]

    def _credentials(self, pair: KeyPair, *, demanding: bool) -> grpc.ServerCredentials:
        ca = self.certificates.ca.read_bytes() if demanding else None
        files = [(pair.key.read_bytes(), pair.cert.read_bytes())]
        return grpc.ssl_server_credentials(files, ca, require_client_auth=demanding)

    def fill(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return arguments with their placeholders filled in."""
        return {k: v.format_map(self) if isinstance(v, str) else v for k, v in given.items()}

    def shown(self, address: str) -> str:
        """Return an address with a server's name instead of its host and port."""
        host, _, port = address.rpartition(":")
        local = {s.port: name for name, s in self.servers.items() if host in LOCAL}
        return local.get(int(port), address) if port.isdigit() else address

    def sent(self) -> tuple[str, ...]:
        """Return the credentials of every connect that arrived anywhere."""
        calls = [call for server in self.servers.values() for call in server.calls("Connect")]
        return tuple(call.token.reveal() if call.token else "" for call in calls)


LOCAL = {"127.0.0.1", "localhost"}


@contextmanager
def theirs(**environ: str) -> Iterator[Any]:
    """Return a registry of pymilvus beside its singleton."""
    read: dict[str, Any] = {"MILVUS_URI": "", **environ}  # the environment, when it was imported
    with (
        mock.patch.multiple(Config, **read),
        # A callback of `keep_alive` would outlive its channel, and fail in its thread.
        mock.patch.object(GrpcHandler, "register_state_change_callback"),
    ):
        connections = object.__new__(PymilvusConnections)
        connections.__init__()  # its metaclass would return the singleton
        try:
            yield connections
        finally:
            for alias, _ in connections.list_connections():
                connections.remove_connection(alias)


BOTH = {"theirs": theirs, "ours": registry}


class Seen(NamedTuple):
    """Where an alias leads, and what arrived there."""

    address: str = "server"
    user: str = ""
    db_name: str | None = "default"
    secure: bool = False
    sent: tuple[str, ...] = ()


def seen(connections: Any, world: World, alias: str = "x") -> Seen:
    found = connections.get_connection_addr(alias)
    return Seen(
        world.shown(found["address"]),
        found["user"],
        found.get("db_name", "default"),
        found.get("secure", False),
        world.sent(),
    )


def situation(error: Exception) -> str:
    """Return what an error means for its caller."""
    if isinstance(error, (ConnectionConfigException, ParamError, ConfigurationError)):
        return "refused"
    return "failed" if isinstance(error, (MilvusException, ConnectError)) else "crashed"


def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return what became of a call."""
    try:
        call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - pymilvus may raise anything
        return situation(error)
    return "done"


def listed(connections: Any) -> dict[str, bool]:
    """Return the aliases, in order, and which of them are connected."""
    return {alias: each is not None for alias, each in connections.list_connections()}


# --- the cases -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A row of a table.

    Args:
        method: The heading above it.
        subject: Its first cell.
        verdict: Its second cell.
        drive: What is called.
        theirs: What comes of it in pymilvus.
        ours: What comes of it here, if it is not the same.
        environ: What stands in the environment.
    """

    method: str
    subject: str
    verdict: str
    drive: Drive
    theirs: object
    ours: object
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def row(self) -> tuple[str, str, str]:
        return self.method, self.subject, self.verdict


CASES: list[Case] = []


def same(method: str, subject: str, drive: Drive, outcome: object) -> None:
    CASES.append(Case(method, subject, "same", drive, outcome, outcome))


def better(
    method: str, subject: str, drive: Drive, theirs: object, ours: object, **environ: str
) -> None:
    CASES.append(Case(method, subject, "better", drive, theirs, ours, environ))


def different(
    method: str, subject: str, drive: Drive, theirs: object, ours: object, **environ: str
) -> None:
    CASES.append(Case(method, subject, "different", drive, theirs, ours, environ))


def adding(**given: Any) -> Drive:
    """Add the alias `x`, and tell where it leads."""

    def drive(connections: Any, world: World) -> Seen:
        connections.add_connection(x=world.fill(given))
        return seen(connections, world)

    return drive


def connecting(**given: Any) -> Drive:
    """Connect the alias `x`, and tell where it leads and what arrived there."""

    def drive(connections: Any, world: World) -> Seen:
        connections.connect("x", **world.fill(given))
        return seen(connections, world)

    return drive


def added_and_connected(added: dict[str, Any], **given: Any) -> Drive:
    def drive(connections: Any, world: World) -> Seen:
        connections.add_connection(x=world.fill(added))
        connections.connect("x", **world.fill(given))
        return seen(connections, world)

    return drive


def connected_twice(second: dict[str, Any], **first: Any) -> Drive:
    def drive(connections: Any, world: World) -> tuple[str, bool, int]:
        connections.connect("x", **world.fill(first))
        again = attempt(connections.connect, "x", **world.fill(second))
        return again, connections.has_connection("x"), len(world.sent())

    return drive


def one(method: str, alias: Any) -> Drive:
    return lambda connections, _: getattr(connections, method)(alias)


def after_each(method: str) -> Drive:
    """Call a method of one alias, unknown, configured, connected, and again."""

    def drive(connections: Any, world: World) -> list[object]:
        call, uri = getattr(connections, method), world["server"].uri
        done: list[object] = [call("x"), listed(connections)]
        connections.add_connection(x={"uri": uri})
        done += [call("x"), listed(connections)]
        connections.connect("x", uri=uri)
        done += [call("x"), listed(connections)]
        return [*done, call("x"), listed(connections)]

    return drive


# Every method.


def in_another_spelling(connections: Any, world: World) -> object:
    connections.connect("Prod", uri=world["server"].uri)
    return connections.has_connection("prod"), list(listed(connections))


def of_other_letters(connections: Any, world: World) -> object:
    aliases = ("", "two words", "a/b", "token")
    return [attempt(connections.connect, alias, uri=world["server"].uri) for alias in aliases]


def not_a_string(connections: Any, world: World) -> object:
    names = ("disconnect", "remove_connection", "get_connection_addr", "has_connection")
    outcomes = [attempt(getattr(connections, name), 5) for name in names]
    return [*outcomes, attempt(connections.connect, 5, uri=world["server"].uri)]


def warned(connections: Any, world: World) -> object:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        connections.connect("x", uri=world["server"].uri)
        connections.disconnect("x")
    return len(caught)


def classes_of_errors(connections: Any, _: World) -> object:
    calls: list[Callable[[], object]] = [
        lambda: connections.disconnect(5),
        lambda: connections.add_connection(x={"port": "x"}),
        lambda: connections.connect("x", uri="http://127.0.0.1:1", timeout=0.3),
    ]
    found = []
    for call in calls:
        with pytest.raises((MilvusException, ZConfigError)) as caught:
            call()
        package = type(caught.value).__module__.partition(".")[0]
        base = {"pymilvus": MilvusException, "zconfig": ZConfigError}[package]
        found.append((package, isinstance(caught.value, base)))
    return found


same("All methods", "an alias that is not a string", not_a_string, ["refused"] * 5)
different(
    "All methods",
    "an alias in another spelling",
    in_another_spelling,
    theirs=(False, ["Prod"]),
    ours=(True, ["prod"]),
)
different(
    "All methods",
    "an alias with other characters, or with the name of a field",
    of_other_letters,
    theirs=["done"] * 4,
    ours=["refused"] * 4,
)
different(
    "All methods",
    "the class of an error",
    classes_of_errors,
    theirs=[("pymilvus", True)] * 3,
    ours=[("zconfig", True)] * 3,
)
better("All methods", "warnings", warned, theirs=2, ours=0)

# add_connection

ADD = "add_connection"


def adding_several(connections: Any, world: World) -> object:
    connections.add_connection(b={"uri": "http://h:1"}, a={"uri": "http://h:2"})
    connections.add_connection(c={"uri": "http://h:3"}, b={"uri": "http://h:4"})
    return listed(connections), world.sent()


def adding_one_wrong(connections: Any, _: World) -> object:
    outcome = attempt(connections.add_connection, a={"uri": "http://h:1"}, b={"port": "x"})
    return outcome, listed(connections)


def adding_a_live_one(connections: Any, world: World) -> object:
    connections.connect("x", uri=world["server"].uri)
    places = ({"uri": world["server"].uri}, {"uri": world["other"].uri})
    outcomes = [attempt(connections.add_connection, x=place) for place in places]
    return outcomes, listed(connections)


same(ADD, "`alias={...}`, for several aliases", adding_several, (dict.fromkeys("bac", False), ()))
better(
    ADD,
    "several aliases, one of them invalid",
    adding_one_wrong,
    theirs=("refused", {"a": False}),
    ours=("refused", {}),
)
same(ADD, "an alias that is connected", adding_a_live_one, (["done", "refused"], {"x": True}))
same(ADD, "no argument", lambda c, _: (c.add_connection(), listed(c)), (None, {}))
better(
    ADD,
    "a value that is not a mapping",
    lambda c, _: attempt(c.add_connection, x="http://h:1"),
    theirs="crashed",
    ours="refused",
)
different(
    ADD,
    "`{}`",
    adding(),
    theirs=Seen("localhost:19530"),
    ours="refused",
)
same(ADD, "`uri`", adding(uri="http://h:1"), Seen("h:1"))
same(ADD, "`address`", adding(address="h:1"), Seen("h:1"))
same(ADD, "`host`, `port`", adding(host="h", port="1"), Seen("h:1"))
same(ADD, "`host` alone", adding(host="h"), Seen("h:19530"))
same(ADD, "`port` alone", adding(port=1), Seen("localhost:1"))
better(
    ADD,
    "`uri` of Milvus Lite",
    lambda c, w: "x.db" in adding(uri="./x.db")(c, w).address,  # type: ignore[attr-defined]
    theirs="refused",
    ours=True,
)
better(
    ADD,
    "`token`",
    added_and_connected({"uri": "{server.uri}", "token": SECRET}),
    theirs=Seen(sent=("",)),
    ours=Seen(sent=(SECRET,)),
)
better(
    ADD,
    "`user`, `password`",
    added_and_connected({"uri": "{server.uri}", "user": "root", "password": SECRET}),
    theirs=Seen(sent=("",)),
    ours=Seen(user="root", sent=(f"root:{SECRET}",)),
)
better(
    ADD,
    "credentials in the `uri`",
    added_and_connected({"uri": f"http://root:{SECRET}@127.0.0.1:{{server.port}}"}),
    theirs=Seen(sent=("",)),
    ours=Seen(user="root", sent=(f"root:{SECRET}",)),
)
better(
    ADD,
    "`db_name`",
    added_and_connected({"uri": "{server.uri}", "db_name": "sales"}),
    theirs=Seen(sent=("",)),
    ours=Seen(db_name="sales", sent=("",)),
)
better(
    ADD,
    "`secure`",
    adding(host="h", secure=True),
    theirs=Seen("h:19530"),
    ours=Seen("h:19530", secure=True),
)
better(
    ADD,
    "`server_pem_path` and the other TLS parameters",
    added_and_connected({"uri": "https://127.0.0.1:{tls.port}", "server_pem_path": "{ca}"}),
    theirs="failed",
    ours=Seen("tls", secure=True, sent=("",)),
)
better(
    ADD,
    "`timeout`, `keep_alive`",
    adding(uri="http://h:1", timeout="soon"),
    theirs=Seen("h:1"),
    ours="refused",
)

# connect: where to

CONNECT = "connect"


def by_default(connections: Any, world: World) -> object:
    connections.connect(uri=world["server"].uri)
    return connections.has_connection("default")


def another_default(connections: Any, world: World) -> object:
    return list(listed(connections))


def named_by_position(connections: Any, world: World) -> object:
    connections.connect("x", "root", SECRET, "sales", uri=world["server"].uri)
    return seen(connections, world)


same(CONNECT, "`alias`", by_default, outcome=True)
different(
    CONNECT,
    "`alias`, from `MILVUS_CONN_ALIAS`",
    another_default,
    theirs=["main"],
    ours=[],
    MILVUS_CONN_ALIAS="main",
)
same(
    CONNECT,
    "parameters by position",
    named_by_position,
    Seen(user="root", db_name="sales", sent=(f"root:{SECRET}",)),
)
better(
    CONNECT,
    "return value",
    lambda c, w: type(c.connect("x", uri=w["server"].uri)).__name__,
    theirs="NoneType",
    ours="Connection",
)
same(CONNECT, "`uri`", connecting(uri="{server.uri}"), Seen(sent=("",)))
same(CONNECT, "`uri` with `tcp://` or `grpc://`", adding(uri="tcp://h:1"), Seen("h:1"))
same(CONNECT, "`uri` without a port", adding(uri="https://h"), Seen("h:443", secure=True))
same(CONNECT, "`uri` without a scheme", connecting(uri="127.0.0.1:{server.port}"), "refused")
different(CONNECT, "`uri` with another scheme", adding(uri="ftp://h:1"), Seen("h:1"), "refused")
better(
    CONNECT,
    "`uri` of an IPv6 address",
    adding(uri="http://[::1]:1"),
    theirs="refused",
    ours=Seen("[::1]:1"),
)


def connecting_lite(connections: Any, _: World) -> object:
    connections.connect("x", uri="./x.db")
    return connections.has_connection("x")


same(CONNECT, "`uri` of Milvus Lite", connecting_lite, outcome=True)
same(
    CONNECT,
    "credentials in the `uri`",
    connecting(uri="http://root:pw@127.0.0.1:{server.port}"),
    Seen(user="root", sent=("root:pw",)),
)
better(
    CONNECT,
    "credentials in the `uri`, percent-encoded",
    connecting(uri="http://root:p%40w@127.0.0.1:{server.port}"),
    theirs=Seen(user="root", sent=("root:p%40w",)),
    ours=Seen(user="root", sent=("root:p@w",)),
)


def shown_in_an_error(connections: Any, _: World) -> object:
    with pytest.raises(Exception, match="uri") as caught:
        connections.connect("x", uri=f"http:root:{SECRET}@h:1")
    return SECRET in str(caught.value)


better(CONNECT, "credentials in an error", shown_in_an_error, theirs=True, ours=False)
same(
    CONNECT,
    "a database in the `uri`",
    connecting(uri="{server.uri}/sales", db_name=""),
    Seen(db_name="sales", sent=("",)),
)
better(
    CONNECT,
    "a database in the `uri`, `db_name` left out",
    connecting(uri="{server.uri}/sales"),
    theirs=Seen(sent=("",)),
    ours=Seen(db_name="sales", sent=("",)),
)
different(
    CONNECT,
    "a database in the `uri`, and another `db_name`",
    connecting(uri="{server.uri}/sales", db_name="other"),
    theirs=Seen(db_name="other", sent=("",)),
    ours="refused",
)
different(
    CONNECT,
    "more than one segment in the path of the `uri`",
    connecting(uri="{server.uri}/sales/books", db_name=""),
    theirs=Seen(db_name="sales", sent=("",)),
    ours="refused",
)
different(
    CONNECT,
    "a `uri` that ends in `///`",
    connecting(uri="{server.uri}///", db_name=""),
    theirs=Seen(sent=("",)),
    ours="refused",
)
same(
    CONNECT,
    "`address`",
    connecting(address="127.0.0.1:{server.port}"),
    Seen(sent=("",)),
)
better(
    CONNECT, "`address` without a port", adding(address="h"), theirs="refused", ours=Seen("h:19530")
)
same(
    CONNECT,
    "`host`, `port`",
    connecting(host="127.0.0.1", port="{server.port}"),
    Seen(sent=("",)),
)
better(
    CONNECT,
    "`host` of an IPv6 address",
    adding(host="::1", port=1),
    theirs="refused",
    ours=Seen("[::1]:1"),
)
same(CONNECT, "`host`, a URL", connecting(host="https://h", port=443), "refused")
same(
    CONNECT,
    "`host=None` with a `port`",
    connecting(host=None, port="{server.port}"),
    "refused",
)
same(CONNECT, "`port` that is not a number", connecting(host="127.0.0.1", port="x"), "refused")
better(CONNECT, "`port` 65535", adding(port=65535), theirs="refused", ours=Seen("localhost:65535"))
different(CONNECT, "`port` 0", adding(port=0), theirs=Seen("localhost:0"), ours="refused")
same(
    CONNECT,
    "several of `address`, `uri`, and `host` with `port`",
    lambda c, w: [
        adding(address="h:1", uri="http://k:2", host="l")(c, w),
        adding(uri="http://k:2", host="l")(c, w),
    ],
    [Seen("h:1"), Seen("k:2")],
)
better(
    CONNECT,
    "`None` for some of these",
    connecting(uri=None, host="127.0.0.1", port="{server.port}"),
    theirs="refused",
    ours=Seen(sent=("",)),
)

# connect: who, and which database

same(
    CONNECT,
    "`user`, `password`",
    connecting(uri="{server.uri}", user="root", password=SECRET),
    Seen(user="root", sent=(f"root:{SECRET}",)),
)
same(
    CONNECT,
    "`password`, a number",
    connecting(uri="{server.uri}", user="root", password=1234),
    Seen(user="root", sent=("root:1234",)),
)
different(
    CONNECT,
    "`user` without `password`, or the reverse",
    lambda c, w: [
        attempt(connecting(uri="{server.uri}", user="root"), c, w),
        attempt(connecting(uri="{server.uri}", password=SECRET), c, w),
        w.sent(),
    ],
    theirs=["done", "done", ("", "")],
    ours=["refused", "refused", ()],
)
same(CONNECT, "`token`", connecting(uri="{server.uri}", token=SECRET), outcome=Seen(sent=(SECRET,)))
better(
    CONNECT,
    "`token`, of a user and a password",
    connecting(uri="{server.uri}", token=f"root:{SECRET}"),
    theirs=Seen(sent=(f"root:{SECRET}",)),
    ours=Seen(user="root", sent=(f"root:{SECRET}",)),
)
better(
    CONNECT,
    "`token`, a `SecretStr` of pydantic",
    connecting(uri="{server.uri}", token=SecretStr(SECRET)),
    theirs=Seen(sent=("**********",)),
    ours=Seen(sent=(SECRET,)),
)
different(
    CONNECT,
    "`token` with `user` and `password`",
    connecting(uri="{server.uri}", token="key", user="root", password=SECRET),
    theirs=Seen(user="root", sent=("key",)),
    ours="refused",
)
different(
    CONNECT,
    "credentials, and others in the `uri`",
    connecting(uri="http://root:pw@127.0.0.1:{server.port}", user="admin", password=SECRET),
    theirs=Seen(user="root", sent=("root:pw",)),
    ours="refused",
)
same(
    CONNECT,
    "`None` for credentials",
    connecting(uri="{server.uri}", user=None, password=None, token=None),
    Seen(sent=("",)),
)
same(
    CONNECT,
    "`db_name`",
    connecting(uri="{server.uri}", db_name="sales"),
    Seen(db_name="sales", sent=("",)),
)
better(
    CONNECT,
    "`db_name` of a missing database",
    connecting(uri="{server.uri}", db_name="other"),
    theirs=Seen(db_name="other", sent=("",)),
    ours="failed",
)

# connect, with TLS

ONE_WAY = {"uri": "https://127.0.0.1:{tls.port}"}
MUTUAL = {"uri": "https://127.0.0.1:{mtls.port}"}
PAIR = {"client_pem_path": "{client.cert}", "client_key_path": "{client.key}"}
ON_TLS, ON_MTLS = Seen("tls", secure=True, sent=("",)), Seen("mtls", secure=True, sent=("",))


def without_tls(connections: Any, world: World) -> object:
    files = ("server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path")
    given = [*({name: "/nowhere"} for name in files), {"server_name": "h"}]
    return [attempt(connecting(uri="{server.uri}", **each), connections, world) for each in given]


def secure_without_saying_so(connections: Any, world: World) -> object:
    connections.add_connection(x={"uri": "http://h", "secure": True})
    without_a_port = connections.get_connection_addr("x")["address"]
    given = {"uri": "http://127.0.0.1:{tls.port}", "server_pem_path": "{ca}"}
    return without_a_port, connecting(**given, secure=True)(connections, world)


same(
    CONNECT,
    "`secure`",
    connecting(host="127.0.0.1", port="{tls.port}", secure=True, server_pem_path="{ca}"),
    ON_TLS,
)
same(
    CONNECT,
    "`secure` with an `http://` URI",
    secure_without_saying_so,
    ("h:19530", ON_TLS),
)
same(
    CONNECT,
    "`secure=False` with an `https://` URI",
    connecting(**ONE_WAY, secure=False, server_pem_path="{ca}"),
    ON_TLS,
)
different(
    CONNECT,
    "`secure` with the path of a socket",
    adding(uri="unix:/run/milvus.sock", secure=True),
    theirs=Seen("unix:/run/milvus.sock"),
    ours="refused",
)
same(
    CONNECT, "`secure` that is not a `bool`", connecting(uri="{server.uri}", secure="no"), "refused"
)
same(CONNECT, "`server_pem_path`", connecting(**ONE_WAY, server_pem_path="{ca}"), ON_TLS)
better(CONNECT, "`ca_pem_path` alone", connecting(**ONE_WAY, ca_pem_path="{ca}"), "failed", ON_TLS)
different(
    CONNECT,
    "`server_pem_path` with another `ca_pem_path`",
    connecting(**ONE_WAY, server_pem_path="{ca}", ca_pem_path="/nowhere"),
    theirs=ON_TLS,
    ours="refused",
)
same(
    CONNECT,
    "`client_pem_path`, `client_key_path`",
    connecting(**MUTUAL, **PAIR, ca_pem_path="{ca}"),
    ON_MTLS,
)
better(
    CONNECT,
    "`client_pem_path`, `client_key_path` with `server_pem_path`",
    connecting(**MUTUAL, **PAIR, server_pem_path="{ca}"),
    theirs="failed",
    ours=ON_MTLS,
)
different(
    CONNECT,
    "`client_pem_path` without `client_key_path`",
    connecting(**ONE_WAY, server_pem_path="{ca}", client_pem_path="{client.cert}"),
    theirs=ON_TLS,
    ours="refused",
)
same(
    CONNECT,
    "`server_name`",
    connecting(
        uri="https://127.0.0.1:{renamed.port}", server_pem_path="{ca}", server_name="other.test"
    ),
    Seen("renamed", secure=True, sent=("",)),
)
different(
    CONNECT, "TLS parameters without TLS", without_tls, theirs=["done"] * 5, ours=["refused"] * 5
)
better(
    CONNECT,
    "a missing file",
    connecting(**ONE_WAY, server_pem_path="/nowhere/ca.pem"),
    theirs="crashed",
    ours="failed",
)

# connect: what else it takes


def unanswered(connections: Any, world: World) -> object:
    world["server"].hold()
    return attempt(connections.connect, "x", uri=world["server"].uri, timeout=0.3)


async def asynchronously(connections: Any, world: World) -> object:
    connections.connect("x", uri=world["server"].uri, _async=True)
    await connections.async_disconnect("x")
    await connections.async_remove_connection("x")
    return listed(connections)


same(CONNECT, "`timeout`", unanswered, "failed")
same(CONNECT, "`timeout=None`", connecting(uri="{server.uri}", timeout=None), Seen(sent=("",)))
better(
    CONNECT,
    "`timeout`, a text",
    lambda c, w: [
        attempt(connecting(uri="{server.uri}", timeout=each), c, w) for each in ("3", "soon")
    ],
    theirs=["done", "done"],
    ours=["done", "refused"],
)
same(CONNECT, "`keep_alive`", connecting(uri="{server.uri}", keep_alive=True), Seen(sent=("",)))
different(
    CONNECT,
    "`keep_alive`, a number below 10",
    connecting(uri="{server.uri}", keep_alive=1),
    theirs=Seen(sent=("",)),
    ours="refused",
)
same(
    CONNECT,
    "`_async=False`, `_unbind_with_db=False`",
    connecting(uri="{server.uri}", _async=False, _unbind_with_db=False),
    Seen(sent=("",)),
)
different(
    CONNECT,
    "`_async=True`",
    lambda c, w: asyncio.run(asynchronously(c, w)),
    theirs={},
    ours="refused",
)
different(
    CONNECT,
    "`_unbind_with_db=True`",
    connecting(uri="{server.uri}", _unbind_with_db=True),
    theirs=Seen(sent=("",)),
    ours="refused",
)
different(
    CONNECT,
    "`grpc_options`, `option`",
    connecting(uri="{server.uri}", grpc_options={"grpc.enable_retries": 0}, option={"a": "b"}),
    theirs=Seen(sent=("",)),
    ours="refused",
)
different(
    CONNECT,
    "an unknown parameter",
    connecting(uri="{server.uri}", tokne=SECRET),
    theirs=Seen(sent=("",)),
    ours="refused",
)

# connect: without a place


same(
    CONNECT,
    "no address, an alias that was added",
    added_and_connected({"uri": "{server.uri}"}, user="root", password=SECRET),
    Seen(user="root", sent=(f"root:{SECRET}",)),
)
better(
    CONNECT,
    "no address, `token`",
    added_and_connected({"uri": "{server.uri}"}, token=SECRET),
    theirs=Seen(sent=("",)),
    ours=Seen(sent=(SECRET,)),
)

same(
    CONNECT,
    "no address, `secure`",
    added_and_connected(
        {"host": "127.0.0.1", "port": "{tls.port}"}, secure=True, server_pem_path="{ca}"
    ),
    ON_TLS,
)
better(
    CONNECT,
    "no address, `secure=False` and an alias with TLS",
    added_and_connected({"uri": "https://127.0.0.1:{tls.port}"}, secure=False),
    theirs="crashed",
    ours="refused",
)


def after_a_disconnect(connections: Any, world: World) -> object:
    connections.connect("x", uri=world["server"].uri)
    connections.disconnect("x")
    return attempt(connections.connect, "x")


better(
    CONNECT,
    CRASHES,
    after_a_disconnect,
    theirs="crashed",
    ours="done",
)
same(CONNECT, "no address, an unknown alias", one("connect", "x"), "refused")


def redirected(connections: Any, world: World) -> object:
    connections.add_connection(x={"uri": world["server"].uri})
    connections.connect("x", token=SECRET)
    return seen(connections, world)


better(
    CONNECT,
    "no address, `MILVUS_URI` is set",
    redirected,
    theirs=Seen("other", sent=("",)),
    ours=Seen("server", sent=(SECRET,)),
    MILVUS_URI="{other.uri}",
)

# connect: an alias that is connected, and a connect that fails

better(
    CONNECT,
    "an alias that is connected, same parameters",
    connected_twice({"uri": "{server.uri}"}, uri="{server.uri}"),
    theirs=("done", True, 2),
    ours=("done", True, 1),
)
same(
    CONNECT,
    "an alias that is connected, another address",
    connected_twice({"uri": "{other.uri}"}, uri="{server.uri}"),
    ("refused", True, 1),
)
different(
    CONNECT,
    "an alias that is connected, other parameters",
    connected_twice({"uri": "{server.uri}", "token": SECRET}, uri="{server.uri}"),
    theirs=("done", True, 2),
    ours=("refused", True, 1),
)


def failing(connections: Any, world: World) -> object:
    world["server"].accept(SECRET)
    return attempt(connections.connect, "x", uri=world["server"].uri), listed(connections)


def failing_after_add(connections: Any, world: World) -> object:
    connections.add_connection(x={"uri": world["server"].uri})
    return failing(connections, world)


same(CONNECT, "a failed connect", failing, ("failed", {}))
better(
    CONNECT,
    FORGETS,
    failing_after_add,
    theirs=("failed", {}),
    ours=("failed", {"x": False}),
)

# disconnect, remove_connection, and their asynchronous forms

IDLE, LIVE = {"x": False}, {"x": True}

same(
    "disconnect",
    "`alias`",
    after_each("disconnect"),
    [None, {}, None, IDLE, None, IDLE, None, IDLE],
)
same(
    "remove_connection",
    "`alias`",
    after_each("remove_connection"),
    [None, {}, None, {}, None, {}, None, {}],
)
different(
    "async_disconnect, async_remove_connection",
    "`alias`",
    lambda c, _: [hasattr(c, "async_disconnect"), hasattr(c, "async_remove_connection")],
    theirs=[True, True],
    ours=[False, False],
)

# list_connections


def listing(connections: Any, world: World) -> object:
    connections.add_connection(b={"uri": "http://h:1"})
    connections.connect("a", uri=world["server"].uri)
    connections.add_connection(c={"uri": "http://h:1"}, b={"uri": "http://h:2"})
    found = connections.list_connections()
    return type(found), type(found[0]), list(listed(connections).items())


same(
    "list_connections",
    "return value",
    listing,
    (list, tuple, [("b", False), ("a", True), ("c", False)]),
)
different(
    "list_connections",
    "before any call",
    lambda c, _: listed(c),
    theirs={"default": False},
    ours={},
    MILVUS_CONN_ALIAS="default",
)

# get_connection_addr

ADDRESS = "get_connection_addr"


def keys_of(connections: Any, world: World) -> object:
    connections.connect("x", uri=world["server"].uri, timeout=20)
    return sorted(connections.get_connection_addr("x"))


def changing_it(connections: Any, _: World) -> object:
    connections.add_connection(x={"uri": "http://h:1"})
    connections.get_connection_addr("x")["address"] = "h:2"
    return connections.get_connection_addr("x")["address"]


def address_of_lite(connections: Any, _: World) -> object:
    connections.connect("x", uri="./x.db")
    return connections.get_connection_addr("x")["address"].endswith("x.db")


same(
    ADDRESS,
    "`address`, `user`",
    connecting(uri="http://root:pw@127.0.0.1:{server.port}"),
    Seen(user="root", sent=("root:pw",)),
)
different(
    ADDRESS,
    "keys",
    keys_of,
    theirs=["address", "db_name", "timeout", "user"],
    ours=["address", "db_name", "secure", "uri", "user"],
)
different(ADDRESS, "`address` of Milvus Lite", address_of_lite, theirs=False, ours=True)
same(ADDRESS, "an unknown alias", one(ADDRESS, "x"), {})
better(ADDRESS, "a change of the returned mapping", changing_it, theirs="h:2", ours="h:1")

# has_connection

same(
    "has_connection",
    "`alias`",
    after_each("has_connection"),
    [False, {}, False, IDLE, True, LIVE, True, LIVE],
)


# --- each row ------------------------------------------------------------------------------


def outcome(case: Case, whose: str, certificates: Certificates) -> object:
    """Return what comes of a case in one of the registries."""
    with ExitStack() as stack:
        world = World(certificates, stack)
        connections = stack.enter_context(BOTH[whose](**world.fill(case.environ)))
        if not case.environ:
            connections.remove_connection("default")  # pymilvus has one from the start
        try:
            return case.drive(connections, world)
        except Exception as error:  # noqa: BLE001 - as in `attempt`
            return situation(error)
        finally:
            lite.release_all()


@pytest.mark.parametrize("whose", list(BOTH))
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}: {case.subject}")
def test_a_row_says_what_is_so(case: Case, whose: str, certificates: Certificates) -> None:
    assert outcome(case, whose, certificates) == getattr(case, whose)


def test_what_is_not_the_same_differs() -> None:
    assert all((case.theirs == case.ours) == (case.verdict == "same") for case in CASES)


def rows(page: str) -> Iterator[tuple[str, str, str]]:
    method = ""
    for line in page.splitlines():
        if line.startswith("#"):
            method = line.strip("# `").replace("`", "")
        elif cells := re.match(r"\| (.+?) \| (same|better|different) \| \S", line):
            yield method, cells[1], cells[2]


def test_the_tables_have_these_cases_and_no_others() -> None:
    assert list(rows(PAGE.read_text(encoding="utf-8"))) == [case.row for case in CASES]


def classes_of_errors(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield each method with a class that it raises, and the base that is named beside it."""
    table = page.partition("## Replace exceptions")[2].partition("\n## ")[0]
    methods: list[str] = []
    row = re.compile(r"^\| (.*?) ?\| `(\w+)`(?:, a `(\w+)`)? \|", re.MULTILINE)
    for cell, name, base in row.findall(table):
        methods = re.findall(r"`(\w+)`", cell) or ([] if cell else methods)
        yield from ((method, name, base or "ZConfigError") for method in methods)


def test_each_method_raises_the_classes_that_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MissingExtraError("milvus-lite 3", "lite")

    monkeypatch.setattr("zconfig._channel.lite._manager", fail)
    named = set(classes_of_errors(PAGE.read_text(encoding="utf-8")))
    with fake_server() as server, refused() as port, registry() as connections:
        connections.connect("live", uri=server.uri)
        add, connect = connections.add_connection, connections.connect
        calls: dict[tuple[str, str], Callable[[], object]] = {
            ("add_connection", "ConfigurationError"): lambda: add(x={"uri": "h"}),
            ("add_connection", "ConflictError"): lambda: add(live={"uri": "http://h"}),
            ("connect", "ConfigurationError"): lambda: connect("x", uri="h"),
            ("connect", "ConflictError"): lambda: connect("live", uri="http://h"),
            ("connect", "UnknownAliasError"): lambda: connect("x", token=SECRET),
            ("connect", "ConnectError"): lambda: connect("x", uri=f"http://127.0.0.1:{port}"),
            ("connect", "MissingExtraError"): lambda: connect("x", uri="./x.db"),
        }
        for method in ("disconnect", "remove_connection", "get_connection_addr", "has_connection"):
            calls[method, "ConfigurationError"] = partial(getattr(connections, method), 5)
        assert {(method, name) for method, name, _ in named} == calls.keys()
        for method, name, base in named:
            with pytest.raises(getattr(errors, name)) as caught:
                calls[method, name]()
            assert isinstance(caught.value, getattr(errors, base))


def test_the_tables_have_every_method_and_parameter_of_pymilvus() -> None:
    public = {name for name in vars(PymilvusConnections) if not name.startswith("_")}
    public.remove("instance")
    taken = set(inspect.signature(PymilvusConnections.connect).parameters) - {"self", "kwargs"}
    documented = inspect.getdoc(PymilvusConnections.connect) or ""
    taken |= set(re.findall(r"\* (\w+) \(", documented))
    for reader in (GrpcHandler.__init__, GrpcHandler._set_authorization):
        taken |= set(re.findall(r'kwargs\.get\("(\w+)"', inspect.getsource(reader)))
    text = "\n".join(f"{case.method} {case.subject}" for case in CASES)
    assert {name for name in public | taken if not re.search(rf"\b{name}\b", text)} == set()


def test_every_parameter_of_pymilvus_is_in_the_documentation_of_ours() -> None:
    for name in (
        "add_connection",
        "connect",
        "disconnect",
        "remove_connection",
        "list_connections",
        "get_connection_addr",
        "has_connection",
    ):
        given = inspect.signature(getattr(PymilvusConnections, name)).parameters
        taken = inspect.signature(getattr(Connections, name)).parameters
        missing = [each for each in given if each not in taken and not each.startswith("_")]
        assert missing == (["kwargs"] if name == ADD else [])


# --- any sequence --------------------------------------------------------------------------

ALIASES = ("a", "b", "c")
SERVERS = ("one", "two", "forbidden")
FORMS: dict[str, Callable[[FakeServer], dict[str, Any]]] = {
    "uri": lambda server: {"uri": server.uri},
    "address": lambda server: {"address": f"127.0.0.1:{server.port}"},
    "host and port": lambda server: {"host": "127.0.0.1", "port": server.port},
}

aliases = st.sampled_from(ALIASES)
servers = st.sampled_from(SERVERS)
forms = st.sampled_from([*FORMS])


class BothRegistries(RuleBasedStateMachine):
    """The same calls on both; after each, both say the same of every alias."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.servers = {name: self.stack.enter_context(fake_server()) for name in SERVERS}
        self.servers["forbidden"].accept(SECRET)
        self.theirs = self.stack.enter_context(theirs())
        self.ours = self.stack.enter_context(registry())
        self.theirs.remove_connection("default")
        self.crashing: set[str] = set()

    def teardown(self) -> None:
        self.stack.close()

    @rule(alias=aliases, server=servers, form=forms)
    def add(self, alias: str, server: str, form: str) -> None:
        if self.both("add_connection", **{alias: self.place(server, form)}) == "done":
            self.crashing.discard(alias)

    @rule(alias=aliases, server=servers, form=forms)
    def connect(self, alias: str, server: str, form: str) -> None:
        outcome = self.both("connect", alias, **self.place(server, form))
        if outcome == "done":
            self.crashing.add(alias)
        elif outcome == "failed":
            self.forget(alias)

    @rule(alias=aliases)
    def connect_without_a_place(self, alias: str) -> None:
        if alias in self.crashing:
            assert attempt(self.theirs.connect, alias) == "crashed", CRASHES
            assert attempt(self.ours.connect, alias) == "done"
            address = self.theirs.get_connection_addr(alias)["address"]
            self.theirs.connect(alias, address=address)
            return
        outcome = self.both("connect", alias)
        if outcome == "done":
            self.crashing.add(alias)
        elif outcome == "failed":
            self.forget(alias)

    @rule(alias=aliases)
    def disconnect(self, alias: str) -> None:
        assert self.both("disconnect", alias) == "done"

    @rule(alias=aliases)
    def remove(self, alias: str) -> None:
        assert self.both("remove_connection", alias) == "done"
        self.crashing.discard(alias)

    @invariant()
    def both_list_the_same(self) -> None:
        assert [*listed(self.theirs).items()] == [*listed(self.ours).items()]

    @invariant()
    def both_have_the_same(self) -> None:
        for alias in ALIASES:
            there, here = (each.get_connection_addr(alias) for each in (self.theirs, self.ours))
            assert (there == {}) == (here == {})
            assert {key: there.get(key) for key in ("address", "user")} == {
                key: here.get(key) for key in ("address", "user")
            }
            assert self.theirs.has_connection(alias) == self.ours.has_connection(alias)

    def place(self, server: str, form: str) -> dict[str, Any]:
        return FORMS[form](self.servers[server])

    def both(self, method: str, *args: Any, **kwargs: Any) -> str:
        """Make a call on both, of which the same becomes, and return what."""
        calls = (getattr(each, method) for each in (self.theirs, self.ours))
        there, here = (attempt(call, *args, **kwargs) for call in calls)
        assert there == here
        return here

    def forget(self, alias: str) -> None:
        """Have ours forget what theirs does when a connect fails."""
        assert alias not in listed(self.theirs), FORGETS
        self.ours.remove_connection(alias)
        self.crashing.discard(alias)


TestBothRegistries = BothRegistries.TestCase
TestBothRegistries.settings = settings(max_examples=30, stateful_step_count=25)


def test_what_the_machine_allows_for_stands_in_the_tables() -> None:
    listed_there = {case.subject for case in CASES if case.verdict != "same"}
    assert {CRASHES, FORGETS} <= listed_there
