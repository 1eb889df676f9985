"""A global cluster's topology: asked for over HTTPS, in time, and kept until a newer one is told.

`http.client` writes the request and reads the answer. The connection is our own, as the probe's:
its timeouts would start anew with each byte, and its errors do not tell the causes apart.
"""

from __future__ import annotations

import contextlib
import io
import math
import ssl
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import TYPE_CHECKING, Any, NamedTuple

from zconfig._deadline import backoff_s
from zconfig._diagnosis.model import Diagnosis, StageError
from zconfig._diagnosis.network import dial, resolve_target
from zconfig._diagnosis.tls import TLSStream, start_tls, tls_failure
from zconfig._diagnosis.tls_files import client_context
from zconfig._endpoint import Endpoint
from zconfig._redaction import evidence
from zconfig._topology.model import Topology, message_of, parse_topology
from zconfig._version import __version__
from zconfig.errors import (
    ClosedByPeerError,
    ConnectError,
    MalformedTopologyError,
    MissingCredentialsError,
    NotGlobalClusterError,
    NotPermittedError,
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
_LARGEST = 65536
_REQUEST = "the request for the topology"


class _Answer(NamedTuple):
    """An answer: its status, the words beside it, and its body."""

    status: int
    reason: str
    body: bytes


def _get(target: ProbeTarget, token: Hidden | None, end: float) -> _Answer:
    """Ask for the topology, once; a redirect is an answer like any other."""
    context = client_context(target, as_grpc=False)
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.ExitStack() as opened:
        _, stream = dial(target, resolve_target(target, end), end, opened)
        try:
            tls = start_tls(stream, context, target.certified_name)
        except StageError as failed:
            # So a server of gRPC alone refuses HTTP/1.1; not every Python has a name for this.
            if "no application protocol" in failed.detail:
                raise StageError(NotGlobalClusterError, "the server speaks no HTTP/1.1") from None
            raise
        return _exchange(tls, target, token)


def _exchange(tls: TLSStream, target: ProbeTarget, token: Hidden | None) -> _Answer:
    connection = HTTPSConnection(target.host, target.port)
    connection.set_debuglevel(0)  # the one of the class, for all of a program, prints the token
    source: Any = _Socket(tls)
    connection.sock = source
    try:
        connection.request("GET", _PATH, headers=_headers(token))
        return _read(connection.getresponse())
    except OSError as error:
        failed = _broken(error)
    except IncompleteRead:
        failed = StageError(ClosedByPeerError, f"closed in the middle of the answer to {_REQUEST}")
    except (HTTPException, ValueError):
        failed = StageError(NotGlobalClusterError, f"the answer to {_REQUEST} is not HTTP/1.1")
    raise failed


def _headers(token: Hidden | None) -> dict[str, str | bytes]:
    headers: dict[str, str | bytes] = {
        "User-Agent": f"zconfig/{__version__}",
        "Accept": "application/json",
        "Connection": "close",
    }
    if token:
        headers["Authorization"] = f"Bearer {token}".encode()
    return headers


def _read(response: HTTPResponse) -> _Answer:
    # Without a size it would set aside as much memory as the answer claims to need.
    body = response.read(_LARGEST)
    if response.length:
        raise IncompleteRead(body, response.length)
    return _Answer(response.status, response.reason, body)


def _broken(error: OSError) -> StageError:
    """Return what it means that the connection broke."""
    if isinstance(error, TimeoutError):
        return StageError(ServerSilentError, f"no full answer to {_REQUEST}")
    is_end = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(error, ssl.SSLError) and not is_end:
        return tls_failure(error)
    return StageError(ClosedByPeerError, f"closed in the middle of {_REQUEST}")


class _Socket(io.RawIOBase):
    """TLS as the socket that `http.client` uses; what it reads has a limit."""

    def __init__(self, tls: TLSStream) -> None:
        self._tls = tls
        self._left = _LARGEST

    def sendall(self, data: bytes) -> None:
        # Whoever hangs up before we have written may have said why: read in any case.
        with contextlib.suppress(ConnectionError):
            self._tls.send(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Stay open: it is closed before its answer is read, as a socket may be."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._tls.receive(len(buffer))
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
        return _topology_in(_get(target, token, deadline), has_token=token is not None)
    except StageError as failed:
        return Diagnosis(failed.error, evidence(failed.detail, spec.secrets), field=failed.field)


def _topology_in(answer: _Answer, *, has_token: bool) -> Topology:
    if answer.status == HTTPStatus.OK:
        return parse_topology(answer.body)
    error = _BY_STATUS.get(answer.status) or _BY_HUNDRED.get(answer.status // 100)
    if answer.status in _ABOUT_CREDENTIALS and not has_token:
        error = MissingCredentialsError
    said = " ".join(filter(None, (answer.reason, message_of(answer.body))))
    raise StageError(error or MalformedTopologyError, f"HTTP {answer.status} {said}")


REFRESH_S = 300.0
"""Seconds after which the topology is asked for again, as pymilvus does."""


class TopologyCache:
    """Knows a global cluster's topology, and keeps it until a newer one is told.

    It starts no thread: its owner calls `refresh` once `due` has passed, and when a call fails
    that the primary would have answered. Any number of threads may use it; they wait for one
    request rather than make several. After a fork, make a new one.

    Args:
        ask: Asks for the topology until a monotonic instant, as `fetch_topology` does; raises
            `StageError`.
    """

    def __init__(self, ask: Callable[[float], Topology]) -> None:
        self._ask = ask
        self._asking = threading.Lock()
        self._topology: Topology | None = None
        self._requests = 0
        self._failure: Diagnosis | None = None  # of the latest request, without its traceback
        self._due = -math.inf

    @property
    def topology(self) -> Topology | None:
        """The newest topology; `None` before the first."""
        return self._topology

    @property
    def due(self) -> float:
        """The monotonic instant to ask again at, whatever the last request came to."""
        return self._due

    def primary(self, deadline: float) -> Endpoint:
        """Return the primary's endpoint; asks only if no topology is known.

        Args:
            deadline: The monotonic instant to stop at.

        Raises:
            StageError: No topology is known, and none can be had.
        """
        while (topology := self._topology) is None:
            self.refresh(deadline)
        return topology.primary.endpoint

    def refresh(self, deadline: float) -> None:
        """Ask again, or wait for the answer to a request that is under way.

        Args:
            deadline: The monotonic instant to stop at.

        Raises:
            StageError: The topology cannot be had; the one that is known stays.
        """
        before = self._requests
        # This lock is the request under way; nobody needs it to read what is known.
        if not self._asking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StageError(ServerSilentError, "another request for the topology is under way")
        try:
            if self._requests == before:
                self._failure = self._request(deadline)
                self._requests += 1
            failure = self._failure
        finally:
            self._asking.release()
        if failure:
            raise StageError(failure.error, failure.detail, failure.field)

    def _request(self, deadline: float) -> Diagnosis | None:
        """Ask, and take what is newer than what is known; return why there is no answer."""
        try:
            newest = self._ask(deadline)
        except StageError as failed:
            return Diagnosis(failed.error, failed.detail, field=failed.field)
        finally:
            self._due = time.monotonic() + REFRESH_S
        known = self._topology
        if known is None or newest.version > known.version:
            self._topology = newest
        return None
