"""Fetch the topology of a global cluster over HTTPS, parse it, and cache the newest version.

The protocol follows pymilvus 3.0.2, `client/global_topology.py`: the URL, the header, the fields of
the response and the refresh interval.

`http.client` writes the request and parses the response. The connection is the probe's, since the
timeouts of `http.client` restart with each byte, and its errors do not distinguish the causes.

A failure is a `StageError` with the error class of the cause. Its detail is masked and on one line,
except for `parse_topology`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPS_PORT, HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zconfig._deadline import backoff_s
from zconfig._diagnosis.model import Diagnosis, StageError
from zconfig._diagnosis.network import open_stream, resolve_target
from zconfig._diagnosis.tls import TLSStream, start_tls, tls_failure
from zconfig._diagnosis.tls_files import client_context
from zconfig._endpoint import Endpoint, EndpointError, parse_uri
from zconfig._redaction import evidence
from zconfig._version import __version__
from zconfig.errors import (
    ClosedByPeerError,
    ConnectError,
    MalformedTopologyError,
    MissingCredentialsError,
    NoPrimaryError,
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


T = TypeVar("T")


# --- the topology --------------------------------------------------------------------------


class Topology(NamedTuple):
    """The primary of a global cluster, which accepts writes; later versions are higher."""

    version: int
    primary: Endpoint


_WRITABLE = 2
_WHOLE_NUMBER = re.compile(r"[0-9]{1,40}")


def parse_topology(body: bytes) -> Topology:
    """Parse the response to a request for the topology.

    Raises:
        StageError: The response reports a failure, is not a topology, or does not have exactly one
            primary. Its detail quotes the response: mask it before it is shown.

    Examples:
        >>> body = b'''{"code": 0, "data": {"version": "7", "clusters": [
        ...     {"clusterId": "in01-a", "endpoint": "https://a.example", "capability": 3},
        ...     {"clusterId": "in01-b", "endpoint": "b.example:19530", "capability": 1}]}}'''
        >>> topology = parse_topology(body)
        >>> topology.version, topology.primary.host
        (7, 'a.example')
    """
    answer = _typed(dict, _json(body), "the response")
    # A missing code means success, as in pymilvus: some encoders omit a zero.
    if code := _typed(int, answer.get("code", 0), "code"):
        raise StageError(TopologyRefusedError, f"code {code}: {_message(answer)}")
    data = _typed(dict, answer.get("data"), "data")
    clusters = _typed(list, data.get("clusters"), "data.clusters")
    members = [_member(f"cluster {number}", it) for number, it in enumerate(clusters, 1)]
    writable = [endpoint for endpoint, is_writable in members if is_writable]
    if len(writable) != 1:
        raise StageError(NoPrimaryError, f"{len(writable)} of {len(members)} members are writable")
    return Topology(_version(data.get("version")), writable[0])


def _message_of(body: bytes) -> str:
    """Return the message in a response, or an empty text."""
    try:
        return _message(_typed(dict, _json(body), "the response"))
    except StageError:
        return ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    raise StageError(MalformedTopologyError, "the response is not JSON")


def _message(answer: dict[str, Any]) -> str:
    message = answer.get("message")
    return message if isinstance(message, str) else ""


def _member(name: str, value: Any) -> tuple[Endpoint, bool]:
    """Return the endpoint of a member, and whether it accepts writes."""
    cluster = _typed(dict, value, name)
    endpoint = _typed(str, cluster.get("endpoint"), f"endpoint of {name}")
    capability = _typed(int, cluster.get("capability"), f"capability of {name}")
    return _endpoint(name, endpoint), bool(capability & _WRITABLE)


def _endpoint(name: str, text: str) -> Endpoint:
    try:
        endpoint = parse_uri(text if "://" in text else f"https://{text}")
        # The token is sent to this endpoint: a response must not cause it to be sent in plaintext.
        seen = "" if endpoint.secure else "it does not use TLS"
    except EndpointError as error:
        seen = error.message
    if seen:
        raise StageError(MalformedTopologyError, f"endpoint of {name}: {seen}")
    return endpoint


def _version(value: Any) -> int:
    text = str(value) if isinstance(value, int | str) else ""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise StageError(MalformedTopologyError, "data.version is not a whole number")
    return int(text)


_KINDS = {dict: "an object", list: "an array", str: "a string", int: "a whole number"}


def _typed(kind: type[T], value: Any, name: str) -> T:
    # In Python, a Boolean is an integer, too.
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise StageError(MalformedTopologyError, f"{name} is not {_KINDS[kind]}")


# --- the request ---------------------------------------------------------------------------

_PATH = "/global-cluster/topology"
_LARGEST = 65536
_REQUEST = "the request for the topology"


class _Answer(NamedTuple):
    """The status, reason phrase and body of a response."""

    status: int
    reason: str
    body: bytes


def _get(target: ProbeTarget, token: Hidden | None, end: float) -> _Answer:
    """Request the topology once; a redirect is returned like any other response."""
    context = client_context(target, as_grpc=False)
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.ExitStack() as opened:
        _, stream = open_stream(target, resolve_target(target, end), end, opened)
        try:
            tls = start_tls(stream, context, target.certified_name)
        except StageError as failed:
            # A server that supports only gRPC rejects HTTP/1.1 with this alert; some versions of
            # Python have no name for it.
            if "no application protocol" in failed.detail:
                seen = "the server does not support HTTP/1.1"
                raise StageError(NotGlobalClusterError, seen) from None
            raise
        return _exchange(tls, target, token)


def _exchange(tls: TLSStream, target: ProbeTarget, token: Hidden | None) -> _Answer:
    connection = _Connection(target.host, target.port)
    source: Any = _Socket(tls)
    connection.sock = source
    try:
        connection.request("GET", _PATH, headers=_headers(token))
        return _read(connection.getresponse())
    except OSError as error:
        failed = _broken(error)
    except IncompleteRead:
        failed = StageError(ClosedByPeerError, f"closed during the response to {_REQUEST}")
    except (HTTPException, ValueError):
        failed = StageError(NotGlobalClusterError, f"the response to {_REQUEST} is not HTTP/1.1")
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
    # Without a size, `read` would allocate as much memory as the response declares.
    body = response.read(_LARGEST)
    if response.length:
        raise IncompleteRead(body, response.length)
    return _Answer(response.status, response.reason, body)


def _broken(error: OSError) -> StageError:
    """Return the cause of a broken connection."""
    if isinstance(error, TimeoutError):
        return StageError(ServerSilentError, f"no complete response to {_REQUEST}")
    is_end = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(error, ssl.SSLError) and not is_end:
        return tls_failure(error)
    return StageError(ClosedByPeerError, f"closed during {_REQUEST}")


class _Connection(HTTPConnection):
    """HTTP over an existing TLS stream."""

    default_port = HTTPS_PORT
    auto_open = 0
    debuglevel = 0  # a program that sets it for all connections would print the token


class _Socket(io.RawIOBase):
    """A TLS stream with the socket methods that `http.client` uses, and a read limit."""

    def __init__(self, tls: TLSStream) -> None:
        self._tls = tls
        self._left = _LARGEST

    def sendall(self, data: bytes) -> None:
        # A server that closes before the request is sent may have sent a reason: read it.
        with contextlib.suppress(ConnectionError):
            self._tls.send(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Do nothing: `http.client` closes the socket before it reads the response."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._tls.receive(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            seen = f"the response is larger than {_LARGEST} bytes"
            raise StageError(MalformedTopologyError, seen)
        buffer[: len(chunk)] = chunk
        return len(chunk)


_TRIES = 3

_BY_STATUS: dict[int, type[ConnectError]] = {
    HTTPStatus.UNAUTHORIZED: RejectedCredentialsError,
    HTTPStatus.FORBIDDEN: NotPermittedError,
    HTTPStatus.NOT_FOUND: NotGlobalClusterError,
    HTTPStatus.TOO_MANY_REQUESTS: TopologyUnavailableError,
}
# A redirect is not followed, since the token would be sent along.
_BY_HUNDRED: dict[int, type[ConnectError]] = {
    3: NotGlobalClusterError,
    4: TopologyRefusedError,
    5: TopologyUnavailableError,
}
_ABOUT_CREDENTIALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def fetch_topology(spec: ConnectionSpec, target: ProbeTarget, deadline: float) -> Topology:
    """Fetch the topology of a global cluster, with up to three attempts at transient failures.

    Args:
        spec: The connection whose credentials are sent.
        target: The spec's endpoint and proxy.
        deadline: The deadline in monotonic seconds, including DNS, TLS and reading.
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
    """Return a failure instead of raising it: the frames of its traceback contain the token."""
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
    said = " ".join(filter(None, (answer.reason, _message_of(answer.body))))
    raise StageError(error or MalformedTopologyError, f"HTTP {answer.status} {said}")


