"""The gate that calls pass, and that a fork closes for a moment.

A fork in the middle of another thread's gRPC call leaves the child with locks of gRPC's that
nobody will ever open. So calls count themselves in and out, and a fork waits for those in flight
while no new one begins.
"""

from __future__ import annotations

import threading
import time


class Gate:
    """Counts those who are inside; while it is closed nobody enters."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a child process: who was inside is a thread of the parent."""
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._closers = 0

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

    def close(self, timeout_s: float) -> None:
        """Let nobody in, and wait until all have left.

        Args:
            timeout_s: Seconds to wait; who is inside longer than that stays there.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closers += 1
            while self._inside and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def open(self) -> None:
        """Let everybody in again, unless somebody else has closed it too."""
        with self._changed:
            self._closers -= 1
            self._changed.notify_all()


GATE = Gate()
"""The gate of this process."""
