"""Every way in which a connect can fail: a server, how it is dialed, and what has to be found."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc

from tests.support import faults
from zconfig import errors
from zconfig._diagnosis import rules

if TYPE_CHECKING:
    from tests.support.certificates import Certificates, KeyPair

Code = grpc.StatusCode
Environ = dict[str, str]
Server = Callable[["Certificates"], AbstractContextManager[int]]
Fields = Callable[["Certificates", int], Environ]

# Long enough for a failure that is reported, short enough to wait for one that is not.
FAILS_S, HANGS_S = 10.0, 0.5
# For the diagnosis of one that is not reported.
LOOKS_S = 1.0


# --- how a server is dialed ----------------------------------------------------------------


def plaintext(_: Certificates, port: int) -> Environ:
    return {"URI": f"http://localhost:{port}"}


def tls(certificates: Certificates, port: int) -> Environ:
    return {"URI": f"https://localhost:{port}", "TLS_CA": str(certificates.ca)}


def system_tls(_: Certificates, port: int) -> Environ:
    return {"URI": f"https://localhost:{port}"}


def misnamed(certificates: Certificates, port: int) -> Environ:
    return {**tls(certificates, port), "TLS_SERVER_NAME": "db.test"}


def renamed(certificates: Certificates, port: int) -> Environ:
    return {**tls(certificates, port), "TLS_SERVER_NAME": "other.test"}


def showing_a_pair(pair: KeyPair) -> Environ:
    return {"TLS_CERT": str(pair.cert), "TLS_KEY": str(pair.key)}


def known(certificates: Certificates, port: int) -> Environ:
    return {**tls(certificates, port), **showing_a_pair(certificates.client)}


def stranger(certificates: Certificates, port: int) -> Environ:
    return {**tls(certificates, port), **showing_a_pair(certificates.other_authority)}


def with_token(certificates: Certificates, port: int) -> Environ:
    return {**plaintext(certificates, port), "TOKEN": "reader:s3cret-canary"}


def in_a_database(certificates: Certificates, port: int) -> Environ:
    return {**with_token(certificates, port), "DB_NAME": "sales"}


def through_proxy(_: Certificates, port: int) -> Environ:
    proxy = f"http://user:s3cret-canary@{faults.LOOPBACK}:{port}"
    return {"URI": "http://db.test:19530", "PROXY": proxy}


def tls_through_proxy(certificates: Certificates, port: int) -> Environ:
    ca = str(certificates.ca)
    return {**through_proxy(certificates, port), "URI": "https://db.test:19530", "TLS_CA": ca}


def no_such_host(_: Certificates, __: int) -> Environ:
    return {"URI": "http://db.invalid:19530"}


def broadcast(_: Certificates, port: int) -> Environ:
    # TCP has no way to a broadcast address, not even to that of the loopback network.
    return {"URI": f"http://127.255.255.255:{port}"}


# --- servers -------------------------------------------------------------------------------


def plain(handle: faults.Handler) -> Server:
    return lambda _: faults.listening(handle)


def failing(code: grpc.StatusCode, details: str) -> Server:
    return lambda _: faults.grpc_server({"Connect": faults.failing(code, details)})


def server_context(pair: KeyPair, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.set_alpn_protocols(protocols)
    return context


def showing(name: str, *protocols: str) -> Server:
    """Return a server that shows one of the certificates, and is silent then."""

    def serve(certificates: Certificates) -> AbstractContextManager[int]:
        context = server_context(getattr(certificates, name), *protocols)
        return faults.listening(faults.over_tls(context, faults.swallow))

    return serve


def demanding(newest: ssl.TLSVersion) -> Server:
    """Return a server that demands a client certificate."""

    def serve(certificates: Certificates) -> AbstractContextManager[int]:
        context = server_context(certificates.server, "h2")
        context.maximum_version = newest
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca)
        return faults.listening(faults.over_tls(context, faults.swallow))

    return serve


def never_answering(*, secure: bool = False) -> Server:
    """Return a gRPC server whose Connect takes for ever."""

    def serve(certificates: Certificates) -> AbstractContextManager[int]:
        pair = certificates.server
        credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
        methods = {"Connect": faults.never}
        return faults.grpc_server(methods, credentials=credentials if secure else None)

    return serve


def answering_status(code: int, reason: str) -> Server:
    """Return a Milvus that takes the call, and reports a failure in its answer."""
    from zconfig._channel.messages import ConnectReply, ResponseStatus

    answer = ConnectReply(ResponseStatus(code=code, reason=reason)).encode()
    return lambda _: faults.grpc_server({"Connect": lambda *_: answer})


def resolving(answer: Callable[[], Any], server: Server) -> Server:
    """Return a server on a machine whose resolver answers as told; gRPC asks its own."""

    @contextlib.contextmanager
    def serve(certificates: Certificates) -> Iterator[int]:
        patch = mock.patch.object(socket, "getaddrinfo", side_effect=lambda *_, **__: answer())
        with server(certificates) as port, patch:
            yield port

    return serve


def failing_to_resolve(number: int) -> Server:
    def answer() -> None:
        raise socket.gaierror(number, "the resolver's words")

    return resolving(answer, lambda _: faults.refused())


@contextlib.contextmanager
def silent_resolver(certificates: Certificates) -> Iterator[int]:
    """Serve nothing, on a machine whose resolver does not answer."""
    release = threading.Event()

    def answer() -> list[Any]:
        release.wait()
        return []

    with resolving(answer, plain(faults.swallow))(certificates) as port:
        try:
            yield port
        finally:
            release.set()


# --- the cells -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One way to fail.

    Args:
        name: What is wrong.
        server: What is dialed.
        error: The cause that has to be found.
        seen: A pattern of the evidence.
        fields: How it is dialed.
        origin: The field whose value is at fault.
        timeout_s: Seconds for the connect.
    """

    name: str
    server: Server
    error: type[errors.ConnectError]
    seen: str
    fields: Fields = plaintext
    origin: str = "URI"
    timeout_s: float = FAILS_S

    @contextlib.contextmanager
    def environ(self, certificates: Certificates, timeout_s: float = 0.0) -> Iterator[Environ]:
        """Serve, and return the environment of an alias `prod` that leads there."""
        with self.server(certificates) as port:
            fields = self.fields(certificates, port)
            fields["TIMEOUT"] = str(timeout_s or self.timeout_s)
            with diagnosed_in(LOOKS_S if self.timeout_s == HANGS_S else FAILS_S):
                yield {f"ZILLIZ_PROD_{name}": value for name, value in fields.items()}


