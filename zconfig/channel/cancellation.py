"""How a thread ends what another one does for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
