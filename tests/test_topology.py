from __future__ import annotations

import base64
import io
import json
import random
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import faults
from tests.support.topology import (
    PRIMARY,
    READ_ONLY,
    TopologyServer,
    answering_http,
    chunked,
    document,
    dripping,
    endless,
    routing_proxy,
    telling,
    topology_server,
)
from tests.test_canary import CANARY, assert_no_canary, shown_of
from zconfig import errors
from zconfig._deadline import backoff_s
from zconfig._diagnosis import ProbeTarget
from zconfig._diagnosis.model import StageError
from zconfig._endpoint import parse_uri
from zconfig._redaction import Hidden, Secret
from zconfig._spec import ConnectionSpec, Credentials
from zconfig._topology import (
    REFRESH_S,
    Topology,
    TopologyCache,
    _exchange,
    fetch_topology,
    parse_topology,
)
from zconfig.errors import ConnectError, Stage

if TYPE_CHECKING:
    from tests.support.certificates import Certificates
    from tests.support.servers import RealMilvus

HOST = "x-global-cluster.test"
WEST, EAST = "https://in01-west.example.com", "https://in01-east.example.com"
WEST_FIRST = document("7", west=(WEST, PRIMARY), east=(EAST, READ_ONLY))
EAST_FIRST = document("8", west=(WEST, READ_ONLY), east=(EAST, PRIMARY))

PATIENCE_S, HURRY_S = 20.0, 0.5
# What a busy machine may take on top of what is promised: less than any default, which whoever
# forgets a deadline would wait for.
SLACK_S = 5.0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, _: low)


def asking(token: str | None = "an-api-key") -> ConnectionSpec:  # noqa: S107 - not a real one
    credentials = Credentials(Secret(token)) if token else None
    return ConnectionSpec("prod", parse_uri(f"https://{HOST}"), credentials)


def trusting(certificates: Certificates, port: int, **more: Any) -> ProbeTarget:
    dialed = {"secure": True, "ca": str(certificates.ca), **more}
    return ProbeTarget("127.0.0.1", port, **dialed)


def within(seconds: float = PATIENCE_S) -> float:
    return time.monotonic() + seconds


def fetch(certificates: Certificates, server: TopologyServer, **more: Any) -> Topology:
    return fetch_topology(asking(), trusting(certificates, server.port, **more), within())


# --- a topology that is told ---------------------------------------------------------------


def test_the_topology_is_asked_for_with_the_token(certificates: Certificates) -> None:
    with topology_server(certificates, telling(WEST_FIRST)) as server:
        topology = fetch(certificates, server)
    assert topology == Topology(7, parse_uri(WEST))
    (request,) = server.requests
    assert request.line == "GET /global-cluster/topology HTTP/1.1"
    assert request.headers["authorization"] == "Bearer an-api-key"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"


def test_without_credentials_it_is_asked_for_without_a_header(certificates: Certificates) -> None:
    with topology_server(certificates, telling(WEST_FIRST)) as server:
        fetch_topology(asking(None), trusting(certificates, server.port), within())
    assert "authorization" not in server.requests[0].headers


def test_an_answer_may_come_in_chunks(certificates: Certificates) -> None:
    with topology_server(certificates, chunked(json.dumps(WEST_FIRST).encode())) as server:
        assert fetch(certificates, server).version == 7


def test_the_server_name_of_the_alias_is_the_one_that_is_verified(
    certificates: Certificates,
) -> None:
    pair = certificates.other_host
    with topology_server(certificates, telling(WEST_FIRST), pair=pair) as server:
        assert fetch(certificates, server, server_name="other.test").version == 7


def test_the_client_certificate_of_the_alias_is_shown(certificates: Certificates) -> None:
    own = {"cert": str(certificates.client.cert), "key": str(certificates.client.key)}
    with topology_server(certificates, telling(WEST_FIRST), demanding=True) as server:
        assert fetch(certificates, server, **own).version == 7


def test_a_proxy_is_asked_for_a_tunnel_to_a_name_that_only_it_knows(
    certificates: Certificates,
) -> None:
    with (
        topology_server(certificates, telling(WEST_FIRST)) as server,
        routing_proxy({f"{HOST}:443": server.port}) as proxy,
    ):
        target = trusting(certificates, 443, via_proxy=proxy, server_name="localhost")
        topology = fetch_topology(asking(), replace(target, host=HOST), within())
    assert topology.version == 7
    assert server.requests[0].headers["host"] == HOST


