"""A `grpc.aio.Channel` of one alias, over channels that its connection owns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, Self

import grpc

from zconfig._channel.bound_channel import AUTHORIZATION, BoundChannel
from zconfig._channel.multicallables import BoundChannelOwner, report_failure, reporting_demotion
from zconfig._value import Value, value
from zconfig.aio.calls import Reply, UnaryUnaryCall, await_call, run_interceptors, with_reason
from zconfig.aio.channels import loop_channel_of
from zconfig.aio.forks import wait_for_fork

_RENEWALS = 3  # credentials may change again while a call is repeated


class AsyncChannelOwner(BoundChannelOwner, Protocol):
    """An owner of an event loop's channels, to be awaited."""

    def report_success(self) -> None:
        """Report a successful call."""

    def at_once(self) -> BoundChannel:
        """Return the bound channel for a call that cannot wait.

        Raises:
            ClosedError: It is closed, not open yet, or belongs to another event loop.
        """

    async def ready(self, timeout_s: float | None) -> BoundChannel:
        """Return the bound channel; connect first if necessary.

        Raises:
            ClosedError: It is closed, or belongs to another event loop.
            ConnectError: Connecting failed.
        """

    async def renew(self, bound: BoundChannel, timeout_s: float | None) -> BoundChannel | None:
        """Return a bound channel to repeat a call on; see `ChannelOwner.renew`.

        Raises:
            ClosedError: It was closed permanently meanwhile.
            ConnectError: It was disconnected meanwhile, and reconnecting failed.
        """


