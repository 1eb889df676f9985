"""Statistics of each alias: its state, and counts of its events."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Literal

from zconfig._per_process import PerProcess
from zconfig._value import Value, value

AliasState = Literal["idle", "connecting", "connected", "lost", "retrying"]


@value
class RoundTrips(Value):
    """The round trips of the latest 1,000 pings of an alias.

    Args:
        count: The number of round trips.
        last_ms: The latest round trip, in milliseconds.
        p50_ms: The median, in milliseconds.
        p95_ms: The 95th percentile, in milliseconds.
        p99_ms: The 99th percentile, in milliseconds.
    """

    count: int
    last_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@value
class AliasStats(Value):
    """The status and counts of one alias in this process.

    Args:
        state: `idle`: not connected, connects on its next use. `connecting`: a connect is in
            progress. `connected`: open. `lost`: open, but the server does not respond.
            `retrying`: connecting failed, and is retried in the background.
        since: The time of the latest state change.
        required: Whether the alias must connect for `autoconnect` to succeed.
        last_error: The error of an alias that is `lost` or `retrying`; it contains no secrets.
        connects: The number of successful connects.
        failures: The number of failed connection attempts, by cause.
        losses: The number of outages.
        reconnects: The number of recoveries after an outage.
        rotations: The number of credential rotations.
        round_trips: The round trips of pings; `None` if there were none.
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
    """The counts of one alias: events by the last part of their name, failures, round trips."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.round_trips_ms: deque[float] = deque(maxlen=_REMEMBERED)


class StatsCollector:
    """Counts events; it is the first hook of a registry."""

    _lock = PerProcess(threading.Lock)
    _tallies = PerProcess(dict[str, _Counters])

    def __call__(self, event: Any) -> None:
        """Count one event."""
        # By name: `import zconfig` must not import the module of events.
        if not event.name.startswith(_CONNECTION):
            return
        kind = event.name.removeprefix(_CONNECTION)
        with self._lock:
            counters = self._counters(event.alias)
            counters.counts[kind] += 1
            if kind in ("failed", "retrying"):
                counters.failures[event.cause] += 1

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Record the round trip of a ping, in milliseconds."""
        with self._lock:
            self._counters(alias).round_trips_ms.append(round_trip_ms)

    def stats(
        self, alias: str, state: AliasState, since: float, last_error: str, *, required: bool
    ) -> AliasStats:
        """Return the statistics of an alias.

        Args:
            alias: The alias.
            state: Its state.
            since: The time of its latest state change, in seconds since the epoch.
            last_error: The error, if it is lost or retrying.
            required: Whether the alias is required.
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
        # The nearest rank: always a measured value, even if there are few.
        return ranked[max(-(-len(ranked) * hundredth // 100), 1) - 1]

    return RoundTrips(
        len(ranked), round_trips_ms[-1], percentile(50), percentile(95), percentile(99)
    )
