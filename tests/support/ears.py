"""Hears the lifecycle events of a registry, and waits for those that come from other threads."""

from __future__ import annotations

import threading
from typing import TypeVar

from tests.support import PATIENCE_S
from zconfig import events
from zconfig._registry import Connections

E = TypeVar("E", bound=events.Event)


class Ears:
    """Everything that a registry reports from now on, in order.

    Args:
        connections: The registry.
    """

    def __init__(self, connections: Connections) -> None:
        self._from_status: list[events.Event] = []
        self._changed = threading.Condition()
        connections.subscribe(self._hear)

    def of(self, kind: type[E]) -> list[E]:
        """Return what was heard of one kind."""
        return [event for event in list(self._from_status) if isinstance(event, kind)]

    def names(self) -> list[str]:
        """Return the last words of the names of all that was heard."""
        return [event.name.rpartition(".")[2] for event in list(self._from_status)]

    def wait_for(self, kind: type[E], count: int = 1, budget_s: float = PATIENCE_S) -> E:
        """Wait until so many of one kind were heard, and return the last of them."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.of(kind)) >= count, budget_s)
        assert came, f"{kind.__name__} did not come, but {self.names()}"
        return self.of(kind)[count - 1]

    def _hear(self, event: events.Event) -> None:
        with self._changed:
            self._from_status.append(event)
            self._changed.notify_all()
