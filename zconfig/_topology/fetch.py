"""One GET of the topology over HTTPS, of which nothing takes longer than to one instant."""

from __future__ import annotations

import contextlib
import io
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any

from zconfig._deadline import backoff_s
from zconfig._diagnosis.model import Diagnosis, StageError
from zconfig._diagnosis.network import Stream, dial_tcp, remaining, resolve_host
from zconfig._diagnosis.proxy import open_tunnel
from zconfig._diagnosis.tls import TLSStream, tls_failure
from zconfig._diagnosis.tls_files import client_context
from zconfig._endpoint import proxy_address, proxy_name
from zconfig._redaction import evidence
from zconfig._topology.model import Topology, message_of, parse_topology
from zconfig._version import __version__
from zconfig.errors import (
    ClosedByPeerError,
    ConnectError,
    HostnameMismatchError,
    MalformedTopologyError,
    MissingCredentialsError,
    NotGlobalClusterError,
    NotPermittedError,
    ProxyUnreachableError,
    RejectedCredentialsError,
    ServerSilentError,
    TopologyRefusedError,
    TopologyUnavailableError,
)

if TYPE_CHECKING:
    from zconfig._diagnosis.model import ProbeTarget
    from zconfig._redaction import Hidden
    from zconfig._spec import ConnectionSpec


