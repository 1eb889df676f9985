"""What goes wrong with calls to a fake server, on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

Act = Callable[["Fault", Any], None]
"""Does to a call what a fault does: given the fault, and the call's `grpc.ServicerContext`."""


class Fault:
    """Something that goes wrong with calls, until it has happened often enough, or is ended.

    As a context manager it is ended with the block.

    Args:
        act: What it does to a call.
        times: How many calls it strikes; `None` for all until it is ended.
        method: Which method's calls, e.g. `Search`; `None` for all methods'.

    Raises:
        ValueError: `times` is less than 1.
    """

    def __init__(self, act: Act, times: int | None = None, method: str | None = None) -> None:
        if times is not None and times < 1:
            raise ValueError("a fault happens at least once: give times=1 or more")
        self._act = act
        self._times = times
        self._method = method
        self._hits = 0
        self._is_over = False
        self._changed = threading.Condition()

    @property
    def hits(self) -> int:
        """How many calls it has struck."""
        return self._hits

    def end(self) -> None:
        """Strike no more calls, and let go of those that it delays."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def strike(self, method: str, context: Any) -> None:
        """Do to a call what it does, if this call is one of those.

        Args:
            method: The call's method.
            context: The call, as gRPC's server has it.
        """
        if self._strikes(method):
            self._act(self, context)

    def hold(self, context: Any, seconds: float) -> None:
        """Wait for some seconds, for the fault's end, or until nobody waits for the call."""
        with self._changed:
            if context.add_callback(self._notify):
                self._changed.wait_for(
                    lambda: self._is_over or not context.is_active(),
                    min(seconds, threading.TIMEOUT_MAX),
                )

    def _strikes(self, method: str) -> bool:
        with self._changed:
            if self._is_over or self._method not in {None, method}:
                return False
            if self._hits == self._times:
                return False
            self._hits += 1
            return True

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
