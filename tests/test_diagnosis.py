from __future__ import annotations

import base64
import errno
import os
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support import faults, matrix
from tests.support.certificates import signed_with_md5
from tests.support.matrix import CELLS, FAILS_S, HANGS_S, Cell
from tests.support.registries import registry
from zconfig import errors
from zconfig._channel.messages import CHECK_HEALTH
from zconfig._connection.error_mapping import probe_target
from zconfig._diagnosis import (
    Diagnosis,
    HostEnvironment,
    ProbeTarget,
    check_material,
    diagnose,
    environment_hints,
    hint,
    remedy_for,
    stages,
    status_verdict,
)
from zconfig._diagnosis.model import StageError
from zconfig._diagnosis.network import Stream, dial_tcp
from zconfig._diagnosis.probe import exchange_preface
from zconfig._diagnosis.tls import TLSStream, tls_failure
from zconfig._diagnosis.tls_files import unverified_context
from zconfig._endpoint import parse_uri, proxy_in_force
from zconfig._redaction import MASK, Secret, evidence
from zconfig._settings.fields import ConnectionSettings
from zconfig._spec import ConnectionSpec, Credentials
from zconfig._topology import fetch_topology
from zconfig.errors import Stage
from zconfig.testing import fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.support.certificates import Certificates, KeyPair
    from tests.support.servers import RealMilvus

Code = grpc.StatusCode

# What a busy machine may take on top of what is promised: less than any default, which whoever
# forgets a deadline would wait for. That it is kept is tested without a machine in test_deadlines.
SLACK_S = 5.0


@pytest.fixture(autouse=True)
def _patient() -> Iterator[None]:
    with matrix.diagnosed_in(FAILS_S):
        yield


# --- a failed call, and what is made of it -------------------------------------------------


@dataclass(frozen=True)
class Failure:
    code: grpc.StatusCode
    details: str
    deadline: float

    def diagnose(self, target: ProbeTarget) -> Diagnosis:
        return diagnose(self.code, self.details, target, deadline=self.deadline)


def call(target: ProbeTarget, timeout: float = FAILS_S, token: str | None = None) -> Failure:
    """Call Connect as a connection does, and return how it failed."""
    metadata = [("authorization", base64.b64encode(token.encode()).decode())] if token else []
    deadline = time.monotonic() + timeout
    with channel(target) as dialed:
        connect: Any = dialed.unary_unary(f"/{faults.MILVUS}/Connect")
        with pytest.raises(grpc.RpcError) as caught:
            connect(b"", timeout=timeout, metadata=metadata)
    return Failure(caught.value.code(), str(caught.value.details()), deadline)


def channel(target: ProbeTarget) -> grpc.Channel:
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
    if target.via_proxy is None:
        options.append(("grpc.enable_http_proxy", 0))
    else:
        options.append(("grpc.http_proxy", target.via_proxy))
    if target.server_name is not None:
        options.append(("grpc.ssl_target_name_override", target.server_name))
    address = f"unix:{target.unix_path}" if target.unix_path else target.authority
    if not target.secure:
        return grpc.insecure_channel(address, options)
    files = (target.ca, target.key, target.cert)
    material = [Path(path).read_bytes() if path else None for path in files]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*material), options)


def local(port: int, **more: Any) -> ProbeTarget:
    return ProbeTarget("localhost", port, **more)


def soon(seconds: float = FAILS_S) -> float:
    """Return a deadline; whatever is waited for until then is given a few seconds."""
    return time.monotonic() + seconds


def tls(certificates: Certificates) -> dict[str, Any]:
    return {"secure": True, "ca": str(certificates.ca)}


def mtls(certificates: Certificates, pair: KeyPair) -> dict[str, Any]:
    return {**tls(certificates), "cert": str(pair.cert), "key": str(pair.key)}


def stranger(certificates: Certificates) -> dict[str, Any]:
    return mtls(certificates, certificates.other_authority)


def known(certificates: Certificates) -> dict[str, Any]:
    return mtls(certificates, certificates.client)


# --- the matrix ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What is promised of a cause."""

    cause: str
    stage: Stage
    permanent: bool
    exit_code: int
    remedy: str


FACTS: dict[type[errors.ConnectError], Facts] = {
    errors.NameNotFoundError: Facts(
        "name_not_found",
        Stage.DNS,
        False,
        4,
        "correct the host in ZILLIZ_PROD_URI, or the search domain of this machine's DNS resolver",
    ),
    errors.NameServerError: Facts(
        "name_server_failed",
        Stage.DNS,
        False,
        4,
        "check this machine's DNS resolver, then retry",
    ),
    errors.NameTimeoutError: Facts(
        "name_timeout",
        Stage.DNS,
        False,
        4,
        "check this machine's DNS resolver, or raise ZILLIZ_PROD_TIMEOUT or the call's timeout",
    ),
    errors.RefusedError: Facts(
        "refused", Stage.TCP, False, 4, "start the server, or correct the port in ZILLIZ_PROD_URI"
    ),
    errors.HostUnreachableError: Facts(
        "host_unreachable",
        Stage.TCP,
        False,
        4,
        "check the network, the VPN or the private endpoint",
    ),
    errors.ConnectTimeoutError: Facts(
        "connect_timeout",
        Stage.TCP,
        False,
        4,
        "check the firewall and the IP address allow-list, "
        "or raise ZILLIZ_PROD_TIMEOUT or the call's timeout",
    ),
    errors.ClosedByPeerError: Facts(
        "closed_by_peer",
        Stage.TCP,
        False,
        4,
        "check that the port in ZILLIZ_PROD_URI is Milvus' gRPC port, "
        "and that no proxy or load balancer closes the connection",
    ),
    errors.ServerSilentError: Facts(
        "server_silent",
        Stage.MILVUS,
        False,
        4,
        "set ZCONFIG_WAIT to wait until it has started, "
        "or raise ZILLIZ_PROD_TIMEOUT or the call's timeout",
    ),
    errors.ServerNotReadyError: Facts(
        "server_not_ready",
        Stage.MILVUS,
        False,
        4,
        "set ZCONFIG_WAIT to wait until it has started",
    ),
    errors.ClusterStoppedError: Facts(
        "cluster_stopped", Stage.MILVUS, True, 4, "resume it in the Zilliz Cloud console"
    ),
    errors.ProxyError: Facts(
        "proxy", Stage.TCP, False, 4, "set ZILLIZ_PROD_PROXY to off, or add the host to no_proxy"
    ),
    errors.ProxyUnreachableError: Facts(
        "proxy_unreachable",
        Stage.TCP,
        False,
        4,
        "start the proxy, or set ZILLIZ_PROD_PROXY to its address or to off",
    ),
    errors.ProxyAuthenticationError: Facts(
        "proxy_authentication",
        Stage.TCP,
        True,
        4,
        "set ZILLIZ_PROD_PROXY to http://user:password@host:port",
    ),
    errors.TLSMaterialError: Facts(
        "tls_material",
        Stage.MATERIAL,
        True,
        5,
        "use a readable PEM file, and the key that belongs to the certificate",
    ),
    errors.PlaintextServerError: Facts(
        "server_is_plaintext", Stage.TLS, True, 5, "use http:// in ZILLIZ_PROD_URI"
    ),
    errors.TLSServerError: Facts(
        "server_is_tls", Stage.TLS, True, 5, "use https:// in ZILLIZ_PROD_URI"
    ),
    errors.UntrustedCertificateError: Facts(
        "untrusted_certificate",
        Stage.TLS,
        True,
        5,
        "set ZILLIZ_PROD_TLS_CA to the path of the authority's certificate",
    ),
    errors.ExpiredCertificateError: Facts(
        "expired_certificate",
        Stage.TLS,
        True,
        5,
        "renew it on the server, or correct this machine's clock",
    ),
    errors.HostnameMismatchError: Facts(
        "hostname_mismatch",
        Stage.TLS,
        True,
        5,
        "use a host name of the certificate in ZILLIZ_PROD_URI, "
        "or set ZILLIZ_PROD_TLS_SERVER_NAME to one",
    ),
    errors.ClientCertificateError: Facts(
        "client_certificate",
        Stage.TLS,
        True,
        5,
        "set ZILLIZ_PROD_TLS_CERT and ZILLIZ_PROD_TLS_KEY "
        "to a pair signed by the server's authority",
    ),
    errors.MissingCredentialsError: Facts(
        "missing_credentials",
        Stage.CREDENTIALS,
        True,
        6,
        "set ZILLIZ_PROD_TOKEN, or ZILLIZ_PROD_USER and ZILLIZ_PROD_PASSWORD",
    ),
    errors.RejectedCredentialsError: Facts(
        "rejected_credentials",
        Stage.CREDENTIALS,
        True,
        6,
        "correct ZILLIZ_PROD_TOKEN (zconfig explain lists the values that are set)",
    ),
    errors.NotPermittedError: Facts(
        "not_permitted",
        Stage.CREDENTIALS,
        True,
        6,
        "grant the user a role on this database, or use another user",
    ),
    errors.NotHTTP2Error: Facts(
        "not_http2",
        Stage.HTTP2,
        True,
        7,
        "use the gRPC port (19530 by default) in ZILLIZ_PROD_URI, or an ingress that supports gRPC",
    ),
    errors.NotGRPCError: Facts(
        "not_grpc",
        Stage.HTTP2,
        True,
        7,
        "use the gRPC port in ZILLIZ_PROD_URI, or configure the gateway to forward gRPC to Milvus",
    ),
    errors.OtherServiceError: Facts(
        "other_service", Stage.MILVUS, True, 7, "correct the host and port in ZILLIZ_PROD_URI"
    ),
    errors.DatabaseMissingError: Facts(
        "database_missing",
        Stage.DATABASE,
        True,
        8,
        "create it, or name another in ZILLIZ_PROD_DB_NAME",
    ),
    errors.UnexplainedError: Facts("unexplained", Stage.MILVUS, False, 1, "check the server's log"),
}


