"""What this process holds, as the system and the collector tell. Needs Linux' /proc."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import grpc

from benchmarks.soak.values import Holdings

_SELF = Path("/proc/self")
_OF_A_CONNECTION = ("zconfig._connection", "zconfig._channel", "zconfig.aio", "zconfig._registry")


def holdings() -> Holdings:
    """Count what is held, after everything was let go of that nobody uses."""
    gc.collect()
    return Holdings(
        threads=_threads(),
        descriptors=len(list((_SELF / "fd").iterdir())),
        objects=_objects(),
        memory_kb=memory_kb(),
    )


def memory_kb() -> int:
    """Return the kilobytes of memory that no other process shares."""
    lines = (_SELF / "smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size) for name, size, *_ in (line.split() for line in lines)}
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def _threads() -> dict[str, int]:
    """Count the threads by name; Python's have one of their own, without the number in it."""
    ours = {str(each.native_id): each.name.rstrip("-_0123456789") for each in threading.enumerate()}
    names: Counter[str] = Counter()
    for task in (_SELF / "task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            names[ours.get(task.name) or (task / "comm").read_text().strip()] += 1
    return dict(names)


def _objects() -> dict[str, int]:
    return dict(Counter(_name(each) for each in gc.get_objects() if _is_of_a_connection(each)))


def _is_of_a_connection(each: object) -> bool:
    kind = type(each)
    return str(kind.__module__).startswith(_OF_A_CONNECTION) or issubclass(kind, grpc.Channel)


def _name(each: object) -> str:
    return f"{type(each).__module__}.{type(each).__qualname__}"
