"""Settings of one alias → its specification; what takes precedence, and what differs."""

from __future__ import annotations

import base64
import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from zconfig._endpoint import Family, parse_uri
from zconfig._origin import Origin, anchored
from zconfig._redaction import Secret
from zconfig._settings.arguments import from_arguments
from zconfig._settings.load import load
from zconfig._spec import (
    ConnectionSpec,
    Credentials,
    TLSFiles,
    differences,
    override,
    to_spec,
)

CLOUD = "vectordb.zillizcloud.com"


def spec_of(**arguments: Any) -> ConnectionSpec:
    """Return the specification of settings that were passed in code."""
    return to_spec("prod", *from_arguments("prod", {"uri": "https://db", **arguments}, "call"))


# --- conversion ---------------------------------------------------------------------------------


def test_everything_that_is_configured_is_in_the_specification() -> None:
    spec = spec_of(
        uri="https://db.example/sales",
        token="key",
        timeout=3,
        required=False,
        tls_ca="ca.pem",
        tls_cert="c.pem",
        tls_key="c.key",
        tls_server_name="milvus",
        proxy="off",
        keepalive=60,
        pool_size=2,
    )
    assert spec == ConnectionSpec(
        alias="prod",
        endpoint=parse_uri("https://db.example/sales"),
        credentials=Credentials(Secret("key")),
        db_name="sales",
        timeout_s=3.0,
        required=False,
        tls=TLSFiles(*map(os.path.abspath, ("ca.pem", "c.pem", "c.key")), "milvus"),
        proxy=Secret("off"),
        keepalive_s=60.0,
        pool_size=2,
    )


def test_what_is_not_configured_has_its_default() -> None:
    spec = spec_of()
    assert spec == ConnectionSpec("prod", parse_uri("https://db"))
    assert (spec.credentials, spec.db_name, spec.proxy) == (None, "default", None)
    assert (spec.timeout_s, spec.keepalive_s, spec.pool_size) == (10.0, 30.0, 1)
    assert spec.required


@pytest.mark.parametrize(
    ("arguments", "db_name"),
    [
        ({}, "default"),
        ({"db_name": "sales"}, "sales"),
        ({"uri": "https://db/sales"}, "sales"),
        ({"uri": "https://db/"}, "default"),
        ({"uri": "https://db/sales", "db_name": "sales"}, "sales"),
    ],
)
def test_the_database_is_the_fields_else_the_uris_else_the_default(
    arguments: dict[str, str], db_name: str
) -> None:
    assert spec_of(**arguments).db_name == db_name


@pytest.mark.parametrize(
    ("uri", "family", "keepalive_s"),
    [
        ("http://db", Family.MILVUS, 30.0),
        ("unix:/run/milvus.sock", Family.MILVUS, 30.0),
        ("./x.db", Family.LITE, 0.0),
        (f"https://in01-ab.aws-us-west-2.{CLOUD}", Family.DEDICATED, 30.0),
        (f"https://in03-ab.serverless.aws-eu-central-1.{CLOUD}", Family.SERVERLESS, 300.0),
        (f"https://proj-ab.aws-us-west-2.{CLOUD}", Family.PROJECT, 300.0),
        (f"https://x.global-cluster.{CLOUD}", Family.GLOBAL_CLUSTER, 300.0),
    ],
)
def test_pings_are_as_frequent_as_the_family_tolerates(
    uri: str, family: Family, keepalive_s: float
) -> None:
    spec = spec_of(uri=uri)
    assert (spec.endpoint.family, spec.keepalive_s) == (family, keepalive_s)
    assert spec_of(uri=uri, keepalive=10).keepalive_s == 10.0
    assert spec_of(uri=uri, keepalive=0).keepalive_s == 0.0


@pytest.mark.parametrize("uri", ["x.db", "./x.db", "child/../x.db"])
def test_the_path_of_an_embedded_database_survives_a_change_of_directory(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "child").mkdir()
    path = spec_of(uri=uri).endpoint.path
    assert path is not None
    monkeypatch.chdir(tmp_path / "child")
    assert Path(path).is_absolute()
    assert Path(path).resolve() == (tmp_path / "x.db").resolve()


def test_the_paths_of_tls_files_survive_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tls_ca="ca.pem", tls_cert="./c.pem", tls_key="~/c.key")
    assert spec.tls.ca == str(tmp_path / "ca.pem")
    monkeypatch.chdir("/")
    assert differences(spec, spec_of(tls_ca="ca.pem")) == ("tls",)


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert spec_of(uri="~/x.db").endpoint.path == str(tmp_path / "x.db")
    assert spec_of(tls_ca="~/ca.pem").tls.ca == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("path", ["~\0/ca.pem", "~\ud800/ca.pem"])
def test_a_home_that_no_user_can_have_is_a_directory_of_that_name(path: str) -> None:
    assert anchored(path, Path("/srv")) == f"/srv/{path}"


# --- credentials --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "secret", "user"),
    [
        ({"token": "key"}, "key", None),
        ({"token": "root:Milvus"}, "root:Milvus", "root"),
        ({"token": "root:a:b"}, "root:a:b", "root"),
        ({"user": "root", "password": "a:b"}, "root:a:b", "root"),
        ({"uri": "https://root:a%3Ab@db"}, "root:a:b", "root"),
    ],
)
def test_credentials_are_a_key_or_a_pair(
    arguments: dict[str, str], secret: str, user: str | None
) -> None:
    credentials = spec_of(**arguments).credentials
    assert credentials == Credentials(Secret(secret), user)
    assert credentials is not None
    assert base64.b64decode(credentials.authorization.reveal()).decode() == secret


