"""How long to go on trying to connect: instants are monotonic, durations are seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on trying to connect.

    Args:
        deadline: The instant at which it must have ended.
        retry_until: The instant until which transient failures are retried.
        attempt_s: Seconds for one attempt.
    """

    deadline: float
    retry_until: float
    attempt_s: float

    @classmethod
    def from_now(cls, timeout_s: float, wait_s: float = 0.0) -> Patience:
        """Return the patience of one who starts now.

        Args:
            timeout_s: Seconds for the connect, retries included.
            wait_s: Seconds for which transient failures are retried; where it is the longer of
                the two, the connect may take that long, though no attempt does.
        """
        now = time.monotonic()
        return cls(now + max(timeout_s, wait_s), now + wait_s, timeout_s)

    def later(self, by_s: float) -> Patience:
        """Return the same patience, begun some seconds later."""
        return Patience(self.deadline + by_s, self.retry_until + by_s, self.attempt_s)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), 0.0)

    def outlasts(self, pause_s: float) -> bool:
        """Tell whether a transient failure is worth another try after a pause of seconds."""
        return time.monotonic() + pause_s < min(self.retry_until, self.deadline)
