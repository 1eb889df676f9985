"""Calls by hand, and how many a second threads make."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable


def authorization(token: str) -> tuple[str, str]:
    """Return the metadata that credentials go by.

    Example:
        >>> authorization("root:Milvus")
        ('authorization', 'cm9vdDpNaWx2dXM=')
    """
    return "authorization", base64.b64encode(token.encode()).decode()


def rate(call: Callable[[], object], threads: int, seconds: float) -> float:
    """Return the calls a second that so many threads make together.

    Args:
        call: Makes one, and waits for its answer.
        threads: How many make calls, one after the other each.
        seconds: For how long.

    Example:
        >>> rate(lambda: None, threads=2, seconds=0.01) > 1000
        True
    """
    counts = [0] * threads
    ready = threading.Barrier(threads + 1)
    end = float("inf")

    def work(number: int) -> None:
        ready.wait()
        while True:  # once in any case
            call()
            counts[number] += 1
            if time.perf_counter() >= end:
                return

    workers = [threading.Thread(target=work, args=[number]) for number in range(threads)]
    for worker in workers:
        worker.start()
    began = time.perf_counter()
    end = began + seconds
    ready.wait()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)