# --- each fault, and its cause -------------------------------------------------------------

Server = Callable[["Certificates"], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Case:
    """A server, how it is dialed, and what has to be found; three tries mean that it may pass."""

    name: str
    server: Server
    error: type[ConnectError]
    stage: Stage
    detail: str
    tries: int = 1
    dialed: Callable[[Certificates], dict[str, Any]] = field(default=lambda _: {})
    timeout_s: float = PATIENCE_S


def plain(handle: faults.Handler) -> Server:
    return lambda _: faults.listening(handle)


def answering(handle: faults.Handler, **more: Any) -> Server:
    return lambda certificates: topology_server(certificates, handle, **more)


def showing(name: str) -> Server:
    return lambda certificates: topology_server(
        certificates, telling(WEST_FIRST), pair=getattr(certificates, name)
    )


def told(value: object) -> Server:
    return answering(telling(value))


def status(code: int, body: bytes = b"", *headers: str) -> Server:
    return answering(answering_http(code, body, *headers))


def grpc_over_tls(certificates: Certificates) -> AbstractContextManager[int]:
    pair = certificates.server
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    return faults.grpc_server({"Connect": faults.succeed}, credentials=credentials)


# RFC 8446: an alert record, fatal, 120.
NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"

MALFORMED, NO_PRIMARY = errors.MalformedTopologyError, errors.NoPrimaryError
SILENT, CLOSED = errors.ServerSilentError, errors.ClosedByPeerError
ABSENT, REFUSED = errors.NotGlobalClusterError, errors.TopologyRefusedError
BUSY, TLS, MILVUS = errors.TopologyUnavailableError, Stage.TLS, Stage.MILVUS
CASES = [
    Case(
        "nobody listens",
        lambda _: faults.refused(),
        errors.RefusedError,
        Stage.TCP,
        "127.0.0.1:{port}: Connection refused",
    ),
    Case(
        "no answer to a SYN",
        lambda _: faults.black_hole(),
        errors.ConnectTimeoutError,
        Stage.TCP,
        "127.0.0.1:{port}: no answer to the TCP handshake",
        timeout_s=HURRY_S,
    ),
    Case(
        "silence before TLS",
        plain(faults.swallow),
        SILENT,
        MILVUS,
        "no answer to the TLS handshake",
        timeout_s=HURRY_S,
    ),
    Case(
        "silence after TLS",
        answering(faults.swallow),
        SILENT,
        MILVUS,
        "no complete response to the request for the topology",
        timeout_s=HURRY_S,
    ),
    Case(
        "a slow drip",
        answering(dripping),
        SILENT,
        MILVUS,
        "no complete response to the request for the topology",
        timeout_s=HURRY_S,
    ),
    Case(
        "closed before TLS",
        plain(faults.hang_up_later),
        CLOSED,
        Stage.TCP,
        "closed in the TLS handshake",
    ),
    Case(
        "reset before TLS",
        plain(faults.reset_later),
        CLOSED,
        Stage.TCP,
        "reset in the TLS handshake",
    ),
    Case(
        "closed after TLS",
        answering(faults.hang_up),
        CLOSED,
        Stage.TCP,
        "closed during the request for the topology",
        tries=3,
    ),
    Case(
        "closed in the answer",
        answering(lambda conn: conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")),
        CLOSED,
        Stage.TCP,
        "closed during the response to the request for the topology",
        tries=3,
    ),
    Case(
        "closed after a few bytes of very many",
        answering(
            lambda conn: conn.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 9%s\r\n\r\n{" % (b"0" * 18)
            )
        ),
        CLOSED,
        Stage.TCP,
        "closed during the response to the request for the topology",
        tries=3,
    ),
    Case(
        "a server of gRPC alone",
        grpc_over_tls,
        CLOSED,
        Stage.TCP,
        "closed during the request for the topology",
    ),
    Case("plaintext", plain(faults.http1), errors.PlaintextServerError, TLS, ""),
    Case(
        "another authority",
        showing("other_authority"),
        errors.UntrustedCertificateError,
        TLS,
        "certificate",
        tries=0,
    ),
    Case(
        "expired",
        showing("expired"),
        errors.ExpiredCertificateError,
        TLS,
        "certificate",
        tries=0,
    ),
    Case(
        "another name",
        showing("other_host"),
        errors.HostnameMismatchError,
        TLS,
        "IP address mismatch",
        tries=0,
    ),
    Case(
        "no client certificate",
        answering(telling(WEST_FIRST), demanding=True),
        errors.ClientCertificateError,
        TLS,
        "certificate required",
        tries=0,
    ),
    Case(
        "no CA file",
        told(WEST_FIRST),
        errors.TLSMaterialError,
        Stage.MATERIAL,
        "TLS_CA nowhere.pem: the file does not exist",
        tries=0,
        dialed=lambda _: {"ca": "nowhere.pem"},
    ),
    Case(
        "a name that no certificate is for",
        told(WEST_FIRST),
        errors.HostnameMismatchError,
        TLS,
        "no certificate is for .x",
        tries=0,
        dialed=lambda _: {"server_name": ".x"},
    ),
    Case(
        "not HTTP",
        answering(lambda conn: conn.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")),
        ABSENT,
        MILVUS,
        "the response to the request for the topology is not HTTP/1.1",
    ),
    Case(
        "a chunk of less than nothing",
        answering(
            lambda conn: conn.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"
            )
        ),
        ABSENT,
        MILVUS,
        "the response to the request for the topology is not HTTP/1.1",
    ),
    Case(
        "no HTTP/1.1 in the handshake",
        plain(faults.answering(NO_APPLICATION_PROTOCOL)),
        ABSENT,
        MILVUS,
        "the server does not support HTTP/1.1",
    ),
    Case("an endless answer", answering(endless), MALFORMED, MILVUS, "larger than 65536 bytes"),
    Case("401", status(401), errors.RejectedCredentialsError, Stage.CREDENTIALS, "HTTP 401"),
    Case(
        "403, with a reason",
        status(403, b'{"message": "not on the\\nallow-list"}'),
        errors.NotPermittedError,
        Stage.CREDENTIALS,
        "HTTP 403 Forbidden not on the allow-list",
    ),
    Case("404", status(404, b"<html>"), ABSENT, MILVUS, "HTTP 404 Not Found"),
    Case("302", status(302, b"", "Location: /login"), ABSENT, MILVUS, "HTTP 302 Found"),
    Case("400", status(400), REFUSED, MILVUS, "HTTP 400 Bad Request"),
    Case("429", status(429), BUSY, MILVUS, "HTTP 429 Too Many Requests", tries=3),
    Case("500", status(500), BUSY, MILVUS, "HTTP 500 Internal Server Error", tries=3),
    Case("503", status(503), BUSY, MILVUS, "HTTP 503 Service Unavailable", tries=3),
    Case("204", status(204), MALFORMED, MILVUS, "HTTP 204 No Content"),
    Case("not JSON", status(200, b"<html>"), MALFORMED, MILVUS, "the response is not JSON"),
    Case(
        "another code",
        told({"code": 80001, "message": "the token\nis illegal"}),
        REFUSED,
        MILVUS,
        "code 80001: the token is illegal",
    ),
    Case(
        "no primary",
        told(document("7", west=(WEST, READ_ONLY))),
        NO_PRIMARY,
        MILVUS,
        "0 of 1 members are writable",
        tries=3,
    ),
    Case(
        "two primaries",
        told(document("7", west=(WEST, PRIMARY), east=(EAST, 2))),
        NO_PRIMARY,
        MILVUS,
        "2 of 2 members are writable",
        tries=3,
    ),
    Case("no members", told(document("7")), NO_PRIMARY, MILVUS, "0 of 0 members", tries=3),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_has_its_cause(case: Case, certificates: Certificates) -> None:
    with case.server(certificates) as serving:
        server = serving if isinstance(serving, TopologyServer) else None
        port = server.port if server else serving
        target = trusting(certificates, port, **case.dialed(certificates))
        deadline = within(case.timeout_s)
        with pytest.raises(StageError) as caught:
            fetch_topology(asking(), target, deadline)
        ended = time.monotonic()
    failed = caught.value
    assert (failed.error, failed.error.stage) == (case.error, case.stage), failed.detail
    assert case.detail.format(port=port) in failed.detail
    assert ended < deadline + SLACK_S
    if server:
        assert len(server.requests) == case.tries
    message = str(failed.error("prod", endpoint="x", origin="y", detail=failed.detail))
    assert "\n" not in message


@pytest.mark.parametrize("status_code", [401, 403])
def test_whoever_sent_no_credentials_is_told_so(
    status_code: int, certificates: Certificates
) -> None:
    with (
        topology_server(certificates, answering_http(status_code)) as server,
        pytest.raises(StageError) as caught,
    ):
        fetch_topology(asking(None), trusting(certificates, server.port), within())
    assert caught.value.error is errors.MissingCredentialsError


def test_a_milvus_with_tls_is_no_global_cluster(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    with pytest.raises(StageError) as caught:
        fetch_topology(asking(), trusting(certificates, milvus_tls.port), within())
    assert caught.value.error is errors.NotGlobalClusterError


def test_a_name_that_does_not_exist_is_reported(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(StageError) as caught:
        fetch_topology(asking(), replace(trusting(certificates, 443), host=HOST), within())
    assert caught.value.error is errors.NameNotFoundError
    assert caught.value.detail == f"{HOST}: Name or service not known"


def test_a_silent_name_server_does_not_outrun_the_deadline(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait() and [])
    deadline = within(HURRY_S)
    with pytest.raises(StageError) as caught:
        fetch_topology(asking(), replace(trusting(certificates, 443), host=HOST), deadline)
    assert time.monotonic() < deadline + SLACK_S
    assert caught.value.error is errors.NameTimeoutError
    over.set()


@pytest.mark.parametrize(
    ("proxy", "seen"),
    [
        (faults.refused(), "Connection refused"),
        (faults.listening(faults.connect_refused), "answered HTTP/1.1 403 Forbidden"),
        (faults.listening(faults.hang_up), "CONNECT"),
    ],
    ids=["refused", "forbidden", "closed"],
)
def test_a_proxy_in_the_way_is_named(
    proxy: AbstractContextManager[int], seen: str, certificates: Certificates
) -> None:
    with proxy as port:
        target = trusting(certificates, 443, via_proxy=f"http://127.0.0.1:{port}")
        with pytest.raises(StageError) as caught:
            fetch_topology(asking(), target, within())
    assert issubclass(caught.value.error, errors.ProxyError)
    assert caught.value.detail.startswith(f"proxy 127.0.0.1:{port}: ")
    assert seen in caught.value.detail


# --- tries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [answering_http(500), answering_http(429), faults.hang_up, telling(document("1"))],
    ids=["500", "429", "closed", "no primary"],
)
def test_what_passes_is_tried_again(first: faults.Handler, certificates: Certificates) -> None:
    with topology_server(certificates, first, first, telling(WEST_FIRST)) as server:
        assert fetch(certificates, server).version == 7
    assert len(server.requests) == 3


def test_no_pause_outlasts_the_deadline(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 60.0)
    deadline = within()
    with (
        topology_server(certificates, answering_http(500)) as server,
        pytest.raises(StageError) as caught,
    ):
        fetch_topology(asking(), trusting(certificates, server.port), deadline)
    assert time.monotonic() < deadline
    assert caught.value.error is errors.TopologyUnavailableError
    assert len(server.requests) == 1


def test_the_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high))
    assert [backoff_s(number) for number in (1, 2)] == [(0, 0.4), (0, 0.8)]


# --- the answer, as it is read -------------------------------------------------------------


def read(value: object) -> Topology:
    return parse_topology(json.dumps(value).encode())


def changed(path: str, value: object) -> dict[str, Any]:
    """Return a good answer with one value of it changed, or taken out."""
    answer: Any = json.loads(json.dumps(WEST_FIRST))
    *parents, last = path.split(".")
    inner = answer
    for name in parents:
        inner = inner[int(name) if name.isdigit() else name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return dict(answer)


@pytest.mark.parametrize("version", ["7", 7, "007"])
def test_versions_are_numbers_however_they_are_written(version: object) -> None:
    assert read(changed("data.version", version)).version == 7


def test_a_code_that_is_left_out_means_success() -> None:
    assert read(changed("code", ...)).version == 7


@pytest.mark.parametrize(
    ("bits", "writable"), [(0, False), (1, False), (2, True), (3, True), (7, True)]
)
def test_a_capability_is_a_set_of_bits(bits: int, writable: bool) -> None:
    other = (EAST, READ_ONLY if writable else PRIMARY)
    primary = read(document("7", west=(WEST, bits), east=other)).primary
    assert primary == parse_uri(WEST if writable else EAST)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("https://in01-a.aws-us-west-2.vectordb.zillizcloud.com", "in01-a.aws-us-west-2.vectordb"),
        ("in01-a.example:19530", "in01-a.example:19530"),
        ("in01-a.example", "in01-a.example:443"),
        ("https://127.0.0.1:19530/", "127.0.0.1:19530"),
        ("[::1]:19530", "[::1]:19530"),
    ],
)
def test_an_endpoint_is_a_uri_or_host_and_port(written: str, address: str) -> None:
    endpoint = read(document(1, only=(written, PRIMARY))).primary
    assert endpoint.address.startswith(address)
    assert endpoint.secure


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (None, "the response is not an object"),
        ([], "the response is not an object"),
        ({}, "data is not an object"),
        (changed("code", "0"), "code is not a whole number"),
        (changed("code", False), "code is not a whole number"),
        (changed("data", ...), "data is not an object"),
        (changed("data.version", ...), "data.version is not a whole number"),
        (changed("data.version", "7a"), "data.version is not a whole number"),
        (changed("data.version", -1), "data.version is not a whole number"),
        (changed("data.version", 7.5), "data.version is not a whole number"),
        (changed("data.version", True), "data.version is not a whole number"),
        (changed("data.version", "\u0667"), "data.version is not a whole number"),
        (changed("data.clusters", {}), "data.clusters is not an array"),
        (changed("data.clusters", ["x"]), "cluster 1 is not an object"),
        (changed("data.clusters.1.endpoint", ...), "endpoint of cluster 2 is not a string"),
        (changed("data.clusters.1.capability", "3"), "capability of cluster 2 is not a whole"),
        (changed("data.clusters.1.capability", True), "capability of cluster 2 is not a whole"),
        (changed("data.clusters.0.endpoint", ""), "endpoint of cluster 1: the URI has no host"),
        (changed("data.clusters.0.endpoint", "h:x"), "endpoint of cluster 1: the port is not"),
        (
            changed("data.clusters.0.endpoint", "unix:///x"),
            "endpoint of cluster 1: it does not use",
        ),
        (
            changed("data.clusters.0.endpoint", "http://h"),
            "endpoint of cluster 1: it does not use",
        ),
    ],
)
def test_an_answer_that_is_no_topology_is_malformed(answer: object, detail: str) -> None:
    with pytest.raises(StageError) as caught:
        read(answer)
    assert caught.value.error is errors.MalformedTopologyError
    assert caught.value.detail.startswith(detail)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"[" * 60000, b'{"code": ' + b"9" * 5000 + b"}"],
    ids=["empty", "not UTF-8", "cut short", "too deep", "too long a number"],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(StageError) as caught:
        parse_topology(body)
    assert caught.value.error is errors.MalformedTopologyError
    assert caught.value.detail == "the response is not JSON"


