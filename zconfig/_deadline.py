"""Deadlines and pauses: instants are monotonic, durations are seconds."""

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
_LAST_ATTEMPT_S = 0.5


class ConnectBudget(NamedTuple):
    """The time limits of one connect.

    Args:
        deadline: The instant at which the connect times out.
        retry_until: The instant until which transient failures are retried.
        attempt_s: Seconds for one attempt.
    """

    deadline: float
    retry_until: float
    attempt_s: float

    @classmethod
    def from_now(cls, timeout_s: float, wait_s: float = 0.0) -> ConnectBudget:
        """Return the budget of a connect that starts now.

        Args:
            timeout_s: Seconds for one attempt, and for the connect with its retries.
            wait_s: Seconds for which transient failures are retried. If longer than `timeout_s`,
                it is the limit of the connect, but not of an attempt.
        """
        now = time.monotonic()
        return cls(now + max(timeout_s, wait_s), now + wait_s, timeout_s)

    def later(self, by_s: float) -> ConnectBudget:
        """Return the same budget, started `by_s` seconds later."""
        return self._replace(deadline=self.deadline + by_s, retry_until=self.retry_until + by_s)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), 0.0)

    @property
    def _retry_left_s(self) -> float:
        return min(self.retry_until, self.deadline) - time.monotonic()

    def pause_s(self, backoff_s: float) -> float | None:
        """Return the pause before the retry of a transient failure; `None` without time for one.

        A pause that would outlast the wait is shortened, so that a last attempt has half a second.
        """
        left_s = self._retry_left_s
        pause_s = backoff_s if backoff_s < left_s else left_s - _LAST_ATTEMPT_S
        return pause_s if pause_s >= 0 else None

    def outlives(self, deadline: float) -> bool:
        """Return whether to retry after a connect with another deadline failed.

        A connect that timed out is retried if this budget has time left.

        Args:
            deadline: The deadline of the failed connect.
        """
        had_less_time = deadline <= time.monotonic() < self.deadline
        return had_less_time or self._retry_left_s > 0


def backoff_s(number: int, longest_s: float = _LONGEST_BACKOFF_S) -> float:
    """Return the pause after a failed attempt, in seconds: exponential, with full jitter.

    Full jitter keeps many clients from reconnecting to a restarted server at the same moment
    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog).

    Args:
        number: The number of the failed attempt, from 1.
        longest_s: The longest pause.
    """
    ceiling_s = min(longest_s, _FIRST_BACKOFF_S * 2 ** min(number - 1, 10))
    return random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards no secret


def run_in_time(work: Callable[[], T], timeout_s: float, name: str) -> T:
    """Run a function in a daemon thread, and return its result.

    Args:
        work: The function. It must not raise, and may continue to run after the timeout.
        timeout_s: Seconds to wait.
        name: The thread's name.

    Raises:
        TimeoutError: The function took longer.
    """
    done: Future[T] = Future()
    threading.Thread(target=lambda: done.set_result(work()), name=name, daemon=True).start()
    return done.result(timeout_s)
