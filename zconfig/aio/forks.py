"""Fork hooks for event loops.

gRPC's asyncio API has one thread for all event loops, which runs while any channel exists. A
forked child lacks that thread, and gRPC does not notice: its asyncio channels hang or crash. So a
fork waits until no call is in flight, and then drops all channels; the parent's next call creates
new ones. If a call takes too long, the channels stay, and the child can use only the blocking API.
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
"""Seconds to wait for gRPC's thread, once it did not end: other code has channels too."""
_POLLER = "(_poll_wrapper)"  # the suffix that Python adds to the name of gRPC's thread


class ForkableLoop(Protocol):
    """An owner of channels on an event loop."""

    def pause(self, deadline: float, go_on: threading.Event) -> bool:
        """Pause the event loop, once no call is in flight.

        Args:
            deadline: The monotonic instant of the timeout.
            go_on: The event that ends the pause.

        Returns:
            Whether no call is in flight.
        """

    def drop_channels(self) -> None:
        """Drop the channels."""

    def abandon(self) -> None:
        """Set the parent's channels aside, in the child."""


class _Forks:
    """The state of the fork hooks in this process."""

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
        # Pause all loops first: a loop may use gRPC's asyncio while another one ends it.
        are_still = all(pool.pause(deadline, self._go_on) for pool in loop_pools)
        if are_still:
            for pool in loop_pools:
                pool.drop_channels()
        if loop_pools and _polls(_GRACE_S):
            gc.collect()  # a reference cycle may hold a completed call, which a child must not free
        # If our channels stay, so does the thread, whether or not other code has channels.
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
        # Keep them: freeing a channel here would wait for a thread of the parent.
        self._inherited += self.loop_pools
        self.loop_pools = weakref.WeakSet()
        for pool in self._inherited:
            pool.abandon()


_forks = _Forks()


def guard(pool: ForkableLoop) -> None:
    """Drop the channels of an event loop before every fork from now on.

    Raises:
        ConfigurationError: This process was forked while its parent had asyncio channels in use.
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
    """Wait while another thread forks, since the fork waits for the calls in flight."""
    # It polls: any thread may fork, and an asyncio event belongs to one event loop.
    while _forks.is_under_way:  # noqa: ASYNC110 - see above
        await asyncio.sleep(PAUSE_S)


def _polls(grace_s: float) -> bool:
    """Return whether any asyncio channel of gRPC exists in this process.

    Args:
        grace_s: Seconds to wait for gRPC's thread, which ends soon after the last channel.
    """
    pollers = [each for each in threading.enumerate() if each.name.endswith(_POLLER)]
    for thread in pollers:
        thread.join(grace_s)
    return any(thread.is_alive() for thread in pollers)


def _wait_for_who_ends_it() -> None:
    """Wait for another thread that may be ending gRPC's asyncio: a child would inherit its lock.

    A thread that frees the last channel holds the lock slightly longer than gRPC's thread lives.
    Starting and ending gRPC's asyncio once more acquires and releases that lock.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.SelectorEventLoop()  # regardless of the application's policy
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
        "this process was forked while its parent had asyncio channels of gRPC in use, so gRPC's"
        " asyncio API does not work in it",
        "call `await zconfig.aio.close()` before the fork or start processes with `spawn`",
    )
