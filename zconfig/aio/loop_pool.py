"""What one event loop has open, for one configuration."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from zconfig import events
from zconfig._connection.transport import Transport
from zconfig._deadline import ConnectBudget
from zconfig._registry.background import Retries, Retry
from zconfig._registry.pool import RegistryState
from zconfig._registry.registry import Registry
from zconfig._spec import ConnectionSpec
from zconfig.aio.channels import AsyncChannelPool
from zconfig.aio.connection import AsyncConnection
from zconfig.aio.forks import LONGEST_WAIT_S, PAUSE_S, guard
from zconfig.aio.managed import AsyncManagedConnection
from zconfig.aio.monitor import AsyncPeriodicTask, LoopScheduler
from zconfig.aio.threads import in_thread
from zconfig.errors import UnknownAliasError, ZConfigError


class AsyncSlot(NamedTuple):
    """What stands for an alias.

    Args:
        managed: Opens, keeps and closes its connection.
        connection: What is handed out.
    """

    managed: AsyncManagedConnection
    connection: AsyncConnection


class AsyncRetry(Retry):
    """When an alias is tried again on an event loop."""

    async def inspect(self) -> None:
        """Try once more."""
        await self._again(self)


class LoopPool:
    """The connections of the event loop that runs when it is made.

    They end with it: `asyncio.run` closes them before it closes the loop. What a loop leaves that
    was closed in another way is let go of.

    Args:
        registry: Reads the configuration, and tells hooks of events.
        registry_state: The configuration.
    """

    def __init__(self, registry: Registry, registry_state: RegistryState) -> None:
        self._registry = registry
        self._registry_state = registry_state
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._thread = threading.get_ident()
        self._places: dict[str, AsyncSlot] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._closing: set[asyncio.Future[None]] = set()
        self.retries = Retries(partial(AsyncRetry, again=self._try_again))
        self._rounds = LoopScheduler(self._chores)
        self._end: AsyncGenerator[None, None] | None = None
        self.channel_pool = AsyncChannelPool(self._close_later)
        self.is_over = False
        guard(self)

    @property
    def is_here(self) -> bool:
        """Whether the event loop that runs now is its own."""
        return not self.is_over and asyncio.get_running_loop() is self._loop()

    def find(self, alias: str) -> AsyncConnection | None:
        """Return the connection of an alias if it is open with what is configured now."""
        place = self._places.get(alias)
        return place.connection if place and place.managed.is_current else None

    async def open(
        self, spec: ConnectionSpec, budget: ConnectBudget, *, in_code: bool = False
    ) -> AsyncConnection:
        """Return the open connection of an alias, opening it if there is none.

        Args:
            spec: What to connect to.
            budget: How long to go on trying.
            in_code: Whether just this is wanted, whatever is configured.

        Raises:
            ConflictError: The alias is live with another specification.
            ConnectError: It cannot be opened; its class names the cause.
            ClosedError: It was closed while it was opened.
        """
        if self._end is None:
            self._end = self._until_shutdown()
            await anext(self._end)
        place = self._place(spec)
        await place.managed.open(budget, spec if in_code else None)
        return place.connection

    def keep_trying(self, failures: Mapping[str, ZConfigError | None]) -> None:
        """Have aliases opened in the background, tried until they can be; return at once.

        Args:
            failures: By alias, why it could not be opened just now, if it was tried.
        """
        for alias, error in failures.items():
            self.retries.begin(alias, error)
        if failures:
            self._rounds.call()

    async def _try_again(self, retry: Retry) -> None:
        alias = retry.alias
        try:
            spec = self._registry.table.spec(alias)
            budget = self._registry.budget(spec, wait=0)._replace(in_background=True)
            await self.open(spec, budget)
        except UnknownAliasError:  # it was taken out, by a reload or on another face
            self.retries.end(alias)
        except ZConfigError as error:
            if self.retries.find(alias) is retry:
                event, managed = retry.put_off(error), self.managed(alias)
                if event and managed:
                    managed.publish_failure(event)
        else:
            self.retries.end(alias)

    def _chores(self) -> Sequence[AsyncPeriodicTask]:
        monitors = [each.monitor for each in self.live()]
        return [*monitors, *self.retries.outstanding(self.find)]

    def managed(self, alias: str) -> AsyncManagedConnection | None:
        """Return what opens and closes the connection of an alias, if it ever was opened."""
        place = self._places.get(alias)
        return place.managed if place else None

    def live(self) -> Sequence[AsyncManagedConnection]:
        """Return everything that is open."""
        places = tuple(self._places.values())
        return [place.managed for place in places if place.managed.is_open]

    async def close(self, *aliases: str) -> None:
        """Close aliases, be they live or being opened; all of them if none is named."""
        named = aliases or tuple(self._places)
        for alias in aliases or self.retries.aliases():
            if retry := self.retries.end(alias):
                self._rounds.pass_over(retry)
        closing = [self._places.pop(alias).managed for alias in named if alias in self._places]
        for managed in closing:
            self._rounds.pass_over(managed.monitor)
            managed.close()
        for managed in closing:
            await managed.settle()

    async def settle(self) -> None:
        """Wait until what was given back is gone."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def let_go(self) -> None:
        """Forget all: the event loop is closed, and nothing that is awaited would end there."""
        links = [place.managed.transport_if_open for place in self._places.values()]
        self.abandon()
        self.channel_pool.drop()
        for lease in [transport.lease for transport in links if transport and transport.lease]:
            threading.Thread(target=lease.release, name="zconfig-aio", daemon=True).start()

    # --- what connections need --------------------------------------------------------------

    def publish(self, event: events.Event) -> None:
        """Hand an event to every hook."""
        self._registry.publish(event)

    def attend(self) -> None:
        """Have what is open looked after from now on."""
        self._rounds.call()

    def configured(self, alias: str) -> ConnectionSpec | None:
        """Return what an alias is configured with now, if with anything."""
        return self._registry_state.table.find(alias)

    async def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the sources again; return a specification with newer credentials."""
        return await in_thread(partial(self._registry.newer, spec))

    async def reread(self, spec: ConnectionSpec) -> bool:
        """Read the sources again, have newer credentials count; tell whether there were any."""
        return await in_thread(partial(self._registry.reread, spec)) is not None

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        self._registry.note_round_trip(alias, round_trip_ms)

    def keep(self, spec: ConnectionSpec) -> None:
        """Have this configured for its alias."""
        self._registry_state.table.add(spec)

    def release(self, transport: Transport) -> None:
        """Give a link back, and not wait for that; stopping an embedded server takes long."""
        if transport.lease is None or self._loop_is_over():
            transport.release()
            return
        transport.channel_ref.release()
        self._spawn(in_thread(transport.lease.release))

    def _close_later(self, closing: Awaitable[None]) -> None:
        task = self._spawn(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- forks ------------------------------------------------------------------------------

    def pause(self, deadline: float, go_on: threading.Event) -> bool:
        """Have the event loop wait for an event, once no call is in flight.

        Args:
            deadline: The monotonic instant to stop trying at.
            go_on: What to wait for; it need not where it does not run, or in this thread.

        Returns:
            Whether no call is in flight.
        """
        loop = self._loop()
        if loop is None or loop.is_closed():
            return True
        if not loop.is_running() or self._thread == threading.get_ident():
            return self.channel_pool.are_idle
        while not self._stands_still(loop, deadline, go_on):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True

    def _stands_still(
        self, loop: asyncio.AbstractEventLoop, deadline: float, go_on: threading.Event
    ) -> bool:
        seen: Future[bool] = Future()

        def stand() -> None:
            if not seen.set_running_or_notify_cancel():
                return  # nobody waits for it any more
            # What is being closed is a channel still.
            is_idle = self.channel_pool.are_idle and not self._closing
            seen.set_result(is_idle)
            if is_idle:
                go_on.wait(LONGEST_WAIT_S)

        try:
            loop.call_soon_threadsafe(stand)
            return seen.result(max(deadline - time.monotonic(), 0.0))
        except (RuntimeError, TimeoutError):  # it was closed, or is busy with something else
            seen.cancel()
            return False

    def drop_channels(self) -> None:
        """Let go of the channels; the next call makes new ones."""
        self.channel_pool.drop()

    def abandon(self) -> None:
        """Forget, in a child process, what belongs to the parent; the channels stay as they are."""
        self.is_over = True
        for place in self._places.values():
            place.managed.abandon()

    # ----------------------------------------------------------------------------------------

    def _place(self, spec: ConnectionSpec) -> AsyncSlot:
        place = self._places.get(spec.alias)
        if place is None or place.managed.is_closed:
            managed = AsyncManagedConnection(spec, self)
            place = self._places[spec.alias] = AsyncSlot(managed, AsyncConnection(managed))
        return place

    def _loop_is_over(self) -> bool:
        loop = self._loop()
        return loop is None or loop.is_closed()

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        """Close everything when the event loop ends its asynchronous generators.

        `asyncio.run` and its like do so before they close the loop, and nothing else tells of it.
        """
        try:
            yield
        finally:
            await self.close()


class LoopPools:
    """The homes of all event loops, for the configurations of one registry.

    Args:
        registry: Reads the configuration.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def find(self) -> LoopPool | None:
        """Return the home of the running event loop, if it has one."""
        home = self._registry.registry_state.loops.get(asyncio.get_running_loop())
        return home if isinstance(home, LoopPool) and not home.is_over else None

    def home(self) -> LoopPool:
        """Return the home of the running event loop.

        Raises:
            ConfigurationError: There can be none in this process.
        """
        return self.find() or self._make()

    def _make(self) -> LoopPool:
        registry_state = self._registry.registry_state
        for loop, home in tuple(registry_state.loops.items()):
            if loop.is_closed() and isinstance(home, LoopPool):
                home.let_go()
                del registry_state.loops[loop]
        home = LoopPool(self._registry, registry_state)
        registry_state.loops[asyncio.get_running_loop()] = home
        return home
