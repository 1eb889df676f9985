"""The channels of one event loop: created by the first call, and dropped before a fork."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc

from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.channels import SharedChannel
from zconfig.aio.calls import await_call
from zconfig.aio.forks import wait_for_fork
from zconfig.errors import ClosedError

T = TypeVar("T")

Spawn = Callable[[Awaitable[None]], object]
"""Schedules an awaitable on the event loop."""

_generations = itertools.count()
_GRACE_S = 5.0  # for the calls on a replaced channel, which all wait for a connection


class LoopChannel(SharedChannel):
    """Channels of one event loop to the server of a connection.

    Args:
        of: The process' channels to that server. Closing them closes these channels too.
        loop: The event loop.
        spawn: Runs a coroutine on the event loop.
    """

    def __init__(
        self, of: SharedChannel, loop: weakref.ref[asyncio.AbstractEventLoop], spawn: Spawn
    ) -> None:
        super().__init__(of.recipe, ())
        self._loop = loop
        self._spawn = spawn
        self._in_flight = 0
        self._turn = 0
        of.add_dependent(self)

    @property
    def is_idle(self) -> bool:
        """Whether no call is in flight."""
        return not self._in_flight

    def take_turn(self, do: Callable[[Any], T]) -> T:
        """Return the result of a function for the next channel in turn; raises as `first` does."""
        with self._lock:
            self._check()
            self._turn = (self._turn + 1) % len(self._channels)
            return do(self._channels[self._turn])

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the channels while a call is in flight."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """Count the start of a call."""
        self._in_flight += 1

    def leave(self) -> None:
        """Count the end of a call."""
        self._in_flight -= 1

    def drop(self) -> None:
        """Drop the channels, which gRPC closes immediately; the next call creates new ones."""
        self._channels = ()

    def redial(self) -> None:
        """Replace channels that are not connected, to skip gRPC's pause before it reconnects."""
        if not {None, grpc.ChannelConnectivity.READY}.issuperset(self.states(dial=False)):
            with self._lock:
                failing, self._channels = self._channels, ()
            self._spawn(_close(failing, _GRACE_S))

    def connectivity(self, *, dial: bool) -> grpc.ChannelConnectivity:
        """Return the state of the first channel; idle if there is none.

        Args:
            dial: Whether an idle channel dials.
        """
        if dial:
            self.first(lambda _: None)
        idle = grpc.ChannelConnectivity.IDLE
        return super().connectivity(dial=dial) if self._channels else idle

    def close(self) -> None:
        """Close the channels; calls in flight are cancelled."""
        with self._lock:
            self._is_open = False
            channels, self._channels = self._channels, ()
        for channel in channels:
            # Not in a task, since the loop may have stopped. Without a grace period `close` does
            # not wait.
            with suppress(StopIteration):
                channel.close().send(None)

    def close_soon(self) -> None:
        """Close the channels on their event loop; called in any thread."""
        loop = self._loop()
        try:
            if loop is not None and loop.is_running():
                loop.call_soon_threadsafe(self.close)
                return
        except RuntimeError:  # the loop was closed meanwhile
            pass
        with self._lock:  # the loop does not run, so the channels cannot be closed on it
            self._is_open = False
            self.drop()

    def _check(self) -> None:
        super()._check()
        if not self._channels:
            # With equal arguments gRPC would reuse the subchannel of another loop, or of a
            # replaced channel, which waits before it reconnects.
            generation = ("zconfig.generation", next(_generations))
            self._channels = self.recipe.dial(grpc.aio, generation)


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class LoopBoundChannel(BoundChannel):
    """The channels of an event loop with the metadata of a connection.

    Args:
        of: The connection's own channels, with the same metadata.
    """

    of: BoundChannel


def loop_channel_of(bound: BoundChannel) -> LoopChannel:
    """Return the event loop's channels of a bound channel."""
    return cast("LoopChannel", bound.shared)


async def _close(channels: Iterable[Any], grace_s: float) -> None:
    for channel in channels:
        await channel.close(grace_s)


async def ask(bound: BoundChannel, method: str, request: bytes, timeout_s: float) -> bytes:
    """Make one unary call with encoded messages, as `BoundChannel.ask` does.

    Raises:
        grpc.RpcError: The call failed, or the channels were closed meanwhile.
        ClosedError: The channels were closed before.
    """
    await wait_for_fork()
    shared = loop_channel_of(bound)
    with shared.in_use():
        try:
            call = shared.take_turn(lambda channel: channel.unary_unary(method))
        except ValueError:
            call = None
        if call is not None:
            reply = await await_call(call(request, timeout=timeout_s, metadata=bound.metadata))
            response: bytes = reply.response
            return response
    raise ClosedError(bound.alias)
