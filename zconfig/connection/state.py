"""What a connection is doing, and since when."""

from __future__ import annotations

import time
from enum import StrEnum


class State(StrEnum):
    """What a connection is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    LOST = "lost"
    CLOSED = "closed"


class Stateful:
    """Knows what it is doing, and since when.

    Attributes:
        since: Seconds since the epoch, at which its state last changed.
        trouble: Why its server was lost.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._state = State.IDLE
        self.since = time.time()

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is not self._state:
            self._state, self.since = state, time.time()
