"""Arguments in code, with the names and meanings that pymilvus gave them."""

from __future__ import annotations

import enum
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import AnyUrl, SecretBytes, SecretStr

from zconfig._endpoint import TransportType
from zconfig._origin import Origin
from zconfig._settings.arguments import (
    check_arguments,
    fold_alias,
    from_arguments,
    has_endpoint,
    hide,
)
from zconfig._settings.fields import ConnectionSettings, endpoint_of
from zconfig.errors import ConfigurationError, Problem

CALL = "connections.connect"


def settings_of(**arguments: Any) -> ConnectionSettings:
    return from_arguments("prod", hide(arguments), CALL)[0]


class Place(str, enum.Enum):  # noqa: UP042 - its text is another than its value
    LOCAL = "http://localhost:1"


def problems_of(**arguments: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        from_arguments("prod", hide(arguments), CALL)
    return caught.value.problems


# --- where --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "uri"),
    [
        ({"uri": "https://db.example/sales"}, "https://db.example:443/sales"),
        ({"uri": "http://db:1", "secure": False}, "http://db:1"),
        ({"uri": "http://db:1", "secure": True}, "https://db:1"),
        ({"uri": "HTTP://db:1", "secure": True}, "https://db:1"),
        ({"uri": "https://db", "secure": False}, "https://db:443"),
        ({"host": "db"}, "http://db:19530"),
        ({"host": "db", "port": 1}, "http://db:1"),
        ({"host": "db", "port": "65535"}, "http://db:65535"),
        ({"host": "db", "port": None}, "http://db:19530"),
        ({"host": "[::1]", "port": 1}, "http://[::1]:1"),
        ({"host": "::1", "port": 1}, "http://[::1]:1"),
        ({"host": "FD00::1"}, "http://[fd00::1]:19530"),
        ({"host": None, "port": 1, "uri": "http://b:2"}, "http://b:2"),
        ({"uri": AnyUrl("http://root:pw@b:2/sales")}, "http://b:2/sales"),
        ({"uri": SecretStr("http://root:pw@b:2")}, "http://b:2"),
        ({"uri": Place.LOCAL}, "http://localhost:1"),
        ({"port": 1}, "http://localhost:1"),
        ({"host": "", "port": 1}, "http://localhost:1"),
        ({"host": "db", "secure": True}, "https://db:19530"),
        ({"address": "db:1"}, "http://db:1"),
        ({"address": "db:1", "secure": True}, "https://db:1"),
        ({"address": "unix:/run/milvus.sock"}, "unix:/run/milvus.sock"),
        ({"uri": "unix:/run/milvus.sock"}, "unix:/run/milvus.sock"),
        ({"address": "a:1", "uri": "http://b:1", "host": "c"}, "http://a:1"),
        ({"uri": "http://b:1", "host": "c", "port": 2}, "http://b:1"),
        ({"address": "", "uri": "http://b:1"}, "http://b:1"),
        ({"address": None, "uri": "http://b:1"}, "http://b:1"),
        ({"uri": "./x.db"}, "./x.db"),
        ({"uri": Path("x.db")}, "x.db"),
    ],
)
def test_a_place_is_taken_as_pymilvus_takes_it(arguments: dict[str, Any], uri: str) -> None:
    assert settings_of(**arguments).uri == uri
    assert has_endpoint(arguments)


@pytest.mark.parametrize(
    "arguments", [{}, {"uri": None, "host": ""}, {"token": "key"}, {"secure": True}]
)
def test_without_a_place_there_is_no_connection(arguments: dict[str, Any]) -> None:
    assert not has_endpoint(arguments)
    [problem] = problems_of(**arguments)
    assert (problem.code, problem.alias, problem.field) == ("missing_uri", "prod", "uri")
    assert str(problem) == (
        "prod: uri (connections.connect): is missing; pass uri, address, or host and port"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ({"uri": "db"}, "missing_scheme", "uri"),
        ({"uri": "http://db:0"}, "bad_port", "uri"),
        ({"address": "db:65536"}, "bad_port", "address"),
        ({"port": "x"}, "bad_port", "port"),
        ({"host": "db", "port": 0}, "bad_port", "host and port"),
        ({"host": "no host"}, "whitespace", "host"),
        ({"host": None, "port": "19530"}, "missing_host", "host"),
        ({"host": None, "port": 19530, "uri": "", "address": None}, "missing_host", "host"),
        ({"host": "https://in03.zillizcloud.com", "port": 443}, "bad_host", "host"),
        ({"address": "http://db:19530"}, "bad_host", "address"),
        ({"uri": "./x.db", "secure": True}, "tls_on_plaintext", "secure"),
        ({"address": "unix:/run/milvus.sock", "secure": True}, "tls_on_plaintext", "secure"),
    ],
)
def test_a_bad_place_is_told_by_the_parameter_that_was_passed(
    arguments: dict[str, Any], code: str, named: str
) -> None:
    [problem] = problems_of(**arguments)
    assert problem.code == code
    assert problem.origin == Origin("code", named, CALL)


