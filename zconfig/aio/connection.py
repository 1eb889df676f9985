"""One connection on an event loop, as it is handed out, and as it borrows the process' own."""

from __future__ import annotations

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
from zconfig._connection import ConnectIntent, ManagedConnection, State, Waiter
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

_TRIES = 4  # credentials may be replaced while a call is made again
_GRACE_S = 5.0  # for the thread that connects, which raises the diagnosed error at its deadline


class BorrowedConnection:
    """Makes the calls of one event loop on a connection of the process.

    Its state, credentials and events are the connection's. Waiting for it blocks no loop.

    Attributes:
        view: The channel that is handed out.

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
        """The connection's name."""
        return self.managed.alias

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""
        return self.managed.is_closed

    @property
    def bound(self) -> BoundChannel | None:
        """What calls go over just now; `None` where the connection is not open."""
        current, own = self.managed.bound, self._bound
        if current is None:
            return None
        if own is None or own.of is not current or not own.shared.is_open:
            try:
                channel = self._pool.channel(current.shared)
            except ValueError:  # it was closed just now
                return None
            own = self._bound = LoopBoundChannel(
                current.alias, channel, current.metadata, current.follows, of=current
            )
        return own

    def closed_error(self) -> ClosedError:
        """Return the error of one who uses it though it is closed, or of another event loop."""
        remedy = f"get an open one with `await zconfig.aio.get({self.alias!r})`"
        return ClosedError(self.alias, remedy)

    def at_once(self) -> BoundChannel:
        """Return what a call that cannot wait goes over.

        Raises:
            ClosedError: It is closed, not open just now, or belongs to another event loop.
        """
        bound = self.bound if self._pool.is_here else None
        if bound is None:
            raise self.closed_error()
        return bound

    async def ready(self, timeout_s: float | None = None) -> BoundChannel:
        """Return what calls go over, after connecting where a fork or a reload has cut it.

        Args:
            timeout_s: Seconds that the caller has; at most the alias' TIMEOUT are spent.

        Raises:
            ConnectError: The server cannot be reached, or does not accept us.
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
        """Connect in a thread, which ends with the last task of the loop that waits for it.

        Args:
            connect: Connects; called with the `waiter` whose leaving ends it.
            budget: How long to wait.
            key: Tasks with the same key share one thread; a thread of its own by default.

        Raises:
            ConnectError: It failed, or takes longer.
            ClosedError: The connection was closed.
        """
        started, waiter = time.monotonic(), Waiter()
        work = partial(connect, waiter=waiter)
        leave = partial(self.managed.leave, waiter)
        while True:
            task, deadline = await self._pool.share(
                key or waiter, work, budget.left_s, leave, _GRACE_S
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
        """Return what to make a call on again; see `ManagedConnection.renew`.

        Raises:
            ConnectError: It was cut, and cannot be dialed anew.
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
        """Hear that a server may be lost; see `ChannelOwner.report_failure`."""
        of = bound.of if isinstance(bound, LoopBoundChannel) else bound
        return self.managed.report_failure(of, at_once=at_once)

    def report_success(self) -> None:
        """Hear that a call has succeeded."""
        self.managed.report_success()

    def dial(self) -> None:
        """Have the event loop dial the server that the connection leads to, if it is open."""
        if bound := self.managed.bound:
            self._pool.dial(bound.shared)

    async def settle(self) -> None:
        """Wait until what is being closed on this event loop is gone."""
        await self._pool.settle()

    def forget(self) -> None:
        """Hand it out no longer: the connection is closed for good."""
        self._pool.kept.pop(self.managed, None)

    def dial_soon(self, shared: SharedChannel, *, redial: bool) -> None:
        """Have the event loop dial a server; called in any thread, and returns at once."""
        self._pool.dial_soon(shared, redial=redial)


class AsyncConnection:
    """The process' connection to one server, for one alias, as one event loop uses it.

    `zconfig.aio` hands it out ready, which means that the server accepted its credentials and has
    its database. Threads and other event loops use the same connection, with the same state,
    credentials and events. An outage of the server, new credentials and a reload leave it usable
    until it is closed. Only its own event loop can use it.

    Args:
        borrower: Makes its calls.
    """

    def __init__(self, borrower: BorrowedConnection) -> None:
        self._borrower = borrower
        self._managed = borrower.managed

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
            raise self._borrower.closed_error()
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
            raise self._borrower.closed_error()
        return self._borrower.view

    @property
    def target(self) -> str:
        """What gRPC dials: the endpoint's address, or its embedded server's.

        Raises:
            ClosedError: If the connection is not open.
        """
        transport = self._managed.transport_if_open
        if transport is None:
            raise self._borrower.closed_error()
        return transport.target

    async def ping(self, timeout: float | None = None) -> float:  # noqa: ASYNC109 - as `Connection`
        """Ask the server for its version, and return how long that took, in milliseconds.

        Args:
            timeout: Seconds to wait; the alias' TIMEOUT by default.

        Raises:
            ConnectError: If the server does not answer; its class names the cause.
            ClosedError: If the connection was closed.
        """
        timeout = hide_seconds(timeout)
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
        timeout = hide_seconds(timeout)
        health, _ = await self._ask(partial(milvus.check_health, self.spec), timeout)
        return health

    async def close(self) -> None:
        """Close it, for threads and other event loops too: later calls raise `ClosedError`.

        Calls in flight are cancelled, unless another alias shares the channel with this one.
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
        """Return what came of an exchange, and the milliseconds that it took."""
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
        """Return what to ask on after a failure, or `None` if there is no use in that."""
        current = self._borrower.bound
        if current is None or current.shared is not bound.shared:  # it was cut, perhaps for good
            return await self._borrower.ready(left_s)
        if isinstance(failure, RejectedCredentialsError):
            return await self._borrower.renew(bound, left_s)
        self._borrower.report_failure(bound)
        return None


async def _diagnosed(attempt: Attempt, call: Callable[[float], Awaitable[T]]) -> T:
    """Make a call, as `Attempt.run` does; a probe runs in a thread.

    Raises:
        ConnectError: Its class names the cause.
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
