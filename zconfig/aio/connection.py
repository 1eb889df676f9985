"""The connection of an event loop, which borrows the connection of the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import grpc

from zconfig._channel import milvus
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.channels import SharedChannel
from zconfig._channel.milvus import Exchange, Health, Server, run_exchange_async
from zconfig._connection import ConnectIntent, ManagedConnection, State
from zconfig._connection.attempt import FAILURES, Attempt
from zconfig._deadline import ConnectBudget
from zconfig._endpoint import Endpoint
from zconfig._settings.arguments import check_seconds, hide_seconds
from zconfig._spec import ConnectionSpec
from zconfig.aio.channels import LoopBoundChannel, ask
from zconfig.aio.loop_pool import LoopPool, in_thread
from zconfig.aio.view import AsyncChannelView
from zconfig.errors import (
    ClosedError,
    ConnectError,
    RejectedCredentialsError,
    ZConfigError,
)

T = TypeVar("T")

_TRIES = 4  # credentials may change again while a call is repeated
_GRACE_S = 5.0  # for the connecting thread, which raises the diagnosed error at its deadline


class BorrowedConnection:
    """A connection of the process, as one event loop uses it, without blocking the loop.

    State, credentials and events are those of the connection.

    Attributes:
        view: The channel that applications use.

    Args:
        managed: The connection.
        pool: The channels of the event loop.
    """

    def __init__(self, managed: ManagedConnection, pool: LoopPool) -> None:
        self.managed = managed
        self.view = AsyncChannelView(self)
        self._pool = pool
        self._bound: LoopBoundChannel | None = None
        managed.add_borrower(self)

    @property
    def alias(self) -> str:
        """The alias of the connection."""
        return self.managed.alias

    @property
    def is_closed(self) -> bool:
        """Whether it is closed permanently."""
        return self.managed.is_closed

    @property
    def bound(self) -> BoundChannel | None:
        """The event loop's channels for calls; `None` if the connection is not open."""
        current, own = self.managed.bound, self._bound
        if current is None:
            return None
        if own is None or own.of is not current or not own.shared.is_open:
            try:
                channel = self._pool.channel(current.shared)
            except ValueError:  # the connection was closed meanwhile
                return None
            own = self._bound = LoopBoundChannel(
                current.alias, channel, current.metadata, current.follows, of=current
            )
        return own

    def closed_error(self) -> ClosedError:
        """Return the error for using it when it is closed, or on another event loop."""
        remedy = f"get an open one with `await zconfig.aio.get({self.alias!r})`"
        return ClosedError(self.alias, remedy)

    def at_once(self) -> BoundChannel:
        """Return the channels for a call that cannot wait.

        Raises:
            ClosedError: It is closed, not open yet, or belongs to another event loop.
        """
        bound = self.bound if self._pool.is_here else None
        if bound is None:
            raise self.closed_error()
        return bound

    async def ready(self, timeout_s: float | None = None) -> BoundChannel:
        """Return the channels for calls; connect first, e.g. after a fork or a reload.

        Args:
            timeout_s: Seconds to wait, limited by the alias' `TIMEOUT`.

        Raises:
            ConnectError: The server cannot be reached, or rejects the credentials.
            ClosedError: It is closed, or belongs to another event loop.
        """
        if self.is_closed or not self._pool.is_here:
            raise self.closed_error()
        if bound := self.bound:
            return bound
        own_s = self.managed.spec.timeout_s
        budget = ConnectBudget.from_now(own_s if timeout_s is None else min(own_s, timeout_s))
        await self.open(partial(self.managed.open, ConnectIntent(budget)), budget, self)
        return self.at_once()

    async def open(
        self, connect: Callable[..., object], budget: ConnectBudget, key: object | None = None
    ) -> None:
        """Connect in a thread; cancel the connect when no task of the loop waits for it.

        Args:
            connect: The function that connects; its argument `has_left` cancels it by leaving.
            budget: The time limits.
            key: The key of the thread, which tasks with the same key share; by default unique.

        Raises:
            ConnectError: Connecting failed, or the budget is used up.
            ClosedError: The connection was closed.
        """
        started, has_left = time.monotonic(), threading.Event()
        work = partial(connect, has_left=has_left)
        leave = partial(self.managed.begin_leave, has_left)
        while True:
            task, deadline = await self._pool.share(
                key or has_left, work, budget.left_s, leave, _GRACE_S
            )
            if task is None:
                attempt = Attempt(self.managed.spec, started, budget.deadline)
                raise attempt.timed_out("another task is still connecting")
            try:
                task.result()
            except ClosedError:
                raise self.closed_error() from None
            except ConnectError as error:
                if deadline is None or error.permanent or not budget.outlives(deadline):
                    raise
            else:
                return

    async def renew(self, bound: BoundChannel, timeout_s: float | None) -> BoundChannel | None:
        """Return a bound channel to repeat a call on; see `ManagedConnection.renew`.

        Raises:
            ConnectError: It was disconnected meanwhile, and reconnecting failed.
            ClosedError: It was closed.
        """
        of = bound.of if isinstance(bound, LoopBoundChannel) else bound
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        task, _ = await self._pool.share((self, of), partial(self.managed.renew, of), timeout_s)
        if self.is_closed:
            raise self.closed_error()
        newer = task.result() if task else None
        if newer is None:
            return None
        left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        return bound if newer is of else await self.ready(left_s)

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Request a check of the server; see `ChannelOwner.report_failure`."""
        of = bound.of if isinstance(bound, LoopBoundChannel) else bound
        return self.managed.report_failure(of, at_once=at_once)

    def report_success(self) -> None:
        """Report a successful call."""
        self.managed.report_success()

    def dial(self) -> None:
        """Dial the server from the event loop, if the connection is open."""
        if bound := self.managed.bound:
            self._pool.dial(bound.shared)

    async def settle(self) -> None:
        """Wait until the channels that this event loop is closing are closed."""
        await self._pool.settle()

    def forget(self) -> None:
        """Drop the connection, which is closed permanently."""
        self._pool.kept.pop(self.managed, None)

    def dial_soon(self, shared: SharedChannel, *, redial: bool) -> None:
        """Dial a server from the event loop; called in any thread, and returns at once."""
        self._pool.dial_soon(shared, redial=redial)


class AsyncConnection:
    """A connection to one server, for one alias, on one event loop.

    Get it from `zconfig.aio`, once the server has accepted the credentials and the database. It
    stays usable until it is closed, through server outages, credential rotation and reloads, but
    only on its own event loop. Threads and other event loops share the same connection, with its
    state, credentials and events.

    Args:
        borrower: The event loop's use of the connection.

    Examples:
        >>> import asyncio
        >>> from zconfig import aio, connections
        >>> from zconfig.testing import fake_server
        >>> async def main(uri):
        ...     async with await aio.connect("docs", uri=uri) as connection:
        ...         return await connection.health()
        >>> with fake_server() as server, connections.override({}):
        ...     asyncio.run(main(server.uri))
        Health(healthy=True, reasons=())
    """

    def __init__(self, borrower: BorrowedConnection) -> None:
        self._borrower = borrower
        self._managed = borrower.managed

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
            ClosedError: The connection is not open.
        """
        server = self._managed.server
        if server is None or self._managed.is_closed:
            raise self._borrower.closed_error()
        return server

    @property
    def channel(self) -> grpc.aio.Channel:
        """A `grpc.aio.Channel` that adds the credentials and the session to each call.

        Any Milvus stub works with it. Its `close` does nothing, since the connection owns it. If
        a reload has disconnected it, a unary call reconnects, and a call with streams raises
        `ClosedError`.

        Raises:
            ClosedError: The connection was closed.
        """
        if self._managed.is_closed:
            raise self._borrower.closed_error()
        return self._borrower.view

    @property
    def target(self) -> str:
        """The gRPC target: the address of the endpoint, or of its embedded server.

        Raises:
            ClosedError: The connection is not open.
        """
        transport = self._managed.transport_if_open
        if transport is None:
            raise self._borrower.closed_error()
        return transport.target

    async def ping(self, timeout: float | None = None) -> float:  # noqa: ASYNC109 - as `Connection`
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
        _, round_trip_ms = await self._ask(milvus.get_version, timeout)
        self._managed.note_round_trip(round_trip_ms)
        return round_trip_ms

    async def health(self, timeout: float | None = None) -> Health:  # noqa: ASYNC109 - likewise
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
        health, _ = await self._ask(partial(milvus.check_health, self.spec), timeout)
        return health

    async def close(self) -> None:
        """Close the connection, also for threads and other event loops.

        Later calls raise `ClosedError`. Calls in flight are cancelled, unless another alias shares
        the channel.
        """
        await in_thread(self._managed.close)
        await self._borrower.settle()

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
        """Return the result of an exchange, and its duration in milliseconds."""
        timeout_s = self.spec.timeout_s if timeout is None else timeout
        check_seconds(self.alias, timeout=timeout_s)
        started = time.monotonic()
        bound: BoundChannel | None = await self._borrower.ready(timeout_s)
        failure: ZConfigError = self._borrower.closed_error()
        for _ in range(_TRIES):
            if bound is None:
                break
            attempt = self._managed.resolve_target(Attempt(self.spec, started, started + timeout_s))
            try:
                return await _timed(attempt, bound, exchange())
            except (ClosedError, ConnectError) as error:
                failure = error
            bound = await self._channel_after(bound, failure, attempt.left_s)
        raise failure

    async def _channel_after(
        self, bound: BoundChannel, failure: ZConfigError, left_s: float
    ) -> BoundChannel | None:
        """Return the channel to repeat a failed call on, or `None` if repeating cannot help."""
        current = self._borrower.bound
        if current is None or current.shared is not bound.shared:  # replaced or closed meanwhile
            return await self._borrower.ready(left_s)
        if isinstance(failure, RejectedCredentialsError):
            return await self._borrower.renew(bound, left_s)
        self._borrower.report_failure(bound)
        return None


async def _diagnosed(attempt: Attempt, call: Callable[[float], Awaitable[T]]) -> T:
    """Make a call, as `Attempt.run` does; the diagnosis runs in a thread.

    Raises:
        ConnectError: The call failed; the class names the cause.
    """
    try:
        return await call(attempt.left_s)
    except FAILURES as error:
        failure = await in_thread(partial(attempt.explain, error))
    # Outside the `except`, as in `Attempt.run`.
    raise failure


async def _timed(attempt: Attempt, bound: BoundChannel, exchange: Exchange[T]) -> tuple[T, float]:
    begun = time.perf_counter()
    result = await _diagnosed(attempt, partial(run_exchange_async, partial(ask, bound), exchange))
    return result, (time.perf_counter() - begun) * 1e3
