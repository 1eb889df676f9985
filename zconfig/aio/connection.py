"""One connection on an event loop, as it is handed out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import grpc

from zconfig._channel import milvus
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.milvus import Exchange, Health, Server, run_exchange_async
from zconfig._connection import State
from zconfig._connection.attempt import Attempt
from zconfig._endpoint import Endpoint
from zconfig._settings.arguments import check_seconds
from zconfig._spec import ConnectionSpec
from zconfig.aio.channels import ask
from zconfig.aio.connector import diagnosed
from zconfig.aio.managed import AsyncManagedConnection
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError, ZConfigError

T = TypeVar("T")

_TRIES = 4  # credentials may be replaced while a call is made again


class AsyncConnection:
    """A connection to one server, for one alias, on one event loop.

    `zconfig.aio` hands it out ready, which means that the server accepted its credentials and has
    its database. It lives until it is closed, or its event loop is: an outage of the server, new
    credentials and a reload leave it usable.

    Args:
        managed: Opens it, keeps it, and closes it.
    """

    def __init__(self, managed: AsyncManagedConnection) -> None:
        self._managed = managed

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
        """What the server said of itself when it last accepted us.

        Raises:
            ClosedError: If the connection was closed.
        """
        server = self._managed.server
        if server is None or self._managed.is_closed:
            raise self._managed.closed_error()
        return server

    @property
    def channel(self) -> grpc.aio.Channel:
        """A `grpc.aio.Channel` that carries the credentials and the session on each call.

        Any Milvus stub works on it. Closing it closes nothing: the connection owns it. A method
        with one request and one response opens the connection anew where a reload has cut it;
        one with streams raises `ClosedError` then.

        Raises:
            ClosedError: If the connection was closed.
        """
        if self._managed.is_closed:
            raise self._managed.closed_error()
        return self._managed.view

    @property
    def target(self) -> str:
        """What gRPC dials: the endpoint's address, or its embedded server's.

        Raises:
            ClosedError: If the connection is not open.
        """
        transport = self._managed.transport_if_open
        if transport is None:
            raise self._managed.closed_error()
        return transport.target

    async def ping(self, timeout: float | None = None) -> float:  # noqa: ASYNC109 - as `Connection`
        """Ask the server for its version, and return how long that took, in milliseconds.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection was closed.
        """
        _, round_trip_ms = await self._ask(milvus.get_version, timeout)
        self._managed.note_round_trip(round_trip_ms)
        return round_trip_ms

    async def health(self, timeout: float | None = None) -> Health:  # noqa: ASYNC109 - likewise
        """Ask the server whether all of its parts are well.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection was closed.
        """
        health, _ = await self._ask(partial(milvus.check_health, self.spec), timeout)
        return health

    async def close(self) -> None:
        """Close it: later calls raise `ClosedError`, and nobody else's connection is touched.

        Calls in flight are cancelled, unless another alias shares the channel with this one.
        """
        self._managed.close()
        await self._managed.settle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __deepcopy__(self, memo: object) -> AsyncConnection:
        """Return the connection itself: a channel cannot be copied."""
        return self

    def __repr__(self) -> str:
        return f"<AsyncConnection {self.alias!r} to {self.endpoint}, {self.state}>"

    async def _ask(
        self,
        exchange: Callable[[], Exchange[T]],
        timeout: float | None,  # noqa: ASYNC109 - likewise
    ) -> tuple[T, float]:
        """Return what came of an exchange, and the milliseconds that it took."""
        timeout_s = self.spec.timeout_s if timeout is None else timeout
        check_seconds(self.alias, timeout=timeout_s)
        started = time.monotonic()
        bound: BoundChannel | None = await self._managed.ready(timeout_s)
        failure: ZConfigError = self._managed.closed_error()
        for _ in range(_TRIES):
            if bound is None:
                break
            attempt = self._managed.resolve_target(Attempt(self.spec, started, started + timeout_s))
            try:
                return await _timed(attempt, bound, exchange())
            except (ClosedError, ConnectError) as error:
                failure = error
            bound = await self._line_after(bound, failure, attempt.left_s)
        raise failure

    async def _line_after(
        self, bound: BoundChannel, failure: ZConfigError, left_s: float
    ) -> BoundChannel | None:
        """Return what to ask on after a failure, or `None` if there is no use in that."""
        current = self._managed.bound
        if current is None or current.shared is not bound.shared:  # it was cut, perhaps for good
            return await self._managed.ready(left_s)
        if isinstance(failure, RejectedCredentialsError):
            return await self._managed.renew(bound, left_s)
        self._managed.report_failure(bound)
        return None


async def _timed(attempt: Attempt, bound: BoundChannel, exchange: Exchange[T]) -> tuple[T, float]:
    begun = time.perf_counter()
    result = await diagnosed(attempt, partial(run_exchange_async, partial(ask, bound), exchange))
    return result, (time.perf_counter() - begun) * 1e3
