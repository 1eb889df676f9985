"""What frameworks are given: the parameters of a `MilvusClient`, and a token nobody sees."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from copy import deepcopy
from pathlib import Path

import pytest

import zconfig
from tests.support.processes import run_python
from tests.support.registries import registry
from zconfig.errors import ConfigurationError, UnknownAliasError
from zconfig.interop.connection_args import connection_args_of

TOKEN = "root:s3cret-enough"


def args_of(alias: str = "default", **environ: str) -> dict[str, object]:
    with registry(**environ) as connections:
        return connection_args_of(connections.spec(alias))


def test_a_server_without_anything_else_is_a_uri_and_a_timeout() -> None:
    assert args_of(ZILLIZ_URI="http://db") == {"uri": "http://db:19530", "timeout": 10.0}


@pytest.mark.parametrize(
    "credentials",
    [
        {"ZILLIZ_TOKEN": TOKEN},
        {"ZILLIZ_USER": "root", "ZILLIZ_PASSWORD": "s3cret-enough"},
        {"ZILLIZ_URI": "https://root:s3cret-enough@db"},
    ],
)
def test_credentials_are_a_token_however_they_were_configured(credentials: dict[str, str]) -> None:
    args = args_of(**{"ZILLIZ_URI": "https://db", **credentials})
    assert args["token"] == TOKEN
    assert args["uri"] == "https://db:443"
    assert {"user", "password"}.isdisjoint(args)


@pytest.mark.parametrize(
    "environ",
    [
        {"ZILLIZ_URI": "https://db/sales"},
        {"ZILLIZ_URI": "https://db", "ZILLIZ_DB_NAME": "sales"},
    ],
)
def test_a_database_is_a_parameter_of_its_own_and_not_in_the_uri(environ: dict[str, str]) -> None:
    args = args_of(**environ)
    assert (args["uri"], args["db_name"]) == ("https://db:443", "sales")


def test_the_default_database_is_not_named() -> None:
    assert "db_name" not in args_of(ZILLIZ_URI="https://db/default")


def test_the_timeout_is_the_configured_one() -> None:
    assert args_of(ZILLIZ_URI="https://db", ZILLIZ_TIMEOUT="2.5")["timeout"] == 2.5


def pem_files(directory: Path, *names: str) -> dict[str, str]:
    for name in names:
        (directory / name).touch()
    return {f"ZILLIZ_TLS_{name.upper()}": str(directory / name) for name in names}


def test_an_authority_alone_is_a_server_pem_path(tmp_path: Path) -> None:
    environ = pem_files(tmp_path, "ca")
    args = args_of(ZILLIZ_URI="https://db", ZILLIZ_TLS_SERVER_NAME="milvus", **environ)
    tls = {"server_pem_path": str(tmp_path / "ca"), "server_name": "milvus"}
    assert args == {"uri": "https://db:443", "timeout": 10.0} | tls


def test_a_client_certificate_comes_with_key_and_authority(tmp_path: Path) -> None:
    args = args_of(ZILLIZ_URI="https://db", **pem_files(tmp_path, "ca", "cert", "key"))
    assert "server_pem_path" not in args
    files = (args["ca_pem_path"], args["client_pem_path"], args["client_key_path"])
    assert files == tuple(str(tmp_path / name) for name in ("ca", "cert", "key"))


@pytest.fixture(autouse=True)
def _no_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system trust nobody, in a directory."""
    (tmp_path / "authorities").mkdir()
    for name in ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "authorities"))


