"""A `grpc.Channel` that lends out channels owned by somebody else, and speaks for one alias.

Several aliases may share a channel; each looks at it through a view of its own, which adds the
alias' current metadata to every call. A view is what users are given: closing it closes
nothing, and one assignment to its metadata rotates the credentials of every later call.
"""

from __future__ import annotations

import itertools
import threading
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
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls go through."""
        return bool(self._channels)

    def revoke(self) -> None:
        """Make every later call, also of stubs made before, raise `ClosedError`."""
        with self._lock:
            self._channels = ()

    def abandon(self) -> None:
        """Revoke it in a child process, where a thread of the parent may hold the lock forever."""
        self._lock = threading.Lock()
        self.revoke()

    def merge(self, metadata: Any) -> Any:
        """Return a call's metadata with the alias' own added."""
        if not self._channels:
            raise ClosedError(self.alias)
        if not metadata:
            return self.metadata
        given = tuple(metadata)
        keys = {key for key, _ in given}
        return (*given, *(pair for pair in self.metadata if pair[0] not in keys))

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a unary method, as `grpc.Channel.unary_unary` does."""
        return _UnaryResponse(self, self._each(lambda c: c.unary_unary(*args, **kwargs)))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that answers with a stream."""
        return _Callable(self, self._each(lambda c: c.unary_stream(*args, **kwargs)))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that takes a stream."""
        return _UnaryResponse(self, self._each(lambda c: c.stream_unary(*args, **kwargs)))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that takes and answers with a stream."""
        return _Callable(self, self._each(lambda c: c.stream_stream(*args, **kwargs)))

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 - grpc's own signature
    ) -> None:
        """Subscribe to the connectivity of the first channel."""
        self._each(lambda c: c.subscribe(callback, try_to_connect), count=1)

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
        state = "open" if self.is_open else "closed"
        return f"<ChannelView of {self.alias!r}, {state}>"

    def _each(self, do: Callable[[grpc.Channel], Any], count: int | None = None) -> list[Any]:
        # gRPC may crash the process when a method is made of a channel that is closed already.
        # Ours are closed after the view is revoked, so under the lock they still live.
        with self._lock:
            if not self._channels:
                raise ClosedError(self.alias)
            return [do(channel) for channel in self._channels[:count]]


class _Callable:
    """A method, on each of the view's channels in turn."""

    def __init__(self, view: ChannelView, callables: Sequence[Any]) -> None:
        self._view = view
        self._turns: Iterator[Any] = itertools.cycle(callables)

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        return self._call(next(self._turns), request, timeout, metadata, kwargs)

    def _call(
        self, method: Any, request: Any, timeout: float | None, metadata: Any, rest: dict[str, Any]
    ) -> Any:
        merged = self._view.merge(metadata)
        try:
            return method(request, timeout=timeout, metadata=merged, **rest)
        except ValueError:  # what gRPC says of a channel that another thread has just closed
            if self._view.is_open:
                raise
        raise ClosedError(self._view.alias)


class _UnaryResponse(_Callable):
    """A method with one response."""

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        return self._call(next(self._turns).with_call, request, timeout, metadata, kwargs)

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        return self._call(next(self._turns).future, request, timeout, metadata, kwargs)
