"""Resolve names and connect sockets, through a proxy if configured, within a deadline."""

from __future__ import annotations

import base64
import contextlib
import errno
import re
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from zconfig._deadline import run_in_time
from zconfig._diagnosis.model import StageError
from zconfig._endpoint import proxy_address, proxy_name
from zconfig._redaction import evidence, secrets_in
from zconfig.errors import (
    ClosedByPeerError,
    ConnectError,
    ConnectTimeoutError,
    HostUnreachableError,
    NameNotFoundError,
    NameServerError,
    NameTimeoutError,
    ProxyAuthenticationError,
    ProxyError,
    ProxyUnreachableError,
    RefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zconfig._diagnosis.model import ProbeTarget

_SHORTEST = 0.01
_NOT_FOUND = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_TCP_CAUSES: dict[int | None, type[ConnectError]] = {
    errno.ECONNREFUSED: RefusedError,
    errno.ENOENT: RefusedError,  # for a Unix socket
    errno.ECONNRESET: ClosedByPeerError,
}

# Of several addresses, the error of the one that got furthest is reported.
_TELLING: tuple[type[ConnectError], ...] = (
    ClosedByPeerError,
    RefusedError,
    ConnectTimeoutError,
    HostUnreachableError,
)


class Address(NamedTuple):
    """A socket address with its family."""

    family: int
    sockaddr: Any

    def __str__(self) -> str:
        if not isinstance(self.sockaddr, tuple):
            return str(self.sockaddr)
        host, port, *_ = self.sockaddr
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unix_address(path: str) -> Address:
    """Return the address of a Unix socket.

    Raises:
        StageError: The system has none.
    """
    if not hasattr(socket, "AF_UNIX"):
        what = "this system does not support Unix sockets"
        raise StageError(HostUnreachableError, what, remedy="set {uri} to a host and a port")
    return Address(socket.AF_UNIX, path)


class Stream:
    """A connected socket whose operations share one deadline.

    Args:
        sock: A connected socket.
        end: The deadline, in monotonic seconds.
    """

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        self._sock.settimeout(remaining(self._end))
        self._sock.sendall(data)

    def receive(self, size: int) -> bytes:
        """Return at most `size` bytes, none if the peer closed the connection.

        Raises:
            OSError: As `recv` does; `TimeoutError` after the deadline.
        """
        # Without this check, a slow peer would extend the deadline with every byte.
        if time.monotonic() >= self._end:
            raise TimeoutError
        self._sock.settimeout(remaining(self._end))
        return self._sock.recv(size)


def remaining(end: float) -> float:
    """Return the seconds until a deadline, never zero, which would mean non-blocking."""
    return max(_SHORTEST, end - time.monotonic())


def resolve_host(host: str, port: int, timeout: float) -> tuple[Address, ...]:
    """Resolve a host in a thread, since `getaddrinfo` has no timeout.

    Args:
        host: Name or address.
        port: TCP port.
        timeout: Seconds to wait for the answer.

    Raises:
        StageError: The name does not exist, or the resolver did not answer.
    """
    try:
        answer = run_in_time(partial(_look_up, host, port), timeout, "zconfig-resolver")
    except TimeoutError:
        raise StageError(NameTimeoutError, f"{host}: no answer in {timeout:.2f} s") from None
    if isinstance(answer, StageError):
        raise answer
    return answer


def dial_tcp(addresses: Sequence[Address], end: float) -> tuple[socket.socket, Address]:
    """Connect to the first address that accepts; the time left is divided among the addresses.

    Args:
        addresses: At least one address.
        end: The deadline, in monotonic seconds.

    Raises:
        StageError: No address accepted the connection.
    """
    failures = []
    for tried, address in enumerate(addresses):
        try:
            return _open(address, remaining(end) / (len(addresses) - tried)), address
        except OSError as error:
            failures.append(_tcp_failure(address, error))
    raise min(failures, key=lambda failure: _TELLING.index(failure.error))


def _look_up(host: str, port: int) -> tuple[Address, ...] | StageError:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        return StageError(NameNotFoundError, f"{host}: not a host name")
    except OSError as error:
        cause = NameNotFoundError if error.errno in _NOT_FOUND else NameServerError
        return StageError(cause, f"{host}: {error.strerror}")
    return tuple(Address(family, sockaddr) for family, _, _, _, sockaddr in found)


def _open(address: Address, timeout: float) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(address.sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


def _tcp_failure(address: Address, error: OSError) -> StageError:
    if isinstance(error, TimeoutError):
        return StageError(ConnectTimeoutError, f"{address}: no answer to the TCP handshake")
    cause = _TCP_CAUSES.get(error.errno, HostUnreachableError)
    return StageError(cause, f"{address}: {error.strerror or error}")


# --- through a proxy -----------------------------------------------------------------------

_AUTHENTICATION_REQUIRED = b"407"
_LONGEST_ANSWER = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*")


def resolve_target(target: ProbeTarget, end: float) -> tuple[Address, ...]:
    """Return the addresses of a target, or of the proxy that is used; see `resolve_host`."""
    url = target.via_proxy
    if url is None:
        return resolve_host(target.host, target.port, remaining(end))
    with _naming_the_proxy(url, ProxyUnreachableError):
        return resolve_host(*proxy_address(url), remaining(end))


def open_stream(
    target: ProbeTarget, addresses: Sequence[Address], end: float, opened: contextlib.ExitStack
) -> tuple[Address, Stream]:
    """Connect to a target, through a tunnel of the proxy if one is used.

    Args:
        target: The target.
        addresses: The result of `resolve_target`.
        end: The deadline, in monotonic seconds.
        opened: Closes the connection.

    Raises:
        StageError: The connection failed, or the proxy did not open a tunnel.
    """
    url = target.via_proxy
    with _naming_the_proxy(url, ProxyUnreachableError):
        sock, address = dial_tcp(addresses, end)
    stream = Stream(opened.enter_context(sock), end)
    if url is not None:
        with _naming_the_proxy(url):
            _open_tunnel(stream, target, url)
    return address, stream


@contextlib.contextmanager
def _naming_the_proxy(url: str | None, cause: type[ConnectError] | None = None) -> Iterator[None]:
    """Attribute a failure to the proxy, if one is used."""
    try:
        yield
    except StageError as failed:
        if url is None:
            raise
        seen = f"proxy {proxy_name(url)}: {failed.detail}"
        raise StageError(cause or failed.error, seen) from None


def _open_tunnel(stream: Stream, target: ProbeTarget, url: str) -> None:
    try:
        stream.send(_connect_request(target.authority, url))
        answer = _read_head(stream)
    except TimeoutError:
        raise StageError(ProxyError, "no complete answer to CONNECT") from None
    except OSError as error:
        raise StageError(ProxyError, f"no complete answer to CONNECT: {error.strerror}") from None
    status = _STATUS_LINE.match(answer)
    if status is None:
        raise StageError(ProxyError, "the answer to CONNECT is not HTTP")
    if not status[1].startswith(b"2"):
        cause = ProxyAuthenticationError if status[1] == _AUTHENTICATION_REQUIRED else ProxyError
        secrets = (*target.secrets, *secrets_in({"proxy": url}))
        said = evidence(status[0].decode("ascii", "replace"), secrets)
        raise StageError(cause, f"answered {said}")


def _connect_request(authority: str, url: str) -> bytes:
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    if at:
        token = base64.b64encode(unquote(userinfo).encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _read_head(stream: Stream) -> bytes:
    """Read up to the empty line, and not a byte more: the next byte is the target's."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n") and len(head) < _LONGEST_ANSWER:
        byte = stream.receive(1)
        if not byte:
            break
        head += byte
    return bytes(head)
