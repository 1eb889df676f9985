"""The channels of an event loop, and its waits for the connections of the process."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from zconfig._channel.channels import SharedChannel
from zconfig.aio.channels import LoopChannel
from zconfig.aio.forks import LONGEST_WAIT_S, PAUSE_S, guard

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run a blocking function in a thread, and return its result.

    It does not use `asyncio.to_thread`, because the application shares that executor, and a
    connect with a deadline could wait for a free thread. Also, an executor's threads are joined
    at the exit of the interpreter.

    Args:
        work: The function. It runs to its end even if the waiting task is cancelled.
    """
    loop = asyncio.get_running_loop()
    awaited: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        outcome = _future_of(work)
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(deliver, outcome)

    def deliver(outcome: Future[T]) -> None:
        if awaited.done():
            return
        if error := outcome.exception():
            awaited.set_exception(error)
        else:
            awaited.set_result(outcome.result())

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="zconfig-aio", daemon=True).start()
    return await awaited


def _future_of(work: Callable[[], T]) -> Future[T]:
    outcome: Future[T] = Future()
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised in the waiting task
        outcome.set_exception(error)
    return outcome


@dataclass(slots=True)
class _SharedWork:
    """Work in a thread, with the number of tasks that wait for it."""

    task: asyncio.Task[Any]
    give_up: Callable[[], Callable[[], object] | None]
    deadline: float
    waiting: int = 0