def failure_of(environ: Mapping[str, str], wait: float = 0.0) -> errors.ConnectError:
    """Connect the alias `prod`, and return how that failed."""
    with registry(**environ) as connections:
        outcome = connections.attempt("prod", wait=wait)["prod"]
    assert isinstance(outcome, errors.ConnectError), outcome
    return outcome


def facts_of(error: errors.ConnectError) -> Facts:
    return Facts(error.cause, error.stage, error.permanent, error.exit_code, error.remedy)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_each_fault_has_its_cause(cell: Cell, certificates: Certificates) -> None:
    with cell.environ(certificates) as environ:
        error = failure_of(environ)
    assert type(error) is cell.error, error
    facts = FACTS[cell.error]
    if (cell.error, cell.origin) in {
        (errors.UntrustedCertificateError, "TLS_CA"),  # followed below
        (errors.HostnameMismatchError, "TLS_SERVER_NAME"),  # tested in test_tls
    }:
        facts = replace(facts, remedy=error.remedy)
    assert facts_of(error) == facts
    assert re.search(cell.seen, error.detail), error.detail
    assert error.origin == f"ZILLIZ_PROD_{cell.origin} (environment)"
    assert (error.alias, error.attempts) == ("prod", 1)
    assert error.endpoint == environ["ZILLIZ_PROD_URI"]
    assert error.elapsed_ms > 0
    assert "s3cret-canary" not in str(error)


def test_every_cause_of_a_connect_stands_in_the_matrix() -> None:
    elsewhere = {
        errors.TLSMaterialError,  # below
        errors.EmbeddedServerError,  # below
        errors.EmbeddedServerLockedError,  # among the tests of Milvus Lite
        errors.TLSError,  # below
        # among the tests of global clusters
        errors.TopologyUnavailableError,
        errors.TopologyRefusedError,
        errors.NoPrimaryError,
        errors.NotGlobalClusterError,
        errors.MalformedTopologyError,
    }
    # What says nothing of its own is there to be caught.
    raised = {each for each in descendants(errors.ConnectError) if "problem" in vars(each)}
    assert raised == {cell.error for cell in CELLS} | elsewhere


def descendants(base: type[errors.ConnectError]) -> Iterator[type[errors.ConnectError]]:
    for each in base.__subclasses__():
        yield each
        yield from descendants(each)


def accepting(accepted: list[socket.socket]) -> AbstractContextManager[int]:
    """Serve nothing, and note who dials."""
    return faults.listening(accepted.append)


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("https://api.cloud.zilliz.com", "control_plane"),
        ("http://127.0.0.1:0", "bad_port"),
        ("127.0.0.1:19530", "missing_scheme"),
        ("ftp://127.0.0.1:{port}", "bad_scheme"),
        ("http://127.0.0.1:{port}?secure=true", "query_not_allowed"),
    ],
)
def test_a_uri_that_leads_nowhere_is_refused_before_anything_is_dialed(uri: str, code: str) -> None:
    accepted: list[socket.socket] = []
    with (
        accepting(accepted) as port,
        registry(ZILLIZ_PROD_URI=uri.format(port=port)) as connections,
        pytest.raises(errors.ConfigurationError) as caught,
    ):
        connections.connect("prod")
    (problem,) = caught.value.problems
    assert (problem.code, problem.alias, problem.field) == (code, "prod", "uri")
    assert str(problem.origin) == "ZILLIZ_PROD_URI (environment)"
    assert problem.remedy
    assert caught.value.exit_code == 3
    assert accepted == []


@pytest.mark.parametrize("name", ["CA", "CERT", "KEY"])
@pytest.mark.parametrize(
    ("content", "seen"),
    [(None, "the file does not exist"), (b"junk", "not (certificates|a private key) in PEM form")],
    ids=["unreadable", "malformed"],
)
def test_a_tls_file_that_cannot_be_used_is_found_before_anything_is_dialed(
    name: str, content: bytes | None, seen: str, certificates: Certificates, tmp_path: Path
) -> None:
    path = tmp_path / "broken.pem"
    accepted: list[socket.socket] = []
    if content is not None:
        path.write_bytes(content)
    with accepting(accepted) as port:
        fields = {**matrix.known(certificates, port), f"TLS_{name}": str(path)}
        error = failure_of({f"ZILLIZ_PROD_{field}": value for field, value in fields.items()})
    facts = FACTS[errors.TLSMaterialError]
    remedy = facts.remedy if content else "create it, or correct the path"
    assert facts_of(error) == replace(facts, remedy=remedy)
    assert re.fullmatch(f"TLS_{name} {path}: {seen}.*", error.detail)
    assert error.origin == f"ZILLIZ_PROD_TLS_{name} (environment)"
    assert accepted == []


