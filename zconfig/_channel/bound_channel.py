"""Shared channels with the metadata of one alias, and unary calls that can be cancelled."""

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
"""Functions that return more metadata for each call of the application, e.g. its trace."""


def provided_metadata() -> tuple[tuple[str, str], ...]:
    """Return the providers' metadata for the current call; each key once."""
    return tuple({key: value for carrier in metadata_providers for key, value in carrier()}.items())


class Cancellation:
    """Cancels running work: its pauses and its calls."""

    def __init__(self) -> None:
        self._is_set = threading.Event()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []

    @property
    def is_set(self) -> bool:
        """Whether the work is cancelled."""
        return self._is_set.is_set()

    def set(self) -> None:
        """Cancel the work."""
        with self._lock:
            self._is_set.set()
            actions = tuple(self._actions)
        for act in actions:
            act()

    def wait(self, timeout_s: float) -> bool:
        """Pause the work; return true, and early, if it is cancelled."""
        return self._is_set.wait(timeout_s)

    @contextmanager
    def ending(self, act: Callable[[], object]) -> Iterator[None]:
        """Call a function if the work is cancelled during a `with` block.

        Args:
            act: Ends a part of the work. Another thread calls it, perhaps after that part ended.
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BoundChannel:
    """Channels to a server, with the metadata of one alias.

    To rotate credentials, replace it: each call uses the current one.

    Args:
        alias: The alias.
        shared: The channels; other aliases may share them.
        metadata: The metadata of each call.
        follows: Whether the server is the primary of a global cluster, which may change.
    """

    alias: str
    shared: SharedChannel
    metadata: Metadata = field(repr=False)
    follows: bool = False

    @property
    def authorization(self) -> str | bytes | None:
        """The value of the `authorization` header; `None` without credentials."""
        return dict(self.metadata).get(AUTHORIZATION)

    def merge(self, metadata: Any) -> Any:
        """Return a call's metadata plus the alias'; the call's keys take precedence."""
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
        """Make one unary call with encoded messages; repeat it if a fork cancelled it.

        Args:
            method: The full method name, e.g. `/milvus.proto.milvus.MilvusService/Connect`.
            request: The encoded request.
            timeout_s: Seconds to wait for the response.
            cancellation: Cancels the call.

        Raises:
            grpc.RpcError: The call failed.
            ClosedError: The channels were closed, or the call was cancelled.
        """
        ends = cancellation or Cancellation()
        ask = partial(self._ask_until, ends, method, request, time.monotonic() + timeout_s)
        return run_interruptibly(ask, ends.set)

    def _ask_until(self, ends: Cancellation, method: str, request: bytes, deadline: float) -> bytes:
        with suppress(ValueError):  # gRPC raises it for a closed channel
            while not ends.is_set:
                with suppress(grpc.FutureCancelledError):  # a fork cancelled it
                    left_s = max(deadline - time.monotonic(), 0.001)
                    return self._ask(method, request, left_s, ends)
        raise ClosedError(self.alias)

    def _ask(self, method: str, request: bytes, timeout_s: float, ends: Cancellation) -> bytes:
        def begin() -> Any:
            # Without serializers gRPC passes bytes unchanged.
            call: Any = self.shared.first(lambda channel: channel.unary_unary(method))
            return call.future(request, timeout=timeout_s, metadata=self.metadata)

        future = GATE.start(begin)
        try:
            with GATE.cancel_on_fork(future.cancel), ends.ending(future.cancel):
                response: bytes = future.result()
        except BaseException:  # e.g. a killed greenlet: do not leave the call in flight
            future.cancel()
            raise
        return response
