"""Where connections belong: what they need of the registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.interruptible import begin
from zconfig._spec import ConnectionSpec
from zconfig.errors import ConnectError, ZConfigError

if TYPE_CHECKING:
    from zconfig._connection.managed import ManagedConnection


class Home(Protocol):
    """Takes events, has connections looked after, and reads credentials again."""

    def enqueue(self, event: events.Event) -> None:
        """Take an event that is to be delivered; no hook is called."""

    def flush(self, alias: str) -> None:
        """Have hooks told of what was put. It is called outside all locks."""

    def attend(self, *, at_once: bool) -> None:
        """Have connections looked after, in another thread; return at once.

        Args:
            at_once: Whether there is something to do now.
        """

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused."""

    def renew_if(self, is_due: Callable[[], bool], managed: ManagedConnection) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""

    def renew(self, managed: ManagedConnection, *, is_last: bool = ...) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Args:
            managed: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not taken up.
        """


T = TypeVar("T")

BETWEEN_RENEWALS_S = 1.0
"""Where nothing new was found, the sources are not read again sooner."""

PAUSES_S = (0.1, 0.2)
"""Before new credentials that were refused are read and tried again, while a call waits for them.

A server may take a moment to know what it was told, and another rotation may follow closely.
"""


def is_transient(failure: ZConfigError | None) -> bool:
    """Tell whether a failure says nothing of the credentials, but that nobody could judge them."""
    return isinstance(failure, ConnectError) and not failure.permanent


class CredentialRefresher:
    """Renews the credentials of one connection, in one thread for all that were refused.

    It goes on, for the next call, where those that wait for it have no more time.

    Args:
        managed: The connection.
        home: Where it belongs.
    """

    def __init__(self, managed: ManagedConnection, home: Home) -> None:
        self._managed = managed
        self._home = home
        self._renewed_at = float("-inf")
        self._is_unsettled = False
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, in a child process: who renews is a thread of the parent."""
        self._lock = threading.Lock()
        self._renewing: Future[None] | None = None
        self._reading: Future[ConnectionSpec | None] | None = None

    def renew(self, bound: BoundChannel, timeout_s: float | None = None) -> BoundChannel | None:
        """Return a line to make a call on again whose credentials were refused on this one.

        It has newer credentials. Where there are such, but the server went away before it could
        say what it thinks of them, it is the same line: the call itself will tell.

        Their source is read again, by one thread for all; where nothing new was found, not again
        at once.

        Args:
            bound: What the call was made on.
            timeout_s: Seconds to wait.
        """
        refused_at = time.monotonic()
        with self._lock:
            renewing = self._renewing
            is_over = renewing is None or renewing.done()
            if is_over and not self._differs(bound) and self._is_due(refused_at):
                renewing = self._renewing = begin(self._renew)
                renewing.add_done_callback(lambda _: self._home.flush(self._managed.alias))
        if renewing:
            _outcome(renewing, timeout_s)
        self._home.flush(self._managed.alias)
        if self._differs(bound):
            self._renewed_at = float("-inf")
            return self._managed.bound
        return bound if self._is_unsettled else None

    def reread(self, refused: ConnectionSpec, timeout_s: float) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that a connect was refused with.

        Args:
            refused: What was refused.
            timeout_s: Seconds to wait; what is found later is configured for the next connect.
        """
        with self._lock:
            reading = self._reading
            if reading is None or reading.done():
                reading = self._reading = begin(partial(self._home.reread, refused))
        return _outcome(reading, timeout_s)

    def _renew(self) -> None:
        self._is_unsettled, before = False, self._managed.bound
        try:
            self._is_unsettled = is_transient(self._take_up_newer())
        finally:
            if self._managed.bound is before:
                self._renewed_at = time.monotonic()

    def _take_up_newer(self) -> ZConfigError | None:
        """Take them up; return why that was not possible."""
        for pause_s in PAUSES_S:
            failure = self._home.renew(self._managed, is_last=False)
            if failure is None or is_transient(failure):
                return failure
            time.sleep(pause_s)
        return self._home.renew(self._managed)

    def _differs(self, bound: BoundChannel) -> bool:
        current = self._managed.bound
        return current is not None and current.authorization != bound.authorization

    def _is_due(self, refused_at: float) -> bool:
        if self._is_unsettled:
            return self._renewed_at < refused_at
        return time.monotonic() - self._renewed_at > BETWEEN_RENEWALS_S


def _outcome(future: Future[T], timeout_s: float | None) -> T | None:
    """Return what came of it, or `None` if that takes longer."""
    wait([future], timeout_s)
    return future.result() if future.done() else None
