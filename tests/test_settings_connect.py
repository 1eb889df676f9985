"""A settings model in place of arguments: to connections, and from them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zconfig import (
    ConfigurationError,
    ConflictError,
    ConnectionSettings,
    UnknownAliasError,
    UnreachableError,
    aio,
    connections,
)
from zconfig.testing import Environment, FakeServer, fake_server, isolated

SECRET = "S3cret-t0ken"
SETTINGS = ConnectionSettings.model_validate(
    {"uri": f"https://root:{SECRET}@db/sales", "timeout": 3, "tls_ca": "ca.pem"}
)


class Milvus(ConnectionSettings):
    """An application's own model, with a field of its own."""

    collection: str = "goods"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[Environment]:
    with isolated(tmp_path) as environment:
        yield environment


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def test_a_model_connects_an_alias(server: FakeServer) -> None:
    settings = Milvus.model_validate({"uri": server.uri, "token": SECRET, "pool_size": 2})
    connection = connections.connect("prod", settings=settings)
    assert connections.connect("prod", settings=settings) is connection
    assert [call.token for call in server.calls("Connect")] == [SECRET]
    assert connections.spec("prod").pool_size == 2
    with pytest.raises(ConflictError, match="pool_size"):
        connections.connect("prod", settings=settings, pool_size=1)


def test_a_model_connects_an_alias_on_an_event_loop(server: FakeServer) -> None:
    async def connect() -> str:
        settings = ConnectionSettings.model_validate({"uri": server.uri, "token": SECRET})
        return str((await aio.connect("prod", settings=settings, timeout=3)).endpoint)

    assert asyncio.run(connect()) == server.uri
    assert [call.token for call in server.calls("Connect")] == [SECRET]
    assert connections.spec("prod").timeout_s == 3


def test_a_model_is_the_whole_configuration_of_an_alias(
    environment: Environment,
) -> None:
    environment.set(ZILLIZ_PROD_URI="https://other", ZILLIZ_PROD_POOL_SIZE=7)
    connections.add_connection(prod=SETTINGS, spare={"uri": "http://spare"})
    spec = connections.spec("prod")
    assert (str(spec.endpoint), spec.timeout_s, spec.pool_size) == (SETTINGS.uri, 3, 1)
    assert spec.tls.ca == str(Path.cwd() / "ca.pem")
    assert SECRET in connections.secrets()


def test_other_arguments_replace_its_fields_and_the_credentials_as_one() -> None:
    more = {"settings": SETTINGS, "token": "key", "db_name": "x", "ca_pem_path": "/b.pem"}
    connections.add_connection(prod=more)
    spec = connections.spec("prod")
    assert spec.credentials is not None
    assert (spec.credentials.secret, spec.credentials.user) == ("key", None)
    assert (spec.db_name, spec.timeout_s, spec.tls.ca) == ("x", 3, "/b.pem")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"settings": SETTINGS, "host": "other"},
            (
                "settings (connections.add_connection): has a URI, but host is also passed; "
                "pass one of the two"
            ),
        ),
        (
            {"settings": {"token": SECRET}},
            (
                "settings (connections.add_connection): must be a ConnectionSettings; "
                "pass a ConnectionSettings, or its fields as parameters"
            ),
        ),
        (
            {"settings": SETTINGS.model_copy(update={"uri": f"ftp://key:{SECRET}"})},
            ("settings.uri (connections.add_connection): the scheme is "),
        ),
        (
            {"settings": SETTINGS.model_copy(update={"tls_ca": None, "tls_cert": "x"})},
            (
                "settings.tls_cert (connections.add_connection): is set without the parameter "
                "settings.tls_key; set the parameter settings.tls_key too, or remove "
                "the parameter settings.tls_cert"
            ),
        ),
        (
            {"settings": SETTINGS.model_copy(update={"token": [SECRET]})},
            "settings.token (connections.add_connection): must be text or a number, not list; ",
        ),
        (
            {"settings": ConnectionSettings.model_construct(timeout=3)},
            "settings.uri (connections.add_connection): is missing; create the model with a uri",
        ),
        (
            {"uri": Milvus(uri="http://db")},
            (
                "uri (connections.add_connection): must be text or a number, "
                "not ConnectionSettings; pass it as settings"
            ),
        ),
        (
            {"setting": SETTINGS},
            "setting (connections.add_connection): is not a parameter; did you mean settings?",
        ),
    ],
)
def test_what_is_wrong_names_the_parameter(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connections.add_connection(prod=arguments)
    [found] = caught.value.problems
    assert str(found).startswith(f"prod: {problem}")
    assert "prod" not in connections


def test_a_test_may_override_all_connections_by_models() -> None:
    with connections.override({"prod": SETTINGS}):
        assert list(connections) == ["prod"]


@pytest.mark.parametrize(
    "given",
    [
        {"uri": "https://db", "token": SECRET},
        {"uri": "https://db/sales", "user": "root", "password": SECRET, "timeout": 3},
        {"uri": "http://db", "token": "root:", "db_name": "sales", "keepalive": 0},
        {"uri": "./x.db", "required": False},
        {"uri": "unix:/run/x.sock", "pool_size": 3},
        {"uri": "https://db", "tls_cert": "c.pem", "tls_key": "k.pem", "tls_server_name": "d"},
        {"uri": "http://db", "proxy": f"http://me:{SECRET}@proxy:1"},
        {"uri": "https://in03-x.serverless.aws-eu-central-1.vectordb.zillizcloud.com"},
    ],
)
def test_what_is_configured_is_a_model_again(given: dict[str, Any]) -> None:
    connections.add_connection(prod=given)
    settings = connections.settings("prod")
    assert settings.model_fields_set == ConnectionSettings.model_fields.keys()
    assert {type(settings.uri), type(settings.user)} <= {str, type(None)}
    assert SECRET not in f"{settings!r}{settings.model_dump_json()}"
    connections.add_connection(copy=settings)
    assert replace(connections.spec("copy"), alias="prod") == connections.spec("prod")


def test_the_default_alias_is_meant_where_none_is_named() -> None:
    connections.add_connection(default=SETTINGS)
    assert connections.settings().uri == SETTINGS.uri
    with pytest.raises(UnknownAliasError):
        connections.settings("nobody")


def test_a_failure_names_the_field_of_the_model(server: FakeServer) -> None:
    server.stop()
    with pytest.raises(UnreachableError) as caught:
        connections.connect("prod", settings=ConnectionSettings(uri=server.uri, timeout=0.5))
    assert "set by settings.uri (connections.connect)" in str(caught.value)
    assert "the parameter settings.uri" in caught.value.remedy


def test_no_local_of_a_failed_call_shows_a_secret() -> None:
    wrong = ConnectionSettings(uri="http://db").model_copy(update={"token": f"{SECRET}\n"})
    for call in (
        lambda: connections.connect("prod", settings=wrong),
        lambda: asyncio.run(aio.connect("prod", settings=wrong)),
        lambda: connections.add_connection(prod=wrong),
    ):
        with pytest.raises(ConfigurationError) as caught:
            call()
        ours = (f for f, _ in traceback.walk_tb(caught.tb) if "/zconfig/" in f.f_code.co_filename)
        assert not any(SECRET in repr(frame.f_locals) for frame in ours)