# --- the newest topology -------------------------------------------------------------------

REFRESH_S = 300.0
"""Seconds between requests for the topology, as in pymilvus."""


class TopologyCache:
    """Cache the newest topology of a global cluster.

    The cache starts no thread: its owner calls `refresh` after `due`, and after a failed call that
    the primary would have answered. It is thread-safe; concurrent calls share one request. After a
    fork, create a new one.

    Args:
        ask: Fetches the topology before a deadline, as `fetch_topology` does.

    Attributes:
        topology: The newest topology; `None` before the first one.
        due: The time of the next request in monotonic seconds, after a success or a failure.
    """

    def __init__(self, ask: Callable[[float], Topology]) -> None:
        self.topology: Topology | None = None
        self.due = -math.inf
        self._ask = ask
        self._asking = threading.Lock()
        self._requests = 0
        self._failure: Diagnosis | None = None  # of the last request, without its traceback

    def primary(self, deadline: float) -> Endpoint:
        """Return the primary's endpoint; fetches the topology only if none is cached."""
        while (topology := self.topology) is None:
            self.refresh(deadline)
        return topology.primary

    def refresh(self, deadline: float) -> None:
        """Fetch the topology, or wait for a request in progress; a failure keeps the cached one."""
        before = self._requests
        # The lock is held during a request; reading the cached topology does not need it.
        if not self._asking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StageError(ServerSilentError, "another request for the topology is in progress")
        try:
            if self._requests == before:
                self._failure = self._request(deadline)
                self._requests += 1
            failure = self._failure
        finally:
            self._asking.release()
        if failure:
            raise StageError(failure.error, failure.detail, failure.field)

    def try_refresh(self, deadline: float) -> None:
        """Fetch the topology; a failure keeps the cached one, and is not raised."""
        with suppress(StageError):
            self.refresh(deadline)

    def _request(self, deadline: float) -> Diagnosis | None:
        """Fetch the topology, cache it if it is newer, and return the cause of a failure."""
        try:
            newest = self._ask(deadline)
        except StageError as failed:
            return Diagnosis(failed.error, failed.detail, field=failed.field)
        finally:
            self.due = time.monotonic() + REFRESH_S
        if self.topology is None or newest.version > self.topology.version:
            self.topology = newest
        return None
