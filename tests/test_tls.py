"""TLS: authority, client certificate and server name, each on its own, against the real server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support import faults
from tests.support.certificates import named
from tests.support.processes import run_zconfig
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS
from zconfig._connection.error_mapping import probe_target
from zconfig._diagnosis import check_material, stages
from zconfig.errors import (
    ClientCertificateError,
    ConnectError,
    ExitCode,
    HostnameMismatchError,
    PlaintextServerError,
    RejectedCredentialsError,
    TLSMaterialError,
    TLSServerError,
    UntrustedCertificateError,
)
from zconfig.testing import fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.certificates import Certificates, KeyPair
    from tests.support.servers import RealMilvus

ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"


def prod(server: RealMilvus, **fields: str) -> dict[str, str]:
    given = {"URI": server.uri, "TOKEN": CREDENTIALS, **fields}
    return {f"ZILLIZ_PROD_{name}": value for name, value in given.items()}


def outcome(environ: dict[str, str]) -> type[ConnectError] | None:
    """Connect the alias `prod`, and return why that failed; `None` if it did not."""
    with registry(**environ) as connections:
        became = connections.attempt("prod", wait=0)["prod"]
        if isinstance(became, ConnectError):
            return type(became)
        assert connections["prod"].ping() > 0
        return None


def pair_of(pair: KeyPair) -> dict[str, str]:
    return {"TLS_CERT": str(pair.cert), "TLS_KEY": str(pair.key)}


# --- each on its own -----------------------------------------------------------------------


@pytest.fixture(params=["milvus_tls", "milvus_mtls"])
def server(request: pytest.FixtureRequest) -> RealMilvus:
    """Serve TLS, without and with the demand for a client certificate."""
    served: RealMilvus = request.getfixturevalue(request.param)
    return served


@pytest.fixture(params=["TLS_CA", "the system's authorities"])
def authority(
    request: pytest.FixtureRequest, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Trust our authority: for one alias, or as OpenSSL and we with it let a variable say."""
    if request.param == "TLS_CA":
        return {"TLS_CA": str(certificates.ca)}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    return {}


@pytest.mark.parametrize("shows_certificate", [True, False])
@pytest.mark.parametrize("name", [{}, {"TLS_SERVER_NAME": "localhost"}], ids=["address", "name"])
def test_authority_client_certificate_and_server_name_are_independent(
    server: RealMilvus,
    authority: dict[str, str],
    name: dict[str, str],
    shows_certificate: bool,
    certificates: Certificates,
) -> None:
    pair = pair_of(certificates.client) if shows_certificate else {}
    assert server._tls
    refused = server._tls.mode == 2 and not shows_certificate
    expected = ClientCertificateError if refused else None
    assert outcome(prod(server, **authority, **name, **pair)) is expected


@pytest.mark.parametrize(
    "fields",
    [{}, {"TLS_SERVER_NAME": "localhost"}],
    ids=["nothing", "a server name"],
)
def test_without_an_authority_a_private_one_is_not_trusted(
    milvus_tls: RealMilvus, fields: dict[str, str]
) -> None:
    assert outcome(prod(milvus_tls, **fields)) is UntrustedCertificateError


