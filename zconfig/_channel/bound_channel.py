"""What calls carry of the context that they are made in, such as the trace they belong to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from zconfig._channel.channels import SharedChannel
from zconfig._channel.fork_gate import GATE
from zconfig._channel.interruptible import run_interruptibly
from zconfig.errors import ClosedError

MetadataProvider = Callable[[], tuple[tuple[str, str], ...]]

metadata_providers: tuple[MetadataProvider, ...] = ()
"""What is asked, for each call of an application, for more metadata of it; nothing by default."""


def provided_metadata() -> tuple[tuple[str, str], ...]:
    """Return what the call that is being made carries of its context; each key once."""
    return tuple({key: value for carrier in metadata_providers for key, value in carrier()}.items())


class Cancellation:
    """Ends work that is under way: what it waits for, and the calls that it makes."""

    def __init__(self) -> None:
        self._is_set = threading.Event()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []

    @property
    def is_set(self) -> bool:
        """Whether the work is to end."""
        return self._is_set.is_set()

    def set(self) -> None:
        """Have the work end."""
        with self._lock:
            self._is_set.set()
            actions = tuple(self._actions)
        for act in actions:
            act()

    def wait(self, timeout_s: float) -> bool:
        """Pause the work for some seconds; return early, and true, when it is to end."""
        return self._is_set.wait(timeout_s)

    @contextmanager
    def ending(self, act: Callable[[], object]) -> Iterator[None]:
        """For the time of a `with` block, have something done when the work is to end.

        Args:
            act: Ends a part of it; called in another thread, and also where that is too late.
        """
        with self._lock:
            self._actions.append(act)
        try:
            if self.is_set:
                act()
            yield
        finally:
            with self._lock:
                self._actions.remove(act)


AUTHORIZATION = "authorization"

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, eq=False)
class BoundChannel:
    """Channels to a server, and the metadata of the one alias that speaks there.

    Another one in its place rotates the credentials of every later call.

    Args:
        alias: The alias that speaks.
        shared: The channels; other aliases may share them.
        metadata: What each call carries.
        follows: Whether another server may become the one to dial.
    """

    alias: str
    shared: SharedChannel
    metadata: Metadata = field(repr=False)
    follows: bool = False

    @property
    def authorization(self) -> str | bytes | None:
        """What the server knows us by; `None` if we are nobody."""
        return dict(self.metadata).get(AUTHORIZATION)

    def merge(self, metadata: Any) -> Any:
        """Return a call's own metadata with the alias' added, but for keys that it has itself."""
        own = (*self.metadata, *provided_metadata()) if metadata_providers else self.metadata
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
            call: Any = self.shared.first(lambda channel: channel.unary_unary(method))
            return call.future(request, timeout=timeout_s, metadata=self.metadata)

        future = GATE.start(begin)
        try:
            with GATE.cancel_on_fork(future.cancel), ends.ending(future.cancel):
                response: bytes = future.result()
        except BaseException:  # as where a greenlet is killed: no call is left in flight
            future.cancel()
            raise
        return response
