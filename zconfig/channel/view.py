"""A `grpc.Channel` that speaks for one alias, over channels that somebody else owns.

Several aliases may share a channel; each looks at it through a view of its own, which adds the
alias' current metadata to every call. A view is what users are given: closing it closes nothing,
it carries the newest credentials, and in a forked child it dials anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import grpc

from zconfig.channel.methods import Stream, UnaryResponse, UnaryUnary
from zconfig.channel.owner import Owner, heeding
from zconfig.channel.remembered import Remembered
from zconfig.channel.subscription import Subscription


class ChannelView(grpc.Channel):
    """One alias' view of the channels to its server.

    Args:
        owner: Who has the channels; they are not closed here.
        known: Methods whose answer is known, with what returns the encoded response, or nothing if
            the server has to be asked after all.
    """

    def __init__(
        self, owner: Owner, known: Mapping[str, Callable[[], bytes]] | None = None
    ) -> None:
        self._owner = owner
        self._known = known or {}
        self._subscriptions: list[Subscription] = []

    def knowing(self, known: Mapping[str, Callable[[], bytes]]) -> ChannelView:
        """Return a view of the same channels that does not ask the server what is known."""
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
            return Remembered((response_deserializer or bytes)(response))

        def make(channel: grpc.Channel) -> Any:
            deserializer = heeding(self._owner, response_deserializer)
            return channel.unary_unary(method, request_serializer, deserializer, *args, **kwargs)

        return UnaryUnary(self._owner, make)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that answers with a stream."""
        return Stream(self._owner, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that takes a stream."""
        return UnaryResponse(self._owner, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for a method that takes and answers with a stream."""
        return Stream(self._owner, lambda channel: channel.stream_stream(*args, **kwargs))

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 - grpc's own signature
    ) -> None:
        """Have a callback told of the connectivity of the first of the channels.

        It goes on over a reload; a forked child has to subscribe anew.
        """
        line = self._owner.line or self._owner.wake(None)
        line.core.connectivity(dial=try_to_connect)
        subscription = Subscription(callback, self._connectivity)
        self._subscriptions.append(subscription)
        subscription.start()

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Take a subscription back; harmless where there is none."""
        for each in tuple(self._subscriptions):
            if each.callback == callback:
                each.end()
                self._subscriptions.remove(each)
                return

    def _connectivity(self) -> grpc.ChannelConnectivity:
        if line := self._owner.line:
            return line.core.connectivity(dial=False)
        closed, cut = grpc.ChannelConnectivity.SHUTDOWN, grpc.ChannelConnectivity.IDLE
        return closed if self._owner.is_closed else cut

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
        return f"<ChannelView of {self._owner.alias!r}>"
