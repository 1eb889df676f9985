"""What frameworks are given: the parameters of a `MilvusClient`, and a token nobody sees."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import zconfig
from tests.support.processes import run_python
from tests.support.registries import registry
from zconfig._channel.channels import channel_options
from zconfig.errors import ConfigurationError, UnknownAliasError
from zconfig.interop.connection_args import connection_args_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.certificates import Certificates

TOKEN = "root:s3cret-enough"


def args_of(
    alias: str = "default", *, names: Mapping[str, str] | None = None, **environ: str
) -> dict[str, object]:
    with registry(**environ) as connections:
        return connection_args_of(connections.spec(alias), names)


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
        (directory / name).touch(mode=0o600)
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


@pytest.mark.parametrize("name", ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE"])
def test_without_an_authority_the_file_is_named_that_the_channel_trusts(
    name: str, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificates.ca))
    copied = deepcopy(args_of(ZILLIZ_URI="https://db"))  # as frameworks do
    assert copied["server_pem_path"] == str(certificates.ca)
    pair = args_of(ZILLIZ_URI="https://db", **pem_files(tmp_path, "cert", "key"))
    assert pair["ca_pem_path"] == str(certificates.ca)


@pytest.mark.parametrize("name", ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE"])
def test_a_relative_file_of_authorities_is_handed_on_as_it_is_from_here(
    name: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(certificates.ca.parent)
    monkeypatch.setenv(name, certificates.ca.name)
    assert args_of(ZILLIZ_URI="https://db")["server_pem_path"] == str(certificates.ca)


@pytest.fixture
def hashed(certificates: Certificates, tmp_path: Path) -> Path:
    """Have the system trust an authority in a directory, as OpenSSL names its file there."""
    file = tmp_path / "authorities" / "5ed36f99.0"
    file.write_bytes(certificates.ca.read_bytes())
    return file


def test_a_bundle_with_all_authorities_of_a_directory_is_named(
    hashed: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = hashed.with_name("ca-certificates.crt")
    bundle.write_text(f"# a comment\n{certificates.ca.read_text()}".replace("\n", "\r\n"))
    assert args_of(ZILLIZ_URI="https://db")["server_pem_path"] == str(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    assert args_of(ZILLIZ_URI="https://db")["server_pem_path"] == str(certificates.ca)


@pytest.mark.parametrize("bundle", ["none", "another", "with a byte order mark"])
@pytest.mark.parametrize("beside", ["none.pem", "other_ca"])
def test_authorities_that_are_in_no_single_file_are_refused(
    beside: str,
    bundle: str,
    hashed: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents = {
        "another": certificates.other_ca.read_bytes(),
        "with a byte order mark": b"\xef\xbb\xbf" + certificates.ca.read_bytes(),
    }
    if bundle in contents:
        hashed.with_name("ca-certificates.crt").write_bytes(contents[bundle])
    monkeypatch.setenv("SSL_CERT_FILE", str(getattr(certificates, beside, beside)))
    with pytest.raises(ConfigurationError) as caught:
        args_of(ZILLIZ_URI="https://db")
    [problem] = caught.value.problems
    assert (problem.code, problem.field) == ("authorities_in_several_files", "tls_ca")
    assert problem.remedy == "set ZILLIZ_TLS_CA to one file with all trusted authorities"
    assert str(hashed.parent) in problem.message


def test_a_default_file_with_a_byte_order_mark_is_refused(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "marked.pem"
    file.write_bytes(b"\xef\xbb\xbf" + certificates.ca.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.delenv("SSL_CERT_DIR")
    with pytest.raises(ConfigurationError, match="set ZILLIZ_TLS_CA to one file"):
        args_of(ZILLIZ_URI="https://db")


def test_where_the_channel_trusts_nothing_but_grpc_s_own_authorities_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    assert "server_pem_path" not in args_of(ZILLIZ_URI="https://db")


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_pymilvus_would_read_in_another_way_is_refused(
    name: str, tmp_path: Path
) -> None:
    environ = {"ZILLIZ_URI": "https://db", **pem_files(tmp_path, "ca", "cert", "key")}
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfs3cret")
    with pytest.raises(ConfigurationError) as caught:
        args_of(**environ)
    assert str(caught.value) == (
        f"default: ZILLIZ_TLS_{name.upper()} (environment): the file begins with a byte order "
        f"mark, which pymilvus passes to gRPC; save it without one"
    )
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "s3cret" not in "".join(shown.format())
    (tmp_path / name).unlink()
    with pytest.raises(ConfigurationError, match=rf"_{name.upper()} .*the file does not exist"):
        args_of(**environ)


@pytest.mark.parametrize(
    ("uri", "name", "expected"),
    [
        ("https://db.", {}, "db"),
        ("https://db.", {"ZILLIZ_TLS_SERVER_NAME": "milvus."}, "milvus"),
        ("https://db", {"ZILLIZ_TLS_SERVER_NAME": "milvus"}, "milvus"),
        ("https://db", {}, None),
    ],
)
def test_the_name_to_verify_is_that_of_the_channel(
    uri: str, name: dict[str, str], expected: str | None
) -> None:
    assert args_of(ZILLIZ_URI=uri, **name).get("server_name") == expected
    with registry(ZILLIZ_URI=uri, **name) as connections:
        options = dict(channel_options(connections.spec("default")))
    assert options.get("grpc.ssl_target_name_override") == expected


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


# --- a store whose parameters have other names ----------------------------------------------


def test_a_store_with_other_names_gets_its_own_and_no_timeout() -> None:
    environ = {"ZILLIZ_URI": "https://db/sales", "ZILLIZ_TOKEN": TOKEN}
    args = args_of(names={"uri": "url", "db_name": "database"}, **environ)
    assert args == {"url": "https://db:443", "token": TOKEN, "database": "sales"}
    assert "s3cret" not in repr(args)
    assert args_of(names={"timeout": "patience"}, **environ)["patience"] == 10.0


@pytest.mark.parametrize("name", ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE"])
def test_such_a_store_trusts_by_default_what_it_does_without_us(
    name: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificates.ca))
    assert args_of(names={}, ZILLIZ_URI="https://db") == {"uri": "https://db:443"}
    told = args_of(names={"server_pem_path": "ca"}, ZILLIZ_URI="https://db")
    assert told["ca"] == str(certificates.ca)


@pytest.mark.parametrize(
    ("files", "named", "missing", "origin"),
    [
        (("ca",), (), "server_pem_path", "ZILLIZ_TLS_CA"),
        (("ca", "cert", "key"), ("ca_pem_path",), "client_pem_path", "ZILLIZ_TLS_CERT"),
        (
            ("ca", "cert", "key"),
            ("ca_pem_path", "client_pem_path"),
            "client_key_path",
            "ZILLIZ_TLS_KEY",
        ),
    ],
)
def test_what_such_a_store_would_not_be_told_of_tls_is_refused(
    files: tuple[str, ...], named: tuple[str, ...], missing: str, origin: str, tmp_path: Path
) -> None:
    names = {name: name for name in named}
    with pytest.raises(ConfigurationError) as caught:
        args_of(names=names, ZILLIZ_URI="https://db", **pem_files(tmp_path, *files))
    (problem,) = caught.value.problems
    assert (problem.code, problem.origin and problem.origin.name) == ("no_parameter", origin)
    assert f"pymilvus' parameter {missing}, which is not in names" in str(problem)


def test_the_name_to_verify_is_refused_too() -> None:
    with pytest.raises(ConfigurationError, match="parameter server_name"):
        args_of(names={}, ZILLIZ_URI="https://db", ZILLIZ_TLS_SERVER_NAME="other")


def test_a_name_that_is_none_of_pymilvus_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="names: pymilvus has no parameter 'url'"):
        args_of(names={"url": "uri"}, ZILLIZ_URI="https://db")


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
        pytest.raises(UnknownAliasError, match="configured: eu, us"),
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