@pytest.mark.parametrize("name", ["host", "address"])
def test_a_uri_in_another_parameter_is_to_be_passed_as_uri(name: str) -> None:
    [problem] = problems_of(**{name: "https://in03.zillizcloud.com"}, port=443)
    assert str(problem) == f"prod: {name} (connections.connect): is a URI; pass it as uri"


def test_a_host_that_is_none_is_told_as_a_variable_that_is_not_set() -> None:
    [problem] = problems_of(host=None, port="19530")
    assert str(problem) == (
        "prod: host (connections.connect): is None, but port is passed: the variable of the host "
        "may be unset; pass the server's host"
    )


# --- who ----------------------------------------------------------------------------------------


def test_none_credentials_are_no_credentials() -> None:
    settings = settings_of(uri="http://db", user=None, password=None, token=None, db_name=None)
    assert (settings.user, settings.password, settings.token) == (None, None, None)
    assert settings.db_name is None


def test_empty_credentials_are_no_credentials() -> None:
    settings = settings_of(uri="http://db", user="", password="", token="")
    assert (settings.user, settings.password, settings.token) == (None, None, None)


@pytest.mark.parametrize(("password", "text"), [(1234, "1234"), (0, "0"), ("0123", "0123")])
def test_a_number_as_password_is_its_text(password: object, text: str) -> None:
    settings = settings_of(uri="http://db", user="root", password=password)
    assert settings.password is not None
    assert settings.password.get_secret_value() == text


def test_a_number_as_token_is_its_text() -> None:
    token = settings_of(uri="http://db", token=1234).token
    assert token is not None
    assert token.get_secret_value() == "1234"


def test_userinfo_of_the_uri_is_the_pair() -> None:
    settings = settings_of(uri="http://root:p%40ss@db")
    assert settings.password is not None
    assert (settings.user, settings.password.get_secret_value()) == ("root", "p@ss")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"user": "root"}, "half_credentials"),
        ({"password": "pw"}, "half_credentials"),
        ({"token": "key", "user": "root", "password": "pw"}, "two_credentials"),
        ({"token": "key\n"}, "line_end"),
    ],
)
def test_credentials_are_judged_as_in_every_other_source(
    arguments: dict[str, Any], code: str
) -> None:
    [problem] = problems_of(uri="http://db", **arguments)
    assert problem.code == code


# --- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        ("ca_pem_path", "tls_ca"),
        ("server_pem_path", "tls_ca"),
        ("server_name", "tls_server_name"),
        ("tls_ca", "tls_ca"),
    ],
)
def test_a_tls_parameter_is_a_field_and_keeps_its_name(parameter: str, field: str) -> None:
    given = {"uri": "https://db", parameter: "x"}
    settings, origins = from_arguments("prod", given, CALL)
    assert getattr(settings, field) == "x"
    assert origins[field] == Origin("code", parameter, CALL)


def test_a_client_certificate_comes_with_its_key() -> None:
    pair = {"client_pem_path": "c.pem", "client_key_path": "c.key"}
    settings = settings_of(uri="https://db", **pair)
    assert (settings.tls_cert, settings.tls_key) == ("c.pem", "c.key")
    [problem] = problems_of(uri="https://db", client_pem_path="c.pem")
    assert (problem.code, problem.origin) == ("tls_pair", Origin("code", "client_pem_path", CALL))


def test_two_names_of_one_field_must_agree() -> None:
    assert settings_of(uri="https://db", ca_pem_path="a", server_pem_path="a").tls_ca == "a"
    [problem] = problems_of(uri="https://db", ca_pem_path="a", server_pem_path="b")
    assert (problem.code, problem.field) == ("conflict", "tls_ca")


def test_tls_parameters_on_a_plaintext_uri_are_an_error() -> None:
    [problem] = problems_of(host="db", ca_pem_path="ca.pem")
    assert problem.code == "tls_on_plaintext"


