"""Whether a soak went well: pure functions of its record."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence

from benchmarks.soak.values import Call, Child, End, Holdings, Record, Sample, Window

RECOVERY_S = 5.0
"""Seconds after a server's return in which calls may still fail; on an idle machine it is one."""

CLOSING_S = 1.0
"""Seconds after a close in which calls may still find the closed connection."""

MARGIN_S = 5.0
"""Seconds that a call may take beyond its limit: a fork holds it up, and the machine is busy."""

LARGEST_GROWTH_KB_PER_MINUTE = 512.0
"""Memory that may be added. Allocators settle for some minutes; a leak shows as a steady slope."""

POOLS = ("ThreadPoolExecutor", "event_engine")
"""What threads are called that come as they are needed, and stay: those of the embedded Milvus
Lite, which is a server in the application's process, and gRPC's own."""

LARGEST_POOL = 16
"""How many there may be of each, however many there were."""

FEWEST_SAMPLES = 16
"""Fewer samples have no slope that means anything."""


def broken(record: Record) -> list[str]:
    """Return everything that is wrong with a soak, one line each; none if it went well."""
    return [
        *map(_lost, lost(record.calls, record.windows)),
        *map(_late, late(record.calls)),
        *silent(record),
        *(f"child forked at {child.second:.1f} s: {child.fault}" for child in failed(record)),
        *grown(record.before, record.after),
        *swollen(record.samples, record.before, record.after),
        *record.faults,
    ]


# --- calls ---------------------------------------------------------------------------------


def is_excused(call: Call, window: Window) -> bool:
    """Tell whether a call was under way in a window that admits its end."""
    return (
        call.alias in window.aliases
        and call.end is window.admits
        and call.began <= window.ended + window.grace_s
        and call.began + call.took_s >= window.began
    )


def lost(calls: Sequence[Call], windows: Sequence[Window]) -> list[Call]:
    """Return the calls that failed, and that no window excuses."""
    return [
        call
        for call in calls
        if has_failed(call) and not any(is_excused(call, each) for each in windows)
    ]


def has_failed(call: Call) -> bool:
    """Tell whether a call went wrong; one under way at the end has not, while it has time left."""
    return call.end is not End.FINE and (call.end is not End.NEVER or _is_overdue(call))


def _is_overdue(call: Call) -> bool:
    return call.took_s > call.limit_s + MARGIN_S


def late(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that ended, and took too long for it."""
    return [call for call in calls if call.end is not End.NEVER and _is_overdue(call)]


def silent(record: Record) -> Iterator[str]:
    """Tell of ways to call, and of connections, on which nothing ever went well."""
    for call in sorted({f"{call.way} {call.alias}" for call in record.calls}):
        if not record.fine.get(call):
            yield f"no call went well: {call}"
    if not record.fine:
        yield "no call went well at all"


def recoveries(calls: Sequence[Call], windows: Sequence[Window]) -> dict[str, list[float]]:
    """Return for how many seconds after the end of each window calls still failed.

    Returns:
        By the first word of what happened. A call that several windows excuse is the last one's.
    """
    last = dict.fromkeys(windows, 0.0)
    for call in filter(has_failed, calls):
        if excuses := [window for window in windows if is_excused(call, window)]:
            window = max(excuses, key=lambda each: each.began)
            last[window] = max(last[window], call.began - window.ended)
    found: dict[str, list[float]] = {}
    for window, seconds in last.items():
        found.setdefault(window.what.partition(" ")[0], []).append(seconds)
    return found


def _lost(call: Call) -> str:
    return f"lost, {call.end}: {call.way} {call.alias} at {call.began:.1f} s: {call.said}"


def _late(call: Call) -> str:
    took = f"{call.took_s:.1f} s instead of {call.limit_s:.1f} s at most"
    return f"late: {call.way} {call.alias} at {call.began:.1f} s took {took}"


# --- children ------------------------------------------------------------------------------


def failed(record: Record) -> list[Child]:
    """Return the children in which something went wrong."""
    return [child for child in record.children if child.fault]


# --- what is held --------------------------------------------------------------------------


def grown(before: Holdings, after: Holdings) -> Iterator[str]:
    """Tell what there is more of."""
    if _threads(after) > _threads(before):
        yield f"threads: {dict(before.threads)} became {dict(after.threads)}"
    if after.descriptors > before.descriptors:
        yield f"descriptors: {before.descriptors} became {after.descriptors}"
    for name, count in after.objects.items():
        if count > before.objects.get(name, 0):
            yield f"objects: {before.objects.get(name, 0)} of {name} became {count}"


def _threads(held: Holdings) -> int:
    """Count threads, without those that a pool of a bounded size may have."""
    in_pools = sum(min(held.threads.get(pool, 0), LARGEST_POOL) for pool in POOLS)
    return sum(held.threads.values()) - in_pools


def slope(samples: Sequence[Sample]) -> float:
    """Return the growth of memory in kilobytes a minute, by Theil and Sen.

    It is the median of the slopes between any two samples: single peaks do not count.

    Example:
        >>> slope([Sample(0, 100), Sample(60, 110), Sample(120, 900), Sample(180, 130)])
        10.0
    """
    pairs = itertools.combinations(samples, 2)
    slopes = [(b.memory_kb - a.memory_kb) * 60 / (b.second - a.second) for a, b in pairs]
    return statistics.median(slopes) if slopes else 0.0


def swollen(samples: Sequence[Sample], before: Holdings, after: Holdings) -> Iterator[str]:
    """Tell of memory that grows steadily: in both halves, and also from rest to rest.

    Allocators take in leaps, and calls in flight hold what is given back when they end.

    Args:
        samples: What there was under load.
        before: What was held at rest before them.
        after: What was held at rest after them.
    """
    if len(samples) < FEWEST_SAMPLES:
        return
    middle = len(samples) // 2
    rests = [
        Sample(samples[0].second, before.memory_kb),
        Sample(samples[-1].second, after.memory_kb),
    ]
    slopes = slope(samples[:middle]), slope(samples[middle:]), slope(rests)
    if min(slopes) > LARGEST_GROWTH_KB_PER_MINUTE:
        most = f"{LARGEST_GROWTH_KB_PER_MINUTE:.0f} at most"
        yield f"memory grows by {slope(samples):.0f} KB a minute instead of {most}"
