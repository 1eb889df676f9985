"""One connection on an event loop, as it is handed out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import grpc

from zconfig.aio.core import ask
from zconfig.aio.lifecycle import AsyncLifecycle
from zconfig.aio.opening import diagnosed
from zconfig.channel import milvus
from zconfig.channel.line import Line
from zconfig.channel.milvus import Exchange, Health, Server, converse_async
from zconfig.connection import State
from zconfig.connection.seam import Attempt
from zconfig.endpoint import Endpoint
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError, ZConfigError
from zconfig.settings.arguments import check_seconds
from zconfig.spec import ConnectionSpec

T = TypeVar("T")

_TRIES = 4  # credentials may be replaced while a call is made again


class AsyncConnection:
    """A connection to one server, for one alias, on one event loop.

    `zconfig.aio` hands it out ready, which means that the server accepted its credentials and has
    its database. It lives until it is closed, or its event loop is: an outage of the server, new
    credentials and a reload leave it usable.

    Args:
        lifecycle: Opens it, keeps it, and closes it.
    """

    def __init__(self, lifecycle: AsyncLifecycle) -> None:
        self._lifecycle = lifecycle

    @property
    def spec(self) -> ConnectionSpec:
        """What it was configured with."""
        return self._lifecycle.spec

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
        return self._lifecycle.is_open

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._lifecycle.state

    @property
    def server(self) -> Server:
        """What the server said of itself when it last accepted us.

        Raises:
            ClosedError: If the connection was closed.
        """
        server = self._lifecycle.server
        if server is None or self._lifecycle.is_closed:
            raise self._lifecycle.closed_error()
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
        if self._lifecycle.is_closed:
            raise self._lifecycle.closed_error()
        return self._lifecycle.view

    @property
    def target(self) -> str:
        """What gRPC dials: the endpoint's address, or its embedded server's.

        Raises:
            ClosedError: If the connection is not open.
        """
        link = self._lifecycle.held
        if link is None:
            raise self._lifecycle.closed_error()
        return link.target

    async def ping(self, timeout: float | None = None) -> float:  # noqa: ASYNC109 - as `Connection`
        """Ask the server for its version, and return how long that took, in milliseconds.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection was closed.
        """
        _, round_trip_ms = await self._ask(milvus.get_version, timeout)
        self._lifecycle.note_round_trip(round_trip_ms)
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
        self._lifecycle.close()
        await self._lifecycle.settle()

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
        line: Line | None = await self._lifecycle.ready(timeout_s)
        failure: ZConfigError = self._lifecycle.closed_error()
        for _ in range(_TRIES):
            if line is None:
                break
            attempt = self._lifecycle.aim(Attempt(self.spec, started, started + timeout_s))
            try:
                return await _timed(attempt, line, exchange())
            except (ClosedError, ConnectError) as error:
                failure = error
            line = await self._line_after(line, failure, attempt.left_s)
        raise failure

    async def _line_after(self, line: Line, failure: ZConfigError, left_s: float) -> Line | None:
        """Return what to ask on after a failure, or `None` if there is no use in that."""
        current = self._lifecycle.line
        if current is None or current.core is not line.core:  # it was cut, perhaps for good
            return await self._lifecycle.ready(left_s)
        if isinstance(failure, RejectedCredentialsError):
            return await self._lifecycle.renew(line, left_s)
        self._lifecycle.doubt(line)
        return None


async def _timed(attempt: Attempt, line: Line, exchange: Exchange[T]) -> tuple[T, float]:
    begun = time.perf_counter()
    result = await diagnosed(attempt, partial(converse_async, partial(ask, line), exchange))
    return result, (time.perf_counter() - begun) * 1e3
