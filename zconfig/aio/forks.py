"""A fork in a process that uses asyncio.

gRPC's asyncio has one thread for all event loops, which runs while there is any channel. A child
has it no more, and gRPC does not notice: what uses asyncio there hangs or crashes. So before a fork
all channels are let go of, once no call needs them, and the parent's next call makes new ones.
Where a call takes too long to be waited for they stay, and the child can use the blocking face
alone.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from typing import Protocol

import grpc.aio

from zconfig.errors import ConfigurationError, Problem

LONGEST_WAIT_S = 1.0
PAUSE_S = 0.002
_GRACE_S = 0.05
"""What gRPC's thread is waited for where it has not ended before: others have channels, too."""
_POLLER = "(_poll_wrapper)"  # what Python appends to the name of gRPC's thread


class ForkableLoop(Protocol):
    """What has channels on an event loop."""

    def pause(self, deadline: float, go_on: threading.Event) -> bool:
        """Have the event loop wait for an event, once no call is in flight.

        Args:
            deadline: The monotonic instant to stop trying at.
            go_on: What to wait for.

        Returns:
            Whether no call is in flight.
        """

    def drop_channels(self) -> None:
        """Let go of the channels."""

    def abandon(self) -> None:
        """Forget, in the child, what belongs to the parent."""


class _Forks:
    """What forks do to this process."""

    def __init__(self) -> None:
        self.loop_pools: weakref.WeakSet[ForkableLoop] = weakref.WeakSet()
        self.is_hooked = False
        self.is_under_way = False
        self.is_unusable = False
        self._one_at_a_time = threading.Lock()
        self._go_on = threading.Event()
        self._leaves_poller = False
        self._grace_s = LONGEST_WAIT_S
        self._inherited: list[ForkableLoop] = []

    def before(self) -> None:
        self._one_at_a_time.acquire()
        self.is_under_way = True
        self._go_on = threading.Event()
        loop_pools, deadline = tuple(self.loop_pools), time.monotonic() + LONGEST_WAIT_S
        # Not one by one: an event loop may hear of gRPC while another ends it.
        are_still = all(pool.pause(deadline, self._go_on) for pool in loop_pools)
        if are_still:
            for pool in loop_pools:
                pool.drop_channels()
        if loop_pools and _polls(_GRACE_S):
            gc.collect()  # a call that has ended may be left in a cycle, which no child may touch
        # Where ours stay, so does gRPC's thread, and that says nothing of the channels of others.
        self._leaves_poller = _polls(self._grace_s if are_still else 0.0)
        if loop_pools and not self._leaves_poller:
            _wait_for_who_ends_it()
        if are_still:
            self._grace_s = _GRACE_S if self._leaves_poller else LONGEST_WAIT_S

    def after_in_parent(self) -> None:
        self.is_under_way = False
        self._go_on.set()
        self._one_at_a_time.release()

    def after_in_child(self) -> None:
        self.is_under_way = False
        self._one_at_a_time = threading.Lock()
        self.is_unusable = self.is_unusable or self._leaves_poller
        # They are kept: a channel that is let go of here waits for a thread that is the parent's.
        self._inherited += self.loop_pools
        self.loop_pools = weakref.WeakSet()
        for pool in self._inherited:
            pool.abandon()


_forks = _Forks()


def guard(pool: ForkableLoop) -> None:
    """Have what is on an event loop let go of before every fork from now on.

    Raises:
        ConfigurationError: This process was forked in the middle of its parent's calls.
    """
    if _forks.is_unusable:
        raise ConfigurationError([_spoiled()])
    _forks.loop_pools.add(pool)
    if not _forks.is_hooked and hasattr(os, "register_at_fork"):
        _forks.is_hooked = True
        os.register_at_fork(
            before=_forks.before,
            after_in_parent=_forks.after_in_parent,
            after_in_child=_forks.after_in_child,
        )


async def wait_for_fork() -> None:
    """Wait while another thread forks: it waits for the calls that are in flight."""
    # Any thread forks, and an event of asyncio would belong to one loop of many.
    while _forks.is_under_way:  # noqa: ASYNC110 - see above
        await asyncio.sleep(PAUSE_S)


def _polls(grace_s: float) -> bool:
    """Return whether gRPC's asyncio has a channel anywhere in this process, ours or another's.

    Args:
        grace_s: Seconds for its thread to end: it does so soon after the last channel.
    """
    pollers = [each for each in threading.enumerate() if each.name.endswith(_POLLER)]
    for thread in pollers:
        thread.join(grace_s)
    return any(thread.is_alive() for thread in pollers)


def _wait_for_who_ends_it() -> None:
    """Wait for another thread that may be ending gRPC's asyncio: a child would do so for ever.

    Whoever collects the last channel as garbage, in whatever thread, does so under a lock that it
    holds for a moment longer than gRPC's thread lives. To begin and end it once more takes that
    lock, and leaves it free.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.SelectorEventLoop()  # whatever the application's policy is
        loop.call_soon(_begin_and_end)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    else:
        _begin_and_end()


def _begin_and_end() -> None:
    grpc.aio.init_grpc_aio()
    grpc.aio.shutdown_grpc_aio()


def _spoiled() -> Problem:
    return Problem(
        "forked_amid_asyncio",
        "this process was forked while its parent had gRPC channels of asyncio in use, after which"
        " asyncio and gRPC do not work together in it",
        "call `await zconfig.aio.close()` before the fork, or start processes with `spawn`",
    )