@contextlib.contextmanager
def diagnosed_in(seconds: float) -> Iterator[None]:
    """Give a diagnosis time to come to the fault on a busy machine, before and after the deadline.

    That it takes a second, and a fifth of one after the deadline, is tested without a machine: see
    test_deadlines.
    """
    with mock.patch.multiple(rules, _BUDGET_S=seconds, _GRACE_S=seconds):
        yield


NEWEST, OLDER = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
PORT = r"127\.0\.0\.1:\d+"
DATES = r"valid from \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d"

NAMES = [
    Cell(
        "no such name",
        failing_to_resolve(socket.EAI_NONAME),
        errors.NameNotFoundError,
        "db.invalid: the resolver's words",
        no_such_host,
    ),
    Cell(
        "the name server fails for the moment",
        failing_to_resolve(socket.EAI_AGAIN),
        errors.NameServerError,
        "db.invalid: the resolver's words",
        no_such_host,
    ),
    Cell(
        "the name server fails",
        failing_to_resolve(socket.EAI_FAIL),
        errors.NameServerError,
        "db.invalid: the resolver's words",
        no_such_host,
    ),
    Cell(
        "the name server is silent",
        silent_resolver,
        errors.NameTimeoutError,
        r"localhost: no answer in [01]\.\d+ s",
        timeout_s=HANGS_S,
    ),
]

CONNECTIONS = [
    Cell("nobody listens", lambda _: faults.refused(), errors.RefusedError, f"{PORT}: .*refused"),
    Cell(
        "no way to the host",
        lambda _: faults.refused(),
        errors.HostUnreachableError,
        r"127\.255\.255\.255:\d+: ",
        broadcast,
    ),
    Cell(
        "no answer to a SYN",
        lambda _: faults.black_hole(),
        errors.ConnectTimeoutError,
        f"{PORT}: no answer to the TCP handshake",
        timeout_s=HANGS_S,
    ),
    Cell(
        "closed at once",
        plain(faults.hang_up),
        errors.ClosedByPeerError,
        "(closed|reset) after the TCP handshake",
    ),
    Cell(
        "closed after a word",
        plain(faults.hang_up_later),
        errors.ClosedByPeerError,
        "closed after the TCP handshake",
    ),
    Cell(
        "reset",
        plain(faults.reset_later),
        errors.ClosedByPeerError,
        "reset after the TCP handshake",
    ),
    Cell(
        "closed, over TLS",
        plain(faults.hang_up_later),
        errors.ClosedByPeerError,
        "closed in the TLS handshake",
        tls,
    ),
    Cell(
        "reset, over TLS",
        plain(faults.reset_later),
        errors.ClosedByPeerError,
        "reset in the TLS handshake",
        tls,
    ),
]

