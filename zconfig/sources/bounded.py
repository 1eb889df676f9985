"""Reading what may never answer: in a thread of its own, for a limited time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from zconfig.sources.entry import Reading, guarded

LIMIT_S = 30.0
"""Seconds for one source: the SDKs behind it would go on for minutes, or have no end at all."""


def read_in_time(read: Callable[[], Reading], failed: Callable[[str], Reading]) -> Reading:
    """Read a source, and give it up when it takes too long.

    A thread that was given up ends with its source, or with the process.

    Args:
        read: Reads the source; what it raises is a failure, whatever it is.
        failed: Makes a reading of the kind of a failure.
    """
    answers: queue.SimpleQueue[Reading] = queue.SimpleQueue()

    def answer() -> None:
        answers.put(guarded(read, failed, catch=BaseException))

    threading.Thread(target=answer, name="zconfig-source", daemon=True).start()
    try:
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        return failed(f"no answer in {LIMIT_S:g} s")