def test_a_key_of_another_certificate_is_found_before_anything_is_dialed(
    certificates: Certificates,
) -> None:
    accepted: list[socket.socket] = []
    with accepting(accepted) as port:
        key = str(certificates.server.key)
        fields = {**matrix.known(certificates, port), "TLS_KEY": key}
        error = failure_of({f"ZILLIZ_PROD_{field}": value for field, value in fields.items()})
    assert facts_of(error) == FACTS[errors.TLSMaterialError]
    assert error.detail == f"TLS_KEY {key}: does not belong to the certificate in TLS_CERT"
    assert error.origin == "ZILLIZ_PROD_TLS_KEY (environment)"
    assert accepted == []


def test_a_milvus_lite_that_cannot_be_started_has_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    error = failure_of({"ZILLIZ_PROD_URI": str(path)})
    assert type(error) is errors.EmbeddedServerError
    assert (error.cause, error.stage, error.permanent, error.exit_code) == (
        "embedded_server",
        Stage.MATERIAL,
        True,
        4,
    )
    assert "the format of milvus-lite 2" in error.detail
    assert error.remedy
    assert error.origin == "ZILLIZ_PROD_URI (environment)"


def test_a_proxy_of_the_environment_is_blamed_by_its_variable(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.refused() as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        error = failure_of({"ZILLIZ_PROD_URI": "http://db.test:19530"})
    assert type(error) is errors.ProxyUnreachableError
    assert error.origin == "https_proxy (environment)"
    assert error.hint.startswith("https_proxy routes this connection through")


def test_a_handshake_that_fails_for_no_known_reason_is_a_tls_error(
    certificates: Certificates,
) -> None:
    context = matrix.server_context(certificates.server, "h2")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")  # none of which a client without a shared key can take
    with faults.listening(faults.over_tls(context, faults.swallow)) as port:
        fields = matrix.tls(certificates, port)
        error = failure_of({f"ZILLIZ_PROD_{field}": value for field, value in fields.items()})
    assert type(error) is errors.TLSError
    assert (error.cause, error.stage, error.permanent, error.exit_code) == (
        "tls",
        Stage.TLS,
        True,
        5,
    )
    assert "handshake failure" in error.detail


def test_a_milvus_that_does_not_know_connect_works() -> None:
    with fake_server() as fake, registry(ZILLIZ_PROD_URI=fake.uri) as connections:
        fake.fail(grpc.StatusCode.UNIMPLEMENTED, method="Connect")
        assert connections["prod"].server.version == VERSION
        assert len(fake.calls("GetVersion")) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (faults.frame(faults.SETTINGS), errors.PlaintextServerError),
        (b"HTTP/1.1 400 Bad Request", errors.ClosedByPeerError),
    ],
)
def test_a_peer_that_closes_on_tls_is_asked_in_plaintext(
    answer: bytes, error: type[errors.ConnectError], certificates: Certificates
) -> None:
    def close_on_tls(conn: socket.socket) -> None:
        if conn.recv(1) == faults.PREFACE[:1]:
            conn.sendall(answer)
            faults.swallow(conn)
        else:
            faults.hang_up(conn)

    with faults.listening(close_on_tls) as port:
        target = local(port, **tls(certificates))
        assert call(target).diagnose(target).error is error


@pytest.mark.parametrize("hang_up", [faults.hang_up, faults.hang_up_later])
def test_a_peer_that_closes_after_the_handshake(
    hang_up: faults.Handler, certificates: Certificates
) -> None:
    context = matrix.server_context(certificates.server, "h2")
    with faults.listening(faults.over_tls(context, hang_up)) as port:
        target = local(port, **tls(certificates))
        verdict = call(target).diagnose(target)
    assert verdict.error is errors.ClosedByPeerError
    assert "client certificate" in verdict.detail


def test_an_alert_to_plaintext_is_tls() -> None:
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    with faults.listening(faults.answering(alert)) as port:
        *_, last = stages(local(port), soon(2.0))
    assert last.error is errors.TLSServerError


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", errors.NotHTTP2Error),
        ("TLSV1_UNRECOGNIZED_NAME", errors.HostnameMismatchError),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", errors.ClientCertificateError),
        ("SSLV3_ALERT_BAD_CERTIFICATE", errors.ClientCertificateError),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", errors.ClientCertificateError),
        ("TLSV1_ALERT_ACCESS_DENIED", errors.ClientCertificateError),
        ("TLSV1_ALERT_PROTOCOL_VERSION", errors.TLSError),
        ("RECORD_LAYER_FAILURE", errors.PlaintextServerError),
    ],
)
def test_openssl_s_reasons(reason: str, error: type[errors.ConnectError]) -> None:
    failure = ssl.SSLError(1, "")
    failure.reason = reason
    assert tls_failure(failure).error is error


def test_a_web_page_is_not_grpc() -> None:
    with faults.listening(faults.gateway(200)) as port:
        failure = call(local(port))
    assert failure.details.startswith("Stream removed")
    details = "Stream removed (Data frame with END_STREAM flag received)"
    verdict = diagnose(Code.UNKNOWN, details, local(port), deadline=soon())
    assert verdict == Diagnosis(errors.NotGRPCError, f"UNKNOWN: {details}")


def test_what_old_grpc_says_of_a_web_page_and_of_a_lost_connection_is_not_permanent() -> None:
    verdict = diagnose(Code.UNKNOWN, "Stream removed", local(1), deadline=soon())
    assert verdict.error is errors.ClosedByPeerError


def test_milvus_itself_has_its_causes(milvus: RealMilvus, certificates: Certificates) -> None:
    def found(token: str | None = None, **more: Any) -> type[errors.ConnectError]:
        target = local(milvus.port, has_credentials=token is not None, **more)
        return call(target, token=token).diagnose(target).error

    assert found() is errors.MissingCredentialsError
    assert found("root:wrong") is errors.RejectedCredentialsError
    assert found("an-api-key") is errors.RejectedCredentialsError
    assert found("root:Milvus", **tls(certificates)) is errors.PlaintextServerError