class Line:
    """Stands for a TLS connection, over which these bytes come."""

    def __init__(self, received: bytes) -> None:
        self._received = io.BytesIO(received)

    def send(self, data: bytes) -> None:
        pass

    def receive(self, size: int) -> bytes:
        return self._received.read(size)


def test_what_a_server_said_before_it_hung_up_is_read() -> None:
    class Gone(Line):
        def send(self, data: bytes) -> None:
            raise BrokenPipeError

    line: Any = Gone(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
    assert _exchange(line, ProbeTarget(HOST, 443, secure=True), None).status == 413


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"-5\r\n",
        b"ffffffffffffffff\r\n",
        b"x" * 70000,
    ]
)


@given(st.lists(PIECES | st.binary(max_size=8), max_size=8).map(b"".join))
def test_whatever_a_server_says_is_an_answer_or_one_error(received: bytes) -> None:
    line: Any = Line(received)
    try:
        answer = _exchange(line, ProbeTarget(HOST, 443, secure=True), None)
    except StageError:
        return
    assert received.startswith(b"HTTP/1.")
    assert len(answer.body) <= len(received)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ODD = JSON | st.sampled_from(["7", 7, WEST, "h:1", 0, 1, 2, 3, "http://h", "\ud800"])
CLUSTER = st.fixed_dictionaries(
    {}, optional={"clusterId": ODD, "endpoint": ODD | st.just(WEST), "capability": ODD}
)
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "code": st.just(0) | ODD,
        "message": ODD,
        "data": ODD
        | st.fixed_dictionaries(
            {}, optional={"version": ODD, "clusters": ODD | st.lists(CLUSTER | ODD, max_size=3)}
        ),
    },
)
CAUSES = {
    errors.MalformedTopologyError,
    errors.TopologyRefusedError,
    errors.NoPrimaryError,
}


