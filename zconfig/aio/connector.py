"""A connect on an event loop, and the tasks that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from zconfig._channel.milvus import Server, handshake, run_exchange_async
from zconfig._connection import event_factories
from zconfig._connection.attempt import FAILURES, Attempt, error_of
from zconfig._connection.connector import ConnectResult
from zconfig._connection.transport import Transport, acquire_transport
from zconfig._deadline import ConnectBudget, backoff_s
from zconfig._endpoint import TransportType
from zconfig._spec import ConnectionSpec
from zconfig.aio.channels import ask
from zconfig.aio.loop_context import LoopContext
from zconfig.aio.threads import in_thread
from zconfig.errors import ClosedError, ConnectError, ServerSilentError

if TYPE_CHECKING:
    from zconfig._topology import TopologyCache


class AsyncPendingConnect:
    """A connect that is under way: a task of its own flies it, and others wait for its outcome.

    It ends with the last who waits for it.

    Args:
        spec: What is connected to.
        task: Connects.
    """

    def __init__(self, spec: ConnectionSpec, task: asyncio.Task[ConnectResult]) -> None:
        self.spec = spec
        self.task = task
        self._waiting = 0
        task.add_done_callback(_notice)

    async def join(self, budget: ConnectBudget) -> None:
        """Wait for the outcome.

        Raises:
            ConnectError: It failed, or takes too long.
            ClosedError: It was ended.
        """
        self._waiting += 1
        try:
            await self._outcome(budget)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.task.cancel()

    async def _outcome(self, budget: ConnectBudget) -> None:
        done, _ = await asyncio.wait([self.task], timeout=budget.left_s)
        if not done:
            raise still_busy(self.spec)
        if self.task.cancelled():
            raise ClosedError(self.spec.alias)
        self.task.result()


def still_busy(spec: ConnectionSpec) -> ConnectError:
    """Return the error of one who waited too long for what another task does."""
    return error_of(ServerSilentError, spec, detail="another task is still connecting")


def _notice(task: asyncio.Task[ConnectResult]) -> None:
    """Look at a failure, lest asyncio complain where nobody waits any more."""
    if not task.cancelled():
        task.exception()


T = TypeVar("T")


class AsyncConnector:
    """A connect. Cancelling it leaves nothing half open.

    Args:
        spec: What to connect to.
        budget: How long to go on trying.
        ground: What it stands on.
    """

    def __init__(self, spec: ConnectionSpec, budget: ConnectBudget, ground: LoopContext) -> None:
        self.spec = spec
        self.started = time.monotonic()
        self.in_background = budget.in_background
        self._budget = budget
        self._ground = ground
        self._transport: Transport | None = None

    async def run(self) -> ConnectResult:
        """Try until the server accepts us.

        Raises:
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
        """
        try:
            return await self._try_until_ready()
        except BaseException:  # a cancellation too must not leave a channel half open
            self._keep(None)
            raise

    async def _try_until_ready(self) -> ConnectResult:
        budget = await self._start_embedded()
        number = 1
        while True:
            outcome = await self._try_once(budget, number)
            if isinstance(outcome, ConnectResult):
                return outcome
            delay_s = backoff_s(number)
            if outcome.permanent or not budget.allows_retry_after(delay_s):
                raise outcome
            self._ground.publish(event_factories.retrying(outcome, delay_s))
            await asyncio.sleep(delay_s)
            number += 1

    async def _start_embedded(self) -> ConnectBudget:
        """Start an embedded server, and return the patience that is left as if it had run."""
        if self.spec.endpoint.transport is not TransportType.LITE:
            return self._budget
        begun = time.monotonic()
        try:
            await self._hold(Attempt(self.spec, self.started, self._budget.deadline))
        except ConnectError as error:
            if error.permanent:
                raise
        return self._budget.later(time.monotonic() - begun)

    async def _try_once(self, budget: ConnectBudget, number: int) -> ConnectResult | ConnectError:
        """Return what came of one attempt."""
        ends = min(budget.deadline, time.monotonic() + budget.attempt_s)
        attempt = Attempt(self.spec, self.started, ends, number)
        try:
            transport = await self._link_for(attempt)
            return ConnectResult(transport, await introduce(transport, attempt), number)
        except ConnectError as error:
            return error

    async def _link_for(self, attempt: Attempt) -> Transport:
        """Return the link that there is, unless another server became the one to dial."""
        transport = self._transport
        if transport is None:
            return await self._hold(attempt)
        if not await has_moved(transport, attempt, at_once=attempt.number > 1):
            return transport
        return await self._hold(attempt, transport.topology_cache)

    async def _hold(
        self, attempt: Attempt, topology_cache: TopologyCache | None = None
    ) -> Transport:
        transport = await take_link(self._ground, attempt, topology_cache)
        self._keep(transport)
        return transport

    def _keep(self, transport: Transport | None) -> None:
        """Hold a link in place of the one there is, which is given back."""
        old, self._transport = self._transport, transport
        if old:
            self._ground.release(old)


async def take_link(
    ground: LoopContext, attempt: Attempt, topology_cache: TopologyCache | None = None
) -> Transport:
    """Take what a connection needs, as `acquire_transport` does."""
    make = partial(acquire_transport, attempt, topology_cache, ground.channel_pool)
    return await in_thread(make, unwanted=ground.release)


async def has_moved(transport: Transport, attempt: Attempt, *, at_once: bool) -> bool:
    """Tell whether another server is the one to dial, as `Transport.has_moved` does."""
    if not transport.follows:
        return False
    return await in_thread(lambda: transport.has_moved(attempt, at_once=at_once))


async def introduce(transport: Transport, attempt: Attempt) -> Server:
    """Introduce ourselves: the server proves our credentials and our database.

    Raises:
        ConnectError: The server cannot be reached, or does not accept us.
        ClosedError: The channels were closed.
    """
    bound, spec = transport.bound(attempt.spec), attempt.spec
    say = partial(run_exchange_async, partial(ask, bound), handshake(spec))
    return await diagnosed(transport.resolve_target(attempt), say)


async def verify_async(transport: Transport, spec: ConnectionSpec, timeout_s: float) -> Server:
    """Introduce ourselves over channels that are there already; see `introduce`."""
    now = time.monotonic()
    return await introduce(transport, Attempt(spec, now, now + timeout_s))


async def diagnosed(attempt: Attempt, call: Callable[[float], Awaitable[T]]) -> T:
    """Make a call, as `Attempt.run` does; a probe runs in a thread.

    Raises:
        ConnectError: Its class names the cause.
    """
    try:
        return await call(attempt.left_s)
    except FAILURES as error:
        failure = await in_thread(partial(attempt.explain, error))
    # Outside the `except`, as there.
    raise failure
