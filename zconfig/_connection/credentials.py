"""Credentials of a connection: where they come from, and how refused ones are replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.interruptible import begin
from zconfig._per_process import PerProcess
from zconfig._spec import ConnectionSpec
from zconfig.errors import ConnectError, ZConfigError


class EventPublisher(Protocol):
    """Hands events to hooks."""

    def enqueue(self, event: events.Event) -> object:
        """Take an event that is to be delivered; no hook is called."""

    def flush(self, *aliases: str) -> None:
        """Call hooks with the events that were enqueued for aliases; called outside all locks."""


class Refreshable(Protocol):
    """A connection whose credentials can be replaced."""

    @property
    def alias(self) -> str:
        """Its name."""

    @property
    def spec(self) -> ConnectionSpec:
        """What it is configured with."""

    @property
    def bound(self) -> BoundChannel | None:
        """What calls go over; `None` where it is not open."""

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""

    @property
    def rotating(self) -> threading.Lock:
        """Held by the thread that has it apply another specification."""

    def apply(self, spec: ConnectionSpec) -> None:
        """Use other credentials from now on, once the server has accepted them."""


class CredentialSource(Protocol):
    """Reads the source of credentials again."""

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused."""

    def renew_if(self, is_due: Callable[[], bool], connection: Refreshable) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""

    def renew(self, connection: Refreshable, *, is_last: bool = ...) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Args:
            connection: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not applied.
        """


class ConnectionServices(NamedTuple):
    """What a connection needs of the registry.

    Args:
        publisher: Takes its events.
        credentials: Reads its credentials again.
        monitor_soon: Has connections monitored in the background; at once where it is true.
        note_round_trip: Takes what a ping of an alias took, in milliseconds.
        configured: Returns what an alias is configured with now, if anything configures it.
    """

    publisher: EventPublisher
    credentials: CredentialSource
    monitor_soon: Callable[[bool], object]
    note_round_trip: Callable[[str, float], object]
    configured: Callable[[str], ConnectionSpec | None]


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
        connection: The connection.
        services: Reads its credentials again, and takes its events.
    """

    _lock = PerProcess(threading.Lock)
    _renewing = PerProcess[Future[None] | None](lambda: None)
    _reading = PerProcess[Future[ConnectionSpec | None] | None](lambda: None)

    def __init__(self, connection: Refreshable, services: ConnectionServices) -> None:
        self._connection = connection
        self._credentials = services.credentials
        self._publisher = services.publisher
        self._renewed_at = float("-inf")
        self._is_unsettled = False

    def renew(self, bound: BoundChannel, timeout_s: float | None = None) -> BoundChannel | None:
        """Return a bound channel to repeat a call on whose credentials were refused on this one.

        It has newer credentials. Where there are such, but the server went away before it could
        say what it thinks of them, it is the same one: the call itself will tell.

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
                renewing.add_done_callback(lambda _: self._publisher.flush(self._connection.alias))
        if renewing:
            _result_within(renewing, timeout_s)
        self._publisher.flush(self._connection.alias)
        if self._differs(bound):
            self._renewed_at = float("-inf")
            return self._connection.bound
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
                reading = self._reading = begin(partial(self._credentials.reread, refused))
        return _result_within(reading, timeout_s)

    def _renew(self) -> None:
        self._is_unsettled, before = False, self._connection.bound
        try:
            self._is_unsettled = is_transient(self._apply_newer())
        finally:
            if self._connection.bound is before:
                self._renewed_at = time.monotonic()

    def _apply_newer(self) -> ZConfigError | None:
        """Take them up; return why that was not possible."""
        for pause_s in PAUSES_S:
            failure = self._credentials.renew(self._connection, is_last=False)
            if failure is None or is_transient(failure):
                return failure
            time.sleep(pause_s)
        return self._credentials.renew(self._connection)

    def _differs(self, bound: BoundChannel) -> bool:
        current = self._connection.bound
        return current is not None and current.authorization != bound.authorization

    def _is_due(self, refused_at: float) -> bool:
        if self._is_unsettled:
            return self._renewed_at < refused_at
        return time.monotonic() - self._renewed_at > BETWEEN_RENEWALS_S


def _result_within(future: Future[T], timeout_s: float | None) -> T | None:
    """Return what came of it, or `None` if that takes longer."""
    wait([future], timeout_s)
    return future.result() if future.done() else None