@given((JSON | ANSWER).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=64))
def test_any_answer_is_a_topology_or_one_error(body: bytes) -> None:
    outcome = outcome_of(body)
    if isinstance(outcome, StageError):
        assert outcome.error in CAUSES
        assert outcome.detail
    else:
        assert outcome.primary.secure


def outcome_of(body: bytes) -> Topology | StageError:
    try:
        return parse_topology(body)
    except StageError as failed:
        return failed


@given(st.integers(0, 10**20), st.dictionaries(st.text(), st.booleans(), min_size=1, max_size=4))
def test_a_good_answer_is_read_whole(version: int, readable: dict[str, bool]) -> None:
    first = next(iter(readable))
    capabilities = {name: bits + 2 * (name == first) for name, bits in readable.items()}
    endpoints = dict.fromkeys(readable, EAST) | {first: WEST}
    members = {name: (endpoints[name], bits) for name, bits in capabilities.items()}
    assert read(document(str(version), **members)) == Topology(version, parse_uri(WEST))


# --- secrets -------------------------------------------------------------------------------


def repeating(form: Callable[[str], bytes]) -> faults.Handler:
    """Answer with what was sent along: the server is given a form of the credentials."""
    return lambda conn: conn.sendall(form(CANARY))


def http_answer(status_line: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status_line}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


