"""One connection, as it is handed out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from zconfig._channel import milvus
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.milvus import Exchange, Health, Server, run_exchange
from zconfig._channel.view import ChannelView
from zconfig._connection.attempt import Attempt
from zconfig._connection.managed import ManagedConnection, State
from zconfig._endpoint import Endpoint
from zconfig._settings.arguments import check_seconds, hide_seconds
from zconfig._spec import ConnectionSpec
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError, ZConfigError

T = TypeVar("T")

_TRIES = 4  # credentials may be replaced while a call is made again


class Connection:
    """A connection to one server, for one alias.

    `zconfig.connections` hands it out ready, which means that the server accepted its credentials
    and has its database. It lives until it is closed: an outage of the server, new credentials, a
    reload and a fork leave it usable.

    Args:
        managed: Opens it, keeps it, and closes it.
    """

    def __init__(self, managed: ManagedConnection) -> None:
        self._managed = managed
        self._round_trip_ms: float | None = None

    @property
    def spec(self) -> ConnectionSpec:
        """What it was configured with."""
        return self._managed.spec

    @property
    def alias(self) -> str:
        """Its name."""
        return self.spec.alias

    @property
    def endpoint(self) -> Endpoint:
        """Where it leads."""
        return self.spec.endpoint

    @property
    def is_open(self) -> bool:
        """Whether it is open; calls fail while its server is lost."""
        return self._managed.is_open

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._managed.state

    @property
    def server(self) -> Server:
        """What the server said of itself when it accepted us.

        Raises:
            ClosedError: If the connection was closed.
            ConnectError: If it had to be opened again, and cannot be.
        """
        server = self._opened().server
        if server is None:
            raise ClosedError(self.alias)
        return server

    @property
    def channel(self) -> ChannelView:
        """A `grpc.Channel` that carries the credentials and the session on each call.

        Any Milvus stub works on it. Closing it closes nothing: the connection owns it.

        Raises:
            ClosedError: If the connection was closed.
        """
        if self.state is State.CLOSED:
            raise ClosedError(self.alias)
        return self._managed.view

    @property
    def target(self) -> str:
        """What gRPC dials: the endpoint's address, or its embedded server's.

        Raises:
            ClosedError: If the connection was closed.
            ConnectError: If it had to be opened again, and cannot be.
        """
        return self._opened().transport.target

    @property
    def round_trip_ms(self) -> float:
        """The last round trip that was measured, in milliseconds; measured now if none was.

        Raises:
            ConnectError: If the server does not answer.
            ClosedError: If the connection was closed.
        """
        return self.ping() if self._round_trip_ms is None else self._round_trip_ms

    def ping(self, timeout: float | None = None) -> float:
        """Ask the server for its version, and return how long that took, in milliseconds.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection was closed.
        """
        timeout = hide_seconds(timeout)
        _, self._round_trip_ms = self._ask(milvus.get_version, timeout)
        self._managed.note_round_trip(self._round_trip_ms)
        return self._round_trip_ms

    def health(self, timeout: float | None = None) -> Health:
        """Ask the server whether all of its parts are well.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection was closed.
        """
        timeout = hide_seconds(timeout)
        health, _ = self._ask(partial(milvus.check_health, self.spec), timeout)
        return health

    def close(self) -> None:
        """Close it: later calls raise `ClosedError`, and nobody else's connection is touched.

        Calls in flight are cancelled, unless another alias shares the channel with this one.
        """
        self._managed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> Connection:
        """Return the connection itself: a channel cannot be copied."""
        return self

    def __repr__(self) -> str:
        return f"<Connection {self.alias!r} to {self.endpoint}, {self.state}>"

    def _opened(self) -> ManagedConnection:
        if not self._managed.is_open:
            self._managed.ensure_open()
        return self._managed

    def _ask(self, exchange: Callable[[], Exchange[T]], timeout: float | None) -> tuple[T, float]:
        """Return what came of an exchange, and the milliseconds that it took."""
        timeout_s = self.spec.timeout_s if timeout is None else timeout
        check_seconds(self.alias, timeout=timeout_s)
        started = time.monotonic()
        deadline = started + timeout_s
        bound: BoundChannel | None = self._managed.bound or self._managed.ensure_open(timeout_s)
        failure: ZConfigError = ClosedError(self.alias)
        for _ in range(_TRIES):
            if bound is None:
                break
            attempt = self._managed.resolve_target(Attempt(self.spec, started, deadline))
            try:
                return self._timed(attempt, bound, exchange())
            except (ClosedError, ConnectError) as error:
                failure = error
            bound = self._channel_after(bound, failure, attempt.left_s)
        raise failure

    def _timed(
        self, attempt: Attempt, bound: BoundChannel, exchange: Exchange[T]
    ) -> tuple[T, float]:
        begun = time.perf_counter()
        result = attempt.run(lambda left_s: run_exchange(bound.ask, exchange, left_s))
        return result, (time.perf_counter() - begun) * 1e3

    def _channel_after(
        self, bound: BoundChannel, failure: ZConfigError, left_s: float
    ) -> BoundChannel | None:
        """Return what to ask on after a failure, or `None` if there is no use in that."""
        current = self._managed.bound
        if current is None or current.shared is not bound.shared:  # it was cut, perhaps for good
            return current or self._managed.ensure_open(left_s)
        if isinstance(failure, RejectedCredentialsError):
            return self._managed.renew(bound, left_s)
        self._managed.report_failure(bound)
        return None