SILENCE = [
    Cell(
        "silence",
        plain(faults.swallow),
        errors.ServerSilentError,
        "no answer to the HTTP/2 preface",
        timeout_s=HANGS_S,
    ),
    Cell(
        "a slow call",
        never_answering(),
        errors.ServerSilentError,
        "the server speaks HTTP/2, but the call received no answer",
        timeout_s=HANGS_S,
    ),
    Cell(
        "silence, over TLS",
        plain(faults.swallow),
        errors.ServerSilentError,
        "no answer to the TLS handshake",
        tls,
        timeout_s=HANGS_S,
    ),
    Cell(
        "a slow call, over TLS",
        never_answering(secure=True),
        errors.ServerSilentError,
        "the call received no answer",
        tls,
        timeout_s=HANGS_S,
    ),
    Cell(
        "silence after the TLS handshake",
        showing("server", "h2"),
        errors.ServerSilentError,
        "no answer to the HTTP/2 preface",
        tls,
        timeout_s=HANGS_S,
    ),
    Cell(
        "silence after a client certificate",
        demanding(NEWEST),
        errors.ServerSilentError,
        "no answer to the HTTP/2 preface",
        known,
        timeout_s=HANGS_S,
    ),
    Cell(
        "silence under a name that was given",
        showing("other_host", "h2"),
        errors.ServerSilentError,
        "no answer to the HTTP/2 preface",
        renamed,
        timeout_s=HANGS_S,
    ),
]

PLAINTEXT_OR_TLS = [
    *(
        Cell(f"plaintext to {name}", server, errors.TLSServerError, seen)
        for name, server, seen in (
            ("TLS", never_answering(secure=True), "(closed|reset), but accepted a TLS handshake"),
            ("OpenSSL", showing("server", "h2"), "TLS"),
            ("mutual TLS 1.3", demanding(NEWEST), "TLS"),
            ("mutual TLS 1.2", demanding(OLDER), "TLS"),
        )
    ),
    Cell("TLS to plaintext", never_answering(), errors.PlaintextServerError, "", tls),
    Cell(
        "TLS to HTTP/1.1",
        plain(faults.http1),
        errors.PlaintextServerError,
        "",
        tls,
    ),
]

CERTIFICATES = [
    Cell(
        "an authority that is not trusted",
        showing("other_authority", "h2"),
        errors.UntrustedCertificateError,
        "certificate",
        tls,
        "TLS_CA",
    ),
    Cell(
        "an authority that the system does not trust",
        showing("server", "h2"),
        errors.UntrustedCertificateError,
        "certificate",
        system_tls,
    ),
    Cell(
        "an expired certificate",
        showing("expired", "h2"),
        errors.ExpiredCertificateError,
        f": the server's is {DATES}",
        tls,
    ),
    Cell(
        "a certificate that is not yet valid",
        showing("not_yet_valid", "h2"),
        errors.ExpiredCertificateError,
        f": the server's is {DATES}",
        tls,
    ),
    Cell(
        "another host's certificate",
        showing("other_host", "h2"),
        errors.HostnameMismatchError,
        "the certificate is for other.test",
        tls,
    ),
    Cell(
        "a wrong server name",
        showing("server", "h2"),
        errors.HostnameMismatchError,
        r"the certificate is for localhost, 127\.0\.0\.1",
        misnamed,
        "TLS_SERVER_NAME",
    ),
    Cell(
        "no client certificate",
        demanding(NEWEST),
        errors.ClientCertificateError,
        "certificate required",
        tls,
    ),
    Cell(
        "no client certificate, TLS 1.2",
        demanding(OLDER),
        errors.ClientCertificateError,
        "asked for a client certificate, then .*handshake failure",
        tls,
    ),
    *(
        Cell(
            f"a stranger's client certificate, {version.name}",
            demanding(version),
            errors.ClientCertificateError,
            "unknown ca",
            stranger,
            "TLS_CERT",
        )
        for version in (NEWEST, OLDER)
    ),
]

NOT_MILVUS = [
    Cell("HTTP/1.1", plain(faults.http1), errors.NotHTTP2Error, "answered with HTTP/1"),
    Cell("garbage", plain(faults.garbage), errors.NotHTTP2Error, "bytes of another protocol"),
    Cell(
        "TLS for HTTP/1.1", showing("server", "http/1.1"), errors.NotHTTP2Error, "not offer h2", tls
    ),
    Cell("TLS for anything", showing("server"), errors.NotHTTP2Error, "not offer h2", tls),
    *(
        Cell(
            f"a gateway's {status}",
            plain(faults.gateway(status)),
            errors.NotGRPCError,
            f"http2 header with status: {status}",
        )
        for status in (301, 401, 403, 404, 500)
    ),
    Cell(
        "another service",
        lambda _: faults.grpc_server({"Range": faults.succeed}, service="etcdserverpb.KV"),
        errors.OtherServiceError,
        "UNIMPLEMENTED",
    ),
    Cell(
        "an answer that is not Milvus'",
        lambda _: faults.grpc_server({"Connect": lambda *_: b"\xff\xff"}),
        errors.OtherServiceError,
        "",
    ),
]

