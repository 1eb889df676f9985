"""How long to go on trying."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on trying to connect.

    Args:
        deadline: The monotonic instant at which it must have ended.
        retry_until: The monotonic instant until which transient failures are retried.
    """

    deadline: float
    retry_until: float

    @classmethod
    def from_now(cls, timeout_s: float, wait_s: float) -> Patience:
        """Return the patience of one who starts now.

        Args:
            timeout_s: Seconds for the connect, retries included.
            wait_s: Seconds for which transient failures are retried; where it is the longer of
                the two, the connect may take that long.
        """
        now = time.monotonic()
        return cls(now + max(timeout_s, wait_s), now + wait_s)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), 0.0)

    @property
    def retries(self) -> bool:
        """Whether a transient failure is still worth another try."""
        return time.monotonic() < self.retry_until