def test_a_client_certificate_alone_makes_no_authority_trusted(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    fields = pair_of(certificates.client)
    assert outcome(prod(milvus_mtls, **fields)) is UntrustedCertificateError


def test_an_authority_that_did_not_sign_is_not_trusted(
    server: RealMilvus, certificates: Certificates
) -> None:
    fields = {"TLS_CA": str(certificates.other_ca), **pair_of(certificates.client)}
    assert outcome(prod(server, **fields)) is UntrustedCertificateError


def test_a_wrong_server_name_is_refused(server: RealMilvus, certificates: Certificates) -> None:
    fields = {
        "TLS_CA": str(certificates.ca),
        "TLS_SERVER_NAME": "other.test",
        **pair_of(certificates.client),
    }
    assert outcome(prod(server, **fields)) is HostnameMismatchError


def test_the_name_in_the_certificate_may_be_given(certificates: Certificates) -> None:
    pair = (certificates.other_host.key.read_bytes(), certificates.other_host.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        uri = f"https://127.0.0.1:{server.port}"
        trust = {"ZILLIZ_PROD_URI": uri, "ZILLIZ_PROD_TLS_CA": str(certificates.ca)}
        assert outcome(trust) is HostnameMismatchError
        assert outcome({**trust, "ZILLIZ_PROD_TLS_SERVER_NAME": "other.test"}) is None


def refused_over(pair: KeyPair, ca: Path, **fields: str) -> ConnectError:
    """Connect the alias `prod` to a server of a pair, with the error that comes of it."""
    content = (pair.key.read_bytes(), pair.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([content])) as server:
        given = {"URI": f"https://127.0.0.1:{server.port}", "TLS_CA": str(ca), **fields}
        with registry(**{f"ZILLIZ_PROD_{key}": value for key, value in given.items()}) as found:
            became = found.attempt("prod", wait=0)["prod"]
    assert isinstance(became, HostnameMismatchError)
    return became


def test_a_wrong_server_name_is_to_be_corrected_where_it_was_set(
    certificates: Certificates,
) -> None:
    name = {"TLS_SERVER_NAME": "wrong.test"}
    error = refused_over(certificates.other_host, certificates.ca, **name)
    assert error.detail == "the certificate is for other.test"
    assert error.origin == "ZILLIZ_PROD_TLS_SERVER_NAME (environment)"
    assert error.remedy == "set ZILLIZ_PROD_TLS_SERVER_NAME to a name of the certificate"


def test_without_alternative_names_the_common_name_of_a_certificate_counts(
    tmp_path: Path,
) -> None:
    pair = named(tmp_path, "other.test", "spiffe://tests/db")
    error = refused_over(pair, pair.cert)
    assert error.detail == "the certificate is for other.test"
    assert error.remedy == (
        "use a host name of the certificate in ZILLIZ_PROD_URI, "
        "or set ZILLIZ_PROD_TLS_SERVER_NAME to one"
    )


@pytest.mark.parametrize("name", [{}, {"TLS_SERVER_NAME": "wrong.test"}])
def test_a_certificate_without_any_name_is_to_be_renewed(
    name: dict[str, str], tmp_path: Path
) -> None:
    pair = named(tmp_path, None)
    error = refused_over(pair, pair.cert, **name)
    assert error.detail == "the certificate is for no name"
    assert error.remedy == "renew it on the server, with the name of the host in its subjectAltName"


def test_a_stranger_s_client_certificate_is_refused(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    fields = {"TLS_CA": str(certificates.ca), **pair_of(certificates.other_authority)}
    assert outcome(prod(milvus_mtls, **fields)) is ClientCertificateError


def test_wrong_credentials_over_tls_are_not_a_tls_error(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    fields = {"TLS_CA": str(certificates.ca), **pair_of(certificates.client)}
    assert outcome(prod(milvus_mtls, TOKEN="root:wrong", **fields)) is RejectedCredentialsError


def test_plaintext_to_a_tls_server_says_so(milvus_tls: RealMilvus) -> None:
    plain = milvus_tls.uri.replace("https", "http")
    assert outcome(prod(milvus_tls, URI=plain)) is TLSServerError


def test_tls_to_a_plaintext_server_says_so(milvus: RealMilvus) -> None:
    secure = milvus.uri.replace("http", "https")
    assert outcome(prod(milvus, URI=secure)) is PlaintextServerError


# --- a name with a final dot ---------------------------------------------------------------


@pytest.fixture
def finds_every_host(milvus_tls: RealMilvus, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reach `milvus_tls` under every host: a proxy resolves names itself."""
    with faults.listening(faults.tunnel_to(milvus_tls.port)) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        yield


@pytest.mark.usefixtures("finds_every_host")
@pytest.mark.parametrize(
    ("host", "error"), [("localhost.", None), ("other.test.", HostnameMismatchError)]
)
def test_a_final_dot_is_no_part_of_the_name_in_the_certificate(
    host: str,
    error: type[ConnectError] | None,
    milvus_tls: RealMilvus,
    certificates: Certificates,
) -> None:
    uri = f"https://{host}:{milvus_tls.port}"
    environ = prod(milvus_tls, URI=uri, TLS_CA=str(certificates.ca))
    assert outcome(environ) is error
    with registry(**environ) as connections:
        *_, last = stages(probe_target(connections.spec("prod")), time.monotonic() + 10)
    assert last.error is error


@pytest.mark.usefixtures("finds_every_host")
def test_a_server_name_may_end_in_a_dot_as_well(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    uri = f"https://db.test:{milvus_tls.port}"
    fields = {"TLS_CA": str(certificates.ca), "TLS_SERVER_NAME": "localhost."}
    assert outcome(prod(milvus_tls, URI=uri, **fields)) is None


# --- the authorities that gRPC is told of --------------------------------------------------
# It reads the variable once a process, so each of these takes a process.


def check(environ: dict[str, str]) -> tuple[int, str]:
    done = run_zconfig("check", environ=environ)
    return done.returncode, done.stdout


def test_the_authorities_that_grpc_is_told_of_are_trusted(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    code, shown = check(prod(milvus_tls) | {ROOTS: str(certificates.ca)})
    assert code == ExitCode.OK, shown
    done = run_zconfig("doctor", environ=prod(milvus_tls) | {ROOTS: str(certificates.ca)})
    assert done.returncode == ExitCode.OK
    assert f"{ROOTS} {certificates.ca}" in done.stdout
    assert "failed" not in done.stdout


def test_tls_ca_goes_before_them(milvus_tls: RealMilvus, certificates: Certificates) -> None:
    fields = prod(milvus_tls, TLS_CA=str(certificates.ca))
    code, shown = check(fields | {ROOTS: str(certificates.other_ca)})
    assert code == ExitCode.OK, shown


def test_where_they_did_not_sign_their_variable_is_at_fault(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    code, shown = check(prod(milvus_tls) | {ROOTS: str(certificates.other_ca)})
    assert code == ExitCode.TLS
    assert "untrusted certificate" in shown
    assert f"set by {ROOTS} (environment)" in shown


def test_what_is_no_authority_is_named_with_its_variable(
    milvus_tls: RealMilvus, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    code, shown = check(prod(milvus_tls) | {ROOTS: str(junk)})
    assert code == ExitCode.TLS
    assert f"{ROOTS} {junk}: not certificates in PEM form" in shown
    assert f"set by {ROOTS} (environment)" in shown


@pytest.mark.parametrize("name", [ROOTS, "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_names_a_missing_file_is_passed_over_and_told_of(
    name: str, milvus_tls: RealMilvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    with registry(**prod(milvus_tls)) as connections:
        assert check_material(probe_target(connections.spec("prod"))) is None
        error = connections.attempt("prod", wait=0)["prod"]
    assert isinstance(error, UntrustedCertificateError)
    assert f"{name} names {tmp_path / 'none.pem'}, which does not exist" in error.hint


# --- directories of authorities ------------------------------------------------------------


@pytest.fixture
def directory(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the system trust our authority in a directory alone, as OpenSSL names files there."""
    directory = tmp_path / "authorities"
    directory.mkdir()
    (directory / "5ed36f99.0").write_bytes(certificates.ca.read_bytes())
    (directory / "5ed36f99.1").mkdir()  # passed over, as is what has another name
    (directory / "other.pem").write_bytes(certificates.other_ca.read_bytes())
    monkeypatch.delenv(ROOTS, raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    return directory


@pytest.mark.parametrize("beside", ["none.pem", "other_ca"])
def test_authorities_in_a_directory_are_trusted_by_the_channel_and_the_probe(
    beside: str,
    directory: Path,
    milvus_tls: RealMilvus,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(getattr(certificates, beside, beside)))
    assert outcome(prod(milvus_tls)) is None
    with registry(**prod(milvus_tls)) as connections:
        results = stages(probe_target(connections.spec("prod")), time.monotonic() + 10)
    assert all(result.ok for result in results)
    assert results[0].detail.startswith("the system's authorities ")
    assert str(directory) in results[0].detail


def test_of_a_directory_only_what_openssl_reads_is_trusted(
    directory: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "none.pem")
    pair = (
        certificates.other_authority.key.read_bytes(),
        certificates.other_authority.cert.read_bytes(),
    )
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        uri = f"https://127.0.0.1:{server.port}"
        assert outcome({"ZILLIZ_PROD_URI": uri}) is UntrustedCertificateError


# --- the files are opened as secret files are -----------------------------------------------


@pytest.mark.parametrize("field", ["ca", "cert", "key"])
@pytest.mark.parametrize("kind", ["fifo", "device", "large"])
def test_what_is_no_file_of_a_sensible_size_is_refused_without_being_read(
    field: str, kind: str, certificates: Certificates, tmp_path: Path
) -> None:
    path = tmp_path / "odd.pem"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.touch(mode=0o600)
        os.truncate(path, 1 << 40)
    else:
        path = Path("/dev/zero")
    files = {
        "TLS_CA": certificates.ca,
        "TLS_CERT": certificates.client.cert,
        "TLS_KEY": certificates.client.key,
        f"TLS_{field.upper()}": path,
    }
    environ = {f"ZILLIZ_PROD_{name}": str(each) for name, each in files.items()}
    with registry(ZILLIZ_PROD_URI="https://127.0.0.1:1", **environ) as connections:
        error = connections.attempt("prod", wait=0)["prod"]
    assert isinstance(error, TLSMaterialError)
    assert error.detail.startswith(f"TLS_{field.upper()} {path}: ")


def test_a_key_that_others_may_write_to_is_refused_and_one_they_may_read_is_told_of(
    milvus_mtls: RealMilvus, certificates: Certificates, tmp_path: Path
) -> None:
    key = tmp_path / "client.key"
    key.write_bytes(certificates.client.key.read_bytes())
    fields = {**pair_of(certificates.client), "TLS_KEY": str(key), "TLS_CA": str(certificates.ca)}
    with registry(**prod(milvus_mtls, **fields)) as connections:
        key.chmod(0o622)
        error = connections.attempt("prod", wait=0)["prod"]
        assert isinstance(error, TLSMaterialError)
        assert error.remedy == "run chmod go-w on it"
        key.chmod(0o644)
        connections.reload()
        (problem,) = connections.configuration.problems
        assert (problem.code, problem.severity) == ("readable_by_others", "warning")
        assert str(problem.origin) == "ZILLIZ_PROD_TLS_KEY (environment)"
        assert connections["prod"].ping() > 0


def test_a_byte_order_mark_and_comments_in_any_encoding_are_no_part_of_a_pem(
    milvus_mtls: RealMilvus, certificates: Certificates, tmp_path: Path
) -> None:
    fields = {"TLS_CA": certificates.ca, **pair_of(certificates.client)}
    for name, path in fields.items():
        marked = tmp_path / name
        marked.touch(mode=0o600)
        comment = b"" if name == "TLS_KEY" else b"# M\xfcller\n"
        marked.write_bytes(b"\xef\xbb\xbf" + Path(path).read_bytes() + comment)
        fields[name] = str(marked)
    assert outcome(prod(milvus_mtls, **fields)) is None


def test_plaintext_needs_no_authorities(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOTS, str(certificates.ca))
    with registry(ZILLIZ_PROD_URI="http://127.0.0.1:1") as connections:
        assert probe_target(connections.spec("prod")).ca is None