REPEATED: dict[str, Callable[[str], bytes]] = {
    "in the reason": lambda token: http_answer(f"403 {token}"),
    "in a message": lambda token: http_answer(
        "401 Unauthorized", json.dumps({"message": f"key {token}"}).encode()
    ),
    "at the end of a long message": lambda token: http_answer(
        "200 OK", json.dumps({"code": 1, "message": "x" * 175 + token}).encode()
    ),
    "in base64": lambda token: http_answer(
        "500 Oops", json.dumps({"message": base64.b64encode(token.encode()).decode()}).encode()
    ),
    "as HTTP": lambda token: token.encode(),
    "as JSON": lambda token: http_answer("200 OK", token.encode()),
    "as an endpoint": lambda token: http_answer(
        "200 OK", json.dumps(document(1, only=(f"https://{token}", PRIMARY))).encode()
    ),
    "as a version": lambda token: http_answer("200 OK", json.dumps(document(token)).encode()),
}


def assert_quiet(spec: ConnectionSpec, target: ProbeTarget) -> StageError:
    with pytest.raises(StageError) as caught:
        fetch_topology(spec, target, within())
    assert_no_canary(*shown_of(caught.value))
    return caught.value


@pytest.mark.parametrize("form", REPEATED, ids=str)
def test_no_failure_shows_the_token(form: str, certificates: Certificates) -> None:
    with topology_server(certificates, repeating(REPEATED[form])) as server:
        assert_quiet(asking(CANARY), trusting(certificates, server.port))
    assert server.requests


