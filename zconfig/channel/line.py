"""What one alias' calls go over, and what each of them carries."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from zconfig.channel import context
from zconfig.channel.cancellation import Cancellation
from zconfig.channel.core import Core
from zconfig.channel.gate import GATE
from zconfig.channel.interruptible import run_interruptibly
from zconfig.errors import ClosedError

AUTHORIZATION = "authorization"

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Channels to a server, and the metadata of the one alias that speaks there.

    Another one in its place rotates the credentials of every later call.

    Args:
        alias: The alias that speaks.
        core: The channels; other aliases may share them.
        metadata: What each call carries.
        follows: Whether another server may become the one to dial.
    """

    alias: str
    core: Core
    metadata: Metadata = field(repr=False)
    follows: bool = False

    @property
    def authorization(self) -> str | bytes | None:
        """What the server knows us by; `None` if we are nobody."""
        return dict(self.metadata).get(AUTHORIZATION)

    def merge(self, metadata: Any) -> Any:
        """Return a call's own metadata with the line's added, but for keys that it has itself."""
        own = (*self.metadata, *context.carried()) if context.carriers else self.metadata
        if not metadata:
            return own
        given = tuple(metadata)
        keys = {key for key, _ in given}
        return (*given, *(pair for pair in own if pair[0] not in keys))

    def ask(
        self,
        method: str,
        request: bytes,
        timeout_s: float,
        cancellation: Cancellation | None = None,
    ) -> bytes:
        """Make one unary call, in bytes; again, if it gave way to a fork.

        Args:
            method: Its full name, e.g. `/milvus.proto.milvus.MilvusService/Connect`.
            request: The encoded request.
            timeout_s: Seconds to wait for the response.
            cancellation: Ends it.

        Raises:
            grpc.RpcError: It failed.
            ClosedError: The channels were closed, or it was cancelled.
        """
        ends = cancellation or Cancellation()
        ask = partial(self._ask_until, ends, method, request, time.monotonic() + timeout_s)
        return run_interruptibly(ask, ends.set)

    def _ask_until(self, ends: Cancellation, method: str, request: bytes, deadline: float) -> bytes:
        with suppress(ValueError):  # what gRPC says of a closed channel
            while not ends.is_set:
                with suppress(grpc.FutureCancelledError):  # it gave way to a fork
                    left_s = max(deadline - time.monotonic(), 0.001)
                    return self._ask(method, request, left_s, ends)
        raise ClosedError(self.alias)

    def _ask(self, method: str, request: bytes, timeout_s: float, ends: Cancellation) -> bytes:
        def begin() -> Any:
            # Without serializers gRPC passes bytes as they are.
            call: Any = self.core.first(lambda channel: channel.unary_unary(method))
            return call.future(request, timeout=timeout_s, metadata=self.metadata)

        future = GATE.start(begin)
        try:
            with GATE.giving_way(future.cancel), ends.ending(future.cancel):
                response: bytes = future.result()
        except BaseException:  # as where a greenlet is killed: no call is left in flight
            future.cancel()
            raise
        return response