class AsyncChannelView(grpc.aio.Channel):
    """A `grpc.aio.Channel` of one alias, on one event loop.

    Interceptors that are appended to its lists, as pymilvus does, see the later unary calls.

    Args:
        owner: The owner of the channels, which closes them.
    """

    def __init__(self, owner: AsyncChannelOwner) -> None:
        self._owner = owner
        self._unary_unary_interceptors: list[Any] = []
        self._unary_stream_interceptors: list[Any] = []
        self._stream_unary_interceptors: list[Any] = []
        self._stream_stream_interceptors: list[Any] = []

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        **_: Any,  # newer versions of gRPC register generated methods, an optimization
    ) -> Any:
        """Return a callable for a unary method, as `grpc.aio.Channel.unary_unary` does."""
        serializers = request_serializer, response_deserializer
        return _UnaryUnary(self._owner, method, serializers, self._unary_unary_interceptors)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method with a stream of responses."""
        return _Stream(self._owner, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method with a stream of requests."""
        return _Stream(self._owner, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method with streams of requests and responses."""
        return _Stream(self._owner, lambda channel: channel.stream_stream(*args, **kwargs))

    def get_state(
        self,
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 - grpc's own signature
    ) -> grpc.ChannelConnectivity:
        """Return the connectivity of the first of the current channels."""
        if bound := self._owner.bound:
            return bound.shared.connectivity(dial=try_to_connect)
        closed, cut = grpc.ChannelConnectivity.SHUTDOWN, grpc.ChannelConnectivity.IDLE
        return closed if self._owner.is_closed else cut

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connectivity of the first channel changes."""
        bound = await self._owner.ready(None)
        channel: Any = bound.shared.first(lambda it: it)
        await channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the first channel is connected."""
        bound = await self._owner.ready(None)
        channel: Any = bound.shared.first(lambda it: it)
        await channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: the channels belong to the connection, which closes them."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __deepcopy__(self, memo: object) -> AsyncChannelView:
        """Return the view itself: pymilvus copies its arguments, but a channel cannot be copied."""
        return self

    def __repr__(self) -> str:
        return f"<AsyncChannelView of {self._owner.alias!r}>"


@value
class _Asked(Value):
    """The arguments of a call.

    Args:
        request: The request.
        metadata: The call's own metadata.
        rest: The other arguments, by name.
        deadline: The monotonic instant at which the call times out, if any.
    """

    request: Any
    metadata: tuple[Any, ...]
    rest: dict[str, Any]
    deadline: float | None

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline; always positive, since gRPC rejects 0."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.001)


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """A method with one request and one response, which can be repeated with new credentials."""

    def __init__(
        self,
        owner: AsyncChannelOwner,
        method: str,
        serializers: tuple[Any, Any],
        interceptors: list[Any],
    ) -> None:
        self._owner = owner
        self._method = method
        self._serializers = serializers
        self._interceptors = interceptors

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> UnaryUnaryCall:
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = _Asked(request, tuple(metadata or ()), kwargs, deadline)
        if not self._interceptors:
            return self._make(asked)

        def behind(details: grpc.aio.ClientCallDetails, request: Any) -> UnaryUnaryCall:
            metadata = tuple(details.metadata or ())
            return self._make(replace(asked, request=request, metadata=metadata))

        details = grpc.aio.ClientCallDetails(
            self._method,
            timeout,
            grpc.aio.Metadata(*asked.metadata),
            kwargs.get("credentials"),
            kwargs.get("wait_for_ready"),
        )
        passing = run_interceptors(tuple(self._interceptors), details, request, behind)
        return UnaryUnaryCall(passing, deadline)

    def _make(self, asked: _Asked) -> UnaryUnaryCall:
        return UnaryUnaryCall(self._call_with_refresh(asked), asked.deadline)

    async def _call_with_refresh(self, asked: _Asked) -> Reply:
        """Make a call; repeat it while credentials are rejected and newer ones are found."""
        bound = await self._owner.ready(asked.left_s)
        for _ in range(_RENEWALS):
            try:
                return await self._on_current(bound, asked)
            except grpc.aio.AioRpcError as error:
                newer = await self._renewed(bound, error, asked)
                if newer is None:
                    raise
            bound = newer
        return await self._on_current(bound, asked)

    async def _on_current(self, bound: BoundChannel, asked: _Asked) -> Reply:
        """Make a call; if the channel is closed before it starts, repeat it on the next one."""
        while True:
            try:
                return await self._once(bound, asked)
            except ValueError:  # the channels are closed, or gRPC rejects an argument
                if self._owner.bound is bound:
                    raise
            bound = await self._owner.ready(asked.left_s)

    async def _once(self, bound: BoundChannel, asked: _Asked) -> Reply:
        await wait_for_fork()
        shared = loop_channel_of(bound)
        with shared.in_use():
            serialize, deserialize = self._serializers
            given = self._method, serialize, reporting_demotion(self._owner, deserialize)
            method = shared.take_turn(lambda it: it.unary_unary(*given))
            merged = bound.merge(asked.metadata)
            call = method(asked.request, timeout=asked.left_s, metadata=merged, **asked.rest)
            try:
                reply = await await_call(call)
            except grpc.aio.AioRpcError as error:
                if why := report_failure(self._owner, bound, error.code(), error.details()):
                    raise with_reason(error, why) from None
                raise
        self._owner.report_success()
        return reply

    async def _renewed(
        self, bound: BoundChannel, error: grpc.aio.AioRpcError, asked: _Asked
    ) -> BoundChannel | None:
        """Return a bound channel with newer credentials, if the server rejected the alias' own."""
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return None
        if any(key == AUTHORIZATION for key, _ in asked.metadata):
            return None
        return await self._owner.renew(bound, asked.left_s)


class _Stream:
    """A method with streams. Its calls start immediately, so the connection must be open.

    Args:
        owner: The owner of the channels.
        make: Creates the multi-callable of one channel.
    """

    def __init__(self, owner: AsyncChannelOwner, make: Callable[[Any], Any]) -> None:
        self._owner = owner
        self._make = make

    def __call__(self, *args: Any, metadata: Any = None, **kwargs: Any) -> Any:
        bound = self._owner.at_once()
        shared = loop_channel_of(bound)
        method = shared.take_turn(self._make)
        call = method(*args, metadata=bound.merge(metadata), **kwargs)
        shared.enter()
        call.add_done_callback(lambda _: shared.leave())
        return call