class LoopPool:
    """The channels of the event loop that runs when it is made, and the tasks that wait there.

    They end with the loop: `asyncio.run` closes them before it closes the loop.

    Attributes:
        is_over: Whether the loop is closed, or belongs to the parent process.
        kept: The objects that applications use on this loop, by connection.
    """

    def __init__(self) -> None:
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._thread = threading.get_ident()
        self._channels: weakref.WeakKeyDictionary[SharedChannel, LoopChannel] = (
            weakref.WeakKeyDictionary()
        )
        self._shared: dict[Hashable, _SharedWork] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._end: AsyncGenerator[None, None] | None = None
        self.kept: dict[Any, Any] = {}
        self.is_over = False
        guard(self)

    @property
    def is_here(self) -> bool:
        """Whether the running event loop is the loop of the pool."""
        return not self.is_over and asyncio.get_running_loop() is self._loop()

    async def begin(self) -> None:
        """Close the channels when the event loop ends."""
        if self._end is None:
            self._end = self._until_shutdown()
            await anext(self._end)

    # --- channels ---------------------------------------------------------------------------

    def channel(self, of: SharedChannel) -> LoopChannel:
        """Return this loop's channels to the server of shared ones.

        Raises:
            ValueError: The shared channels are closed.
        """
        channel = self._channels.get(of)
        if channel is None or not channel.is_open:
            channel = self._channels[of] = LoopChannel(of, self._loop, self._spawn)
        return channel

    def dial_soon(self, of: SharedChannel, *, redial: bool) -> None:
        """Dial a server from the loop; called in any thread, and returns at once."""
        loop = self._loop()
        if loop is not None and not self.is_over:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(partial(self.dial, of, redial=redial))

    def dial(self, of: SharedChannel, *, redial: bool = False) -> None:
        """Dial a server, unless the loop is connected to it.

        Args:
            of: The process' channels to the server.
            redial: Whether to replace channels that wait before they dial again.
        """
        with suppress(ValueError):  # the channels were closed meanwhile
            channel = self.channel(of)
            if redial:
                channel.redial()
            channel.connectivity(dial=True)

    async def close(self) -> None:
        """Close the channels of this loop, and wait for it; connections stay open."""
        self.kept.clear()
        for channel in tuple(self._channels.values()):
            channel.close()
        self._channels.clear()
        await self.settle()

    async def settle(self) -> None:
        """Wait until the channels that are being closed are closed."""
        await asyncio.sleep(0)  # starts the closing that another thread has scheduled
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        """Close the channels when the event loop ends its asynchronous generators.

        `asyncio.run` and similar functions do so before they close the loop; asyncio has no other
        hook for it.
        """
        try:
            yield
        finally:
            await self.close()

    # --- waiting ----------------------------------------------------------------------------

    async def share(
        self,
        key: Hashable,
        work: Callable[[], T],
        timeout_s: float | None,
        give_up: Callable[[], Callable[[], object] | None] = lambda: None,
        grace_s: float = 0.0,
    ) -> tuple[asyncio.Task[T] | None, float | None]:
        """Wait for work that one thread does for all tasks of this loop with the same key.

        Args:
            key: The key of the work.
            work: The blocking function, which runs in a thread.
            timeout_s: Seconds to wait.
            give_up: Cancels the work; called when no task waits any more. It does not block: it
                returns a function for the rest, if any, which is called in a thread.
            grace_s: Seconds that the task that started the work waits longer, for its outcome.

        Returns:
            The completed task of the work, or `None` after the timeout; and the deadline of the
            task that started the work, or `None` if this task did.
        """
        shared = self._shared.get(key)
        is_ours = shared is None
        if shared is None:
            task = asyncio.get_running_loop().create_task(in_thread(work))
            deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
            shared = self._shared[key] = _SharedWork(task, give_up, deadline)
            task.add_done_callback(partial(self._unshare, key))
        shared.waiting += 1
        try:
            more_s = grace_s if is_ours else 0.0
            wait_s = None if timeout_s is None else timeout_s + more_s
            await asyncio.wait([shared.task], timeout=wait_s)
        finally:
            shared.waiting -= 1
            # A loop that ends cancels all tasks, and the task of the work perhaps first, though
            # its thread continues.
            is_under_way = not shared.task.done() or shared.task.cancelled()
            if not shared.waiting and is_under_way:
                self._unshare(key, shared.task)
                if rest := shared.give_up():
                    threading.Thread(target=rest, name="zconfig-aio", daemon=True).start()
        is_done = shared.task.done() and not shared.task.cancelled()
        return (shared.task if is_done else None), (None if is_ours else shared.deadline)

    def _unshare(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if (shared := self._shared.get(key)) and shared.task is task:
            del self._shared[key]
        if task.done() and not task.cancelled():
            task.exception()  # asyncio would log it if no task waits any more

    # --- forks ------------------------------------------------------------------------------

    def pause(self, deadline: float, go_on: threading.Event) -> bool:
        """Pause the event loop, once no call is in flight, unless it runs in this thread.

        Args:
            deadline: The monotonic instant of the timeout.
            go_on: The event that ends the pause.

        Returns:
            Whether no call is in flight.
        """
        loop = self._loop()
        if loop is None or loop.is_closed():
            return True
        if not loop.is_running() or self._thread == threading.get_ident():
            return self._is_idle
        while not self._is_paused(loop, deadline, go_on):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True

    def _is_paused(
        self, loop: asyncio.AbstractEventLoop, deadline: float, go_on: threading.Event
    ) -> bool:
        seen: Future[bool] = Future()

        def pause_here() -> None:
            if not seen.set_running_or_notify_cancel():
                return  # the caller has timed out
            # A channel that is being closed still counts.
            is_idle = self._is_idle and not self._tasks
            seen.set_result(is_idle)
            if is_idle:
                go_on.wait(LONGEST_WAIT_S)

        try:
            loop.call_soon_threadsafe(pause_here)
            return seen.result(max(deadline - time.monotonic(), 0.0))
        except (RuntimeError, TimeoutError):  # the loop was closed, or is busy
            seen.cancel()
            return False

    @property
    def _is_idle(self) -> bool:
        return all(channel.is_idle for channel in self._channels.values())

    def drop_channels(self) -> None:
        """Drop the channels; the next call creates new ones."""
        for channel in self._channels.values():
            channel.drop()

    def abandon(self) -> None:
        """Mark the pool as the parent's, in a forked child, without closing its channels."""
        self.is_over = True


_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopPool] = weakref.WeakKeyDictionary()


def find_loop_pool() -> LoopPool | None:
    """Return the pool of the running event loop, if it has one."""
    pool = _pools.get(asyncio.get_running_loop())
    return pool if pool and not pool.is_over else None


def loop_pool() -> LoopPool:
    """Return the pool of the running event loop, and remove the pools of closed loops.

    Raises:
        ConfigurationError: This process was forked while its parent had asyncio channels in use.
    """
    if pool := find_loop_pool():
        return pool
    for known in _pools.keyrefs():  # each step is atomic, since other threads add their loops
        loop = known()
        if loop and loop.is_closed() and (over := _pools.pop(loop, None)):
            over.abandon()
            over.drop_channels()
    pool = _pools[asyncio.get_running_loop()] = LoopPool()
    return pool
