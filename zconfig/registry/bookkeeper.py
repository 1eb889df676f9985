"""Counts what happens to each alias."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zconfig.registry.stats import AliasState, AliasStats, RoundTrips

_CONNECTION = "zconfig.connection."
_REMEMBERED = 1000


class _Tally:
    """What has happened to one alias: how many events by the last word of their name, and more."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.round_trips_ms: deque[float] = deque(maxlen=_REMEMBERED)


class Bookkeeper:
    """Counts what happens; a hook like any other, and the first."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[str, _Tally] = {}

    def after_fork(self) -> None:
        """Begin anew, in a child process."""
        self._begin()

    def __call__(self, event: Any) -> None:
        """Take one event."""
        # By their names, which do not change: the module of events may have no part in an import.
        if not event.name.startswith(_CONNECTION):
            return
        kind = event.name.removeprefix(_CONNECTION)
        with self._lock:
            tally = self._tally(event.alias)
            tally.counts[kind] += 1
            if kind in ("failed", "retrying"):
                tally.failures[event.cause] += 1

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        with self._lock:
            self._tally(alias).round_trips_ms.append(round_trip_ms)

    def stats(
        self, alias: str, state: AliasState, since: float, trouble: str, *, required: bool
    ) -> AliasStats:
        """Return how it goes with an alias.

        Args:
            alias: Its name.
            state: What it is doing.
            since: Seconds since the epoch, at which it came into this state.
            trouble: Why it is lost or retrying.
            required: Whether the application needs it.
        """
        from zconfig.registry.stats import AliasStats

        with self._lock:
            tally = self._tallies.get(alias) or _Tally()
            counts, failures = Counter(tally.counts), dict(tally.failures)
            round_trips_ms = tuple(tally.round_trips_ms)
        return AliasStats(
            state,
            datetime.fromtimestamp(since, UTC),
            required,
            trouble,
            connects=counts["connected"],
            failures=failures,
            losses=counts["lost"],
            reconnects=counts["recovered"],
            rotations=counts["rotated"],
            round_trips=_summary(round_trips_ms),
        )

    def _tally(self, alias: str) -> _Tally:
        return self._tallies.get(alias) or self._tallies.setdefault(alias, _Tally())


def _summary(round_trips_ms: Sequence[float]) -> RoundTrips | None:
    if not round_trips_ms:
        return None
    from zconfig.registry.stats import RoundTrips

    ranked = sorted(round_trips_ms)

    def percentile(hundredth: int) -> float:
        # The nearest rank: a value that was measured, also where there are few.
        return ranked[max(-(-len(ranked) * hundredth // 100), 1) - 1]

    return RoundTrips(
        len(ranked), round_trips_ms[-1], percentile(50), percentile(95), percentile(99)
    )
