"""A `grpc.Channel` that lends out channels owned by somebody else, and speaks for one alias.

Several aliases may share a channel; each looks at it through a view of its own, which adds the
alias' current metadata to every call. A view is what users are given: closing it closes
nothing, and one assignment to its metadata rotates the credentials of every later call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import grpc

from zconfig.errors import ClosedError

Metadata = tuple[tuple[str, str | bytes], ...]


class ChannelView(grpc.Channel):
    """One alias' view of one or more channels to the same server.

    Args:
        alias: The alias that it speaks for.
        channels: The channels calls are spread over; they are not closed here.
        metadata: Added to each call, but for keys that the caller passes.
    """

    def __init__(self, alias: str, channels: Sequence[grpc.Channel], metadata: Metadata) -> None:
        self.alias = alias
        self.metadata = metadata
        self._channels: tuple[grpc.Channel, ...] = tuple(channels)

    def revoke(self) -> None:
        """Make every later call, also of stubs made before, raise `ClosedError`."""
        self._channels = ()

    def merge(self, metadata: Any) -> Any:
        """Return a call's metadata with the alias' own added."""
        if not self._channels:
            raise ClosedError(self.alias)
        if not metadata:
            return self.metadata
        given = {key for key, _ in metadata}
        return (*metadata, *(pair for pair in self.metadata if pair[0] not in given))

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a unary method, as `grpc.Channel.unary_unary` does."""
        return _UnaryResponse(self, [c.unary_unary(*args, **kwargs) for c in self._live()])

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that answers with a stream."""
        return _Callable(self, [c.unary_stream(*args, **kwargs) for c in self._live()])

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that takes a stream."""
        return _UnaryResponse(self, [c.stream_unary(*args, **kwargs) for c in self._live()])

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that takes and answers with a stream."""
        return _Callable(self, [c.stream_stream(*args, **kwargs) for c in self._live()])

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 - grpc's own signature
    ) -> None:
        """Subscribe to the connectivity of the first channel."""
        self._live()[0].subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Take a subscription back; harmless on a revoked view."""
        for channel in self._channels[:1]:
            channel.unsubscribe(callback)

    def close(self) -> None:
        """Do nothing: the channels belong to the connection, which closes them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> ChannelView:
        """Return the view itself: pymilvus copies its arguments, and a channel cannot be."""
        return self

    def __repr__(self) -> str:
        state = "open" if self._channels else "closed"
        return f"<ChannelView of {self.alias!r}, {state}>"

    def _live(self) -> tuple[grpc.Channel, ...]:
        if not self._channels:
            raise ClosedError(self.alias)
        return self._channels


class _Callable:
    """A method, on each of the view's channels in turn."""

    def __init__(self, view: ChannelView, callables: Sequence[Any]) -> None:
        self._view = view
        self._turns: Iterator[Any] = itertools.cycle(callables)

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        merged = self._view.merge(metadata)
        return next(self._turns)(request, timeout=timeout, metadata=merged, **kwargs)


class _UnaryResponse(_Callable):
    """A method with one response."""

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        merged = self._view.merge(metadata)
        return next(self._turns).with_call(request, timeout=timeout, metadata=merged, **kwargs)

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        merged = self._view.merge(metadata)
        return next(self._turns).future(request, timeout=timeout, metadata=merged, **kwargs)
