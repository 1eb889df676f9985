"""How long to go on, and to wait: instants are monotonic, durations are seconds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_FIRST_BACKOFF_S = 0.4
_LONGEST_BACKOFF_S = 3.0


class ConnectBudget(NamedTuple):
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
    def from_now(cls, timeout_s: float, wait_s: float = 0.0) -> ConnectBudget:
        """Return the patience of one who starts now.

        Args:
            timeout_s: Seconds for the connect, retries included.
            wait_s: Seconds for which transient failures are retried; where it is the longer of
                the two, the connect may take that long, though no attempt does.
        """
        now = time.monotonic()
        return cls(now + max(timeout_s, wait_s), now + wait_s, timeout_s)

    def later(self, by_s: float) -> ConnectBudget:
        """Return the same patience, begun some seconds later."""
        return self._replace(deadline=self.deadline + by_s, retry_until=self.retry_until + by_s)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), 0.0)

    def allows_retry_after(self, pause_s: float) -> bool:
        """Tell whether a transient failure is worth another try after a pause of seconds."""
        return time.monotonic() + pause_s < min(self.retry_until, self.deadline)

    def outlives(self, deadline: float) -> bool:
        """Tell whether one more try is worth it after that of another one failed.

        Transient failures are retried; and the other one may have had less time.

        Args:
            deadline: The instant at which the other one had to end.
        """
        had_less_time = deadline <= time.monotonic() < self.deadline
        return had_less_time or self.allows_retry_after(0.0)


def backoff_s(number: int, longest_s: float = _LONGEST_BACKOFF_S) -> float:
    """Return a pause after an attempt, in seconds: exponential, with full jitter.

    Full jitter keeps many clients of a server that comes back from arriving together
    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog).

    Args:
        number: Which attempt failed, from 1.
        longest_s: What the pause does not grow beyond.
    """
    ceiling_s = min(longest_s, _FIRST_BACKOFF_S * 2 ** min(number - 1, 10))
    return random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards no secret


def run_in_time(work: Callable[[], T], timeout_s: float, name: str) -> T:
    """Return a function's result, from a daemon thread that is given up after some seconds.

    Args:
        work: Raises nothing; it may go on after that, as long as the process does.
        timeout_s: Seconds to wait.
        name: The thread's name.

    Raises:
        TimeoutError: It took longer.
    """
    done: Future[T] = Future()
    threading.Thread(target=lambda: done.set_result(work()), name=name, daemon=True).start()
    return done.result(timeout_s)
