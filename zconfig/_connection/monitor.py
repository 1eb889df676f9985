"""Looks after an open connection: is the server there, is it the right one, who are we?"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zconfig._channel.milvus import Server, handshake, run_exchange
from zconfig._connection.attempt import Attempt
from zconfig._connection.transport import Transport, acquire_transport
from zconfig._paths import anchored
from zconfig._spec import ConnectionSpec
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError

if TYPE_CHECKING:
    from zconfig._connection.credentials import Home
    from zconfig._connection.managed import ManagedConnection

FileSignature = dict[str, tuple[int, int, int]]
"""The inode, modification time and size of each file that is there."""

CHECK_TIMEOUT_S = 5.0
_BETWEEN_LOOKS_S = 1.0
_BETWEEN_LOOKS_AT_THE_PERMANENT_S = 30.0


class Monitor:
    """Notices what happens to a connection while nobody calls, or because a call failed.

    Args:
        managed: The connection.
        home: Where it belongs.
    """

    def __init__(self, managed: ManagedConnection, home: Home) -> None:
        self._managed = managed
        self._home = home
        self._signature: FileSignature = {}
        self._is_doubted = False
        self._next_look_at = 0.0

    @property
    def alias(self) -> str:
        """The connection's name."""
        return self._managed.alias

    def begin(self, spec: ConnectionSpec) -> None:
        """Begin anew, with the credentials of a specification."""
        self._signature = credentials_stamp(spec)
        self._next_look_at = 0.0

    def report_failure(self) -> bool:
        """Hear that a call got no answer; tell whether that is news."""
        is_news, self._is_doubted = not self._is_doubted, True
        return is_news

    def is_due(self) -> bool:
        """Tell whether it may be lost, back, moved, or have new credentials. It makes no call."""
        managed = self._managed
        transport, bound = managed.transport_if_open, managed.bound
        if transport is None or bound is None:
            return False
        if self._has_new_files() or transport.is_due(time.monotonic()):
            return True
        is_failing = bool(bound.shared.is_failing())
        if not managed.is_lost:
            return is_failing or self._is_doubted
        # gRPC dials by itself, and there is no use in asking before it has got through; but
        # another server may have become the one to ask.
        return time.monotonic() >= self._next_look_at and (transport.follows or not is_failing)

    def check(self) -> None:
        """Find out, and take up what is found."""
        is_doubted, self._is_doubted = self._is_doubted, False
        self._take_up_new_files()
        transport, bound = self._managed.transport_if_open, self._managed.bound
        if transport is None or bound is None:
            return
        spec = self._managed.spec
        timeout_s = min(spec.timeout_s, CHECK_TIMEOUT_S)
        try:
            transport = self._followed(transport, is_doubted=is_doubted)
            server = verify(transport, spec, timeout_s)
        except ConnectError as error:
            is_refused = isinstance(error, RejectedCredentialsError)
            if not (is_refused and self._managed.refresher.renew(bound)):
                self._lose(transport, error)
        except ClosedError:
            return
        else:
            self._managed.mark_recovered(transport, server)

    def _take_up_new_files(self) -> None:
        if not self._has_new_files():
            return
        signature = credentials_stamp(self._managed.spec)
        # A reload may have read them meanwhile: what it was refused with is not tried once more.
        self._home.renew_if(self._has_new_files, self._managed)
        self._home.flush(self.alias)
        self._signature = signature

    def _has_new_files(self) -> bool:
        signature = credentials_stamp(self._managed.spec)
        return any(self._signature.get(path) != seen for path, seen in signature.items())

    def _followed(self, transport: Transport, *, is_doubted: bool) -> Transport:
        """Return a link to the server that is the primary now, which may be the same."""
        spec, started = self._managed.spec, time.monotonic()
        attempt = Attempt(spec, started, started + min(spec.timeout_s, CHECK_TIMEOUT_S))
        if not transport.has_moved(attempt, at_once=is_doubted or self._managed.is_lost):
            return transport
        new = acquire_transport(attempt, transport.topology_cache)
        try:
            server = verify(new, spec, attempt.left_s)
        except BaseException:  # Ctrl-C too must not leave the new channels behind
            new.release()
            raise
        if not self._managed.move(transport, new, server, started):
            raise ClosedError(spec.alias)
        return new

    def _lose(self, transport: Transport, failure: ConnectError) -> None:
        pause_s = _BETWEEN_LOOKS_AT_THE_PERMANENT_S if failure.permanent else _BETWEEN_LOOKS_S
        self._next_look_at = time.monotonic() + pause_s
        self._managed.mark_lost(transport, failure)


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
