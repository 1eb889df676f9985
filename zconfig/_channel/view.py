"""The `grpc.Channel` of an alias, which applications and pymilvus use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self

import grpc
from grpc import ChannelConnectivity

from zconfig._channel.multicallables import (
    ChannelOwner,
    StreamResponse,
    UnaryResponse,
    UnaryUnary,
    reporting_demotion,
)


class CachedUnary:
    """A unary method that returns a known response without a call.

    Args:
        response: The response.
    """

    def __init__(self, response: Any) -> None:
        self._response = response

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Return the response to any request."""
        return self._response

    def with_call(self, *_args: Any, **_kwargs: Any) -> tuple[Any, Future[Any]]:
        """Return the response, and a completed call."""
        return self._response, self.future()

    def future(self, *_args: Any, **_kwargs: Any) -> Future[Any]:
        """Return a completed call."""
        over: Future[Any] = Future()
        over.set_result(self._response)
        return over


_BETWEEN_LOOKS_S = 0.1


class ConnectivityWatcher:
    """Calls a callback with the connectivity: at the start, and after each change.

    Args:
        callback: The function to call, in a thread of its own. Its exceptions are logged.
        look: Returns the connectivity.
    """

    def __init__(
        self,
        callback: Callable[[ChannelConnectivity], None],
        look: Callable[[], ChannelConnectivity],
    ) -> None:
        self.callback = callback
        self._look = look
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the thread that calls the callback."""
        threading.Thread(target=self._follow, name="zconfig-connectivity", daemon=True).start()

    def end(self) -> None:
        """Stop calling the callback, which may call this method itself."""
        self._ended.set()

    def _follow(self) -> None:
        told = None
        while told is not ChannelConnectivity.SHUTDOWN and not self._ended.is_set():
            now = self._look()
            if now is not told:
                self._tell(now)
                told = now
            self._ended.wait(_BETWEEN_LOOKS_S)

    def _tell(self, connectivity: ChannelConnectivity) -> None:
        try:
            self.callback(connectivity)
        except Exception:  # a callback of the application may raise anything
            logging.getLogger("zconfig").exception("a callback failed on %s", connectivity)


class ChannelView(grpc.Channel):
    """A `grpc.Channel` of one alias, over the channels that its connection owns.

    Args:
        owner: The owner of the channels, which closes them.
        known: Methods with a cached response, each with a function that returns the encoded
            response, or empty bytes to call the server.
    """

    def __init__(
        self, owner: ChannelOwner, known: Mapping[str, Callable[[], bytes]] | None = None
    ) -> None:
        self._owner = owner
        self._known = known or {}
        self._subscriptions: list[ConnectivityWatcher] = []

    def with_cached_replies(self, known: Mapping[str, Callable[[], bytes]]) -> ChannelView:
        """Return a view of the same channels that answers these methods without a call."""
        return ChannelView(self._owner, known)

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Return a callable for a unary method, as `grpc.Channel.unary_unary` does."""
        if method in self._known and (response := self._known[method]()):
            return CachedUnary((response_deserializer or bytes)(response))

        def make(channel: grpc.Channel) -> Any:
            deserializer = reporting_demotion(self._owner, response_deserializer)
            return channel.unary_unary(method, request_serializer, deserializer, *args, **kwargs)

        return UnaryUnary(self._owner, make)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method with a stream of responses."""
        return StreamResponse(self._owner, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method with a stream of requests."""
        return UnaryResponse(self._owner, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method with streams of requests and responses."""
        return StreamResponse(self._owner, lambda channel: channel.stream_stream(*args, **kwargs))

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 - grpc's own signature
    ) -> None:
        """Call a callback with the connectivity of the first channel.

        The subscription outlives a reload. A forked child must subscribe again.
        """
        bound = self._owner.bound or self._owner.ensure_open(None)
        bound.shared.connectivity(dial=try_to_connect)
        subscription = ConnectivityWatcher(callback, self._connectivity)
        self._subscriptions.append(subscription)
        subscription.start()

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Cancel the subscription of a callback, if there is one."""
        for each in tuple(self._subscriptions):
            if each.callback == callback:
                each.end()
                self._subscriptions.remove(each)
                return

    def _connectivity(self) -> grpc.ChannelConnectivity:
        if bound := self._owner.bound:
            return bound.shared.connectivity(dial=False)
        closed, cut = grpc.ChannelConnectivity.SHUTDOWN, grpc.ChannelConnectivity.IDLE
        return closed if self._owner.is_closed else cut

    def close(self) -> None:
        """Do nothing: the channels belong to the connection, which closes them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> ChannelView:
        """Return the view itself: pymilvus copies its arguments, but a channel cannot be copied."""
        return self

    def __repr__(self) -> str:
        return f"<ChannelView of {self._owner.alias!r}>"
