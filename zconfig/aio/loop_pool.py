"""What an event loop has of its own: channels, and waits for the process' connections."""

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
    """Return what work comes to that blocks.

    Not `asyncio.to_thread`, whose few threads are the application's too: a connect has a deadline,
    and would wait for its turn behind whatever else runs there. An executor's threads, besides, are
    joined at the end of the interpreter.

    Args:
        work: What to do; it goes on to its end, also where nobody waits for it any more.
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
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        outcome.set_exception(error)
    return outcome


@dataclass(slots=True)
class _SharedWork:
    """Work in a thread, and how many tasks of the event loop wait for it."""

    task: asyncio.Task[Any]
    give_up: Callable[[], object]
    deadline: float
    waiting: int = 0


class LoopPool:
    """The channels of the event loop that runs when it is made, and the tasks that wait there.

    They end with the loop: `asyncio.run` closes them before it closes the loop.

    Attributes:
        is_over: Whether the loop is over, or another process'.
        kept: What is handed out on this loop, by connection.
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
        """Whether the event loop that runs now is its own."""
        return not self.is_over and asyncio.get_running_loop() is self._loop()

    async def begin(self) -> None:
        """Have the channels closed when the event loop ends."""
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
        """Have the loop dial a server; called in any thread, and returns at once."""
        loop = self._loop()
        if loop is not None and not self.is_over:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(partial(self.dial, of, redial=redial))

    def dial(self, of: SharedChannel, *, redial: bool = False) -> None:
        """Dial a server, unless the loop is connected to it.

        Args:
            of: The process' channels to it.
            redial: Whether to replace channels that wait before they dial again.
        """
        with suppress(ValueError):  # they were closed meanwhile
            channel = self.channel(of)
            if redial:
                channel.redial()
            channel.connectivity(dial=True)

    async def close(self) -> None:
        """Close the channels of this loop, and wait until they are gone; connections stay."""
        self.kept.clear()
        for channel in tuple(self._channels.values()):
            channel.close()
        self._channels.clear()
        await self.settle()

    async def settle(self) -> None:
        """Wait until what is being closed is gone."""
        await asyncio.sleep(0)  # what another thread closed is begun
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        """Close the channels when the event loop ends its asynchronous generators.

        `asyncio.run` and its like do so before they close the loop, and nothing else tells of it.
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
        give_up: Callable[[], object] = lambda: None,
        grace_s: float = 0.0,
    ) -> tuple[asyncio.Task[T] | None, float | None]:
        """Wait for work that one thread does for all tasks of this loop that want the same.

        Args:
            key: Tells what is the same.
            work: What to do, in a thread.
            timeout_s: Seconds to wait.
            give_up: Ends the work; called in a thread when nobody waits for it any more.
            grace_s: Seconds that the task whose work it is waits longer, to hear how it ends.

        Returns:
            The work, done, or `None` where it takes longer; and, where it is another task's work,
            the monotonic instant until which that one waits.
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
            # An event loop that ends cancels all tasks, this one maybe first; the thread goes on.
            is_under_way = not shared.task.done() or shared.task.cancelled()
            if not shared.waiting and is_under_way:
                self._unshare(key, shared.task)
                threading.Thread(target=shared.give_up, name="zconfig-aio", daemon=True).start()
        is_done = shared.task.done() and not shared.task.cancelled()
        return (shared.task if is_done else None), (None if is_ours else shared.deadline)

    def _unshare(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if (shared := self._shared.get(key)) and shared.task is task:
            del self._shared[key]
        if task.done() and not task.cancelled():
            task.exception()  # nobody may wait any more, of which asyncio would complain

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
                return  # nobody waits for it any more
            # What is being closed is a channel still.
            is_idle = self._is_idle and not self._tasks
            seen.set_result(is_idle)
            if is_idle:
                go_on.wait(LONGEST_WAIT_S)

        try:
            loop.call_soon_threadsafe(pause_here)
            return seen.result(max(deadline - time.monotonic(), 0.0))
        except (RuntimeError, TimeoutError):  # it was closed, or is busy with something else
            seen.cancel()
            return False

    @property
    def _is_idle(self) -> bool:
        return all(channel.is_idle for channel in self._channels.values())

    def drop_channels(self) -> None:
        """Let go of the channels; the next call makes new ones."""
        for channel in self._channels.values():
            channel.drop()

    def abandon(self) -> None:
        """Forget, in a child process, what belongs to the parent; the channels stay as they are."""
        self.is_over = True


_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopPool] = weakref.WeakKeyDictionary()


def find_loop_pool() -> LoopPool | None:
    """Return what the running event loop has, if it has anything."""
    pool = _pools.get(asyncio.get_running_loop())
    return pool if pool and not pool.is_over else None


def loop_pool() -> LoopPool:
    """Return what the running event loop has; loops that were closed are forgotten.

    Raises:
        ConfigurationError: There can be nothing in this process.
    """
    if pool := find_loop_pool():
        return pool
    for known in _pools.keyrefs():  # each step at once: other threads have loops of their own
        loop = known()
        if loop and loop.is_closed() and (over := _pools.pop(loop, None)):
            over.abandon()
            over.drop_channels()
    pool = _pools[asyncio.get_running_loop()] = LoopPool()
    return pool
