"""Looks after the open connections of an event loop, as `zconfig._connection.monitor`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from zconfig._connection.attempt import Attempt
from zconfig._connection.monitor import CHECK_TIMEOUT_S, Monitor, credentials_stamp
from zconfig._connection.transport import Transport
from zconfig.aio.connector import has_moved, introduce, take_link, verify_async
from zconfig.aio.loop_context import LoopContext
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError

if TYPE_CHECKING:
    from zconfig.aio.managed import AsyncManagedConnection

_BETWEEN_ROUNDS_S = 0.5


class AsyncMonitor(Monitor):
    """Notices what happens to a connection while nobody calls, or because a call failed.

    Args:
        managed: The connection.
        ground: What it stands on.
    """

    def __init__(self, managed: Any, ground: Any) -> None:
        super().__init__(managed, ground)
        self._own: AsyncManagedConnection = managed
        self._ground: LoopContext = ground

    async def inspect(self) -> None:
        """Find out, and take up what is found; as `look` does."""
        is_doubted, self._is_doubted = self._is_doubted, False
        await self._read_new_files()
        transport, bound = self._own.transport_if_open, self._own.bound
        if transport is None or bound is None:
            return
        spec = self._own.spec
        try:
            transport = await self._on_primary(transport, is_doubted=is_doubted)
            server = await verify_async(transport, spec, min(spec.timeout_s, CHECK_TIMEOUT_S))
        except ConnectError as error:
            is_refused = isinstance(error, RejectedCredentialsError)
            if not (is_refused and await self._own.following.renew(bound)):
                self._lose(transport, error)
        except ClosedError:
            return
        else:
            self._own.mark_recovered(transport, server)

    async def _read_new_files(self) -> None:
        if not self._has_new_files():
            return
        signature = credentials_stamp(self._own.spec)
        # A reload may have read them meanwhile: what it was refused with is not tried once more.
        await self._own.following.reread(self._has_new_files)
        self._signature = signature

    async def _on_primary(self, transport: Transport, *, is_doubted: bool) -> Transport:
        """Return a link to the server that is the primary now, which may be the same."""
        spec, started = self._own.spec, time.monotonic()
        attempt = Attempt(spec, started, started + min(spec.timeout_s, CHECK_TIMEOUT_S))
        if not await has_moved(transport, attempt, at_once=is_doubted or self._own.is_lost):
            return transport
        new = await take_link(self._ground, attempt, transport.topology_cache)
        try:
            server = await introduce(new, attempt)
        except BaseException:  # a cancellation too must not leave the new channels behind
            self._ground.release(new)
            raise
        if not self._own.move(transport, new, server, started):
            raise ClosedError(spec.alias)
        return new


class AsyncPeriodicTask(Protocol):
    """Something to look after."""

    def is_due(self) -> bool:
        """Tell whether there is anything to do. It is asked often, and makes no call."""

    async def inspect(self) -> None:
        """Do it."""


class LoopScheduler:
    """Does what is due, twice a second, while there is anything to look after.

    Made of timers, which an event loop that is closed lets go of without a word.

    Args:
        chores: Returns what there is to look after now.
    """

    def __init__(self, chores: Callable[[], Sequence[AsyncPeriodicTask]]) -> None:
        self._chores = chores
        self._next: asyncio.Handle | None = None
        self._looks: dict[AsyncPeriodicTask, asyncio.Task[None]] = {}

    def call(self) -> None:
        """Have the next round made at once."""
        if self._next:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_soon(self._make)

    def pass_over(self, task: AsyncPeriodicTask) -> None:
        """End what is being done for one."""
        if look := self._looks.get(task):
            look.cancel()

    def _make(self) -> None:
        chores, loop = self._chores(), asyncio.get_running_loop()
        for each in chores:
            if each not in self._looks and each.is_due():
                look = self._looks[each] = loop.create_task(each.inspect())
                look.add_done_callback(partial(self._end, each))
        self._next = loop.call_later(_BETWEEN_ROUNDS_S, self._make) if chores else None

    def _end(self, task: AsyncPeriodicTask, _: asyncio.Task[None]) -> None:
        del self._looks[task]