@pytest.mark.parametrize("name", ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE", "directory"])
def test_without_an_authority_the_bundle_is_named_that_the_channel_trusts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "authorities" / "ca-certificates.crt"
    bundle.touch()
    if name != "directory":
        monkeypatch.setenv(name, str(bundle))
    copied = deepcopy(args_of(ZILLIZ_URI="https://db"))  # as frameworks do
    assert copied["server_pem_path"] == str(bundle)
    pair = args_of(ZILLIZ_URI="https://db", **pem_files(tmp_path, "cert", "key"))
    assert pair["ca_pem_path"] == str(bundle)


def test_a_client_certificate_without_any_bundle_is_refused(tmp_path: Path) -> None:
    environ = pem_files(tmp_path, "cert", "key")
    with pytest.raises(ConfigurationError, match="set ZILLIZ_TLS_CA") as caught:
        args_of(ZILLIZ_URI="https://db", **environ)
    assert caught.value.problems[0].code == "certificate_without_ca"


def test_milvus_lite_is_an_absolute_path(tmp_path: Path) -> None:
    assert args_of(ZILLIZ_URI="./app.db")["uri"] == str(tmp_path / "app.db")


def test_a_unix_socket_keeps_its_scheme() -> None:
    assert args_of(ZILLIZ_URI="unix:/run/milvus.sock")["uri"] == "unix:/run/milvus.sock"


def test_a_global_cluster_is_its_own_endpoint() -> None:
    uri = "https://glo-abc.global-cluster.vectordb.zillizcloud.com"
    assert args_of(ZILLIZ_URI=uri)["uri"] == f"{uri}:443"


# --- the secret ----------------------------------------------------------------------------


def args_with_token() -> dict[str, object]:
    return args_of(ZILLIZ_URI="https://db", ZILLIZ_TOKEN=TOKEN)


def test_the_representation_hides_the_token() -> None:
    args = args_with_token()
    for shown in (repr(args), str(args), f"{args}", repr({**args}), repr(dict(args) | {"a": 1})):
        assert "s3cret" not in shown
        assert "<hidden>" in shown


def test_a_traceback_with_locals_hides_the_token() -> None:
    def connect(**kwargs: object) -> None:
        token = kwargs["token"]
        raise RuntimeError(type(token).__name__)

    with pytest.raises(RuntimeError) as caught:
        connect(**args_with_token())
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(shown.format())
    assert "token" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, dict])
def test_a_copy_works_and_hides_the_token_too(duplicate: type) -> None:
    args = duplicate(args_with_token())
    assert args["token"] == TOKEN
    assert "s3cret" not in repr(args)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused(protocol: int) -> None:
    with pytest.raises(TypeError, match="in each process") as caught:
        pickle.dumps(args_with_token(), protocol)
    assert "s3cret" not in str(caught.value)


def test_the_token_is_the_text_it_stands_for() -> None:
    token = args_with_token()["token"]
    assert json.dumps(token) == f'"{TOKEN}"'
    assert f"{token}".encode() == TOKEN.encode()


# --- the public function --------------------------------------------------------------------


def test_the_default_alias_is_meant_where_none_is_named() -> None:
    with zconfig.connections.override({"only": {"uri": "http://one"}}):
        assert zconfig.connection_args() == zconfig.connection_args("only")
    with zconfig.connections.override(
        {"default": {"uri": "http://one"}, "other": {"uri": "http://two"}}
    ):
        assert zconfig.connection_args()["uri"] == "http://one:19530"
        assert zconfig.connection_args("Other")["uri"] == "http://two:19530"


def test_an_unknown_alias_lists_the_known_ones() -> None:
    known = {"eu": {"uri": "http://one"}, "us": {"uri": "http://two"}}
    with (
        zconfig.connections.override(known),
        pytest.raises(UnknownAliasError, match="known are eu, us"),
    ):
        zconfig.connection_args("prod")


def test_each_call_returns_a_mapping_of_its_own() -> None:
    with zconfig.connections.override({"only": {"uri": "http://one"}}):
        zconfig.connection_args()["uri"] = "http://another"
        assert zconfig.connection_args()["uri"] == "http://one:19530"


def test_nothing_is_dialed_and_neither_grpc_nor_pymilvus_is_imported() -> None:
    done = run_python(
        """
        import sys, zconfig
        print(zconfig.connection_args())
        print(sorted({"grpc", "pymilvus"} & sys.modules.keys()))
        """,
        environ={"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": TOKEN},
    )
    assert done.returncode == 0, done.stderr
    shown = "{'uri': 'http://127.0.0.1:1', 'timeout': 10.0, 'token': <hidden>}"
    assert done.stdout.splitlines() == [shown, "[]"]