def test_milvus_with_mtls_has_its_causes(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    def found(**more: Any) -> type[errors.ConnectError]:
        target = local(milvus_mtls.port, **more)
        return call(target).diagnose(target).error

    assert found() is errors.TLSServerError
    assert found(**tls(certificates)) is errors.ClientCertificateError
    assert found(**stranger(certificates)) is errors.ClientCertificateError
    assert found(**known(certificates)) is errors.MissingCredentialsError


# --- answers that are too long -------------------------------------------------------------

TOO_LONG = 64 * 1024 + 1


@pytest.mark.parametrize("method", ["Connect", "GetVersion"])
def test_an_answer_that_is_too_long_is_refused_unread(method: str) -> None:
    with fake_server() as fake:
        fake.answer(method, b"\x80" * TOO_LONG)
        if method == "GetVersion":
            fake.fail(grpc.StatusCode.UNIMPLEMENTED, method="Connect")
        error = failure_of({"ZILLIZ_PROD_URI": fake.uri})
    assert type(error) is errors.OtherServiceError
    assert error.detail == "the response has 65537 bytes, more than the limit of 65536"


def test_an_application_s_own_calls_are_answered_at_any_length() -> None:
    with fake_server() as fake, registry(ZILLIZ_PROD_URI=fake.uri) as connections:
        fake.answer("CheckHealth", bytes(TOO_LONG))
        connection = connections["prod"]
        with pytest.raises(errors.OtherServiceError):
            connection.health()
        stub: Any = connection.channel.unary_unary(CHECK_HEALTH)
        assert len(stub(b"", timeout=5)) == TOO_LONG


# --- names and addresses -------------------------------------------------------------------


def test_a_name_that_does_not_exist() -> None:
    target = ProbeTarget("nosuch.invalid", 19530)
    assert call(target).diagnose(target).error in (errors.NameNotFoundError, errors.NameServerError)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (socket.EAI_NONAME, errors.NameNotFoundError),
        (socket.EAI_AGAIN, errors.NameServerError),
        (socket.EAI_FAIL, errors.NameServerError),
    ],
)
def test_the_resolver_s_answer_decides(
    number: int, error: type[errors.ConnectError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "the resolver's words")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    target = ProbeTarget("db.invalid", 19530)
    details = "errors resolving db.invalid"
    verdict = diagnose(Code.UNAVAILABLE, details, target, deadline=soon())
    assert verdict == Diagnosis(error, "db.invalid: the resolver's words")


def test_a_name_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def block(*_: object, **__: object) -> list[object]:
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", block)
    target = ProbeTarget("db.invalid", 19530)
    began = time.monotonic()
    verdict = diagnose(
        Code.DEADLINE_EXCEEDED, "Deadline Exceeded", target, deadline=began - FAILS_S
    )
    assert time.monotonic() - began < SLACK_S
    assert verdict.error is errors.NameTimeoutError
    release.set()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test"])
def test_what_cannot_be_a_name_is_not_found(host: str) -> None:
    (found,) = stages(ProbeTarget(host, 19530), soon())
    assert found.error is errors.NameNotFoundError


@pytest.mark.parametrize(
    "number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES]
)
def test_no_route_to_the_host(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("zconfig._diagnosis.network._open", fail)
    verdict = diagnose(Code.UNAVAILABLE, "", local(19530), deadline=soon())
    assert verdict.error is errors.HostUnreachableError
    assert os.strerror(number) in verdict.detail


def resolving_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (faults.LOOPBACK, port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_every_address_is_tried_and_gets_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with faults.black_hole() as dead, faults.grpc_server({}) as live:
        resolving_to(monkeypatch, dead, live)
        reached = stages(ProbeTarget("db.test", 19530), soon(4.0))
    assert [result.ok for result in reached] == [True, True, True]


def test_a_refusal_tells_more_than_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with faults.refused() as refused, faults.black_hole() as dead:
        resolving_to(monkeypatch, refused, dead)
        *_, last = stages(ProbeTarget("db.test", 19530), soon(1.0))
    assert last.error is errors.RefusedError


def test_what_the_probe_had_no_time_for_is_left_to_the_words() -> None:
    with faults.black_hole() as port:
        details = "failed to connect to all addresses; last error: Connection refused"
        verdict = diagnose(
            Code.UNAVAILABLE, details, local(port), deadline=time.monotonic() - FAILS_S
        )
    assert verdict == Diagnosis(errors.RefusedError, "UNAVAILABLE: Connection refused")


def test_a_probe_that_starts_too_late_ends_at_once() -> None:
    began = time.monotonic()
    with faults.listening(faults.swallow) as port:
        *_, last = stages(local(port), began - 1)
        elapsed = time.monotonic() - began
    assert elapsed < SLACK_S
    assert last.error in (errors.ServerSilentError, errors.NameTimeoutError)


def test_a_peer_that_dribbles_cannot_stretch_the_time() -> None:
    over = threading.Event()

    def dribble(conn: socket.socket) -> None:
        conn.sendall(b"-")
        while not over.wait(1.0):
            conn.sendall(b"-")

    with faults.listening(dribble) as port:
        began = time.monotonic()
        *_, last = stages(local(port), began + 1.5)
        elapsed = time.monotonic() - began
        over.set()
    assert elapsed < 1.5 + SLACK_S  # it waits for nine bytes
    assert last.error is errors.NotHTTP2Error


def test_a_name_that_no_certificate_can_have(certificates: Certificates) -> None:
    with matrix.showing("server", "h2")(certificates) as port:
        target = local(port, **{**tls(certificates), "server_name": ".test"})
        *_, last = stages(target, soon())
    assert (last.stage, last.error) == (Stage.TLS, errors.HostnameMismatchError)


class HungUp(Stream):
    """A connection whose peer said something, then hung up: some sends still get through."""

    def __init__(self, said: bytes, sends: int = 0) -> None:
        self._said = said
        self._sends = sends

    def send(self, data: bytes) -> None:
        self._sends -= 1
        if self._sends < 0:
            raise BrokenPipeError

    def receive(self, size: int) -> bytes:
        said, self._said = self._said[:size], self._said[size:]
        return said


def test_what_a_peer_said_before_it_hung_up_is_read() -> None:
    assert exchange_preface(HungUp(faults.frame(faults.SETTINGS))) is None


def test_an_alert_that_cannot_be_sent_does_not_hide_why() -> None:
    stream = TLSStream(HungUp(b"HTTP/1.1 400 Bad Request", 1), unverified_context(), "db.test")
    with pytest.raises(StageError) as caught:
        stream.shake_hands()
    assert caught.value.error is errors.PlaintextServerError


# --- unix sockets --------------------------------------------------------------------------


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    target = ProbeTarget("", 0, unix_path=str(tmp_path / "milvus.sock"))
    verdict = call(target).diagnose(target)
    assert verdict == Diagnosis(
        errors.RefusedError,
        f"{target.unix_path}: No such file or directory",
        remedy="start the server, or correct the path in {uri}",
    )


def test_a_unix_socket_with_too_long_a_path() -> None:
    (last,) = stages(ProbeTarget("", 0, unix_path=f"/{'x' * 120}"), soon())
    assert last.error is errors.HostUnreachableError
    assert last.detail.endswith("path too long")


def test_a_unix_socket_that_nobody_serves(tmp_path: Path) -> None:
    path = str(tmp_path / "milvus.sock")
    target = ProbeTarget("", 0, unix_path=path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        assert call(target).diagnose(target).error is errors.RefusedError


# --- proxies -------------------------------------------------------------------------------


def test_the_stages_show_what_the_proxy_answered() -> None:
    with faults.listening(faults.connect_refused) as port:
        proxy = f"{faults.LOOPBACK}:{port}"
        *_, last = stages(local(1, via_proxy=f"http://{proxy}"), soon())
    assert last.stage is Stage.TCP
    assert last.detail == f"proxy {proxy}: answered HTTP/1.1 403 Forbidden"


def test_the_stages_do_not_repeat_the_credentials_that_a_proxy_does() -> None:
    def repeat(conn: socket.socket) -> None:
        sent = faults.read_head(conn).decode().partition("Basic ")[2].split("\r\n")[0]
        said = f"{sent} {base64.b64decode(sent).decode()}"
        conn.sendall(f"HTTP/1.1 407 not {said} ::error::x\r\n\r\n".encode())

    with faults.listening(repeat) as port:
        proxy = f"{faults.LOOPBACK}:{port}"
        *_, last = stages(local(1, via_proxy=f"http://user:s3cr%26t@{proxy}"), soon())
    said = "not ********= ******** : :error: :x"
    assert last.detail == f"proxy {proxy}: answered HTTP/1.1 407 {said}"


def test_the_stages_do_not_repeat_the_alias_secrets_that_a_proxy_does() -> None:
    def repeat(conn: socket.socket) -> None:
        faults.read_head(conn)
        conn.sendall(b"HTTP/1.1 502 no root:s3cret-token here\r\n\r\n")

    spec = ConnectionSpec(
        "prod", parse_uri("http://db:1"), Credentials(Secret("root:s3cret-token"))
    )
    with faults.listening(repeat) as port:
        proxy = f"{faults.LOOPBACK}:{port}"
        target = probe_target(replace(spec, proxy=Secret(f"http://{proxy}")))
        *_, last = stages(target, soon())
    assert last.detail == f"proxy {proxy}: answered HTTP/1.1 502 no ******** here"


def test_a_proxy_whose_name_does_not_exist() -> None:
    target = local(19530, via_proxy="http://proxy.invalid:3128")
    verdict = call(target).diagnose(target)
    assert verdict.error is errors.ProxyUnreachableError
    assert "proxy.invalid:3128" in verdict.detail


def test_behind_a_proxy_the_probe_finds_the_server_s_own_fault(certificates: Certificates) -> None:
    def found(port: int, **more: Any) -> type[errors.ConnectError]:
        target = local(port, via_proxy=f"http://{faults.LOOPBACK}:{proxy}", **more)
        return call(target).diagnose(target).error

    with faults.listening(faults.connect_proxy) as proxy:
        with matrix.never_answering(secure=True)(certificates) as port:
            assert found(port) is errors.TLSServerError
        with matrix.showing("expired", "h2")(certificates) as port:
            assert found(port, **tls(certificates)) is errors.ExpiredCertificateError


def test_the_probe_authorizes_itself_to_the_proxy_as_grpc_does() -> None:
    seen: list[bytes] = []

    def record(conn: socket.socket) -> None:
        seen.append(faults.read_head(conn))

    with faults.listening(record) as port:
        target = ProbeTarget("::1", 19530, via_proxy=f"http://user:p%2Fw@{faults.LOOPBACK}:{port}")
        call(target)
        stages(target, soon())
    by_grpc, *_, by_us = seen
    headers = [line for line in by_grpc.splitlines() if not line.startswith(b"User-Agent")]
    assert by_us.splitlines() == headers


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://a:1"}, None),
        ({"http_proxy": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "http_proxy": "http://b:1"}, "http://a:1"),
        ({"grpc_proxy": "http://a:1", "https_proxy": "http://b:1"}, "http://a:1"),
        ({"grpc_proxy": "", "https_proxy": "http://b:1"}, None),
        ({"https_proxy": "socks5://a:1"}, None),
        ({"https_proxy": "a:1"}, None),
        ({"https_proxy": "http://"}, None),
        ({"https_proxy": "http://a:x"}, None),
        ({"https_proxy": "https://a:1"}, None),
        ({"https_proxy": "HTTP://a:1"}, "HTTP://a:1"),
        ({"https_proxy": "http://u:p@"}, None),
        ({"https_proxy": "http://[a"}, None),
        ({"https_proxy": "http://a:1", "no_proxy": "other.test"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "no_proxy": "x, .TEST"}, None),
        ({"https_proxy": "http://a:1", "NO_PROXY": ".test"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "no_proxy": ".test", "no_grpc_proxy": "x"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "no_grpc_proxy": "db.test"}, None),
    ],
)
def test_the_proxy_in_force_is_the_one_grpc_takes(
    environ: dict[str, str], proxy: str | None
) -> None:
    assert proxy_in_force("db.test", environ) == proxy


def test_networks_are_exempt_from_the_proxy() -> None:
    environ = {"https_proxy": "http://a:1", "no_proxy": "10.0.0.0/8,fd00::/8"}
    exempt = [proxy_in_force(host, environ) for host in ("10.1.2.3", "fd00::1")]
    assert exempt == [None, None]
    assert proxy_in_force("11.1.2.3", environ) == "http://a:1"


def test_a_unix_socket_takes_no_proxy() -> None:
    assert proxy_in_force("", {"https_proxy": "http://a:1"}) is None


def test_the_alias_own_proxy_goes_first_and_is_exempt_too() -> None:
    environ = {"https_proxy": "http://a:1"}
    assert proxy_in_force("db.test", environ, "http://b:1") == "http://b:1"
    assert proxy_in_force("db.test", environ, "off") is None
    assert proxy_in_force("db.test", {"no_proxy": ".test"}, "http://b:1") is None


_ALONE = "is set, but gRPC reads only https_proxy=http://host:port: set {proxy}"


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({"HTTPS_PROXY": "http://a:1"}, f"HTTPS_PROXY {_ALONE}"),
        ({"ALL_PROXY": "socks5h://a:1"}, f"ALL_PROXY {_ALONE}"),
        ({"all_proxy": "socks5h://a:1"}, f"all_proxy {_ALONE}"),
        ({"https_proxy": "a:3128"}, f"https_proxy {_ALONE}"),
        ({"https_proxy": "https://a:3128"}, f"https_proxy {_ALONE}"),
        ({"http_proxy": "http://a:99999"}, f"http_proxy {_ALONE}"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://a:1"}, ""),
        ({"https_proxy": "a:3128", "no_proxy": ".test"}, ""),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": ".test"}, ""),
        ({"HTTPS_PROXY": ""}, ""),
        ({}, ""),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        errors.NameNotFoundError,
        errors.NameTimeoutError,
        errors.ConnectTimeoutError,
        errors.HostUnreachableError,
    ],
)
def test_a_proxy_of_the_environment_that_grpc_does_not_use_is_pointed_out(
    error: type[errors.ConnectError], environ: dict[str, str], seen: str
) -> None:
    target, surroundings = ProbeTarget("db.test", 19530), HostEnvironment(environ)
    assert hint(error, target, surroundings) == seen
    assert environment_hints(target, surroundings) == tuple(filter(None, [seen]))


@pytest.mark.parametrize(
    "target",
    [
        ProbeTarget("localhost", 19530),
        ProbeTarget("db.test", 19530, proxy="off"),
        ProbeTarget("", 0, unix_path="/x"),
    ],
    ids=str,
)
def test_nobody_misses_a_proxy_that_would_not_be_used_anyway(target: ProbeTarget) -> None:
    surroundings = HostEnvironment({"HTTPS_PROXY": "http://a:1"})
    assert environment_hints(target, surroundings) == ()


def test_a_proxy_of_an_alias_that_no_proxy_exempts_is_pointed_out() -> None:
    target = ProbeTarget("db.test", 19530, proxy="http://a:1")
    surroundings = HostEnvironment({"no_proxy": ".test"})
    seen = "no_proxy exempts db.test: {proxy} is not used"
    assert hint(errors.NameNotFoundError, target, surroundings) == seen
    assert environment_hints(target, surroundings) == ()  # the configuration's own warning says it


@pytest.mark.parametrize(
    ("exempt", "seen"),
    [(".test", "; NO_PROXY exempts db.test, but gRPC reads only no_proxy"), ("other.test", "")],
)
def test_an_exemption_that_grpc_does_not_read_is_pointed_out(exempt: str, seen: str) -> None:
    surroundings = HostEnvironment({"https_proxy": "http://a:1", "NO_PROXY": exempt})
    target = ProbeTarget("db.test", 19530, via_proxy="http://a:1")
    routed = f"https_proxy routes this connection through http://a:1{seen}"
    assert hint(errors.ProxyUnreachableError, target, surroundings) == routed
    assert environment_hints(target, surroundings) == (routed,)


def test_a_hint_names_the_variable_of_the_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    error = failure_of({"ZILLIZ_PROD_URI": "http://db.invalid:19530"})
    assert type(error) is errors.NameNotFoundError
    assert error.hint.endswith("host:port: set ZILLIZ_PROD_PROXY")


# --- remedies ------------------------------------------------------------------------------


def test_a_remedy_names_the_parameter_of_what_was_set_in_code() -> None:
    with faults.refused() as port, registry() as connections:
        with pytest.raises(errors.RefusedError) as caught:
            connections.connect("prod", uri=f"http://127.0.0.1:{port}")
        assert caught.value.remedy == "start the server, or correct the port in the parameter uri"
        with pytest.raises(errors.RefusedError) as caught:
            connections.connect("prod", host="127.0.0.1", port=port)
        assert caught.value.remedy.endswith("the port in the parameters host and port")


def spec_of(**fields: str) -> ConnectionSpec:
    with registry(**{f"ZILLIZ_PROD_{name}": value for name, value in fields.items()}) as known:
        return known.spec("prod")


@pytest.mark.parametrize(
    ("fields", "setting", "name"),
    [
        ({"URI": "http://h"}, "db_name", "ZILLIZ_PROD_DB_NAME"),
        ({"URI": "http://h/sales"}, "db_name", "the path of ZILLIZ_PROD_URI"),
        ({"URI": "http://h", "DATABASE": "sales"}, "db_name", "ZILLIZ_PROD_DATABASE"),
        ({"URI": "http://h", "API_KEY": "key"}, "credentials", "ZILLIZ_PROD_API_KEY"),
        ({"URI": "http://key@h"}, "credentials", "the token in ZILLIZ_PROD_URI"),
        (
            {"URI": "http://u:p@h"},
            "credentials",
            "the user in ZILLIZ_PROD_URI and the password in ZILLIZ_PROD_URI",
        ),
        (
            {"URI": "http://h", "USER": "u", "PASSWORD": "p"},
            "credentials",
            "ZILLIZ_PROD_USER and ZILLIZ_PROD_PASSWORD",
        ),
    ],
    ids=str,
)
def test_a_remedy_names_what_set_a_setting(fields: dict[str, str], setting: str, name: str) -> None:
    assert spec_of(**fields).name_of(setting) == name


def test_a_remedy_names_the_file_of_a_secret(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("key")
    token.chmod(0o600)
    spec = spec_of(URI="http://h", TOKEN_FILE=str(token))
    assert spec.name_of("token") == f"ZILLIZ_PROD_TOKEN_FILE (environment, file {token})"


def test_beside_a_uri_in_code_a_remedy_names_parameters_alone() -> None:
    with registry() as connections:
        connections.add_connection(prod={"uri": "https://h"})
        assert connections.spec("prod").name_of("tls_ca") == "the parameter tls_ca"


def test_every_remedy_names_settings_that_there_are() -> None:
    raised = [each for each in descendants(errors.ConnectError) if "problem" in vars(each)]
    names = {name for each in raised for name in re.findall(r"{(.*?)}", each.remedy)}
    assert names - {"credentials"} <= ConnectionSettings.model_fields.keys()
    bare = r"\b(URI|TOKEN|USER|TLS_\w+|DB_NAME|TIMEOUT|PROXY)\b"
    assert not [each for each in raised if re.search(bare, each.remedy)]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (ProbeTarget("db.test", 443, secure=True, has_credentials=True), False),
        (ProbeTarget("db.test", 443, secure=True), True),
        (ProbeTarget("127.0.0.1", 443, secure=True, has_credentials=True), True),
    ],
    ids=str,
)
def test_nobody_is_told_to_send_credentials_in_the_clear(
    target: ProbeTarget, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = errors.PlaintextServerError, "wrong version number"
    monkeypatch.setattr("zconfig._diagnosis.rules._probed", lambda *_: found)
    verdict = diagnose(Code.UNAVAILABLE, "", target, deadline=soon())
    assert verdict.error is errors.PlaintextServerError
    assert ("http://" in (verdict.remedy or verdict.error.remedy)) is told


# --- TLS files -----------------------------------------------------------------------------


def rewritten(key: Path, encryption: Any, path: Path) -> str:
    private = load_pem_private_key(key.read_bytes(), None)
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return str(path)


def test_good_files_pass(certificates: Certificates) -> None:
    assert check_material(local(1, **known(certificates))) is None
    assert check_material(local(1, secure=True)) is None


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
@pytest.mark.parametrize("content", [None, b"", b"junk", b"\x30\x82\x01\x0a"])
def test_a_file_that_cannot_be_used_is_named(
    name: str, content: bytes | None, certificates: Certificates, tmp_path: Path
) -> None:
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_bytes(content)
    verdict = check_material(local(1, **{**known(certificates), name: str(path)}))
    assert verdict is not None
    assert verdict.error is errors.TLSMaterialError
    assert verdict.detail.startswith(f"TLS_{name.upper()} {path}: ")


def test_a_directory_is_no_file(certificates: Certificates, tmp_path: Path) -> None:
    verdict = check_material(local(1, **{**tls(certificates), "ca": str(tmp_path)}))
    detail = f"TLS_CA {tmp_path}: this is a directory, not a file"
    remedy = "use a regular file"
    assert verdict == Diagnosis(errors.TLSMaterialError, detail, remedy=remedy, field="tls_ca")


def test_a_key_of_another_certificate(certificates: Certificates) -> None:
    files = {**known(certificates), "key": str(certificates.server.key)}
    verdict = check_material(local(1, **files))
    assert verdict is not None
    assert verdict.detail.endswith("does not belong to the certificate in TLS_CERT")


def test_an_encrypted_key_asks_nobody_for_a_passphrase(
    certificates: Certificates, tmp_path: Path
) -> None:
    locked = BestAvailableEncryption(b"passphrase")
    key = rewritten(certificates.client.key, locked, tmp_path / "encrypted.key")
    verdict = check_material(local(1, **{**known(certificates), "key": key}))
    detail = f"TLS_KEY {key}: encrypted, and gRPC does not support a passphrase"
    assert verdict == Diagnosis(errors.TLSMaterialError, detail, field="tls_key")


def test_a_short_key_passes_as_it_does_with_grpc(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # the point is that it is weak
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db.test")])
    start = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = tmp_path / "short.pem", tmp_path / "short.key"
    cert_path.write_bytes(cert.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert check_material(local(1, cert=str(cert_path), key=str(key_path))) is None


def test_the_probe_trusts_a_server_s_own_certificate_as_grpc_does(
    certificates: Certificates,
) -> None:
    with matrix.never_answering(secure=True)(certificates) as port:
        target = local(port, secure=True, ca=str(certificates.server.cert))
        assert call(target, HANGS_S).code is Code.DEADLINE_EXCEEDED
        assert all(result.ok for result in stages(target, soon()))


def test_a_server_that_omits_its_intermediate_certificate_is_trusted_once_that_is_added(
    tmp_path: Path,
) -> None:
    root = trustme.CA()
    intermediate = root.create_child_ca()
    issued = intermediate.issue_cert("localhost")
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    ca = tmp_path / "ca.pem"
    root.cert_pem.write_to_path(ca)
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        environ = {
            "ZILLIZ_PROD_URI": server.uri,
            "ZILLIZ_PROD_TLS_CA": str(ca),
        }
        error = failure_of(environ)
        assert type(error) is errors.UntrustedCertificateError
        assert error.remedy == (
            "add to ZILLIZ_PROD_TLS_CA the authority that signed it, or the intermediate "
            "certificate that the server does not send"
        )
        intermediate.cert_pem.write_to_path(ca, append=True)
        with registry(**environ) as connections:
            assert connections["prod"].ping() > 0


def test_a_certificate_that_is_signed_with_md5_is_refused_as_grpc_does(tmp_path: Path) -> None:
    ca, pair = signed_with_md5(tmp_path)
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    with fake_server(credentials=credentials) as server:
        target = local(server.port, secure=True, ca=str(ca))
        assert call(target).code is Code.UNAVAILABLE
        *_, last = stages(target, soon())
        with pytest.raises(StageError) as refused:
            fetch_topology(ConnectionSpec("prod", parse_uri("https://db")), target, soon())
    assert last.error is errors.UntrustedCertificateError
    assert last.detail == "signed with MD5, which gRPC rejects"
    assert remedy_for(last.error, last.detail, target).startswith("renew it on the server")
    assert refused.value.error is errors.UntrustedCertificateError


# --- what Milvus and a gateway say ---------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (1, "service not ready[proxy=1]: Initializing", errors.ServerNotReadyError),
        (2, "service unavailable", errors.ServerNotReadyError),
        (65535, "proxy not healthy", errors.ServerNotReadyError),
        (800, "database not found[database=sales]", errors.DatabaseMissingError),
        (1400, "not authenticated", errors.MissingCredentialsError),
        (1401, "privilege not permitted", errors.NotPermittedError),
        (65535, "unexpected error", errors.UnexplainedError),
    ],
)
def test_a_status_of_milvus_has_its_cause(
    code: int, reason: str, error: type[errors.ConnectError]
) -> None:
    assert status_verdict(code, reason, local(1)) == Diagnosis(error, f"{code}: {reason}")


def test_a_status_about_credentials_depends_on_whether_there_are_any() -> None:
    verdict = status_verdict(1400, "not authenticated", local(1, has_credentials=True))
    assert verdict.error is errors.RejectedCredentialsError


@pytest.mark.parametrize(
    ("details", "error"),
    [
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired", errors.ExpiredCertificateError),
        ("CERTIFICATE_VERIFY_FAILED: self-signed", errors.UntrustedCertificateError),
        ("Peer name x is not in peer certificate", errors.HostnameMismatchError),
        ("Failed to create security handshaker.", errors.TLSMaterialError),
        ("Secure read failed", errors.ClientCertificateError),
        ("DNS resolution failed for db:19530", errors.NameServerError),
        ("errors resolving db: Domain name not found", errors.NameNotFoundError),
        ("Network is unreachable", errors.HostUnreachableError),
        ("Socket closed", errors.ClosedByPeerError),
        ("recvmsg:Connection reset by peer", errors.ClosedByPeerError),
    ],
)
def test_where_the_probe_finds_nothing_the_words_decide(
    details: str, error: type[errors.ConnectError]
) -> None:
    with faults.grpc_server({}) as port:
        verdict = diagnose(Code.UNAVAILABLE, details, local(port), deadline=soon())
    assert verdict == Diagnosis(error, f"UNAVAILABLE: {details}")


def test_a_header_lost_on_the_way_is_no_missing_credential() -> None:
    target = local(1, has_credentials=True)
    details = "missing authorization in header"
    verdict = diagnose(Code.UNAUTHENTICATED, details, target, deadline=soon())
    assert verdict.error is errors.RejectedCredentialsError
    assert "removed the authorization header" in verdict.hint


def test_a_stopped_cluster_is_not_taken_for_wrong_credentials() -> None:
    details = "The action is unavailable under current cluster status STOPPED."
    verdict = diagnose(Code.UNAUTHENTICATED, details, local(1), deadline=soon())
    assert verdict.error is errors.ClusterStoppedError
    assert verdict.error.permanent


def test_a_cluster_that_is_resuming_is_waited_for() -> None:
    details = "The action is unavailable under current cluster status RESUMING."
    verdict = diagnose(Code.UNAVAILABLE, details, local(1), deadline=soon())
    assert verdict.error is errors.ServerNotReadyError


# --- evidence ------------------------------------------------------------------------------


def test_a_mismatch_names_the_names_on_the_certificate(certificates: Certificates) -> None:
    with matrix.showing("other_host", "h2")(certificates) as port:
        *_, last = stages(local(port, **tls(certificates)), soon())
    assert last.detail == "the certificate is for other.test"


@given(st.text())
def test_evidence_is_one_short_line(text: str) -> None:
    shown = evidence(text)
    assert len(shown) <= 200
    assert shown.isprintable()


# What GitHub's runner and that of Azure take for a command, at the start of a line or anywhere. No
# command is called like a group of an IPv6 address.
_COMMAND = re.compile(r"^\s*::(?![\dA-Fa-f]+\b)[\w-]+.*::|##\[|##vso\[", re.MULTILINE)


@given(st.text("::#[]ewarning-vso 1a\n").map(lambda text: f"x{text}::stop-commands::x{text}"))
def test_evidence_commands_no_runner_wherever_its_line_is_broken(text: str) -> None:
    shown = evidence(text)
    assert not any(_COMMAND.search(shown[at:]) for at in range(len(shown)))


@pytest.mark.parametrize(
    "text", ["[::1]:19530", "[2001:db8::a]:443", "[::ffff:127.0.0.1]:1", "fe80::dead:beef"]
)
def test_evidence_shows_an_address_as_it_is_written(text: str) -> None:
    assert evidence(text) == text


def test_evidence_masks_secrets_before_it_cuts() -> None:
    shown = evidence(f"{'x' * 190} root:s3cr&t-key root:s3cr%26t-key", [Secret("root:s3cr&t-key")])
    assert shown == f"{'x' * 190} {MASK}…"


URI_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@given(URI_TEXT, URI_TEXT)
def test_evidence_never_shows_userinfo(user: str, password: str) -> None:
    marked = f"\N{SNOWMAN}{password}\N{SNOWMAN}"
    assert "\N{SNOWMAN}" not in evidence(f"via http://{user}:{marked}@proxy:3128 to db")


# --- stages --------------------------------------------------------------------------------


def test_the_stages_of_a_good_connection_are_walked_to_the_end(certificates: Certificates) -> None:
    with matrix.never_answering(secure=True)(certificates) as port:
        results = stages(local(port, **tls(certificates)), soon())
    assert [result.stage for result in results] == [
        Stage.MATERIAL,
        Stage.DNS,
        Stage.TCP,
        Stage.TLS,
        Stage.HTTP2,
    ]
    assert all(result.ok and result.elapsed_ms > 0 for result in results)


def test_the_tls_stage_says_when_the_certificate_expires(certificates: Certificates) -> None:
    with matrix.showing("server", "h2")(certificates) as port:
        results = {
            result.stage: result for result in stages(local(port, **tls(certificates)), soon(2.0))
        }
    tls_stage = results[Stage.TLS]
    assert tls_stage.detail.startswith("TLSv1.3, certificate until 3000-01-01 for localhost, 127")
    assert tls_stage.certificate is not None
    assert tls_stage.certificate.end.year == 3000


def test_the_stages_end_with_the_first_that_fails() -> None:
    with faults.refused() as port:
        results = stages(local(port), soon())
    assert [(result.stage, result.error) for result in results] == [
        (Stage.DNS, None),
        (Stage.TCP, errors.RefusedError),
    ]
    assert results[-1].detail == f"{faults.LOOPBACK}:{port}: Connection refused"


def test_a_broken_file_fails_before_anything_is_dialed(tmp_path: Path) -> None:
    (only,) = stages(local(1, secure=True, ca=str(tmp_path / "none.pem")), soon())
    assert (only.stage, only.error) == (Stage.MATERIAL, errors.TLSMaterialError)


def test_the_probe_leaves_nothing_open(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []

    def recorded(*args: Any) -> Any:
        sock, address = dial_tcp(*args)
        opened.append(sock)
        return sock, address

    monkeypatch.setattr("zconfig._diagnosis.network.dial_tcp", recorded)
    with matrix.showing("other_host", "h2")(certificates) as port:
        stages(local(port, **tls(certificates)), soon())
    assert [sock.fileno() for sock in opened] == [-1, -1]


# --- surroundings --------------------------------------------------------------------------

CONTAINER = HostEnvironment(in_container=True)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_in_a_container_is_remarked_on(host: str) -> None:
    target = ProbeTarget(host, 19530)
    assert "the container itself" in hint(errors.RefusedError, target, CONTAINER)
    assert hint(errors.RefusedError, target, HostEnvironment()) == ""
    # Whatever answers there is what was meant, or there is no telling what was.
    assert hint(errors.ServerNotReadyError, target, CONTAINER) == ""
    assert hint(errors.RejectedCredentialsError, target, CONTAINER) == ""


@pytest.mark.parametrize("host", ["milvus", "10.0.0.1", "localhost.test"])
def test_other_hosts_in_a_container_are_not(host: str) -> None:
    assert environment_hints(ProbeTarget(host, 19530), CONTAINER) == ()


def test_a_proxy_in_force_is_named_with_its_variable_and_without_its_password() -> None:
    url = "http://user:s3cret@proxy:3128"
    target = ProbeTarget("db.test", 19530, via_proxy=url)
    surroundings = HostEnvironment({"http_proxy": url})
    expected = "http_proxy routes this connection through http://********@proxy:3128"
    assert hint(errors.ConnectTimeoutError, target, surroundings) == expected
    assert hint(errors.UntrustedCertificateError, target, surroundings) == expected
    assert hint(errors.DatabaseMissingError, target, surroundings) == ""
    assert hint(errors.ProxyError, target, HostEnvironment()).startswith("{proxy} routes")
    assert "s3cret" not in repr(surroundings)


def test_grpc_s_own_resolver_is_remarked_on() -> None:
    surroundings = HostEnvironment({"GRPC_DNS_RESOLVER": "ares"})
    target = ProbeTarget("db.test", 19530)
    assert "GRPC_DNS_RESOLVER=ares" in hint(errors.NameServerError, target, surroundings)
    assert hint(errors.RefusedError, target, surroundings) == ""
    assert (
        hint(errors.NameServerError, target, HostEnvironment({"GRPC_DNS_RESOLVER": "native"})) == ""
    )


@pytest.mark.parametrize(("value", "remarked"), [("0", True), ("False", True), ("1", False)])
def test_fork_support_switched_off_is_remarked_on(value: str, remarked: bool) -> None:
    surroundings = HostEnvironment({"GRPC_ENABLE_FORK_SUPPORT": value})
    told = hint(errors.ServerSilentError, ProbeTarget("db.test", 19530), surroundings)
    assert ("GRPC_ENABLE_FORK_SUPPORT" in told) is remarked


def test_several_hints_stand_side_by_side() -> None:
    environ = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
    told = hint(errors.ConnectTimeoutError, local(1), HostEnvironment(environ, in_container=True))
    assert told.count("; ") == 1


def test_the_verdict_carries_the_hint() -> None:
    with faults.refused() as port:
        target = local(port)
        verdict = diagnose(
            Code.UNAVAILABLE, "", target, deadline=soon(), host_environment=CONTAINER
        )
    assert verdict.hint == hint(errors.RefusedError, target, CONTAINER)


def test_kubernetes_is_a_container() -> None:
    assert HostEnvironment.detect({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).in_container


@pytest.mark.parametrize("marked", [True, False])
def test_a_container_is_known_by_its_mark(
    marked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / ".dockerenv"
    monkeypatch.setattr("zconfig._diagnosis.hints._CONTAINER_MARKS", (str(mark),))
    if marked:
        mark.touch()
    assert HostEnvironment.detect({}).in_container is marked


# --- the servers of these tests ------------------------------------------------------------


def connect(port: int, timeout: float = FAILS_S) -> bytes:
    with channel(local(port)) as dialed:
        method: Any = dialed.unary_unary(f"/{faults.MILVUS}/Connect")
        return bytes(method(b"", timeout=timeout))


def test_a_proxy_that_is_cut_refuses_and_heals_on_the_same_port() -> None:
    with (
        faults.grpc_server({"Connect": faults.succeed}) as upstream,
        faults.breakable_proxy(upstream) as proxy,
    ):
        for _ in range(2):
            assert connect(proxy.port) == b""
            proxy.cut()
            target = local(proxy.port)
            assert call(target).diagnose(target).error is errors.RefusedError
            proxy.heal()
        assert connect(proxy.port) == b""


def test_a_cut_breaks_a_call_in_flight() -> None:
    arrived = threading.Event()

    def never(request: bytes, context: Any) -> bytes:
        arrived.set()
        return faults.never(request, context)

    with (
        faults.grpc_server({"Connect": never}) as upstream,
        faults.breakable_proxy(upstream) as proxy,
        channel(local(proxy.port)) as dialed,
    ):
        method: Any = dialed.unary_unary(f"/{faults.MILVUS}/Connect")
        in_flight = method.future(b"", timeout=FAILS_S)
        assert arrived.wait(FAILS_S)
        proxy.cut()
        assert in_flight.exception().code() is Code.UNAVAILABLE


def test_a_proxy_far_away_adds_its_latency_to_each_round_trip() -> None:
    with (
        faults.grpc_server({"Connect": faults.succeed}) as upstream,
        faults.breakable_proxy(upstream, latency_ms=50) as proxy,
        channel(local(proxy.port)) as dialed,
    ):
        method: Any = dialed.unary_unary(f"/{faults.MILVUS}/Connect")
        took_s = []
        for _ in range(10):
            began = time.monotonic()
            method(b"", timeout=FAILS_S)
            took_s.append(time.monotonic() - began)
    assert took_s[0] > 0.200
    # Any one of them may be late, on a busy machine.
    assert 0.100 < min(took_s[1:]) < 0.200
