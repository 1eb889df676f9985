"""The connection that applications use."""

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

_TRIES = 4  # credentials may change again while a call is repeated


class Connection:
    """A connection to one server, for one alias.

    Get it from `zconfig.connections`, once the server has accepted the credentials and the
    database. It stays usable until it is closed, through server outages, credential rotation,
    reloads and forks.

    Args:
        managed: The state of the connection.

    Examples:
        >>> from zconfig import connections
        >>> from zconfig.testing import fake_server
        >>> with fake_server() as server, connections.override({"docs": {"uri": server.uri}}):
        ...     connections["docs"].health()
        Health(healthy=True, reasons=())
    """

    def __init__(self, managed: ManagedConnection) -> None:
        self._managed = managed
        self._round_trip_ms: float | None = None

    @property
    def spec(self) -> ConnectionSpec:
        """The specification that it is configured with."""
        return self._managed.spec

    @property
    def alias(self) -> str:
        """The alias of the connection."""
        return self.spec.alias

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that it is configured with."""
        return self.spec.endpoint

    @property
    def is_open(self) -> bool:
        """Whether it is open. It stays open while the server is lost, though calls fail."""
        return self._managed.is_open

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._managed.state

    @property
    def server(self) -> Server:
        """The server's description of itself, from the latest handshake.

        Raises:
            ClosedError: The connection was closed.
            ConnectError: The connection had to reconnect, and failed.
        """
        server = self._opened().server
        if server is None:
            raise ClosedError(self.alias)
        return server

    @property
    def channel(self) -> ChannelView:
        """A `grpc.Channel` that adds the credentials and the session to each call.

        Any Milvus stub works with it. Its `close` does nothing, since the connection owns it.

        Raises:
            ClosedError: The connection was closed.
        """
        if self.state is State.CLOSED:
            raise ClosedError(self.alias)
        return self._managed.view

    @property
    def target(self) -> str:
        """The gRPC target: the address of the endpoint, or of its embedded server.

        Raises:
            ClosedError: The connection was closed.
            ConnectError: The connection had to reconnect, and failed.
        """
        return self._opened().transport.target

    @property
    def round_trip_ms(self) -> float:
        """The latest round trip in milliseconds; it is measured now if there is none.

        Raises:
            ConnectError: The server did not respond.
            ClosedError: The connection was closed.
        """
        return self.ping() if self._round_trip_ms is None else self._round_trip_ms

    def ping(self, timeout: float | None = None) -> float:
        """Ask the server for its version, and return the duration.

        Args:
            timeout: Seconds to wait; by default the alias' `TIMEOUT`.

        Returns:
            The round trip in milliseconds.

        Raises:
            ConnectError: The server did not respond; the class names the cause.
            ClosedError: The connection was closed.
        """
        timeout = hide_seconds(timeout)
        _, self._round_trip_ms = self._ask(milvus.get_version, timeout)
        self._managed.note_round_trip(self._round_trip_ms)
        return self._round_trip_ms

    def health(self, timeout: float | None = None) -> Health:
        """Ask the server for the health of its components.

        Args:
            timeout: Seconds to wait; by default the alias' `TIMEOUT`.

        Returns:
            Whether all components are healthy, and the reasons if not.

        Raises:
            ConnectError: The server did not respond; the class names the cause.
            ClosedError: The connection was closed.
        """
        timeout = hide_seconds(timeout)
        health, _ = self._ask(partial(milvus.check_health, self.spec), timeout)
        return health

    def close(self) -> None:
        """Close the connection; later calls raise `ClosedError`.

        Calls in flight are cancelled, unless another alias shares the channel. Connections of
        other aliases stay open.
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
        """Return the result of an exchange, and its duration in milliseconds."""
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
        """Return the channel to repeat a failed call on, or `None` if repeating cannot help."""
        current = self._managed.bound
        if current is None or current.shared is not bound.shared:  # replaced or closed meanwhile
            return current or self._managed.ensure_open(left_s)
        if isinstance(failure, RejectedCredentialsError):
            return self._managed.renew(bound, left_s)
        self._managed.report_failure(bound)
        return None
