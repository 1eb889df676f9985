"""The monitor of an open connection: server reachability, primary changes, credential files."""

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
"""The inode, modification time and size of each existing file."""

CHECK_TIMEOUT_S = 5.0
_BETWEEN_LOOKS_S = 1.0
_BETWEEN_LOOKS_AT_THE_PERMANENT_S = 30.0


class Monitored(Refreshable, Protocol):
    """A connection that is monitored."""

    @property
    def transport_if_open(self) -> Transport | None:
        """The transport; `None` if the connection is not open."""

    @property
    def is_lost(self) -> bool:
        """Whether the server is lost."""

    @property
    def refresher(self) -> CredentialRefresher:
        """The refresher of rejected credentials."""

    def mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        """Set the state to lost, with its cause."""

    def mark_recovered(self, transport: Transport, server: Server) -> None:
        """Set the state to ready after an outage."""

    def move(self, old: Transport, new: Transport, server: Server, started: float) -> bool:
        """Replace a transport; return whether the connection still held it."""


class Monitor:
    """Checks a connection in the background, periodically or after a failed call.

    Args:
        connection: The connection.
        services: The services of the registry.
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
        """The alias of the connection."""
        return self._connection.alias

    def begin(self, spec: ConnectionSpec) -> None:
        """Reset the monitor, with the credential files of a specification."""
        self._signature = credentials_stamp(spec)
        self._next_look_at = 0.0

    def report_failure(self) -> bool:
        """Request a check after a failed call; return whether none was requested before."""
        is_news, self._is_doubted = not self._is_doubted, True
        return is_news

    def check_soon(self) -> bool:
        """Schedule the next check of a lost server within a second; return whether it is sooner."""
        soon = min(self._next_look_at, time.monotonic() + _BETWEEN_LOOKS_S)
        is_sooner, self._next_look_at = soon < self._next_look_at, soon
        return is_sooner

    def is_due(self) -> bool:
        """Return whether a check is due, without making a call."""
        connection = self._connection
        transport, bound = connection.transport_if_open, connection.bound
        if transport is None or bound is None:
            return False
        if self._has_new_files() or transport.is_due(time.monotonic()):
            return True
        is_failing = bool(bound.shared.is_failing())
        if not connection.is_lost:
            return is_failing or self._is_doubted
        # gRPC reconnects by itself, and a check before that would fail. But in a global cluster
        # another server may have become the primary.
        return time.monotonic() >= self._next_look_at and (transport.follows or not is_failing)

    def check(self) -> None:
        """Check files, primary and server, and apply the changes."""
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
        # A reload may have read the files meanwhile; do not retry credentials rejected there.
        self._credentials.renew_if(self._has_new_files, self._connection)
        self._publisher.flush(self.alias)
        self._signature = signature

    def _has_new_files(self) -> bool:
        signature = credentials_stamp(self._connection.spec)
        return any(self._signature.get(path) != seen for path, seen in signature.items())

    def _transport_to_primary(self, transport: Transport, *, is_doubted: bool) -> Transport:
        """Return a transport to the current primary, which may be the same transport."""
        spec, started = self._connection.spec, time.monotonic()
        attempt = Attempt(spec, started, started + min(spec.timeout_s, CHECK_TIMEOUT_S))
        if not transport.has_moved(attempt, at_once=is_doubted or self._connection.is_lost):
            return transport
        new = acquire_transport(attempt, transport.topology_cache)
        try:
            server = verify(new, spec, attempt.left_s)
        except BaseException:  # also after Ctrl-C: release the new channels
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
    """Verify the credentials of a specification over existing channels.

    Raises:
        ConnectError: The server cannot be reached, or rejects the credentials.
        ClosedError: The channels were closed.
    """
    bound, now = transport.bound(spec), time.monotonic()
    attempt = transport.resolve_target(Attempt(spec, now, now + timeout_s))
    return attempt.run(lambda left_s: run_exchange(bound.ask, handshake(spec), left_s))


def credentials_stamp(spec: ConnectionSpec) -> FileSignature:
    """Return the signature of the files that the credentials were read from.

    It follows links, to notice that Kubernetes replaced a directory. Relative paths start from
    the directory in which they were read, even if the working directory has changed.
    """
    origins = [spec.origins[name] for name in ("token", "user", "password") if name in spec.origins]
    paths = {path for origin in origins for path in (origin.path, origin.via) if path}
    signature = {}
    for path in paths:
        with suppress(OSError):
            status = Path(anchored(path, spec.directory)).stat()
            signature[path] = status.st_ino, status.st_mtime_ns, status.st_size
    return signature
