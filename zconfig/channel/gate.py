"""The gate that calls pass, and that a fork closes for a moment.

A fork in the middle of another thread's gRPC call leaves the child with locks of gRPC's that
nobody will ever open, and with the parent's sockets: gRPC tidies up only where no thread is inside
it. So calls count themselves in and out, and a fork waits for those in flight while no new one
begins. Calls that may be made again give way to it at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Gate:
    """Counts those who are inside; while it is closed nobody enters."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a child process: who was inside is a thread of the parent."""
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._closers = 0
        self._yielding: list[Callable[[], object]] = []

    def enter(self) -> None:
        """Count oneself in, as soon as the gate is open."""
        with self._changed:
            while self._closers:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        """Count oneself out."""
        with self._changed:
            self._inside -= 1
            if self._closers and not self._inside:
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def start(self, begin: Callable[[], Any]) -> Any:
        """Start a call that is waited for later; it is inside until gRPC is done with it.

        Args:
            begin: Starts it, and returns its future.
        """
        self.enter()
        try:
            future = begin()
        except BaseException:  # Ctrl-C too must leave the gate
            self.leave()
            raise
        future.add_done_callback(lambda _: self.leave())
        return future

    @contextmanager
    def giving_way(self, cancel: Callable[[], object]) -> Iterator[None]:
        """For the time of a `with` block, have a call cancelled when the gate closes.

        Args:
            cancel: Cancels it; called in another thread, and also where that is too late.
        """
        with self._changed:
            self._yielding.append(cancel)
            is_closed = self._closers > 0
        try:
            if is_closed:
                cancel()
            yield
        finally:
            with self._changed:
                self._yielding.remove(cancel)

    def close(self, timeout_s: float) -> None:
        """Let nobody in, cancel what gives way, and wait until all have left.

        Args:
            timeout_s: Seconds to wait; who is inside longer than that stays there.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closers += 1
            yielding = tuple(self._yielding)
        for cancel in yielding:
            cancel()
        with self._changed:
            while self._inside and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def open(self) -> None:
        """Let everybody in again, unless somebody else has closed it too."""
        with self._changed:
            self._closers -= 1
            self._changed.notify_all()


GATE = Gate()
"""The gate of this process."""
