"""Reading what may never answer: in a thread of its own, for a limited time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from zconfig.sources.entry import Reading

LIMIT_S = 30.0
"""Seconds for one source: the SDKs behind it would go on for minutes, or have no end at all."""


def read_in_time(read: Callable[[], Reading], unanswered: Callable[[str], Reading]) -> Reading:
    """Read a source, and give it up when it takes too long.

    A thread that was given up ends with its source, or with the process.

    Args:
        read: Reads the source; it raises nothing.
        unanswered: Makes a reading of what is wrong then.

    Returns:
        What `read` returned, or what `unanswered` did.
    """
    answers: queue.SimpleQueue[Reading] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(read()), name="zconfig-source", daemon=True).start()
    try:
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        return unanswered(f"no answer in {LIMIT_S:g} s")