@pytest.mark.parametrize(
    "server",
    [plain(faults.hang_up), answering(faults.hang_up), showing("other_authority")],
    ids=["closed before TLS", "closed after TLS", "untrusted"],
)
def test_no_broken_connection_shows_the_token(server: Server, certificates: Certificates) -> None:
    with server(certificates) as serving:
        port = serving.port if isinstance(serving, TopologyServer) else serving
        assert_quiet(asking(CANARY), trusting(certificates, port))


def test_the_debugging_of_http_client_does_not_print_the_token(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HTTPConnection, "debuglevel", 1)
    with topology_server(certificates, telling(WEST_FIRST)) as server:
        fetch_topology(asking(CANARY), trusting(certificates, server.port), within())
    assert_no_canary(*capsys.readouterr())


def test_a_proxy_that_repeats_its_password_does_not_show_it(certificates: Certificates) -> None:
    def handle(conn: socket.socket) -> None:
        sent = faults.read_head(conn).decode().partition("Basic ")[2].split("\r\n")[0]
        conn.sendall(f"HTTP/1.1 407 {sent} {base64.b64decode(sent).decode()}\r\n\r\n".encode())

    with faults.listening(handle) as port:
        url = f"http://root:{quote(CANARY, safe='')}@127.0.0.1:{port}"
        failed = assert_quiet(asking(), trusting(certificates, 443, via_proxy=Hidden(url)))
    assert issubclass(failed.error, errors.ProxyError)
    assert "407 ********" in failed.detail