_PATH = "/global-cluster/topology"
_DEFAULT_PORT = ":443"
_LARGEST = 65536
_REQUEST = "the request for the topology"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        status: The HTTP status.
        reason: The words beside it.
        body: What followed the headers.
    """

    status: int
    reason: str
    body: bytes


def get_topology(target: ProbeTarget, token: Hidden | None, end: float) -> Answer:
    """Ask for the topology, once; a redirect is an answer like any other.

    Args:
        target: Whom to ask, with TLS, and through which proxy.
        token: Who asks; sent only once the server's certificate is verified.
        end: The monotonic instant to stop at.

    Raises:
        StageError: If no answer comes.
    """
    context = client_context(target, as_grpc=False)
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.ExitStack() as opened:
        line = _shake_hands(_dial(target, end, opened), context, target)
        return _exchange(line, target, token)


def _dial(target: ProbeTarget, end: float, opened: contextlib.ExitStack) -> Stream:
    if target.via_proxy is None:
        return _connect(target.host, target.port, end, opened)
    try:
        stream = _connect(*proxy_address(target.via_proxy), end, opened)
    except StageError as failed:
        seen = f"proxy {proxy_name(target.via_proxy)}: {failed.detail}"
        raise StageError(ProxyUnreachableError, seen) from None
    open_tunnel(stream, target.authority, target.via_proxy)
    return stream


def _connect(host: str, port: int, end: float, opened: contextlib.ExitStack) -> Stream:
    sock, _ = dial_tcp(resolve_host(host, port, remaining(end)), end)
    return Stream(opened.enter_context(sock), end)


def _shake_hands(stream: Stream, context: ssl.SSLContext, target: ProbeTarget) -> TLSStream:
    name = target.certified_name
    try:
        line = TLSStream(stream, context, name)
        line.shake_hands()
    except StageError as failed:
        # So a server of gRPC alone refuses HTTP/1.1; not every Python has a name for this alert.
        if "no application protocol" in failed.detail:
            raise StageError(NotGlobalClusterError, "the server speaks no HTTP/1.1") from None
        raise
    except OSError as error:
        raise _broken(error, "the TLS handshake") from None
    except ValueError:
        raise StageError(HostnameMismatchError, f"no certificate is for {name}") from None
    return line


def _exchange(line: TLSStream, target: ProbeTarget, token: Hidden | None) -> Answer:
    try:
        # Whoever hangs up before we have written may have said why: read in any case.
        with contextlib.suppress(ConnectionError):
            line.send(_request(target, token))
        return _read(line)
    except OSError as error:
        failed = _broken(error, _REQUEST)
    except IncompleteRead:
        failed = StageError(ClosedByPeerError, f"closed in the middle of the answer to {_REQUEST}")
    except (HTTPException, ValueError):
        failed = StageError(NotGlobalClusterError, f"the answer to {_REQUEST} is not HTTP/1.1")
    raise failed


def _request(target: ProbeTarget, token: Hidden | None) -> bytes:
    lines = [
        f"GET {_PATH} HTTP/1.1",
        f"Host: {target.authority.removesuffix(_DEFAULT_PORT)}",
        f"User-Agent: zconfig/{__version__}",
        "Accept: application/json",
        "Connection: close",
    ]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _read(line: TLSStream) -> Answer:
    # Typed as a socket, and used as a maker of files alone.
    source: Any = _Readable(line)
    response = HTTPResponse(source)
    response.begin()
    # Without a size it would set aside as much memory as the answer claims to need.
    body = response.read(_LARGEST)
    if response.length:
        raise IncompleteRead(body, response.length)
    return Answer(response.status, response.reason, body)


def _broken(error: OSError, what: str) -> StageError:
    """Return what it means that a connection broke."""
    if isinstance(error, TimeoutError):
        return StageError(ServerSilentError, f"no full answer to {what}")
    is_end = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(error, ssl.SSLError) and not is_end:
        return tls_failure(error)
    return StageError(ClosedByPeerError, f"closed in the middle of {what}")


class _Readable(io.RawIOBase):
    """A connection as the socket that `http.client` reads, up to a size."""

    def __init__(self, line: TLSStream) -> None:
        self._line = line
        self._left = _LARGEST

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._line.receive(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise StageError(MalformedTopologyError, f"the answer has more than {_LARGEST} bytes")
        buffer[: len(chunk)] = chunk
        return len(chunk)


_TRIES = 3

_BY_STATUS: dict[int, type[ConnectError]] = {
    HTTPStatus.UNAUTHORIZED: RejectedCredentialsError,
    HTTPStatus.FORBIDDEN: NotPermittedError,
    HTTPStatus.NOT_FOUND: NotGlobalClusterError,
    HTTPStatus.TOO_MANY_REQUESTS: TopologyUnavailableError,
}
# A redirect is not followed: the token would go along.
_BY_HUNDRED: dict[int, type[ConnectError]] = {
    3: NotGlobalClusterError,
    4: TopologyRefusedError,
    5: TopologyUnavailableError,
}
_ABOUT_CREDENTIALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def fetch_topology(spec: ConnectionSpec, target: ProbeTarget, deadline: float) -> Topology:
    """Ask a global cluster for its topology; what may pass is tried three times.

    Args:
        spec: The connection that asks, for its credentials.
        target: Where the spec's endpoint leads, and through which proxy.
        deadline: The monotonic instant to stop at; names, TLS and reading included.

    Raises:
        StageError: The topology cannot be had; nothing secret is in the detail.
    """
    number = 1
    while True:
        outcome = _ask(spec, target, deadline)
        if isinstance(outcome, Topology):
            return outcome
        pause_s = backoff_s(number)
        is_last = number == _TRIES or time.monotonic() + pause_s >= deadline
        if outcome.error.permanent or is_last:
            raise StageError(outcome.error, outcome.detail, outcome.field)
        time.sleep(pause_s)
        number += 1


def _ask(spec: ConnectionSpec, target: ProbeTarget, deadline: float) -> Topology | Diagnosis:
    """Return a failure rather than raise it: the frames that it comes from know the token."""
    token = spec.credentials.secret.reveal() if spec.credentials else None
    try:
        return _topology_in(get_topology(target, token, deadline), has_token=token is not None)
    except StageError as failed:
        return Diagnosis(failed.error, evidence(failed.detail, spec.secrets), field=failed.field)


def _topology_in(answer: Answer, *, has_token: bool) -> Topology:
    if answer.status == HTTPStatus.OK:
        return parse_topology(answer.body)
    error = _BY_STATUS.get(answer.status) or _BY_HUNDRED.get(answer.status // 100)
    if answer.status in _ABOUT_CREDENTIALS and not has_token:
        error = MissingCredentialsError
    said = " ".join(filter(None, (answer.reason, message_of(answer.body))))
    raise StageError(error or MalformedTopologyError, f"HTTP {answer.status} {said}")