def test_credentials_are_not_shown() -> None:
    spec = spec_of(uri="https://root:c4nary@db", proxy="http://u:c4nary@proxy:1")
    shown = repr(spec) + str(spec) + repr(spec.credentials) + repr(dataclasses.asdict(spec))
    assert "c4nary" not in shown
    assert "root" in repr(spec.credentials)


def test_credentials_are_not_pickled() -> None:
    spec = spec_of(token="c4nary")
    for secretive in (spec, spec.credentials):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(secretive)
    open_to_all = spec_of()
    assert pickle.loads(pickle.dumps(open_to_all)) == open_to_all  # noqa: S301 - our own bytes


# --- origins ------------------------------------------------------------------------------------


def test_where_a_field_was_set_is_known_by_the_names_of_the_specification(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "ZILLIZ_PROD_TLS_CA=ca.pem\nZILLIZ_PROD_USER=a\nZILLIZ_PROD_PASSWORD=b\n"
    )
    environ = {"ZILLIZ_PROD_URI": "https://db", "ZILLIZ_PROD_TIMEOUT": "3"}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    origins = {f: p.origin for (_, f), p in configuration.provenance.items()}
    spec = to_spec("prod", configuration.aliases["prod"], origins)
    assert str(spec.origin()) == "ZILLIZ_PROD_URI (environment)"
    assert str(spec.origin("endpoint")) == "ZILLIZ_PROD_URI (environment)"
    assert str(spec.origin("timeout_s")) == "ZILLIZ_PROD_TIMEOUT (environment)"
    assert str(spec.origin("tls")) == "ZILLIZ_PROD_TLS_CA (.env:1)"
    assert str(spec.origin("credentials")) == "ZILLIZ_PROD_PASSWORD (.env:3)"
    assert str(spec.origin("db_name", "timeout_s")) == "ZILLIZ_PROD_TIMEOUT (environment)"
    assert str(spec.origin("pool_size")) == "ZILLIZ_PROD_URI (environment)"


def test_a_specification_without_origins_names_its_alias() -> None:
    assert ConnectionSpec("prod", parse_uri("http://db")).origin("uri") == Origin("default", "prod")


# --- precedence and difference ------------------------------------------------------------------


def test_an_override_replaces_what_it_sets_and_keeps_the_rest() -> None:
    spec = spec_of(token="key", timeout=3, pool_size=2)
    other = spec_of(uri="https://elsewhere", token="other", db_name="sales")
    changed = override(spec, other)
    assert changed.endpoint == spec.endpoint
    assert (changed.timeout_s, changed.pool_size, changed.db_name) == (3.0, 2, "sales")
    assert changed.credentials == Credentials(Secret("other"))
    assert changed.origins == {
        **spec.origins,
        "token": Origin("code", "token", "call"),
        "db_name": Origin("code", "db_name", "call"),
    }


def test_an_override_that_sets_nothing_changes_nothing() -> None:
    spec = spec_of(token="key", timeout=3)
    assert override(spec, spec_of()) == spec
    assert override(spec, spec_of()).origins == spec.origins


def test_a_default_value_that_was_set_overrides() -> None:
    assert override(spec_of(timeout=3), spec_of(timeout=10)).timeout_s == 10.0


def test_a_pair_overrides_a_token_whole() -> None:
    changed = override(spec_of(token="key"), spec_of(user="root", password="pw"))
    assert changed.credentials == Credentials(Secret("root:pw"), "root")


def test_a_token_overrides_a_pair_whole() -> None:
    changed = override(spec_of(user="root", password="pw"), spec_of(token="key"))
    assert changed.credentials == Credentials(Secret("key"))


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ({"token": "key"}, {"user": "root", "password": "pw"}),
        ({"user": "root", "password": "pw"}, {"token": "key"}),
    ],
)
def test_the_origin_of_credentials_is_that_of_those_that_count(
    below: dict[str, str], above: dict[str, str]
) -> None:
    spec = spec_of(**below)
    elsewhere = {name: Origin("environment", f"ZILLIZ_PROD_{name.upper()}") for name in below}
    spec = dataclasses.replace(spec, origins={**spec.origins, **elsewhere})
    assert override(spec, spec_of(**above)).origin("credentials").source == "code"


def test_a_tls_field_overrides_itself_alone() -> None:
    changed = override(spec_of(tls_ca="/ca.pem"), spec_of(tls_server_name="milvus"))
    assert changed.tls == TLSFiles(ca="/ca.pem", server_name="milvus")


def test_equal_specifications_do_not_differ_wherever_they_were_set() -> None:
    one, other = spec_of(token="key"), spec_of(token="key")
    other = dataclasses.replace(other, origins={})
    assert one == other
    assert differences(one, other) == ()


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"uri": "https://other"}, ("endpoint",)),
        ({"token": "c4nary"}, ("credentials",)),
        ({"db_name": "sales"}, ("db_name",)),
        ({"timeout": 3}, ("timeout_s",)),
        ({"required": False}, ("required",)),
        ({"tls_ca": "ca.pem"}, ("tls",)),
        ({"proxy": Secret("off")}, ("proxy",)),
        ({"keepalive": 60}, ("keepalive_s",)),
        ({"pool_size": 2}, ("pool_size",)),
        (
            {"uri": "http://db", "timeout": 3, "token": "k"},
            ("endpoint", "credentials", "timeout_s"),
        ),
    ],
)
def test_differences_are_names_of_fields(changed: dict[str, Any], names: tuple[str, ...]) -> None:
    assert differences(spec_of(), spec_of(**changed)) == names


def test_a_specification_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec_of().timeout_s = 3  # type: ignore[misc]  # on purpose
