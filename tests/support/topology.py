"""The service that tells a global cluster's topology, over HTTPS on loopback, and its faults."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import parse_headers
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import grpc

from tests.support.certificates import Certificates, KeyPair
from tests.support.faults import (
    CHUNK,
    LOOPBACK,
    Listener,
    forward,
    listening,
    over_tls,
    read_head,
    swallow,
)
from zconfig._channel.messages import ResponseStatus, VersionReply

if TYPE_CHECKING:
    from tests.support.faults import Handler
    from zconfig.testing import FakeServer

READ_ONLY, PRIMARY = 1, 3

DEMOTED = "code: STREAMING_CODE_REPLICATE_VIOLATION, cause: not the primary cluster"


def demote(server: FakeServer, says: Literal["reply", "error"]) -> None:
    """Have a server say by the reply or as the error of GetVersion that it is no primary."""
    if says == "error":
        server.fail(grpc.StatusCode.UNKNOWN, DEMOTED, method="GetVersion")
    else:
        reply = VersionReply(status=ResponseStatus(code=2, reason=DEMOTED))
        server.answer("GetVersion", reply.encode())


# --- answers -------------------------------------------------------------------------------


def document(version: object, **capabilities: tuple[str, int]) -> dict[str, object]:
    """Return the answer that tells a topology.

    Args:
        version: As it is told.
        **capabilities: The endpoint and the capability of each member, by its identifier.
    """
    clusters = [
        {"clusterId": name, "endpoint": endpoint, "capability": bits}
        for name, (endpoint, bits) in capabilities.items()
    ]
    return {"code": 0, "message": "", "data": {"version": version, "clusters": clusters}}


def telling(answer: object) -> Handler:
    """Answer with JSON."""
    return answering_http(HTTPStatus.OK, json.dumps(answer).encode())


def answering_http(status: int, body: bytes = b"", *headers: str) -> Handler:
    """Answer with a status of HTTP, some headers and a body."""
    reason = HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}", *headers, "", ""]
    return lambda conn: conn.sendall("\r\n".join(lines).encode() + body)


def chunked(body: bytes) -> Handler:
    """Answer in chunks, as a gateway may."""
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda conn: conn.sendall(head + chunks)


def dripping(conn: socket.socket) -> None:
    """Answer a byte at a time, without end."""
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    pause = threading.Event()
    while not pause.wait(0.01):
        conn.sendall(b" ")


def endless(conn: socket.socket) -> None:
    """Answer with more than anybody wants to read."""
    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        conn.sendall(b" " * CHUNK)


# --- the service ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Args:
        line: E.g. `GET /global-cluster/topology HTTP/1.1`.
        headers: What came along, by name in lower case.
    """

    line: str
    headers: Mapping[str, str]


class TopologyServer:
    """Answers one request after another as it is told to; the last answer stays.

    Attributes:
        port: Where it listens.
        answers: What it will do, in order.
        requests: What was asked, in order.
    """

    def __init__(self, answers: tuple[Handler, ...]) -> None:
        self.port = 0
        self.answers = list(answers)
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def handle(self, conn: socket.socket) -> None:
        """Serve one connection."""
        head = read_head(conn)
        with self._lock:
            self.requests.append(_read_request(head))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer(conn)


def _read_request(head: bytes) -> Request:
    source = BytesIO(head)
    line = source.readline().decode().strip()
    return Request(line, {name.lower(): value for name, value in parse_headers(source).items()})


@contextlib.contextmanager
def topology_server(
    certificates: Certificates,
    *answers: Handler,
    pair: KeyPair | None = None,
    demanding: bool = False,
) -> Iterator[TopologyServer]:
    """Serve topologies.

    Args:
        certificates: Of the tests.
        *answers: What it does with the requests, in order; the last one with all that follow.
        pair: What it shows; the good certificate by default.
        demanding: Whether it demands a client's certificate.
    """
    pair = pair or certificates.server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.set_alpn_protocols(["http/1.1"])
    if demanding:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca)
    server = TopologyServer(answers)
    with contextlib.closing(Listener(over_tls(context, server.handle))) as listener:
        server.port = listener.port
        yield server


@contextlib.contextmanager
def routing_proxy(routes: Mapping[str, int]) -> Iterator[str]:
    """Lead names that no resolver knows to ports of this machine; the URL of a CONNECT proxy.

    Args:
        routes: The port behind each authority, e.g. `x-global-cluster.test:443`.
    """

    def carry(conn: socket.socket) -> None:
        authority = read_head(conn).split()[1].decode()
        if authority not in routes:
            conn.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            swallow(conn)
            return
        with socket.create_connection((LOOPBACK, routes[authority])) as upstream:
            conn.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            forward(conn, upstream)

    with listening(carry) as port:
        yield f"http://{LOOPBACK}:{port}"
