"""The record of a soak as text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.soak.values import Call, Record
from benchmarks.soak.verdict import failed, has_failed, late, lost, recoveries, slope

_ROW = "{:<30}{}"


def report(record: Record) -> str:
    """Return a table of what happened."""
    return "\n".join(_ROW.format(f"{name}:", value).rstrip() for name, value in rows(record))


def rows(record: Record) -> Iterator[tuple[str, str]]:
    """Yield what happened, by name; a name that begins with spaces is a part of the one above."""
    lost_calls = lost(record.calls, record.windows)
    in_windows = len(list(filter(has_failed, record.calls))) - len(lost_calls)
    yield "calls that went well", f"{sum(record.fine.values())}"
    for way, count in sorted(_by_way(record).items()):
        yield f"    {way}", f"{count}"
    yield "calls failed in outages", f"{in_windows}"
    yield "calls lost", f"{len(lost_calls)}"
    yield "calls late", f"{len(late(record.calls))}"
    yield "most beyond a limit", f"{max(0.0, _most_beyond(record.calls)):.1f} s"
    yield (
        "troubles",
        ", ".join(f"{count} {kind}" for kind, count in sorted(record.troubles.items())),
    )
    yield "children", f"{len(record.children)}, {len(failed(record))} failed"
    yield "    without asyncio", f"{sum(child.without_asyncio for child in record.children)}"
    for kind, seconds in sorted(recoveries(record.calls, record.windows).items()):
        median, most = statistics.median(seconds), max(seconds)
        yield f"calls fail after a {kind}", f"{median:.2f} s, {most:.2f} s at most"
    threads = [sum(each.threads.values()) for each in (record.before, record.after)]
    yield "threads", f"{threads[0]} before, {threads[1]} after"
    yield "descriptors", f"{record.before.descriptors} before, {record.after.descriptors} after"
    objects = [sum(each.objects.values()) for each in (record.before, record.after)]
    yield "objects", f"{objects[0]} before, {objects[1]} after"
    memory = f"{record.before.memory_kb} KB before, {record.after.memory_kb} KB after"
    yield "memory", f"{memory}, {slope(record.samples):+.0f} KB a minute"


def _by_way(record: Record) -> Counter[str]:
    ways: Counter[str] = Counter()
    for name, count in record.fine.items():
        ways[name.rpartition(" ")[0]] += count
    return ways


def _most_beyond(calls: Sequence[Call]) -> float:
    return max((call.took_s - call.limit_s for call in calls), default=0.0)
