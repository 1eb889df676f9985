"""Credentials of a connection: their source, and the refresh after a rejection."""

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
    """Delivers events to hooks."""

    def enqueue(self, event: events.Event) -> object:
        """Add an event to the queue of its alias; no hook is called."""

    def flush(self, *aliases: str) -> None:
        """Call hooks with the events that were enqueued for aliases; called outside all locks."""


class Refreshable(Protocol):
    """A connection whose credentials can be replaced."""

    @property
    def alias(self) -> str:
        """The alias of the connection."""

    @property
    def spec(self) -> ConnectionSpec:
        """The specification of the connection."""

    @property
    def bound(self) -> BoundChannel | None:
        """The channels for calls; `None` if the connection is not open."""

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""

    @property
    def rotating(self) -> threading.Lock:
        """The lock of the thread that applies another specification."""

    def apply(self, spec: ConnectionSpec) -> None:
        """Apply another specification; new credentials once the server has accepted them."""


class CredentialSource(Protocol):
    """Reads the source of credentials again."""

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with new credentials in place of rejected ones, if any."""

    def renew_if(self, is_due: Callable[[], bool], connection: Refreshable) -> None:
        """Call `renew`, if it is still due after a reload in progress."""

    def renew(self, connection: Refreshable, *, is_last: bool = ...) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Args:
            connection: The connection.
            is_last: Whether to report a rejection as an event, because no retry follows.

        Returns:
            The error if new credentials were not applied.
        """


class ConnectionServices(NamedTuple):
    """The services of the registry that a connection uses.

    Args:
        publisher: Delivers its events.
        credentials: Reads its credentials again.
        monitor_soon: Starts monitoring in the background; immediately if called with true.
        note_round_trip: Records the round trip of an alias, in milliseconds.
        configured: Returns the current specification of an alias, if it is configured.
    """

    publisher: EventPublisher
    credentials: CredentialSource
    monitor_soon: Callable[[bool], object]
    note_round_trip: Callable[[str, float], object]
    configured: Callable[[str], ConnectionSpec | None]


T = TypeVar("T")

BETWEEN_RENEWALS_S = 1.0
"""Seconds before the sources are read again, after a refresh found no new credentials."""

PAUSES_S = (0.1, 0.2)
"""Seconds before each retry, while a call waits, if the server rejected new credentials.

A server may accept new credentials with a delay, and another rotation may follow closely.
"""


def is_transient(failure: ZConfigError | None) -> bool:
    """Return whether a failure is transient, so that the credentials are not verified yet."""
    return isinstance(failure, ConnectError) and not failure.permanent


class CredentialRefresher:
    """Refreshes the credentials of one connection, in one thread for all rejected calls.

    A refresh continues after the calls that wait for it have timed out.

    Args:
        connection: The connection.
        services: The services of the registry.
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
        """Return a bound channel to repeat a rejected call on, or `None` without new credentials.

        One thread reads the source of the credentials again for all calls, at most once a second
        while it finds no new ones.

        Args:
            bound: The channel of the rejected call.
            timeout_s: Seconds to wait.

        Returns:
            A channel with newer credentials; the same channel if there are newer credentials that
            the server could not verify, because of a transient failure.
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
        """Return a specification with new credentials, after a connect was rejected.

        Args:
            refused: The rejected specification.
            timeout_s: Seconds to wait. Credentials that are found later apply to the next connect.
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
        """Apply newer credentials, if any; return the error if they were not applied."""
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
    """Return the result of a future, or `None` after the timeout."""
    wait([future], timeout_s)
    return future.result() if future.done() else None
