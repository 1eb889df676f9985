"""Where time and memory go, as text: made where a goal was missed."""

from __future__ import annotations

import cProfile
import io
import pstats
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType

from tests.support.processes import REPOSITORY

_SHOWN = 15
_EVERY_S = 0.001


def called(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> str:
    """Return what this thread calls in a run, by the time that each function takes itself.

    Args:
        run: Is run once.
        clock: What time; `time.thread_time` leaves out where it waits.
    """
    profile = cProfile.Profile(clock)
    profile.runcall(run)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(_SHOWN)
    return _shortened(text.getvalue())


def sampled(run: Callable[[], object]) -> str:
    """Return where the threads of a run are, looked at a thousand times a second.

    A thread counts where it is in our code, also while it waits there for something else.
    """
    found: Counter[str] = Counter()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_S):
            frames = sys._current_frames()  # noqa: SLF001 - documented, and there is no other way
            found.update(filter(None, (_place(frame) for frame in frames.values())))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        run()
    finally:
        over.set()
        watcher.join()
    total = max(found.total(), 1)
    rows = (f"{count / total:7.1%}  {place}" for place, count in found.most_common(_SHOWN))
    return "\n".join(("samples  where", *rows))


def allocated(have: Callable[[], AbstractContextManager[object]]) -> str:
    """Return which lines allocated what is there inside a `with` block.

    What C libraries allocate by themselves is not seen.
    """
    tracemalloc.start()
    try:
        with have():
            snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    lines = snapshot.statistics("lineno")[:_SHOWN]
    rows = (f"{each.size / 1024:9.0f} kB  {each.traceback}" for each in lines)
    return _shortened("\n".join(rows))


def _place(frame: FrameType | None) -> str:
    """Return where the innermost frame of ours is, if there is one."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(f"{REPOSITORY / 'zconfig'}/"):
            return f"{_shortened(code.co_filename)}:{frame.f_lineno} {code.co_qualname}"
        frame = frame.f_back
    return ""


def _shortened(text: str) -> str:
    """Take directories away: they say nothing elsewhere."""
    text = text.replace(f"{REPOSITORY}/", "")
    parts = sorted((path for path in sys.path if path), key=len, reverse=True)
    for each in parts:
        text = text.replace(f"{each}/", "")
    return text
