"""One connection: from its first attempt to its close."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

import grpc

from zconfig import events
from zconfig.channel import milvus
from zconfig.channel.milvus import Health, Server
from zconfig.channel.view import ChannelView
from zconfig.connection.link import Link, make_link, metadata_of
from zconfig.connection.seam import Attempt
from zconfig.endpoint import Endpoint, Transport
from zconfig.errors import ClosedError, ConnectError
from zconfig.patience import Patience
from zconfig.settings.arguments import check_seconds
from zconfig.spec import ConnectionSpec

T = TypeVar("T")

_FIRST_BACKOFF_S = 0.4
_LONGEST_BACKOFF_S = 3.0


class State(StrEnum):
    """What a connection is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    CLOSED = "closed"


class Connection:
    """A connection to one server, for one alias.

    It is made unconnected; `zconfig.connections` opens it and hands it out ready, which means
    that the server accepted its credentials and has its database.

    Args:
        spec: What to connect to.
        emit: Takes the lifecycle events.
    """

    def __init__(self, spec: ConnectionSpec, emit: Callable[[events.Event], None]) -> None:
        self._spec = spec
        self._emit = emit
        self._state = State.IDLE
        self._link: Link | None = None
        self._server: Server | None = None
        self._round_trip_ms: float | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def spec(self) -> ConnectionSpec:
        """What it was configured with."""
        return self._spec

    @property
    def alias(self) -> str:
        """Its name."""
        return self._spec.alias

    @property
    def endpoint(self) -> Endpoint:
        """Where it leads."""
        return self._spec.endpoint

    @property
    def is_open(self) -> bool:
        """Whether it is ready for calls."""
        return self._state is State.READY

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    @property
    def server(self) -> Server:
        """What the server said of itself when it accepted us.

        Raises:
            ClosedError: If the connection is not open.
        """
        if self._server is None:
            raise ClosedError(self.alias)
        return self._server

    @property
    def channel(self) -> grpc.Channel:
        """A `grpc.Channel` that carries the credentials and the session on each call.

        Any Milvus stub works on it. Closing it closes nothing: the connection owns it.

        Raises:
            ClosedError: If the connection is not open.
        """
        return self._live_link().view

    @property
    def target(self) -> str:
        """What gRPC dials: the endpoint's address, or its embedded server's.

        Raises:
            ClosedError: If the connection is not open.
        """
        return self._live_link().target

    @property
    def round_trip_ms(self) -> float:
        """The last round trip that was measured, in milliseconds; measured now if none was.

        Raises:
            ConnectError: If the server does not answer.
            ClosedError: If the connection is not open.
        """
        return self.ping() if self._round_trip_ms is None else self._round_trip_ms

    def ping(self, timeout: float | None = None) -> float:
        """Ask the server for its version, and return how long that took, in milliseconds.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection is not open.
        """
        started = time.perf_counter()
        self._ask(milvus.get_version, timeout)
        self._round_trip_ms = (time.perf_counter() - started) * 1e3
        return self._round_trip_ms

    def health(self, timeout: float | None = None) -> Health:
        """Ask the server whether all of its parts are well.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection is not open.
        """
        return self._ask(milvus.check_health, timeout)

    def open(self, patience: Patience) -> events.ConnectionConnected:
        """Connect: try until the server accepts us, or until there is no use in trying.

        Args:
            patience: How long to go on trying.

        Returns:
            The event to be emitted once others can find the connection.

        Raises:
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
            ClosedError: If it was closed meanwhile.
        """
        started = time.monotonic()
        self._state = State.CONNECTING
        self._emit(events.ConnectionConnecting(**self._names(), origin=str(self._spec.origin())))
        try:
            return self._connected(self._try_until_ready(started, patience))
        except BaseException as error:  # Ctrl-C too must not leave a channel half open
            self._release()
            if isinstance(error, ConnectError):
                self._emit(_failed(error))
            raise

    def rotate(self, spec: ConnectionSpec) -> None:
        """Take up new credentials without a reconnect, once the server has accepted them.

        Args:
            spec: The new specification: it differs in nothing that needs another channel.

        Raises:
            ConnectError: The server does not accept them; the old ones stay.
            ClosedError: If the connection is not open.
        """
        link, server, started = self._live_link(), self.server, time.monotonic()
        is_rotated = spec.credentials != self._spec.credentials
        if is_rotated:
            trial = ChannelView(spec.alias, link.core.channels, metadata_of(spec))
            attempt = Attempt(spec, started, started + spec.timeout_s, embedded=link.embedded)
            server = attempt.run(lambda left_s: milvus.greet(trial, spec, left_s))
        with self._lock:
            if self._closing.is_set():
                raise ClosedError(self.alias)
            link.view.metadata = metadata_of(spec, server.identifier)
            self._spec, self._server = spec, server
        if is_rotated:
            self._emit(self._rotated(spec, started))

    def close(self) -> None:
        """Close it: later calls raise `ClosedError`, and nobody else's connection is touched.

        Calls in flight are cancelled, unless another alias shares the channel with this one.
        """
        was_ready = self._state is State.READY
        self._release()
        if was_ready:
            self._emit(events.ConnectionClosed(**self._names()))

    def abandon(self) -> None:
        """Forget the channels without closing them: they belong to the parent process."""
        link, self._link = self._link, None
        self._lock = threading.Lock()
        self._server, self._state = None, State.CLOSED
        if link:
            link.view.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self.alias!r} to {self.endpoint}, {self._state}>"

    def _try_until_ready(self, started: float, patience: Patience) -> Attempt:
        """Return the attempt that succeeded."""
        number = 1
        patience = self._make_ready_to_dial(started, patience)
        while True:
            ends = min(patience.deadline, time.monotonic() + patience.attempt_s)
            attempt = Attempt(self._spec, started, ends, number)
            failure = self._try_once(attempt)
            if failure is None:
                return attempt
            delay_s = _backoff_s(number)
            if failure.permanent or not patience.outlasts(delay_s):
                raise failure
            self._emit(self._retrying(failure, delay_s))
            if self._closing.wait(delay_s):
                raise ClosedError(self.alias)
            number += 1

    def _make_ready_to_dial(self, started: float, patience: Patience) -> Patience:
        """Start an embedded server, and return the patience that is left as if it had run.

        The first start in a process imports a good part of pymilvus; a timeout is about servers.
        """
        if self.endpoint.transport is not Transport.LITE:
            return patience
        begun = time.monotonic()
        self._hold(make_link(Attempt(self._spec, started, patience.deadline)))
        return patience.later(time.monotonic() - begun)

    def _try_once(self, attempt: Attempt) -> ConnectError | None:
        """Return why it failed, or `None` when the connection is ready."""
        try:
            link = self._link or self._hold(make_link(attempt))
            spec, attempt = self._spec, replace(attempt, embedded=link.embedded)
            server = attempt.run(lambda left_s: milvus.greet(link.view, spec, left_s))
        except ConnectError as error:
            if self._closing.is_set():
                raise ClosedError(self.alias) from None
            return error
        with self._lock:
            if self._closing.is_set():
                raise ClosedError(self.alias)
            link.view.metadata = metadata_of(spec, server.identifier)
            self._server, self._state = server, State.READY
        return None

    def _hold(self, link: Link) -> Link:
        """Keep a link, unless the connection was closed while it was made."""
        with self._lock:
            if not self._closing.is_set():
                self._link = link
                return link
        link.release()
        raise ClosedError(self.alias)

    def _release(self) -> None:
        with self._lock:
            self._closing.set()
            link, self._link = self._link, None
            self._server, self._state = None, State.CLOSED
        if link:
            link.release()

    def _live_link(self) -> Link:
        link = self._link
        if link is None or self._state is not State.READY:
            raise ClosedError(self.alias)
        return link

    def _ask(self, call: Callable[[grpc.Channel, float], T], timeout: float | None) -> T:
        started, link = time.monotonic(), self._live_link()
        timeout_s = self._spec.timeout_s if timeout is None else timeout
        check_seconds(self.alias, timeout=timeout_s)
        try:
            attempt = Attempt(self._spec, started, started + timeout_s, embedded=link.embedded)
            return attempt.run(lambda left_s: call(link.view, left_s))
        except ConnectError:
            if self.is_open:
                raise
        raise ClosedError(self.alias)

    def _names(self) -> dict[str, str]:
        return {"alias": self.alias, "endpoint": str(self.endpoint)}

    def _connected(self, attempt: Attempt) -> events.ConnectionConnected:
        return events.ConnectionConnected(
            **self._names(),
            origin=str(self._spec.origin()),
            server_version=self.server.version,
            attempt=attempt.number,
            elapsed_ms=(time.monotonic() - attempt.started) * 1e3,
        )

    def _rotated(self, spec: ConnectionSpec, started: float) -> events.ConnectionRotated:
        return events.ConnectionRotated(
            **self._names(),
            origin=str(spec.origin("credentials")),
            elapsed_ms=(time.monotonic() - started) * 1e3,
        )

    def _retrying(self, failure: ConnectError, delay_s: float) -> events.ConnectionRetrying:
        return events.ConnectionRetrying(
            **self._names(),
            attempt=failure.attempts,
            cause=failure.cause,
            remedy=failure.remedy,
            delay_ms=delay_s * 1e3,
            elapsed_ms=failure.elapsed_ms,
        )


def _failed(error: ConnectError) -> events.ConnectionFailed:
    return events.ConnectionFailed(
        alias=error.alias,
        endpoint=error.endpoint,
        origin=error.origin,
        cause=error.cause,
        stage=str(error.stage),
        permanent=error.permanent,
        attempt=error.attempts,
        elapsed_ms=error.elapsed_ms,
        problem=str(error),
        remedy=error.remedy,
    )


def _backoff_s(number: int) -> float:
    """Return a pause after an attempt: exponential, with full jitter.

    Full jitter keeps many clients of a server that comes back from arriving together
    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog).
    """
    ceiling_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** min(number - 1, 10))
    return random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards no secret