# --- the follower --------------------------------------------------------------------------


def topology(version: int, primary: str = WEST) -> Topology:
    return Topology(version, parse_uri(primary))


class Scripted:
    """Answers one request after another as it is told to, and counts them."""

    def __init__(self, *answers: Topology | BaseException) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, deadline: float) -> Topology:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_the_primary_is_asked_for_once() -> None:
    ask = Scripted(topology(1))
    follower = TopologyCache(ask)
    assert follower.topology is None
    assert follower.primary(within()) == follower.primary(within()) == parse_uri(WEST)
    assert follower.topology == topology(1)
    assert ask.asked == 1


def test_a_primary_that_moved_is_seen() -> None:
    follower = TopologyCache(Scripted(topology(1), topology(2, EAST), topology(3, EAST)))
    assert follower.primary(within()) == parse_uri(WEST)
    follower.refresh(within())
    assert follower.primary(within()) == parse_uri(EAST)


@pytest.mark.parametrize("version", [9, 10])
def test_a_topology_that_is_not_newer_is_not_taken(version: int) -> None:
    follower = TopologyCache(Scripted(topology(10), topology(version, EAST)))
    follower.primary(within())
    follower.refresh(within())
    assert follower.topology == topology(10)


def test_versions_compare_as_numbers() -> None:
    told_before, told_after = document("9", w=(WEST, PRIMARY)), document("10", e=(EAST, PRIMARY))
    follower = TopologyCache(Scripted(read(told_before), read(told_after)))
    follower.primary(within())
    follower.refresh(within())
    assert follower.primary(within()) == parse_uri(EAST)


def test_what_is_known_stays_when_a_refresh_fails() -> None:
    failure = StageError(errors.TopologyUnavailableError, "HTTP 503")
    follower = TopologyCache(Scripted(topology(1), failure, topology(2, EAST)))
    follower.primary(within())
    with pytest.raises(StageError) as caught:
        follower.refresh(within())
    assert (caught.value.error, caught.value.detail) == (failure.error, failure.detail)
    assert follower.primary(within()) == parse_uri(WEST)
    follower.refresh(within())
    assert follower.primary(within()) == parse_uri(EAST)


def test_a_first_request_that_fails_is_made_again() -> None:
    failure = StageError(errors.NoPrimaryError, "0 of 2")
    follower = TopologyCache(Scripted(failure, topology(1)))
    with pytest.raises(StageError):
        follower.primary(within())
    assert follower.primary(within()) == parse_uri(WEST)


def test_a_refresh_is_due_at_once_and_then_every_five_minutes() -> None:
    failure = StageError(errors.TopologyUnavailableError, "HTTP 503")
    follower = TopologyCache(Scripted(topology(1), failure))
    assert follower.due < time.monotonic()
    for outcome in (nullcontext(), pytest.raises(StageError)):
        before = time.monotonic()
        with outcome:
            follower.refresh(within())
        assert before + REFRESH_S <= follower.due <= time.monotonic() + REFRESH_S
    assert REFRESH_S == 300.0


