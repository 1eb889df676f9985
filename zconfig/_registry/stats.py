"""How it goes with each alias: what it is doing now, and what has happened to it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from zconfig._per_process import PerProcess

AliasState = Literal["idle", "connecting", "connected", "lost", "retrying"]


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """How long the latest pings of an alias took, in milliseconds; at most 1,000 are remembered.

    Args:
        count: How many there are.
        last_ms: The latest.
        p50_ms: What half of them did not exceed.
        p95_ms: What 95 in 100 did not exceed.
        p99_ms: What 99 in 100 did not exceed.
    """

    count: int
    last_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class AliasStats:
    """How it goes with one alias in this process.

    Args:
        state: `idle` is not connected, which the next use changes; `retrying` could not be
            connected, and is tried in the background; `lost` is connected, and its server does
            not answer.
        since: When it came into this state.
        required: Whether the application needs it.
        last_error: Why it is lost or retrying; nothing secret is in it.
        connects: How often it was connected.
        failures: By cause, how often an attempt to connect failed.
        losses: How often its server was lost.
        reconnects: How often a server that was lost came back.
        rotations: How often it applied new credentials.
        round_trips: What pings took; `None` if there were none.
    """

    state: AliasState
    since: datetime
    required: bool
    last_error: str = ""
    connects: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    losses: int = 0
    reconnects: int = 0
    rotations: int = 0
    round_trips: RoundTrips | None = None


_CONNECTION = "zconfig.connection."
_REMEMBERED = 1000


class _Counters:
    """What has happened to one alias: how many events by the last word of their name, and more."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.round_trips_ms: deque[float] = deque(maxlen=_REMEMBERED)


class StatsCollector:
    """Counts what happens; a hook like any other, and the first."""

    _lock = PerProcess(threading.Lock)
    _tallies = PerProcess(dict[str, _Counters])

    def __call__(self, event: Any) -> None:
        """Take one event."""
        # By their names, which do not change: the module of events may have no part in an import.
        if not event.name.startswith(_CONNECTION):
            return
        kind = event.name.removeprefix(_CONNECTION)
        with self._lock:
            counters = self._counters(event.alias)
            counters.counts[kind] += 1
            if kind in ("failed", "retrying"):
                counters.failures[event.cause] += 1

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        with self._lock:
            self._counters(alias).round_trips_ms.append(round_trip_ms)

    def stats(
        self, alias: str, state: AliasState, since: float, last_error: str, *, required: bool
    ) -> AliasStats:
        """Return how it goes with an alias.

        Args:
            alias: Its name.
            state: What it is doing.
            since: Seconds since the epoch, at which it came into this state.
            last_error: Why it is lost or retrying.
            required: Whether the application needs it.
        """
        with self._lock:
            counters = self._tallies.get(alias) or _Counters()
            counts, failures = Counter(counters.counts), dict(counters.failures)
            round_trips_ms = tuple(counters.round_trips_ms)
        return AliasStats(
            state,
            datetime.fromtimestamp(since, UTC),
            required,
            last_error,
            connects=counts["connected"],
            failures=failures,
            losses=counts["lost"],
            reconnects=counts["recovered"],
            rotations=counts["rotated"],
            round_trips=_summary(round_trips_ms),
        )

    def _counters(self, alias: str) -> _Counters:
        return self._tallies.get(alias) or self._tallies.setdefault(alias, _Counters())


def _summary(round_trips_ms: Sequence[float]) -> RoundTrips | None:
    if not round_trips_ms:
        return None

    ranked = sorted(round_trips_ms)

    def percentile(hundredth: int) -> float:
        # The nearest rank: a value that was measured, also where there are few.
        return ranked[max(-(-len(ranked) * hundredth // 100), 1) - 1]

    return RoundTrips(
        len(ranked), round_trips_ms[-1], percentile(50), percentile(95), percentile(99)
    )