SAID_BY_MILVUS = [
    Cell(
        "no credentials",
        failing(Code.UNAUTHENTICATED, "missing authorization in header"),
        errors.MissingCredentialsError,
        "UNAUTHENTICATED: missing authorization in header",
    ),
    Cell(
        "wrong credentials",
        failing(Code.UNAUTHENTICATED, "auth check failure, please check username and password"),
        errors.RejectedCredentialsError,
        "UNAUTHENTICATED: auth check failure",
        with_token,
        "TOKEN",
    ),
    Cell(
        "no privilege",
        failing(Code.PERMISSION_DENIED, "permission deny"),
        errors.NotPermittedError,
        "PERMISSION_DENIED: permission deny",
        with_token,
        "TOKEN",
    ),
    Cell(
        "no privilege, in the answer",
        answering_status(1401, "privilege not permitted"),
        errors.NotPermittedError,
        "1401: privilege not permitted",
        with_token,
        "TOKEN",
    ),
    Cell(
        "no such database",
        answering_status(800, "database not found[database=sales]"),
        errors.DatabaseMissingError,
        "800: database not found",
        in_a_database,
        "DB_NAME",
    ),
    *(
        Cell(
            f"starting, {code.name}",
            failing(code, "internal: Milvus Proxy is not ready yet. please wait"),
            errors.ServerNotReadyError,
            "not ready yet",
        )
        for code in (Code.UNAVAILABLE, Code.UNKNOWN)
    ),
    Cell(
        "starting, in the answer",
        answering_status(1, "service not ready[proxy=1]: Initializing"),
        errors.ServerNotReadyError,
        "1: service not ready",
    ),
    *(
        Cell(
            f"a gateway's {status}",
            plain(faults.gateway(status)),
            errors.ServerNotReadyError,
            f"http2 header with status: {status}",
        )
        for status in (429, 502, 503, 504)
    ),
    *(
        Cell(
            f"a stopped cluster, {code.name}",
            failing(code, "The action is unavailable under current cluster status STOPPED."),
            errors.ClusterStoppedError,
            "cluster status STOPPED",
            with_token,
        )
        for code in (Code.UNAUTHENTICATED, Code.UNKNOWN)
    ),
    *(
        Cell(
            f"no rule, {code.name}",
            failing(code, "odd"),
            errors.UnexplainedError,
            f"{code.name}: odd",
        )
        for code in (Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
    ),
]

PROXIES = [
    Cell(f"a proxy that {name}{over}", server, error, seen, fields, "PROXY", timeout_s)
    for over, fields in (("", through_proxy), (", TLS", tls_through_proxy))
    for name, server, error, seen, timeout_s in (
        ("is down", lambda _: faults.refused(), errors.ProxyUnreachableError, "refused", FAILS_S),
        (
            "drops SYNs",
            lambda _: faults.black_hole(),
            errors.ProxyUnreachableError,
            "no answer to the TCP handshake",
            HANGS_S,
        ),
        ("answers 403", plain(faults.proxy_answering(403)), errors.ProxyError, "403", FAILS_S),
        ("answers 502", plain(faults.proxy_answering(502)), errors.ProxyError, "502", FAILS_S),
        (
            "wants credentials",
            plain(faults.proxy_answering(407)),
            errors.ProxyAuthenticationError,
            "407",
            FAILS_S,
        ),
        (
            "hangs up",
            plain(faults.hang_up_later),
            errors.ProxyError,
            "the answer to CONNECT is not HTTP",
            FAILS_S,
        ),
        ("resets", plain(faults.reset_later), errors.ProxyError, "no complete answer", FAILS_S),
        (
            "answers garbage",
            plain(faults.answering(b"garbage\r\n\r\n")),
            errors.ProxyError,
            "not HTTP",
            FAILS_S,
        ),
        ("is silent", plain(faults.swallow), errors.ProxyError, "no complete answer", HANGS_S),
    )
]

CELLS = (
    *NAMES,
    *CONNECTIONS,
    *SILENCE,
    *PLAINTEXT_OR_TLS,
    *CERTIFICATES,
    *NOT_MILVUS,
    *SAID_BY_MILVUS,
    *PROXIES,
)
