"""Channels that belong to one event loop: dialed by the first call, and let go of for a fork."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import grpc

from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.channels import ChannelPool, Options, SharedChannel, TLSMaterial, dial
from zconfig.aio.calls import outcome
from zconfig.aio.forks import wait_for_fork
from zconfig.errors import ClosedError

T = TypeVar("T")

Spawn = Callable[[Awaitable[None]], object]
"""Has something done on the event loop, later."""


class AsyncSharedChannel(SharedChannel):
    """Channels of one event loop to one server.

    Args:
        make: Makes the channels; it is called on the event loop.
        spawn: Closes them, once they are not needed any more.
    """

    def __init__(self, make: Callable[[], tuple[Any, ...]], spawn: Spawn) -> None:
        super().__init__(())
        self._make = make
        self._spawn = spawn
        self._in_flight = 0
        self._turn = 0

    @property
    def is_idle(self) -> bool:
        """Whether no call is in flight."""
        return not self._in_flight

    def take_turn(self, do: Callable[[Any], T]) -> T:
        """Return what is made of the channel whose turn it is; raises what `first` does."""
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
        """Count a call in."""
        self._in_flight += 1

    def leave(self) -> None:
        """Count a call out."""
        self._in_flight -= 1

    def drop(self) -> None:
        """Let go of the channels, which gRPC closes at once; the next call makes new ones."""
        self._channels = ()

    def connectivity(self, *, dial: bool) -> grpc.ChannelConnectivity:
        """Return the state of the first channel; idle where there is none.

        Args:
            dial: Have a channel that is idle dial.
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
        if channels:
            self._spawn(_close(channels))

    def _check(self) -> None:
        super()._check()
        self._channels = self._channels or self._make()


def core_of(bound: BoundChannel) -> AsyncSharedChannel:
    """Return what a line of an event loop goes over."""
    return cast("AsyncSharedChannel", bound.shared)


class AsyncChannelPool(ChannelPool):
    """The cores of one event loop, by what makes them different.

    Args:
        spawn: Has something done on the event loop.
    """

    def __init__(self, spawn: Spawn) -> None:
        super().__init__()
        self._spawn = spawn

    @property
    def are_idle(self) -> bool:
        """Whether no call is in flight."""
        return all(shared.is_idle for shared in self._all())

    def drop(self) -> None:
        """Let go of all channels; see `AsyncSharedChannel.drop`."""
        for shared in self._all():
            shared.drop()

    def _all(self) -> list[AsyncSharedChannel]:
        with self._lock:
            return [
                shared
                for shared, _ in self._channel_pool.values()
                if isinstance(shared, AsyncSharedChannel)
            ]

    def _make(
        self, target: str, options: Options, material: TLSMaterial | None, count: int
    ) -> SharedChannel:
        make = partial(dial, target, options, material, count, grpc.aio)
        return AsyncSharedChannel(make, self._spawn)


async def _close(channels: Iterable[Any]) -> None:
    for channel in channels:
        await channel.close()


async def ask(bound: BoundChannel, method: str, request: bytes, timeout_s: float) -> bytes:
    """Make one unary call, in bytes; as `BoundChannel.ask` does.

    Raises:
        grpc.RpcError: It failed, or the channels were closed meanwhile.
        ClosedError: The channels were closed.
    """
    await wait_for_fork()
    shared = core_of(bound)
    with shared.in_use():
        try:
            call = shared.take_turn(lambda channel: channel.unary_unary(method))
        except ValueError:
            call = None
        if call is not None:
            reply = await outcome(call(request, timeout=timeout_s, metadata=bound.metadata))
            response: bytes = reply.response
            return response
    raise ClosedError(bound.alias)