@pytest.mark.parametrize(("timeout", "seconds"), [(3, 3.0), (0.5, 0.5), ("7", 7.0), (None, 10.0)])
def test_a_timeout_is_seconds(timeout: object, seconds: float) -> None:
    assert settings_of(uri="http://db", timeout=timeout).timeout == seconds


@pytest.mark.parametrize("keep_alive", [True, False, None])
def test_keep_alive_as_a_switch_is_what_we_do_anyway(keep_alive: object) -> None:
    assert settings_of(uri="http://db", keep_alive=keep_alive).keepalive is None


def test_keep_alive_as_a_number_is_seconds() -> None:
    assert settings_of(uri="http://db", keep_alive=60).keepalive == 60.0


@pytest.mark.parametrize(
    ("arguments", "db_name", "in_uri"),
    [
        ({"uri": "http://db/sales", "db_name": None}, None, "sales"),
        ({"uri": "http://db/sales", "db_name": ""}, None, "sales"),
        ({"uri": "http://db/sales", "db_name": "sales"}, "sales", "sales"),
        ({"uri": "http://db", "db_name": "sales"}, "sales", None),
        ({"uri": "http://db", "db_name": "default"}, "default", None),
    ],
)
def test_a_database_that_is_left_out_is_the_one_of_the_uri(
    arguments: dict[str, Any], db_name: str | None, in_uri: str | None
) -> None:
    settings = settings_of(**arguments)
    assert (settings.db_name, endpoint_of(settings).db_name) == (db_name, in_uri)


@pytest.mark.parametrize("other", ["other", "default"])
def test_another_database_than_the_uris_is_an_error(other: str) -> None:
    [problem] = problems_of(uri="http://db/sales", db_name=other)
    assert (problem.code, problem.origin) == ("database_conflict", Origin("code", "db_name", CALL))


def test_our_own_fields_are_parameters_too() -> None:
    settings = settings_of(uri="./x.db", required=False, pool_size=2, proxy="off", keepalive=0)
    assert endpoint_of(settings).transport is TransportType.LITE
    assert (settings.required, settings.pool_size) == (False, 2)
    assert (settings.proxy, settings.keepalive) == (SecretStr("off"), 0.0)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    problems = problems_of(host="db", port=0, timeout=0, pool_size=99, token="a\n")
    codes = sorted(problem.code for problem in problems)
    assert codes == ["bad_pool_size", "bad_port", "bad_timeout", "line_end"]


def test_every_unknown_parameter_is_refused_with_the_known_ones() -> None:
    first, second = problems_of(uri="http://db", colour="key", retries=3)
    assert (first.code, first.alias) == ("unknown_argument", "prod")
    assert [str(problem.origin) for problem in (first, second)] == [
        "colour (connections.connect)",
        "retries (connections.connect)",
    ]
    for known in ("uri", "token", "server_pem_path", "keep_alive"):
        assert known in first.remedy


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("url", "uri"),
        ("URI", "uri"),
        ("http", "uri"),
        ("endpoint", "uri"),
        ("tokne", "token"),
        ("api_key", "token"),
        ("username", "user"),
        ("database", "db_name"),
        ("server_pem_pat", "server_pem_path"),
    ],
)
def test_a_parameter_that_is_misnamed_is_told_the_one_that_was_meant(
    written: str, meant: str
) -> None:
    [problem] = problems_of(**{written: "x"})
    assert (problem.code, problem.remedy) == ("unknown_argument", f"did you mean {meant}?")


def test_where_each_field_was_set_is_known() -> None:
    _, origins = from_arguments("prod", {"host": "db", "token": "k", "secure": True}, CALL)
    assert {field: str(origin) for field, origin in origins.items()} == {
        "uri": "host (connections.connect)",
        "token": "token (connections.connect)",
    }


# --- the alias ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "folded"), [("prod", "prod"), ("EU-Prod", "eu_prod"), ("a.b_c", "a_b_c"), ("1", "1")]
)
def test_an_alias_is_folded(alias: str, folded: str) -> None:
    assert fold_alias(alias) == folded


@pytest.mark.parametrize("alias", [None, 1, b"prod", ["prod"], object()])
def test_an_alias_is_a_string(alias: object) -> None:
    with pytest.raises(ConfigurationError, match=f"not {type(alias).__name__}") as caught:
        fold_alias(alias)
    assert [problem.code for problem in caught.value.problems] == ["bad_alias"]


