"""Monitors an open connection: server reachability, primary changes and credential files."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from zconfig._channel.milvus import Server, handshake, run_exchange
from zconfig._connection.attempt import Attempt
from zconfig._connection.credentials import ConnectionServices, CredentialRefresher, Refreshable
from zconfig._connection.transport import Transport, acquire_transport
from zconfig._origin import anchored
from zconfig._spec import ConnectionSpec
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError

FileSignature = dict[str, tuple[int, int, int]]
"""The inode, modification time and size of each file that is there."""

CHECK_TIMEOUT_S = 5.0
_BETWEEN_LOOKS_S = 1.0
_BETWEEN_LOOKS_AT_THE_PERMANENT_S = 30.0


class Monitored(Refreshable, Protocol):
    """A connection that is monitored."""

    @property
    def transport_if_open(self) -> Transport | None:
        """What it holds; `None` where it is not open."""

    @property
    def is_lost(self) -> bool:
        """Whether its server does not answer."""

    @property
    def refresher(self) -> CredentialRefresher:
        """Replaces credentials that were refused."""

    def mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        """Note that the server does not answer, and why."""

    def mark_recovered(self, transport: Transport, server: Server) -> None:
        """Note that the server has accepted us again."""

    def move(self, old: Transport, new: Transport, server: Server, started: float) -> bool:
        """Use another transport in place of one; tell whether it does."""


class Monitor:
    """Notices what happens to a connection while nobody calls, or because a call failed.

    Args:
        connection: The connection.
        services: Reads its credentials again, and takes its events.
    """

    def __init__(self, connection: Monitored, services: ConnectionServices) -> None:
        self._connection = connection
        self._credentials = services.credentials
        self._publisher = services.publisher
        self._signature: FileSignature = {}
        self._is_doubted = False
        self._next_look_at = 0.0

    @property
    def alias(self) -> str:
        """The connection's name."""
        return self._connection.alias

    def begin(self, spec: ConnectionSpec) -> None:
        """Begin anew, with the credentials of a specification."""
        self._signature = credentials_stamp(spec)
        self._next_look_at = 0.0

    def report_failure(self) -> bool:
        """Hear that a call got no answer; tell whether that is news."""
        is_news, self._is_doubted = not self._is_doubted, True
        return is_news

    def check_soon(self) -> bool:
        """Check a lost server a second after the last check, and tell whether that is sooner."""
        soon = min(self._next_look_at, time.monotonic() + _BETWEEN_LOOKS_S)
        is_sooner, self._next_look_at = soon < self._next_look_at, soon
        return is_sooner

    def is_due(self) -> bool:
        """Tell whether it may be lost, back, moved, or have new credentials. It makes no call."""
        connection = self._connection
        transport, bound = connection.transport_if_open, connection.bound
        if transport is None or bound is None:
            return False
        if self._has_new_files() or transport.is_due(time.monotonic()):
            return True
        is_failing = bool(bound.shared.is_failing())
        if not connection.is_lost:
            return is_failing or self._is_doubted
        # gRPC dials by itself, and there is no use in asking before it has got through; but
        # another server may have become the one to ask.
        return time.monotonic() >= self._next_look_at and (transport.follows or not is_failing)

    def check(self) -> None:
        """Find out, and apply what is found."""
        is_doubted, self._is_doubted = self._is_doubted, False
        self._apply_new_files()
        transport, bound = self._connection.transport_if_open, self._connection.bound
        if transport is None or bound is None:
            return
        spec = self._connection.spec
        timeout_s = min(spec.timeout_s, CHECK_TIMEOUT_S)
        try:
            transport = self._transport_to_primary(transport, is_doubted=is_doubted)
            server = verify(transport, spec, timeout_s)
        except ConnectError as error:
            is_refused = isinstance(error, RejectedCredentialsError)
            if not (is_refused and self._connection.refresher.renew(bound)):
                self._mark_lost(transport, error)
        except ClosedError:
            return
        else:
            self._connection.mark_recovered(transport, server)

    def _apply_new_files(self) -> None:
        if not self._has_new_files():
            return
        signature = credentials_stamp(self._connection.spec)
        # A reload may have read them meanwhile: what it was refused with is not tried once more.
        self._credentials.renew_if(self._has_new_files, self._connection)
        self._publisher.flush(self.alias)
        self._signature = signature

    def _has_new_files(self) -> bool:
        signature = credentials_stamp(self._connection.spec)
        return any(self._signature.get(path) != seen for path, seen in signature.items())

    def _transport_to_primary(self, transport: Transport, *, is_doubted: bool) -> Transport:
        """Return a transport to the server that is the primary now, which may be the same."""
        spec, started = self._connection.spec, time.monotonic()
        attempt = Attempt(spec, started, started + min(spec.timeout_s, CHECK_TIMEOUT_S))
        if not transport.has_moved(attempt, at_once=is_doubted or self._connection.is_lost):
            return transport
        new = acquire_transport(attempt, transport.topology_cache)
        try:
            server = verify(new, spec, attempt.left_s)
        except BaseException:  # Ctrl-C too must not leave the new channels behind
            new.release()
            raise
        if not self._connection.move(transport, new, server, started):
            raise ClosedError(spec.alias)
        return new

    def _mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        pause_s = _BETWEEN_LOOKS_AT_THE_PERMANENT_S if failure.permanent else _BETWEEN_LOOKS_S
        self._next_look_at = time.monotonic() + pause_s
        self._connection.mark_lost(transport, failure)


def verify(transport: Transport, spec: ConnectionSpec, timeout_s: float) -> Server:
    """Introduce ourselves over channels that are there already.

    Raises:
        ConnectError: The server cannot be reached, or does not accept us.
        ClosedError: The channels were closed.
    """
    bound, now = transport.bound(spec), time.monotonic()
    attempt = transport.resolve_target(Attempt(spec, now, now + timeout_s))
    return attempt.run(lambda left_s: run_exchange(bound.ask, handshake(spec), left_s))


def credentials_stamp(spec: ConnectionSpec) -> FileSignature:
    """Return what changes when a file is rewritten that the credentials came from.

    Links are followed, so that Kubernetes' swap of a whole directory shows. Paths are those of the
    time when they were read, wherever the process has gone since.
    """
    origins = [spec.origins[name] for name in ("token", "user", "password") if name in spec.origins]
    paths = {path for origin in origins for path in (origin.path, origin.via) if path}
    signature = {}
    for path in paths:
        with suppress(OSError):
            status = Path(anchored(path, spec.directory)).stat()
            signature[path] = status.st_ino, status.st_mtime_ns, status.st_size
    return signature