class Held:
    """Answers a request only when it is let."""

    def __init__(self, answer: Topology | BaseException) -> None:
        self.answer = answer
        self.asked = 0
        self.under_way = threading.Event()
        self.released = threading.Event()

    def __call__(self, deadline: float) -> Topology:
        self.asked += 1
        self.under_way.set()
        assert self.released.wait(PATIENCE_S)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def answers_of(threads: int, call: Callable[[], object], held: Held) -> list[object]:
    """Let threads call while a request is held, then release it, and return what they got."""
    got: list[object] = []

    def run() -> None:
        try:
            got.append(call())
        except StageError as failed:
            got.append((failed.error, failed.detail, failed))

    running = [threading.Thread(target=run) for _ in range(threads)]
    running[0].start()
    assert held.under_way.wait(PATIENCE_S)
    for thread in running[1:]:
        thread.start()
    wait_until_blocked(running[1:])
    held.released.set()
    for thread in running:
        thread.join(PATIENCE_S)
    return got


def wait_until_blocked(threads: list[threading.Thread]) -> None:
    """Wait until each of the threads stands in `acquire`, which shows as its innermost line."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        frames = [sys._current_frames().get(thread.ident or 0) for thread in threads]
        lines = [traceback.extract_stack(frame)[-1].line or "" for frame in frames if frame]
        if sum("acquire" in line for line in lines) == len(threads):
            return
        time.sleep(0.01)
    raise AssertionError("the threads do not wait")


def test_threads_wait_for_one_request() -> None:
    held = Held(topology(1))
    follower = TopologyCache(held)
    got = answers_of(8, lambda: follower.primary(within()), held)
    assert got == [parse_uri(WEST)] * 8
    assert held.asked == 1


def test_threads_that_wait_learn_that_the_primary_moved() -> None:
    held = Held(topology(2, EAST))
    follower = TopologyCache(held)
    follower.topology = topology(1)
    answers_of(4, lambda: follower.refresh(within()), held)
    assert follower.primary(within()) == parse_uri(EAST)
    assert held.asked == 1


def test_threads_that_wait_learn_of_the_failure_each_with_an_error_of_its_own() -> None:
    held = Held(StageError(errors.RefusedError, "x"))
    follower = TopologyCache(held)
    got: list[Any] = answers_of(4, lambda: follower.primary(within()), held)
    assert [each[:2] for each in got] == [(errors.RefusedError, "x")] * 4
    assert len({id(each[2]) for each in got}) == 4
    assert held.asked == 1


def test_nobody_waits_for_another_request_beyond_the_deadline() -> None:
    held = Held(topology(1))
    follower = TopologyCache(held)
    asker = threading.Thread(target=lambda: follower.refresh(within()))
    asker.start()
    assert held.under_way.wait(PATIENCE_S)
    deadline = within(0.1)
    with pytest.raises(StageError) as caught:
        follower.primary(deadline)
    assert deadline <= time.monotonic() < deadline + SLACK_S
    assert caught.value.error is errors.ServerSilentError
    held.released.set()
    asker.join(PATIENCE_S)


def test_what_is_known_is_read_while_a_request_is_under_way() -> None:
    held = Held(topology(2, EAST))
    follower = TopologyCache(held)
    follower.topology = topology(1)
    asker = threading.Thread(target=lambda: follower.refresh(within()))
    asker.start()
    assert held.under_way.wait(PATIENCE_S)
    assert follower.primary(within(0)) == parse_uri(WEST)
    held.released.set()
    asker.join(PATIENCE_S)
    assert follower.primary(within(0)) == parse_uri(EAST)


def test_a_request_that_is_interrupted_leaves_the_way_free() -> None:
    follower = TopologyCache(Scripted(KeyboardInterrupt(), topology(1)))
    with pytest.raises(KeyboardInterrupt):
        follower.refresh(within())
    assert follower.primary(within()) == parse_uri(WEST)


def test_a_follower_follows_a_server_whose_members_swap_roles(certificates: Certificates) -> None:
    answers = (telling(WEST_FIRST), telling(EAST_FIRST), telling(WEST_FIRST), answering_http(404))
    with topology_server(certificates, *answers) as server:
        target = trusting(certificates, server.port)
        follower = TopologyCache(lambda deadline: fetch_topology(asking(), target, deadline))
        assert follower.primary(within()) == parse_uri(WEST)
        follower.refresh(within())
        assert follower.primary(within()) == parse_uri(EAST)
        follower.refresh(within())
        assert follower.primary(within()) == parse_uri(EAST)
        with pytest.raises(StageError):
            follower.refresh(within())
        assert follower.primary(within()) == parse_uri(EAST)
    assert len(server.requests) == 4