@pytest.mark.parametrize(
    ("alias", "code"),
    [
        ("", "bad_alias"),
        ("two words", "bad_alias"),
        ("a__b", "bad_alias"),
        ("token", "reserved_alias"),
        ("Db-Name", "reserved_alias"),
        ("api_key_file", "reserved_alias"),
    ],
)
def test_what_no_variable_could_declare_is_no_alias(alias: str, code: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fold_alias(alias)
    [problem] = caught.value.problems
    assert (problem.code, problem.alias) == (code, alias)


@pytest.mark.parametrize(
    "alias",
    [
        "https://root:S3cret@db.example",
        "root:S3cret@db.example:19530",
        "root:S3cret",
        "./S3cret.db",
        "S3cret.db",
        "unix:/run/S3cret",
    ],
)
def test_a_uri_in_the_place_of_an_alias_is_told_as_that_and_not_repeated(alias: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a URI; .* as uri") as caught:
        fold_alias(alias)
    [problem] = caught.value.problems
    assert (problem.code, problem.alias) == ("bad_alias", None)
    assert "S3cret" not in repr(problem) + repr(caught.value) + repr(pickle.dumps(caught.value))


@pytest.mark.parametrize(
    ("host", "what", "remedy"),
    [
        ("localhost:19530", "has a port", "pass the port as port, or both as address"),
        ("localhost/sales", "has a path", "pass the database as db_name"),
    ],
)
def test_a_host_that_says_more_than_that_is_told_as_what_it_is(
    host: str, what: str, remedy: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_arguments("prod", hide({"host": host, "port": 19530}), "connections.connect")
    [problem] = caught.value.problems
    assert (problem.code, problem.message, problem.remedy) == ("bad_host", what, remedy)


def test_a_uri_in_the_place_of_a_parameters_name_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_arguments("prod", hide({"https://root:S3cret@db": 1}), "connections.connect")
    assert "S3cret" not in str(caught.value) + repr(caught.value.problems)


# --- secrets ------------------------------------------------------------------------------------

CANARY = "c4nary+S3cret"


@pytest.mark.parametrize(
    "arguments",
    [
        {"uri": "http://db:0", "token": CANARY},
        {"uri": f"http://root:{CANARY}@db:0"},
        {"uri": f"http://root:{CANARY}/x@db"},
        {"uri": CANARY},
        {"uri": "http://db", "password": CANARY},
        {"uri": "http://db", "token": f"{CANARY}\n"},
        {"uri": "http://db", "timeout": CANARY, "pool_size": CANARY, "proxy": CANARY},
        {"uri": "http://db", "tokne": CANARY},
        {"token": CANARY},
    ],
)
def test_no_secret_is_shown_by_an_error_or_the_locals_of_its_traceback(
    arguments: dict[str, str],
) -> None:
    hidden = hide(arguments)
    with pytest.raises(ConfigurationError) as caught:
        from_arguments("prod", hidden, CALL)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.__traceback__ is not None
    # Of our frames: the test's own has the secret by itself.
    ours = error.with_traceback(error.__traceback__.tb_next)
    shown = traceback.TracebackException.from_exception(ours, capture_locals=True)
    assert "from_arguments" in "".join(shown.format())
    assert "S3cret" not in "".join(shown.format()) + repr(error) + repr(hidden)


@pytest.mark.parametrize("scheme", ["http", "tcp", "grpc"])
def test_secure_holds_for_every_scheme_without_tls(scheme: str) -> None:
    assert endpoint_of(settings_of(uri=f"{scheme}://db:1", secure=True)).secure


@pytest.mark.parametrize("name", ["token", "uri", "port", "timeout", "secure", "ca_pem_path"])
@pytest.mark.parametrize("value", [b"S3cret", ["S3cret"], {"S3cret": 1}, SecretBytes(b"S3cret")])
def test_a_value_of_another_type_is_refused_and_kept_nowhere(name: str, value: object) -> None:
    hidden = hide({"uri": "https://db", name: value})
    [problem] = problems_of(**hidden)
    assert (problem.code, str(problem.origin)) == ("bad_argument", f"{name} ({CALL})")
    assert "S3cret" not in repr(hidden) + str(problem)


def test_what_pydantic_keeps_a_secret_in_is_taken_for_it() -> None:
    settings = settings_of(**hide({"uri": "http://db", "token": SecretStr("key")}))
    assert settings.token is not None
    assert settings.token.get_secret_value() == "key"
    assert "key" not in repr(hide({"token": SecretStr("key"), "proxy": Path("/key")}))
