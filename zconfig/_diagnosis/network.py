"""Names to addresses, addresses to connected sockets, within a time."""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from zconfig._diagnosis.model import StageError
from zconfig.errors import (
    ClosedByPeerError,
    ConnectError,
    ConnectTimeoutError,
    HostUnreachableError,
    NameNotFoundError,
    NameServerError,
    NameTimeoutError,
    RefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORTEST = 0.01
_NOT_FOUND = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_TCP_CAUSES: dict[int | None, type[ConnectError]] = {
    errno.ECONNREFUSED: RefusedError,
    errno.ENOENT: RefusedError,  # of a Unix socket
    errno.ECONNRESET: ClosedByPeerError,
}

# Of several addresses, the one that came closest tells the most.
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


class Stream:
    """A connected socket, on which nothing takes longer than to one instant.

    Args:
        sock: Connected.
        end: The monotonic instant to stop at.
    """

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._sock.settimeout(remaining(self._end))
        self._sock.sendall(data)

    def receive(self, size: int) -> bytes:
        """Return up to so many bytes, none if the peer closed.

        Raises:
            OSError: As `recv` does; `TimeoutError` if nothing came in time.
        """
        # Without this a peer that dribbles would get a little more time with every byte.
        if time.monotonic() >= self._end:
            raise TimeoutError
        self._sock.settimeout(remaining(self._end))
        return self._sock.recv(size)


def remaining(end: float) -> float:
    """Return the seconds until a monotonic instant, never none: zero would mean non-blocking."""
    return max(_SHORTEST, end - time.monotonic())


def resolve_host(host: str, port: int, timeout: float) -> tuple[Address, ...]:
    """Ask the resolver of this machine, in a thread: `getaddrinfo` takes no timeout.

    Args:
        host: Name or address.
        port: TCP port.
        timeout: Seconds to wait for the answer.

    Raises:
        StageError: If there is no such name, or no answer.
    """
    answers: queue.SimpleQueue[tuple[Address, ...] | StageError] = queue.SimpleQueue()
    threading.Thread(
        target=lambda: answers.put(_look_up(host, port)), name="zconfig-resolver", daemon=True
    ).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise StageError(NameTimeoutError, f"{host}: no answer in {timeout:.2f} s") from None
    if isinstance(answer, StageError):
        raise answer
    return answer


def dial_tcp(addresses: Sequence[Address], end: float) -> tuple[socket.socket, Address]:
    """Connect to the first address that lets us; each gets its share of the time.

    Args:
        addresses: At least one.
        end: The monotonic instant to stop at.

    Raises:
        StageError: If none does.
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
