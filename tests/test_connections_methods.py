"""The methods of `zconfig.connections`: the documented seven, looking up, and what is beyond."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import zconfig
from tests.support import faults
from tests.support.registries import registry
from zconfig import events
from zconfig._channel.messages import HealthReply
from zconfig._connection import Connection, State
from zconfig._connection.error_mapping import error_of
from zconfig._endpoint import TransportType, parse_uri
from zconfig._redaction import Secret
from zconfig._registry import Connections
from zconfig._registry.specs import spec_from_arguments
from zconfig._settings.arguments import hide
from zconfig._settings.configuration import Configuration, nothing_configured
from zconfig._settings.load import load
from zconfig._settings.names import variable_name
from zconfig._spec import Credentials, TLSFiles
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    DatabaseMissingError,
    HostnameMismatchError,
    RefusedError,
    RejectedCredentialsError,
    ServerSilentError,
    TLSError,
    UnknownAliasError,
)
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

SECRET = "c0rrect-h0rse"
PACKAGE = Path(zconfig.__file__).parent
ELSEWHERE = "http://127.0.0.1:1"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def empty() -> Iterator[Connections]:
    """A registry that nothing is configured for."""
    with registry() as connections:
        yield connections


@pytest.fixture
def prod(server: FakeServer) -> Iterator[Connections]:
    """A registry whose alias `prod` leads to the server."""
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        yield connections


def sent_on_connect(server: FakeServer) -> tuple[Secret | None, str | bytes | None]:
    """Return the credentials and the database of the only connect."""
    (call,) = server.calls("Connect")
    return call.token, call.metadata.get("dbname")


# --- add_connection ------------------------------------------------------------------------


def test_adding_a_connection_configures_it_and_dials_nobody(
    empty: Connections, server: FakeServer
) -> None:
    empty.add_connection(dev={"uri": server.uri})
    assert empty.list_connections() == [("dev", None)]
    assert not empty.has_connection("dev")
    assert server.calls() == []


def test_credentials_in_the_clear_are_warned_about_once_though_code_gave_them(
    empty: Connections,
) -> None:
    told: list[events.ConfigProblem] = []
    empty.subscribe(told.append, events.ConfigProblem)
    for _ in range(2):
        empty.add_connection(dev={"uri": "http://db.example", "token": SECRET})
    empty.add_connection(near={"uri": ELSEWHERE, "token": SECRET}, open={"uri": "http://db"})
    [event] = told
    assert (event.code, event.alias, event.severity) == (
        "credentials_in_the_clear",
        "dev",
        "warning",
    )
    assert event.origin == "uri (connections.add_connection)"


def test_the_warning_does_not_wait_for_the_server_to_accept_the_credentials(
    empty: Connections, server: FakeServer
) -> None:
    told: list[str] = []
    empty.subscribe(lambda event: told.append(event.name))
    server.accept("another")
    with pytest.raises(ConnectError):
        empty.connect("dev", uri=f"http://0.0.0.0:{server.port}", token=SECRET)
    assert told.index("zconfig.config.problem") < told.index("zconfig.connection.failed")


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ({"host": "localhost", "port": "19530"}, "http://localhost:19530"),
        ({"host": "localhost", "port": 19531}, "http://localhost:19531"),
        ({"host": "db"}, "http://db:19530"),
        ({"port": 65535}, "http://localhost:65535"),
        ({"uri": "http://random.com/random"}, "http://random.com:19530/random"),
        ({"uri": "https://random.com"}, "https://random.com:443"),
        ({"uri": "tcp://localhost:19530"}, "http://localhost:19530"),
        ({"address": "localhost:19530"}, "http://localhost:19530"),
        ({"address": "db:19530", "secure": True}, "https://db:19530"),
        ({"uri": "http://db:19530", "secure": True}, "https://db:19530"),
        ({"uri": "unix:/run/milvus.sock"}, "unix:/run/milvus.sock"),
        ({"address": "unix:/run/milvus.sock"}, "unix:/run/milvus.sock"),
    ],
)
def test_a_place_is_taken_in_every_form_that_pymilvus_takes(
    empty: Connections, place: dict[str, Any], uri: str
) -> None:
    empty.add_connection(dev=place)
    told = empty.get_connection_addr("dev")
    assert told["uri"] == uri
    empty.add_connection(again={"address": told["address"], "secure": told["secure"]})
    assert empty.get_connection_addr("again")["address"] == told["address"]


def test_several_are_added_in_order(empty: Connections) -> None:
    empty.add_connection(b={"uri": ELSEWHERE}, a={"uri": ELSEWHERE})
    empty.add_connection(c={"uri": ELSEWHERE})
    assert list(empty) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("credentials", "sent"),
    [
        ({"token": SECRET}, SECRET),
        ({"token": f"root:{SECRET}"}, f"root:{SECRET}"),
        ({"user": "root", "password": SECRET}, f"root:{SECRET}"),
    ],
)
def test_what_was_added_connects_with_its_credentials_and_its_database(
    empty: Connections, server: FakeServer, credentials: dict[str, str], sent: str
) -> None:
    server.databases = ("default", "sales")
    empty.add_connection(dev={"uri": server.uri, "db_name": "sales", **credentials})
    empty.connect("dev")
    assert sent_on_connect(server) == (sent, "sales")


def test_milvus_uri_does_not_redirect_what_was_added(server: FakeServer) -> None:
    with registry(MILVUS_URI=ELSEWHERE) as connections:
        connections.add_connection(dev={"uri": server.uri, "token": SECRET})
        connections.connect("dev")
    assert sent_on_connect(server) == (SECRET, None)


def test_adding_replaces_what_was_configured(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=ELSEWHERE, ZILLIZ_PROD_TOKEN=SECRET) as connections:
        connections.add_connection(prod={"uri": server.uri})
        assert connections["prod"].is_open
    assert sent_on_connect(server) == (None, None)


def test_everything_that_is_wrong_with_any_of_them_is_reported(empty: Connections) -> None:
    with pytest.raises(ConfigurationError) as caught:
        empty.add_connection(a={"port": 70_000}, b={"uri": ELSEWHERE, "timeout": -1})
    assert {problem.alias for problem in caught.value.problems} == {"a", "b"}


def test_none_is_added_if_one_is_wrong(empty: Connections) -> None:
    with pytest.raises(ConfigurationError):
        empty.add_connection(good={"uri": ELSEWHERE}, bad={"port": 70_000})
    assert list(empty) == []


def test_none_is_added_if_one_is_live_with_another_configuration(prod: Connections) -> None:
    prod.connect("prod")
    with pytest.raises(ConflictError):
        prod.add_connection(new={"uri": ELSEWHERE}, prod={"uri": ELSEWHERE})
    assert list(prod) == ["prod"]
    assert prod["prod"].is_open


def test_a_live_alias_may_be_added_again_as_it_is(prod: Connections, server: FakeServer) -> None:
    live = prod.connect("prod")
    prod.add_connection(prod={"uri": server.uri})
    assert prod["prod"] is live


# --- connect -------------------------------------------------------------------------------


def test_connecting_returns_the_open_connection(empty: Connections, server: FakeServer) -> None:
    connection = empty.connect("dev", uri=server.uri)
    assert isinstance(connection, Connection)
    assert connection.state is State.READY
    assert connection.server.version == VERSION
    assert empty.list_connections() == [("dev", connection)]
    assert empty.has_connection("dev")
    assert empty["dev"] is connection


def test_the_alias_is_default_unless_one_is_named(empty: Connections, server: FakeServer) -> None:
    assert empty.connect(uri=server.uri).alias == "default"


def test_a_configured_alias_connects_without_arguments(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri, ZILLIZ_TOKEN=SECRET) as connections:
        connections.connect()
    assert sent_on_connect(server) == (SECRET, None)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"user": "root", "password": "Milvus"}, "root:Milvus"),
        ({"user": "root", "password": 1234}, "root:1234"),
        ({"user": "root", "password": "a:b"}, "root:a:b"),
        ({"token": "key"}, "key"),
        ({"token": 5678}, "5678"),
        ({"token": None, "user": None, "password": None}, None),
        ({"token": "", "user": "", "password": ""}, None),
    ],
)
def test_credentials_are_sent_as_they_are_given(
    empty: Connections, server: FakeServer, arguments: dict[str, Any], sent: str | None
) -> None:
    empty.connect("dev", uri=server.uri, **arguments)
    assert sent_on_connect(server) == (sent, None)


def test_credentials_in_the_uri_are_percent_decoded(empty: Connections, server: FakeServer) -> None:
    empty.connect("dev", uri=f"http://root:p%40ss@127.0.0.1:{server.port}")
    assert sent_on_connect(server) == ("root:p@ss", None)
    assert empty.get_connection_addr("dev")["uri"] == server.uri


@pytest.mark.parametrize("where", ["argument", "path"])
def test_the_database_is_sent_when_it_is_not_the_default(
    empty: Connections, server: FakeServer, where: str
) -> None:
    server.databases = ("default", "sales")
    if where == "argument":
        empty.connect("dev", uri=server.uri, db_name="sales")
    else:
        empty.connect("dev", uri=f"{server.uri}/sales")
    assert sent_on_connect(server) == (None, "sales")


def test_with_a_place_nothing_ambient_is_mixed_in(server: FakeServer) -> None:
    ambient = {"ZILLIZ_PROD_TOKEN": SECRET, "ZILLIZ_PROD_DB_NAME": "sales"}
    with registry(ZILLIZ_PROD_URI=ELSEWHERE, **ambient) as connections:
        connections.connect("prod", host="127.0.0.1", port=server.port)
        assert connections.get_connection_addr("prod")["db_name"] == "default"
    assert sent_on_connect(server) == (None, None)


def test_without_a_place_the_arguments_replace_the_same_fields(server: FakeServer) -> None:
    server.databases = ("default", "sales")
    ambient = {"ZILLIZ_PROD_TOKEN": "old", "ZILLIZ_PROD_DB_NAME": "sales"}
    with registry(ZILLIZ_PROD_URI=server.uri, **ambient) as connections:
        connections.connect("prod", user="root", password=SECRET)
        connections.disconnect("prod")
        assert sent_on_connect(server) == (f"root:{SECRET}", "sales")
        assert connections["prod"].spec.credentials == connections.spec("prod").credentials


def test_the_arguments_of_a_connect_stay_the_alias_configuration(
    empty: Connections, server: FakeServer
) -> None:
    empty.connect("dev", uri=server.uri, token=SECRET)
    empty.disconnect("dev")
    assert empty["dev"].is_open
    first, second = server.calls("Connect")
    assert first.token == second.token == SECRET


def test_a_failed_connect_leaves_nothing(empty: Connections) -> None:
    with faults.refused() as port, pytest.raises(RefusedError) as caught:
        empty.connect("dev", host="127.0.0.1", port=port)
    assert caught.value.alias == "dev"
    assert empty.list_connections() == []
    assert not empty.has_connection("dev")
    assert empty.get_connection_addr("dev") == {}


def test_a_failed_connect_leaves_the_configuration_as_it_was(prod: Connections) -> None:
    with faults.refused() as port, pytest.raises(RefusedError):
        prod.connect("prod", host="127.0.0.1", port=port)
    assert prod.list_connections() == [("prod", None)]
    assert prod["prod"].is_open


def test_connecting_again_alike_is_the_same_connection(
    empty: Connections, server: FakeServer
) -> None:
    one = empty.connect("dev", uri=server.uri, token=SECRET)
    assert empty.connect("dev", uri=server.uri, token=SECRET) is one
    assert empty.connect("dev", address=f"127.0.0.1:{server.port}", token=SECRET) is one
    assert empty.connect("dev") is one
    assert len(server.calls("Connect")) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"uri": ELSEWHERE}, "endpoint"),
        ({"token": SECRET}, "credentials"),
        ({"user": "other", "password": SECRET, "token": ""}, "credentials"),
        ({"db_name": "hidden-sales"}, "db_name"),
        ({"timeout": 7}, "timeout_s"),
    ],
)
def test_connecting_a_live_alias_otherwise_is_a_conflict_that_names_the_fields_only(
    empty: Connections, server: FakeServer, change: dict[str, Any], named: str
) -> None:
    arguments = {"uri": server.uri, "token": "old-token"}
    live = empty.connect("dev", **arguments)
    with pytest.raises(ConflictError, match=rf"dev: .*\b{named}\b.*disconnect") as caught:
        empty.connect("dev", **{**arguments, **change})
    for value in (SECRET, "old-token", "hidden-sales", ELSEWHERE):
        assert value not in str(caught.value)
    assert empty["dev"] is live
    assert live.is_open


def test_after_a_disconnect_another_configuration_is_welcome(
    empty: Connections, server: FakeServer
) -> None:
    with fake_server() as other:
        empty.connect("dev", uri=server.uri)
        empty.disconnect("dev")
        empty.connect("dev", uri=other.uri)
        assert len(other.calls("Connect")) == 1
        empty.close()


def test_connecting_an_unknown_alias_says_what_is_known(prod: Connections) -> None:
    with pytest.raises(UnknownAliasError, match=r"configured: prod\); set ZILLIZ_DEV_URI"):
        prod.connect("dev")


def test_a_name_that_can_be_no_alias_is_not_offered_as_one() -> None:
    odd = {"ZILLIZ_\udcff_URI": ELSEWHERE, "ZILLIZ_TOKEN_URI": ELSEWHERE}
    with registry(ZILLIZ_GOOD_URI=ELSEWHERE, **odd) as connections:
        with pytest.raises(UnknownAliasError, match=r"configured: good\); set ZILLIZ_NOBODY_URI"):
            connections.spec("nobody")
        assert connections.spec().alias == "good"


def test_an_unknown_parameter_is_refused_without_its_value(
    empty: Connections, server: FakeServer
) -> None:
    with pytest.raises(ConfigurationError, match=r"tokne .*is not a parameter") as caught:
        empty.connect("dev", uri=server.uri, tokne=SECRET)
    assert SECRET not in str(caught.value)
    assert server.calls() == []


def test_a_timeout_limits_the_connect(empty: Connections, server: FakeServer) -> None:
    server.hold()
    with pytest.raises(ServerSilentError):
        empty.connect("dev", uri=server.uri, timeout=0.2)


def test_keep_alive_is_taken_as_pymilvus_takes_it(empty: Connections, server: FakeServer) -> None:
    assert empty.connect("dev", uri=server.uri, keep_alive=True).spec.keepalive_s == 30


def test_what_is_wrong_without_a_place_names_where_the_place_was_set(prod: Connections) -> None:
    told = (
        r"^prod: server_pem_path \(connections.connect\): is set, but ZILLIZ_PROD_URI is not "
        r"https://; use https:// in ZILLIZ_PROD_URI, or remove the parameter server_pem_path$"
    )
    with pytest.raises(ConfigurationError, match=told):
        prod.connect("prod", server_pem_path="/ca.pem")
    with pytest.raises(ConfigurationError, match="is set without the parameter tls_key"):
        prod.connect("prod", client_pem_path="/client.pem", secure=True)


@pytest.mark.parametrize("place", [{"host": "db"}, {"host": "db", "port": 1}, {"address": "db:1"}])
def test_a_place_without_a_scheme_is_to_be_told_secure(
    empty: Connections, place: dict[str, Any]
) -> None:
    told: list[events.ConfigProblem] = []
    empty.subscribe(told.append, events.ConfigProblem)
    empty.add_connection(dev={**place, "token": SECRET})
    assert [each.remedy for each in told] == ["pass secure=True if the server has TLS"]
    with pytest.raises(ConfigurationError) as caught:
        empty.add_connection(new={**place, "server_pem_path": "/ca.pem"})
    with pytest.raises(ConfigurationError) as also_caught:
        empty.connect("dev", server_pem_path="/ca.pem")
    for error in (caught.value, also_caught.value):
        [problem] = error.problems
        assert problem.remedy == "pass secure=True, or remove the parameter server_pem_path"


@pytest.mark.parametrize("live", [False, True])
def test_secure_without_a_place_is_tls_at_the_configured_place(
    certificates: Certificates, server: FakeServer, *, live: bool
) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with (
        fake_server(credentials=grpc.ssl_server_credentials([pair])) as secure,
        registry(ZILLIZ_PROD_URI=f"http://localhost:{secure.port}/sales") as connections,
    ):
        secure.databases = ("default", "sales")
        arguments = {"token": SECRET, "secure": True, "server_pem_path": str(certificates.ca)}
        if live:
            connections.add_connection(prod={"uri": server.uri})
            connections.connect("prod")
            with pytest.raises(ConflictError, match="endpoint"):
                connections.connect("prod", secure=True)
        else:
            connection = connections.connect("prod", **arguments)
            assert str(connection.endpoint) == f"https://localhost:{secure.port}/sales"
            assert sent_on_connect(secure)[0] == SECRET
            assert str(connection.spec.origin("endpoint")) == "secure (connections.connect)"


def test_the_remedy_of_a_place_in_code_is_the_parameter_that_decides_about_tls(
    certificates: Certificates, server: FakeServer
) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    plain, more = {"host": "localhost", "port": server.port}, {"timeout": 5}
    with (
        fake_server(credentials=grpc.ssl_server_credentials([pair])) as secure,
        registry(ZILLIZ_PROD_URI=server.uri) as connections,
    ):
        cases = {
            "leave out secure": {"alias": "a", **plain, "secure": True},
            "use http:// in the parameter uri, and leave out secure": {
                "alias": "b",
                "uri": server.uri,
                "secure": True,
            },
            "pass secure=True": {"alias": "c", "host": "localhost", "port": secure.port},
            "use https:// in the parameter uri": {
                "alias": "d",
                "uri": f"http://localhost:{secure.port}",
            },
        }
        for remedy, arguments in cases.items():
            with pytest.raises(TLSError) as caught:
                connections.connect(**arguments, **more)
            assert caught.value.remedy == remedy
        with pytest.raises(TLSError) as caught:
            connections.connect("prod", secure=True, **more)
        assert caught.value.remedy == "leave out secure"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (
            {"host": "h", "port": 1, "secure": True},
            "use a host name of the certificate in the parameter host, or",
        ),
        (
            {"port": 1, "secure": True},
            "use a host name of the certificate in the parameter host, or",
        ),
        (
            {"address": "h:1", "secure": True},
            "use a host name of the certificate in the parameter address, or",
        ),
        ({"uri": "https://h"}, "use a host name of the certificate in the parameter uri, or"),
        (
            {"alias": "prod", "secure": True},
            "use a host name of the certificate in the parameter uri, or",
        ),
    ],
)
def test_the_remedy_of_a_name_mismatch_is_the_parameter_that_has_the_host(
    prod: Connections, arguments: dict[str, Any], remedy: str
) -> None:
    alias, given = arguments.get("alias", "x"), {k: v for k, v in arguments.items() if k != "alias"}
    spec = spec_from_arguments(prod._table, alias, hide(given), "connections.connect")
    assert error_of(HostnameMismatchError, spec).remedy.startswith(remedy)


def test_the_remedy_of_a_wrong_server_name_is_the_parameter_that_gave_it(
    certificates: Certificates,
) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with (
        fake_server(credentials=grpc.ssl_server_credentials([pair])) as server,
        registry() as connections,
        pytest.raises(HostnameMismatchError) as caught,
    ):
        connections.connect(
            "x",
            host="127.0.0.1",
            port=server.port,
            secure=True,
            ca_pem_path=str(certificates.ca),
            server_name="wrong.test",
        )
    assert caught.value.remedy == "set the parameter server_name to a name of the certificate"
    assert caught.value.detail == "the certificate is for localhost, 127.0.0.1, 0:0:0:0:0:0:0:1"


@pytest.mark.parametrize(("place", "told"), [(None, "None"), ("", "empty")])
@pytest.mark.parametrize("more", [{}, {"timeout": 3}])
def test_a_place_that_is_none_or_empty_is_told_where_nothing_configures_the_alias(
    prod: Connections, more: dict[str, Any], place: str | None, told: str
) -> None:
    prod.disconnect("prod")
    with registry() as unconfigured:
        for connections, name in product((prod, unconfigured), ("uri", "address", "host")):
            with pytest.raises(UnknownAliasError) as caught:
                connections.connect("x", **{name: place}, **more)
            assert str(caught.value.problems[0]) == (
                f"x: {name} (connections.connect): is {told}, and the alias is not configured; "
                f"pass the server's {name}"
            )
    assert prod.connect("prod", uri=place).alias == "prod"


PLAIN, TLS, FILE = "http://db:19531/sales", "https://db/sales", "./x.db"


@pytest.mark.parametrize(
    ("uri", "arguments", "changed"),
    [
        (PLAIN, {"secure": True}, {"endpoint": "https://db:19531/sales"}),
        (PLAIN, {"secure": False}, {}),
        (TLS, {"secure": True}, {}),
        (TLS, {"server_pem_path": "/ca"}, {"tls": TLSFiles(ca="/ca")}),
        (
            PLAIN,
            {"secure": True, "ca_pem_path": "/ca"},
            {"endpoint": "https://db:19531/sales", "tls": TLSFiles(ca="/ca")},
        ),
        (TLS, {"server_name": "milvus"}, {"tls": TLSFiles(server_name="milvus")}),
        (
            TLS,
            {"client_pem_path": "/c", "client_key_path": "/k"},
            {"tls": TLSFiles(cert="/c", key="/k")},
        ),
        (PLAIN, {"db_name": "other"}, {"db_name": "other", "endpoint": "http://db:19531"}),
        (PLAIN, {"db_name": "default"}, {"db_name": "default", "endpoint": "http://db:19531"}),
        (PLAIN, {"db_name": "", "secure": None}, {}),
        (PLAIN, {"timeout": 3}, {"timeout_s": 3.0}),
        (PLAIN, {"keep_alive": 60}, {"keepalive_s": 60.0}),
        (PLAIN, {"keep_alive": True}, {}),
        (PLAIN, {"required": False, "pool_size": 2}, {"required": False, "pool_size": 2}),
        (PLAIN, {"proxy": "off"}, {"proxy": "off"}),
        (PLAIN, {"token": "key"}, {"credentials": Credentials(Secret("key"))}),
    ],
)
def test_without_a_place_every_argument_is_in_force(
    empty: Connections, uri: str, arguments: dict[str, Any], changed: dict[str, Any]
) -> None:
    empty.add_connection(prod={"uri": uri})
    before = empty.spec("prod")
    if "endpoint" in changed:
        changed = {**changed, "endpoint": parse_uri(changed["endpoint"])}
    asked = spec_from_arguments(
        empty._registry.table, "prod", hide(arguments), "connections.connect"
    )
    assert asked == replace(before, **changed)


@pytest.mark.parametrize(
    ("uri", "arguments", "code"),
    [
        (PLAIN, {"server_pem_path": "/ca"}, "tls_on_plaintext"),
        (PLAIN, {"server_name": "milvus"}, "tls_on_plaintext"),
        (PLAIN, {"secure": False, "ca_pem_path": "/ca"}, "tls_on_plaintext"),
        (TLS, {"secure": False}, "bad_argument"),
        (FILE, {"secure": True}, "tls_on_plaintext"),
        (TLS, {"client_pem_path": "/c"}, "tls_pair"),
        (PLAIN, {"user": "root"}, "half_credentials"),
        (PLAIN, {"timeout": 0}, "bad_timeout"),
        (PLAIN, {"keep_alive": 3}, "bad_keepalive"),
    ],
)
def test_without_a_place_an_argument_that_cannot_be_in_force_is_an_error(
    empty: Connections, uri: str, arguments: dict[str, Any], code: str
) -> None:
    empty.add_connection(prod={"uri": uri})
    with pytest.raises(ConfigurationError) as caught:
        spec_from_arguments(empty._registry.table, "prod", hide(arguments), "connections.connect")
    assert [problem.code for problem in caught.value.problems] == [code]


@pytest.mark.parametrize("parameter", ["ca_pem_path", "server_pem_path"])
def test_tls_is_asked_for_with_secure_and_an_authority(
    empty: Connections, certificates: Certificates, parameter: str
) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as secure:
        trust = {parameter: str(certificates.ca)}
        connection = empty.connect("dev", host="localhost", port=secure.port, secure=True, **trust)
        assert connection.endpoint.transport is TransportType.TLS
        assert empty.get_connection_addr("dev")["secure"] is True
        empty.close()


def test_a_client_certificate_and_the_servers_name_are_used(
    empty: Connections, certificates: Certificates
) -> None:
    pair = (certificates.other_host.key.read_bytes(), certificates.other_host.cert.read_bytes())
    demanding = grpc.ssl_server_credentials(
        [pair], certificates.ca.read_bytes(), require_client_auth=True
    )
    with fake_server(credentials=demanding) as secure:
        connection = empty.connect(
            "dev",
            uri=f"https://127.0.0.1:{secure.port}",
            ca_pem_path=str(certificates.ca),
            client_pem_path=str(certificates.client.cert),
            client_key_path=str(certificates.client.key),
            server_name="other.test",
        )
        assert connection.is_open
        empty.close()


# --- aliases -------------------------------------------------------------------------------


def methods_of_one_alias(connections: Connections) -> list[Callable[[Any], Any]]:
    return [
        lambda alias: connections.connect(alias, uri=ELSEWHERE),
        connections.disconnect,
        connections.remove_connection,
        connections.get_connection_addr,
        connections.has_connection,
        connections.autoconnect,
    ]


@pytest.mark.parametrize("alias", [5, None, b"prod", ("prod",)])
def test_an_alias_that_is_no_string_is_an_error_everywhere(prod: Connections, alias: Any) -> None:
    for method in methods_of_one_alias(prod):
        with pytest.raises(ConfigurationError, match="an alias must be a string"):
            method(alias)
    assert alias not in prod


@pytest.mark.parametrize("alias", [5, b"prod", ("prod",)])
def test_the_specification_of_what_is_no_string_is_an_error(prod: Connections, alias: Any) -> None:
    with pytest.raises(ConfigurationError, match="an alias must be a string"):
        prod.spec(alias)
    assert prod.spec() == prod.spec("prod")


@pytest.mark.parametrize("spelling", ["EU-Prod", "eu.prod", "Eu_PROD"])
def test_an_alias_is_one_whatever_its_spelling(server: FakeServer, spelling: str) -> None:
    with registry(ZILLIZ_EU_PROD_URI=server.uri) as connections:
        connection = connections.connect(spelling)
        assert connection.alias == "eu_prod"
        assert connections[spelling] is connection
        assert connections.has_connection(spelling)
        assert connections.get_connection_addr(spelling)["uri"] == server.uri
        assert spelling in connections
        assert connections.autoconnect(spelling) == {"eu_prod": connection}
        connections.disconnect(spelling)
        assert not connections.has_connection("eu_prod")
        connections.remove_connection(spelling)
        assert list(connections) == []


@pytest.mark.parametrize("alias", ["", "token", "two words", "a__b", "naïve"])
def test_what_cannot_be_an_alias_cannot_be_added(empty: Connections, alias: str) -> None:
    with pytest.raises(ConfigurationError):
        empty.connect(alias, uri=ELSEWHERE)
    with pytest.raises(ConfigurationError):
        empty.add_connection(**{alias: {"uri": ELSEWHERE}})
    assert list(empty) == []


@pytest.mark.parametrize("alias", ["", "token", "two words", "a__b", "https://root:pw@db"])
def test_what_cannot_be_an_alias_is_an_unknown_one_to_what_need_not_have_it(
    prod: Connections, alias: str
) -> None:
    prod.disconnect(alias)
    prod.remove_connection(alias)
    assert not prod.has_connection(alias)
    assert prod.get_connection_addr(alias) == {}
    assert alias not in prod


@pytest.mark.parametrize("alias", ["", "token", "two words", "a__b"])
def test_looking_up_what_cannot_be_an_alias_says_that_and_names_no_variable(
    prod: Connections, alias: str
) -> None:
    with pytest.raises(KeyError, match="alias") as caught:
        _ = prod[alias]
    assert "ZILLIZ_" not in str(caught.value)


LOOKS_UP: dict[str, Callable[[Connections, str], Any]] = {
    "[]": lambda connections, alias: connections[alias],
    "connect": lambda connections, alias: connections.connect(alias),
    "connect with a place": lambda connections, alias: connections.connect(alias, uri=ELSEWHERE),
    "add_connection": lambda connections, alias: connections.add_connection(
        **{alias: {"uri": ELSEWHERE}}
    ),
    "autoconnect": lambda connections, alias: connections.autoconnect("prod", alias),
    "keep_trying": lambda connections, alias: connections.keep_trying(alias),
    "explain": lambda connections, alias: connections.explain(alias),
    "spec": lambda connections, alias: connections.spec(alias),
    "override": lambda connections, alias: connections.override(
        {alias: {"uri": ELSEWHERE}}
    ).__enter__(),
}


@pytest.mark.parametrize("look_up", LOOKS_UP.values(), ids=LOOKS_UP)
@pytest.mark.parametrize("uri", [f"https://root:{SECRET}@db", f"./{SECRET}.db"])
def test_a_uri_in_the_place_of_an_alias_is_told_as_that_and_not_repeated(
    prod: Connections, server: FakeServer, look_up: Callable[[Connections, str], Any], uri: str
) -> None:
    with pytest.raises(ConfigurationError, match="an alias must be a name, not a URI") as caught:
        look_up(prod, uri)
    assert [problem.code for problem in caught.value.problems] == ["bad_alias"]
    assert SECRET not in f"{caught.value!r} {caught.value.problems} {pickle.dumps(caught.value)!r}"
    assert server.calls() == []


@pytest.mark.parametrize("arguments", [{"url": ELSEWHERE}, {"http": ELSEWHERE}])
def test_arguments_are_checked_before_the_alias_is_looked_up(
    prod: Connections, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"t: .* is not a parameter; did you mean uri\?"):
        prod.connect("t", **arguments)
    with pytest.raises(ConfigurationError, match=r"must be text or a number, not bytes"):
        prod.connect("t", token=b"key")  # type: ignore[arg-type] # that is the point


# --- disconnect, remove_connection ---------------------------------------------------------


def test_disconnecting_closes_and_keeps_the_configuration(
    prod: Connections, server: FakeServer
) -> None:
    connection = prod.connect("prod")
    prod.disconnect("prod")
    assert connection.state is State.CLOSED
    assert prod.list_connections() == [("prod", None)]
    assert prod.get_connection_addr("prod")["uri"] == server.uri
    assert prod["prod"].is_open
    assert prod["prod"] is not connection


def test_a_closed_connection_says_so_whatever_is_asked_of_it(prod: Connections) -> None:
    connection = prod.connect("prod")
    channel = connection.channel
    prod.disconnect("prod")
    asked: list[Callable[[], Any]] = [
        connection.ping,
        connection.health,
        lambda: connection.channel,
        lambda: connection.target,
        lambda: connection.server,
        lambda: connection.round_trip_ms,
        lambda: channel.unary_unary("/x/y"),
    ]
    for ask in asked:
        with pytest.raises(ClosedError, match=r"prod: .*zconfig.connections\['prod'\]"):
            ask()
    assert repr(connection) == f"<Connection 'prod' to {connection.endpoint}, closed>"


@pytest.mark.parametrize("method", ["disconnect", "remove_connection"])
def test_ending_what_is_not_there_is_no_error(prod: Connections, method: str) -> None:
    for alias in ("unknown", "prod", "prod"):
        getattr(prod, method)(alias)
        assert not prod.has_connection(alias)


def test_removing_closes_and_forgets(prod: Connections) -> None:
    connection = prod.connect("prod")
    prod.remove_connection("prod")
    assert connection.state is State.CLOSED
    assert "prod" not in prod
    assert prod.list_connections() == []
    assert prod.get_connection_addr("prod") == {}
    with pytest.raises(UnknownAliasError):
        prod.connect("prod")


# --- list_connections, get_connection_addr, has_connection ---------------------------------


def test_every_configured_alias_is_listed_with_its_connection(server: FakeServer) -> None:
    with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=ELSEWHERE) as connections:
        live = connections["a"]
        assert connections.list_connections() == [("a", live), ("b", None)]


def test_the_address_has_no_credentials(empty: Connections) -> None:
    secret = {"token": f"root:{SECRET}", "db_name": "sales"}
    empty.add_connection(prod={"uri": "https://db.example", **secret})
    assert empty.get_connection_addr("prod") == {
        "address": "db.example:443",
        "uri": "https://db.example:443",
        "user": "root",
        "db_name": "sales",
        "secure": True,
    }


def test_the_user_of_an_api_key_is_empty(empty: Connections) -> None:
    empty.add_connection(prod={"uri": "https://db.example", "token": SECRET})
    assert empty.get_connection_addr("prod")["user"] == ""


def test_the_address_of_an_unknown_alias_is_empty(prod: Connections) -> None:
    assert prod.get_connection_addr("unknown") == {}


def test_an_alias_has_a_connection_while_it_is_connected(prod: Connections) -> None:
    before = prod.has_connection("prod")
    prod.connect("prod")
    connected = prod.has_connection("prod")
    prod.disconnect("prod")
    assert (before, connected, prod.has_connection("prod")) == (False, True, False)


def test_an_alias_opens_again_after_its_connection_was_closed_by_hand(prod: Connections) -> None:
    with prod["prod"] as connection:
        assert connection.is_open
    assert not prod.has_connection("prod")
    assert prod.list_connections() == [("prod", None)]
    assert prod["prod"].is_open


# --- looking up ----------------------------------------------------------------------------


def test_looking_an_alias_up_connects_it_once(prod: Connections, server: FakeServer) -> None:
    assert prod["prod"] is prod["prod"]
    assert prod["prod"].is_open
    assert len(server.calls("Connect")) == 1


def test_nothing_but_looking_up_connects(prod: Connections, server: FakeServer) -> None:
    assert "prod" in prod
    assert "PROD" in prod
    assert "dev" not in prod
    assert len(prod) == 1
    assert list(prod) == ["prod"]
    assert repr(prod) == "<Connections {prod: idle}>"
    assert prod
    assert server.calls() == []


def test_its_representation_says_what_is_connected(prod: Connections) -> None:
    prod.connect("prod")
    assert repr(prod) == "<Connections {prod: connected}>"


def test_its_representation_is_there_while_the_configuration_is_read() -> None:
    def fail() -> Configuration:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        Connections(fail)
    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "self = <Connections>" in "".join(whole.format())


def test_looking_up_what_nothing_configures_is_a_key_error(prod: Connections) -> None:
    with pytest.raises(KeyError, match=r"is not configured \(configured: prod\)"):
        prod["dev"]


def test_looking_up_does_not_hide_that_an_alias_is_configured_wrongly() -> None:
    with (
        registry(ZILLIZ_PROD_URI="ftp://db") as connections,
        pytest.raises(ConfigurationError, match="ZILLIZ_PROD_URI") as caught,
    ):
        _ = connections["prod"]
    assert not isinstance(caught.value, KeyError)


def test_it_is_no_mapping_whose_methods_would_dial(prod: Connections, server: FakeServer) -> None:
    for method in ("get", "keys", "values", "items"):
        assert not hasattr(prod, method)
    with pytest.raises((TypeError, ValueError)):
        dict(prod)  # type: ignore[call-overload] # that is the point
    assert server.calls() == []


# --- default -------------------------------------------------------------------------------


def test_the_default_is_the_alias_called_so(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri, ZILLIZ_PROD_URI=ELSEWHERE) as connections:
        assert connections.default is connections["default"]


def test_the_default_is_the_one_that_is_named_default(server: FakeServer) -> None:
    environ = {"ZILLIZ_URI": ELSEWHERE, "ZILLIZ_PROD_URI": server.uri}
    with registry(ZCONFIG_DEFAULT_ALIAS="prod", **environ) as connections:
        assert connections.default is connections["prod"]


def test_the_default_is_the_only_one(prod: Connections) -> None:
    assert prod.default is prod["prod"]


def test_there_is_no_default_among_several() -> None:
    with (
        registry(ZILLIZ_A_URI=ELSEWHERE, ZILLIZ_B_URI=ELSEWHERE) as connections,
        pytest.raises(
            UnknownAliasError, match=r"none is the default \(configured: a, b\); .*DEFAULT_ALIAS"
        ),
    ):
        _ = connections.default


def test_there_is_no_default_where_nothing_is_configured(empty: Connections) -> None:
    with pytest.raises(UnknownAliasError, match="no connection is configured; set ZILLIZ_URI"):
        _ = empty.default


@pytest.mark.parametrize(
    ("alias", "elsewhere", "hint"),
    [
        (
            "cluster",
            {"ZILLIZ_TOKEN": "root:Milvus"},
            "ZILLIZ_URI is not; did you mean ZILLIZ_CLUSTER_TOKEN?",
        ),
        (
            "default",
            {"MILVUS_TOKEN": "root:Milvus"},
            "MILVUS_TOKEN (environment) is only for the endpoint in MILVUS_URI",
        ),
    ],
)
def test_missing_credentials_that_are_set_for_another_endpoint_are_pointed_out(
    alias: str, elsewhere: dict[str, str], hint: str
) -> None:
    variable = variable_name(alias, "uri")
    with registry(**{variable: ELSEWHERE}, **elsewhere) as connections:
        [told] = connections.spec(alias).hints_about("credentials")
        assert hint in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"token": "key "}, "token (connections.connect): the value begins or ends with white"),
        ({"user": "root", "password": "'pw'"}, "password (connections.connect): the value is encl"),
        ({"token": "key"}, ""),
    ],
)
@pytest.mark.parametrize("way", ["over the configuration", "with a uri", "settings"])
def test_a_doubtful_value_from_code_is_pointed_out_in_place_of_the_configured_one(
    way: str, arguments: dict[str, Any], told: str
) -> None:
    with fake_server() as fake, registry(ZILLIZ_URI=fake.uri, ZILLIZ_TOKEN="<key>") as connections:
        fake.accept("root:Milvus")
        given = arguments if way == "over the configuration" else {"uri": fake.uri, **arguments}
        if way == "settings":
            given = {"settings": zconfig.ConnectionSettings(**given)}
        with pytest.raises(RejectedCredentialsError) as caught:
            connections.connect("default", **given)
    assert caught.value.hint.removeprefix("settings.").startswith(told)
    assert bool(caught.value.hint) is bool(told)


def test_an_alias_that_is_wrongly_configured_is_configured() -> None:
    bad = {"ZILLIZ_BAD_URI": "ftp://db"}
    with registry(ZILLIZ_GOOD_URI=ELSEWHERE, **bad) as connections:
        with pytest.raises(UnknownAliasError, match=r"nobody: .*\(configured: good, bad\); "):
            connections.connect("nobody")
        with pytest.raises(
            UnknownAliasError, match=r"none is the default \(configured: good, bad\)"
        ):
            _ = connections.default
    with (
        registry(ZILLIZ_URI="ftp://db", ZILLIZ_GOOD_URI=ELSEWHERE) as connections,
        pytest.raises(ConfigurationError, match="ZILLIZ_URI"),
    ):
        _ = connections.default


@pytest.mark.parametrize("ask", ["connect", "__getitem__", "spec", "autoconnect", "explain"])
def test_where_nothing_is_configured_the_variable_of_that_alias_is_named(
    empty: Connections, ask: str
) -> None:
    with pytest.raises(UnknownAliasError, match="is configured; set ZILLIZ_NOBODY_URI in the"):
        getattr(empty, ask)("nobody")


@pytest.mark.parametrize(
    ("environ", "dotenv", "told"),
    [
        ({}, "", " or in a .env file in {}"),
        (
            {"MILVUS_HOST": "db", "MILVUS_PORT": "1"},
            "",
            (
                " or in a .env file in {} (MILVUS_HOST and MILVUS_PORT are not read: "
                "write ZILLIZ_URI=http://db:1)"
            ),
        ),
        (
            {"ZILLIZ_HOST": "db", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (ZILLIZ_HOST is not read: write ZILLIZ_URI=http://db:19530)",
        ),
        (
            {"ZILLIZ_EU_HOST": "db", "ZILLIZ_EU_PORT": "1", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (ZILLIZ_EU_HOST and ZILLIZ_EU_PORT are not read: write ZILLIZ_EU_URI=http://db:1)",
        ),
        (
            {"ZILLIZ_EU_HOST": "eu", "ZILLIZ_HOST": "db", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (ZILLIZ_HOST is not read: write ZILLIZ_URI=http://db:19530)",
        ),
        (
            {"ZILLIZ_EU_SERVICE_HOST": "10.0.0.1", "ZCONFIG_ENV_FILE": "off"},
            "",
            "",
        ),
        (
            {"ZCONFIG_ENV_FILE": ".env"},
            "MILVUS_ADDRESS=db:1\n",
            " or in .env (MILVUS_ADDRESS is not read: write ZILLIZ_URI=http://db:1)",
        ),
        (
            {"MILVUS_ENDPOINT": "https://root:hidden@db", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (MILVUS_ENDPOINT is not read: set ZILLIZ_URI to the value of MILVUS_ENDPOINT)",
        ),
        (
            {"MILVUS_HOST": "root:hidden@db", "MILVUS_PORT": "1", "ZCONFIG_ENV_FILE": "off"},
            "",
            (
                " (MILVUS_HOST and MILVUS_PORT are not read: write ZILLIZ_URI=http://db:1, and set "
                "ZILLIZ_USER and ZILLIZ_PASSWORD)"
            ),
        ),
        (
            {"MILVUS_HOST": "hidden@db", "MILVUS_PORT": "1", "ZCONFIG_ENV_FILE": "off"},
            "",
            (
                " (MILVUS_HOST and MILVUS_PORT are not read: write ZILLIZ_URI=http://db:1, and set "
                "ZILLIZ_TOKEN)"
            ),
        ),
        (
            {"milvus_uri": "./x.db", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (milvus_uri is not read: write ZILLIZ_URI=./x.db)",
        ),
        (
            {"Milvus_Uri": "tcp://db:1", "ZCONFIG_ENV_FILE": ".env"},
            "milvus_uri=http://root:hidden@db\n",
            " or in .env (Milvus_Uri and milvus_uri are not read: write ZILLIZ_URI=tcp://db:1)",
        ),
        (
            {"MILVUS_URI_FILE": "/run/uri", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (MILVUS_URI_FILE is not read: set ZILLIZ_URI_FILE to its value)",
        ),
        (
            {"MILVUS_\u200bURI": "http://root:hidden@db", "ZCONFIG_ENV_FILE": "off"},
            "",
            (
                " (MILVUS_\\u200bURI, whose name contains U+200B (ZERO WIDTH SPACE), is not read: "
                "set ZILLIZ_URI to the value of MILVUS_\\u200bURI)"
            ),
        ),
        (
            {"MILVUS_HOST\t": "db", "ZCONFIG_ENV_FILE": "off"},
            "",
            (
                " (MILVUS_HOST\\t, whose name contains U+0009 (CONTROL CHARACTER), is not read: "
                "write ZILLIZ_URI=http://db:19530)"
            ),
        ),
        (
            {"MILVUS_HOST": "localhost:1", "MILVUS_PORT": "2", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (MILVUS_HOST and MILVUS_PORT are not read: write ZILLIZ_URI=http://localhost:1)",
        ),
        (
            {"MILVUS_HOST": "https://db", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (MILVUS_HOST is not read: write ZILLIZ_URI=https://db)",
        ),
        (
            {"MILVUS_HOST": "http://db", "MILVUS_PORT": "1", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (MILVUS_HOST and MILVUS_PORT are not read: write ZILLIZ_URI=http://db:1)",
        ),
        (
            {"MILVUS_HOST": "::1", "ZCONFIG_ENV_FILE": "off"},
            "",
            " (MILVUS_HOST is not read: write ZILLIZ_URI=http://[::1]:19530)",
        ),
        (
            {"MILVUS_HOST": "db", "MILVUS_SECURE": "True", "ZCONFIG_ENV_FILE": "off"},
            "",
            (" (MILVUS_HOST and MILVUS_SECURE are not read: write ZILLIZ_URI=https://db:19530)"),
        ),
        (
            {"MILVUS_HOST": "db", "ZCONFIG_ENV_FILE": ".env"},
            "MILVUS_HOST=other\nMILVUS_PORT=1\n",
            " or in .env (MILVUS_HOST and MILVUS_PORT are not read: write ZILLIZ_URI=http://db:1)",
        ),
        ({"MILVUS_HOST": "<host>", "ZCONFIG_ENV_FILE": "off"}, "", " (MILVUS_HOST is not read)"),
        ({"MILVUS_HOST": "", "ZCONFIG_ENV_FILE": "off"}, "", ""),
        ({"MILVUS_PORT": "tcp://10.0.0.1:1"}, "", " or in a .env file in {}"),
    ],
)
def test_where_nothing_is_configured_variables_of_others_are_named(
    environ: dict[str, str], dotenv: str, told: str, tmp_path: Path
) -> None:
    if dotenv:
        (tmp_path / ".env").write_text(dotenv)
    connections = Connections(lambda: load(environ, tmp_path, system_secrets="nowhere"))
    for use in (connections.autoconnect, connections.connect, lambda: connections.default):
        with pytest.raises(ConfigurationError) as caught:
            use()
        expected = "no connection is configured; set ZILLIZ_URI in the environment" + told
        assert str(caught.value) == expected.replace("{}", str(tmp_path))


@pytest.mark.parametrize("alias", ["eu", "us", "default"])
def test_where_nothing_is_configured_the_variables_of_the_alias_wanted_are_named(
    alias: str, tmp_path: Path
) -> None:
    environ = {"ZILLIZ_EU_HOST": "eu", "ZILLIZ_HOST": "db", "ZILLIZ_US_HOST": "us"}
    uri = {
        "eu": "ZILLIZ_EU_URI=http://eu:19530",
        "us": "ZILLIZ_US_URI=http://us:19530",
        "default": "ZILLIZ_URI=http://db:19530",
    }
    problem = nothing_configured(load(environ, tmp_path), alias)
    assert problem.remedy.endswith(f"is not read: write {uri[alias]})")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"MILVUS_ENDPOINT": "http://db:1"}, "write MILVUS_URI=http://db:1"),
        ({"MILVUS_HOST": "db", "MILVUS_PORT": "1"}, "write MILVUS_URI=http://db:1"),
    ],
)
@pytest.mark.parametrize(
    "credentials", [{"MILVUS_TOKEN": "key"}, {"MILVUS_USER": "root", "MILVUS_PASSWORD": "pw"}]
)
def test_beside_credentials_of_milvus_variables_their_uri_is_the_one_to_write(
    place: dict[str, str], credentials: dict[str, str], told: str, tmp_path: Path
) -> None:
    remedy = nothing_configured(load({**place, **credentials}, tmp_path)).remedy
    assert remedy.startswith("set MILVUS_URI in the environment or")
    assert remedy.endswith(f"{told})")
    variable, _, uri = told.removeprefix("write ").partition("=")
    settings = load({**place, **credentials, variable: uri}, tmp_path).aliases["default"]
    assert settings.token or settings.password


def test_a_default_alias_that_nothing_configures_is_named_where_it_is_asked_for() -> None:
    with registry(ZILLIZ_PROD_URI=ELSEWHERE, ZCONFIG_DEFAULT_ALIAS="prdo") as connections:
        for ask in (lambda: connections.default, connections.spec):
            with pytest.raises(UnknownAliasError) as caught:
                ask()
            assert [str(e) for e in caught.value.problems][1:] == [
                (
                    "ZCONFIG_DEFAULT_ALIAS (environment): names `prdo`, which is not configured; "
                    "use one of prod"
                )
            ]


def test_an_error_of_an_alias_brings_what_else_is_wrong_with_its_values(tmp_path: Path) -> None:
    environ = {"ZILLIZ_URI": "ftp://db", "ZILLIZ_TOKEN": "'key'", "ZILLIZ_B_URI": "http://b "}
    connections = Connections(lambda: load(environ, tmp_path, system_secrets="nowhere"))
    with pytest.raises(ConfigurationError) as caught:
        connections.connect()
    assert [e.code for e in caught.value.problems] == ["bad_scheme", "quoted_value"]


def test_a_dotenv_file_that_is_not_read_is_told_of_where_nothing_is_configured(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_URI=http://db\n")
    (tmp_path / "x.env").touch(mode=0o600)
    for option in ("off", "x.env"):
        remedy = nothing_configured(load({"ZCONFIG_ENV_FILE": option}, tmp_path)).remedy
        assert remedy.endswith("; .env is not read because ZCONFIG_ENV_FILE is set")
    assert "not read" not in nothing_configured(load({}, tmp_path)).remedy


def test_a_device_in_place_of_a_dotenv_file_is_told_with_how_to_read_none(tmp_path: Path) -> None:
    environ = {"ZCONFIG_ENV_FILE": os.devnull, "ZILLIZ_URI": ELSEWHERE}
    [problem] = load(environ, tmp_path).problems
    assert problem.remedy == "use a regular file, or set ZCONFIG_ENV_FILE=off"
    assert load({**environ, "ZCONFIG_ENV_FILE": "off"}, tmp_path).problems == ()
    (tmp_path / "x.env").touch(mode=0o600)
    several = {"ZCONFIG_ENV_FILE": f"{os.devnull}{os.pathsep}x.env"}
    configuration = load(several, tmp_path)
    [problem] = configuration.problems
    assert problem.remedy == "use a regular file"  # without the others it would be another one
    told = nothing_configured(configuration).remedy
    assert told == "set ZILLIZ_URI in the environment or in x.env"


def test_where_nothing_is_configured_an_empty_uri_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_URI=\n")
    connections = Connections(lambda: load({}, tmp_path, system_secrets="nowhere"))
    told = r"is configured: ZILLIZ_URI \(\.env:1\) is set but empty, which counts as unset; set"
    with pytest.raises(ConfigurationError, match=told):
        connections.connect()


# --- what is wrong with the configuration --------------------------------------------------


def test_one_bad_alias_costs_no_other(server: FakeServer) -> None:
    with registry(ZILLIZ_GOOD_URI=server.uri, ZILLIZ_BAD_URI="ftp://db") as connections:
        assert connections["good"].is_open
        assert set(connections.autoconnect("good")) == {"good"}
        with pytest.raises(ConfigurationError, match="ZILLIZ_BAD_URI"):
            connections.connect("bad")
        assert connections.get_connection_addr("bad") == {}
        connections.disconnect("bad")


def test_autoconnect_dials_nobody_while_a_required_alias_is_wrong(server: FakeServer) -> None:
    with registry(ZILLIZ_GOOD_URI=server.uri, ZILLIZ_BAD_URI="ftp://db") as connections:
        with pytest.raises(ConfigurationError, match="ZILLIZ_BAD_URI"):
            connections.autoconnect()
        with pytest.raises(ConfigurationError, match="ZILLIZ_BAD_URI"):
            connections.autoconnect("good", "bad")
        assert server.calls() == []


def test_autoconnect_passes_over_an_optional_alias_that_is_wrong(server: FakeServer) -> None:
    bad = {"ZILLIZ_BAD_URI": "ftp://db", "ZILLIZ_BAD_REQUIRED": "no"}
    with registry(ZILLIZ_GOOD_URI=server.uri, **bad) as connections:
        assert set(connections.autoconnect()) == {"good"}


def test_autoconnect_of_nothing_is_an_error(empty: Connections) -> None:
    with pytest.raises(ConfigurationError, match="no connection is configured; set ZILLIZ_URI"):
        empty.autoconnect()


def test_autoconnect_of_an_unknown_alias_is_an_error(prod: Connections, server: FakeServer) -> None:
    with pytest.raises(UnknownAliasError, match="dev"):
        prod.autoconnect("prod", "dev")
    assert server.calls() == []


def test_aliases_that_are_named_are_required(server: FakeServer) -> None:
    with faults.refused() as port:
        optional = {"ZILLIZ_B_URI": f"http://127.0.0.1:{port}", "ZILLIZ_B_REQUIRED": "no"}
        with registry(ZILLIZ_A_URI=server.uri, **optional) as connections:
            assert set(connections.autoconnect()) == {"a"}
            with pytest.raises(AutoconnectError) as caught:
                connections.autoconnect("b")
    assert set(caught.value.failures) == {"b"}


# --- override ------------------------------------------------------------------------------


def test_an_override_has_its_own_connections_and_no_others(prod: Connections) -> None:
    with fake_server() as other, prod.override({"test": {"uri": other.uri}}) as same:
        assert same is prod
        assert list(prod) == ["test"]
        assert prod.default is prod["test"]
        assert "prod" not in prod
        with pytest.raises(UnknownAliasError):
            prod["prod"]


def test_after_an_override_everything_is_as_before(prod: Connections, server: FakeServer) -> None:
    live = prod["prod"]
    with prod.override({"prod": {"uri": server.uri, "token": SECRET}}):
        inside = prod["prod"]
        assert inside is not live
    assert inside.state is State.CLOSED
    assert prod["prod"] is live
    assert live.ping() > 0
    assert list(prod) == ["prod"]


def test_an_override_ends_with_an_exception_too(prod: Connections) -> None:
    live = prod["prod"]
    with pytest.raises(ZeroDivisionError), prod.override({"test": {"uri": ELSEWHERE}}):
        raise ZeroDivisionError
    assert prod.list_connections() == [("prod", live)]


def test_an_override_that_is_wrong_changes_nothing(prod: Connections) -> None:
    with pytest.raises(ConfigurationError), prod.override({"test": {"port": 70_000}}):
        pytest.fail("the block was entered")
    assert list(prod) == ["prod"]


def test_overrides_nest(prod: Connections) -> None:
    with prod.override({"outer": {"uri": ELSEWHERE}}):
        with prod.override({"inner": {"uri": ELSEWHERE}}):
            assert list(prod) == ["inner"]
        assert list(prod) == ["outer"]
    assert list(prod) == ["prod"]


# --- subscribe -----------------------------------------------------------------------------


def test_a_hook_is_told_of_a_connections_life_in_order(
    empty: Connections, server: FakeServer
) -> None:
    seen: list[events.Event] = []
    empty.subscribe(seen.append)
    empty.connect("dev", uri=server.uri, token=SECRET)
    empty.disconnect("dev")
    empty.remove_connection("dev")
    names = {"alias": "dev", "endpoint": server.uri}
    connected = seen[2]
    assert isinstance(connected, events.ConnectionConnected)
    assert connected.elapsed_ms > 0
    assert seen == [
        events.ConfigLoaded(aliases=(), files=(), problems=0, elapsed_ms=seen[0].elapsed_ms),  # type: ignore[attr-defined] # it has one if it is equal
        events.ConnectionConnecting(**names, origin="uri (connections.connect)"),
        events.ConnectionConnected(
            **names,
            origin="uri (connections.connect)",
            server_version=VERSION,
            attempt=1,
            elapsed_ms=connected.elapsed_ms,
        ),
        events.ConnectionClosed(**names),
        events.ConnectionRemoved(**names),
    ]
    assert SECRET not in repr(seen)


def test_a_hook_is_told_what_was_read_before_anything_else(server: FakeServer) -> None:
    Path(".env").write_text(f"ZILLIZ_PROD_URI={server.uri}\nZILLIZ_BAD_URI=ftp://db\n")
    with registry(ZILLIZ_PROD_DB_NAME="default") as connections:
        seen: list[events.Event] = []
        connections.subscribe(seen.append)
        assert seen == []
        connections.connect("prod")
    assert [event.name for event in seen] == [
        "zconfig.config.loaded",
        "zconfig.config.problem",
        "zconfig.connection.configured",
        "zconfig.connection.connecting",
        "zconfig.connection.connected",
        "zconfig.connection.closed",
    ]
    loaded = seen[0].fields()
    assert (loaded["aliases"], loaded["files"], loaded["problems"]) == (("prod",), (".env",), 1)
    assert seen[1].fields()["origin"] == "ZILLIZ_BAD_URI (.env:2)"
    assert seen[2].fields()["origin"] == "ZILLIZ_PROD_URI (.env:1)"


def test_a_hook_is_told_of_a_failure_and_its_cause(empty: Connections) -> None:
    seen: list[events.Event] = []
    empty.subscribe(seen.append)
    with faults.refused() as port, pytest.raises(RefusedError) as caught:
        empty.connect("dev", host="127.0.0.1", port=port)
    failed = seen[-1]
    assert isinstance(failed, events.ConnectionFailed)
    assert (failed.cause, failed.stage, failed.permanent) == ("refused", "TCP", False)
    assert (failed.problem, failed.remedy) == (str(caught.value), caught.value.remedy)


def test_adding_an_alias_is_told(empty: Connections) -> None:
    seen: list[events.Event] = []
    empty.subscribe(seen.append)
    empty.add_connection(dev={"uri": ELSEWHERE})
    origin = "uri (connections.add_connection)"
    assert seen[1:] == [events.ConnectionConfigured(alias="dev", endpoint=ELSEWHERE, origin=origin)]


def test_a_hook_that_was_taken_out_hears_no_more(prod: Connections) -> None:
    stays: list[events.Event] = []
    goes: list[events.Event] = []
    prod.subscribe(stays.append)
    unsubscribe = prod.subscribe(goes.append)
    prod.connect("prod")
    heard = len(goes)
    assert heard == len(stays) > 0
    unsubscribe()
    unsubscribe()
    prod.close()
    assert len(goes) == heard < len(stays)


def test_a_hook_that_raises_harms_nobody(
    prod: Connections, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: events.Event) -> None:
        raise ZeroDivisionError

    seen: list[events.Event] = []
    prod.subscribe(broken)
    prod.subscribe(seen.append)
    with caplog.at_level(logging.ERROR, "zconfig"):
        assert prod["prod"].is_open
    assert "zconfig.connection.connected" in [event.name for event in seen]
    assert "a hook failed on zconfig.connection.connected" in caplog.text


def test_a_hook_may_use_the_registry(prod: Connections) -> None:
    states: list[bool] = []

    def curious(event: events.Event) -> None:
        if isinstance(event, events.ConnectionClosed):
            states.append(prod.has_connection(event.alias))
            prod.connect(event.alias)

    unsubscribe = prod.subscribe(curious)
    first = prod["prod"]
    prod.disconnect("prod")
    assert states == [False]
    assert prod["prod"].is_open
    assert prod["prod"] is not first
    unsubscribe()


# --- close ---------------------------------------------------------------------------------


def test_closing_closes_every_connection_and_keeps_the_configuration(server: FakeServer) -> None:
    with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections:
        before = [connections["a"], connections["b"]]
        connections.close()
        assert [each.state for each in before] == [State.CLOSED] * 2
        assert connections.list_connections() == [("a", None), ("b", None)]
        assert connections["a"].is_open
        connections.close()
        connections.close()


def test_aliases_of_one_server_share_a_connection_and_close_apart(server: FakeServer) -> None:
    with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections:
        connections.autoconnect()
        connections.disconnect("a")
        assert connections["b"].ping() > 0
        assert len(server.peers()) == 1


# --- one connection ------------------------------------------------------------------------


def test_a_ping_is_measured_and_remembered(prod: Connections, server: FakeServer) -> None:
    connection = prod["prod"]
    measured = connection.round_trip_ms
    assert 0 < measured == connection.round_trip_ms
    assert len(server.calls("GetVersion")) == 1
    assert connection.ping() == connection.round_trip_ms
    assert len(server.calls("GetVersion")) == 2


def test_a_ping_waits_no_longer_than_it_is_told(prod: Connections, server: FakeServer) -> None:
    connection = prod["prod"]
    server.hold()
    with pytest.raises(ServerSilentError):
        connection.ping(timeout=0.2)
    server.recover()
    assert connection.ping() > 0


def test_health_is_what_the_server_says(prod: Connections, server: FakeServer) -> None:
    reply = HealthReply(is_healthy=False, reasons=("querynode is down",))
    server.answer("CheckHealth", reply.encode())
    health = prod["prod"].health()
    assert (health.healthy, health.reasons) == (False, ("querynode is down",))


def test_calls_carry_the_session_that_connect_opened(prod: Connections, server: FakeServer) -> None:
    connection = prod["prod"]
    connection.ping()
    (connect,), (ping,) = server.calls("Connect"), server.calls("GetVersion")
    assert "identifier" not in connect.metadata
    assert ping.metadata["identifier"] == str(connection.server.identifier) == "1"


def test_a_connection_is_a_context_that_closes_it(prod: Connections) -> None:
    with prod["prod"] as connection:
        assert repr(connection) == f"<Connection 'prod' to {connection.endpoint}, ready>"
    assert connection.state is State.CLOSED


# --- servers that are old, or something else -----------------------------------------------


def forget(server: FakeServer, *methods: str) -> None:
    for method in methods:
        server.fail(grpc.StatusCode.UNIMPLEMENTED, method=method)


def test_a_server_that_does_not_know_connect_is_asked_for_its_version(
    empty: Connections, server: FakeServer
) -> None:
    forget(server, "Connect")
    found = empty.connect("dev", uri=server.uri).server
    assert (found.version, found.identifier) == (VERSION, None)


@pytest.mark.parametrize("unknown", [("Connect",), ("Connect", "ListDatabases")])
def test_a_database_that_an_old_server_has_not_is_missing(
    empty: Connections, server: FakeServer, unknown: tuple[str, ...]
) -> None:
    forget(server, *unknown)
    with pytest.raises(DatabaseMissingError):
        empty.connect("dev", uri=server.uri, db_name="sales")


def test_a_database_that_an_old_server_lists_is_found(
    empty: Connections, server: FakeServer
) -> None:
    server.databases = ("default", "sales")
    forget(server, "Connect")
    assert empty.connect("dev", uri=server.uri, db_name="sales").is_open


def test_two_spellings_of_an_alias_that_differ_are_a_conflict(empty: Connections) -> None:
    with pytest.raises(ConfigurationError, match="differ in endpoint"):
        empty.add_connection(**{"q-a": {"uri": ELSEWHERE}, "q_a": {"uri": "http://127.0.0.1:2"}})


REFUSED: dict[str, Callable[[Connections, Any], Any]] = {
    "add_connection": lambda connections, token: connections.add_connection(x=token),
    "override": lambda connections, token: connections.override({"x": token}).__enter__(),
    "token": lambda connections, token: connections.connect("x", uri=ELSEWHERE, token=token),
    "password": lambda connections, token: connections.connect("x", "root", token, uri=ELSEWHERE),
    "a bad alias": lambda connections, token: connections.connect("a b", token=str(token)),
    "no string": lambda connections, token: connections.connect(5, token=str(token)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("value", [SECRET.encode(), [SECRET], (SECRET,)])
def test_what_is_refused_is_in_no_frame_of_ours(
    empty: Connections, refused: Callable[[Connections, Any], Any], value: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refused(empty, value)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [str(each.locals) for each in frames if each.filename.startswith(str(PACKAGE))]
    assert ours
    assert SECRET not in f"{ours} {caught.value}"


def test_parameters_that_are_no_mapping_are_refused(empty: Connections) -> None:
    with pytest.raises(ConfigurationError, match=r"^x: its parameters .* must be a mapping, not"):
        empty.add_connection(x=ELSEWHERE)  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, "1"])
def test_a_timeout_that_cannot_be_waited_for_is_refused(prod: Connections, timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        prod.autoconnect("prod", timeout=timeout)
    with pytest.raises(ConfigurationError, match="timeout"):
        prod["prod"].ping(timeout)


def test_a_database_in_code_replaces_the_one_in_the_uri(server: FakeServer) -> None:
    server.databases = ("default", "sales", "returns")
    with registry(ZILLIZ_PROD_URI=f"{server.uri}/returns") as connections:
        connection = connections.connect("prod", db_name="sales")
        assert connection.spec.db_name == "sales"
        assert connection.endpoint.db_name is None
