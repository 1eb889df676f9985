"""How it goes with each alias: what it is doing now, and what has happened to it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from zconfig import events

AliasState = Literal["idle", "connecting", "connected", "lost", "retrying"]

_REMEMBERED = 1000


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
            not answer. Of several event loops the worst counts.
        since: When it came into this state.
        required: Whether the application needs it.
        trouble: Why it is lost or retrying; nothing secret is in it.
        connects: How often it was connected.
        failures: By cause, how often an attempt to connect failed.
        losses: How often its server was lost.
        reconnects: How often a server that was lost came back.
        rotations: How often it took up new credentials.
        round_trips: What pings took; `None` if there were none.
    """

    state: AliasState
    since: datetime
    required: bool
    trouble: str = ""
    connects: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    losses: int = 0
    reconnects: int = 0
    rotations: int = 0
    round_trips: RoundTrips | None = None


@dataclass(slots=True)
class _Tally:
    """What has happened to one alias."""

    counts: Counter[type[events.Event]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    round_trips_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


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

    def __call__(self, event: events.Event) -> None:
        """Take one event."""
        if not isinstance(event, events.ConnectionEvent):
            return
        with self._lock:
            tally = self._tally(event.alias)
            tally.counts[type(event)] += 1
            if isinstance(event, events.ConnectionFailed | events.ConnectionRetrying):
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
        with self._lock:
            tally = self._tallies.get(alias) or _Tally()
            counts, failures = Counter(tally.counts), dict(tally.failures)
            round_trips_ms = tuple(tally.round_trips_ms)
        return AliasStats(
            state,
            datetime.fromtimestamp(since, UTC),
            required,
            trouble,
            connects=counts[events.ConnectionConnected],
            failures=MappingProxyType(failures),
            losses=counts[events.ConnectionLost],
            reconnects=counts[events.ConnectionRecovered],
            rotations=counts[events.ConnectionRotated],
            round_trips=_summary(round_trips_ms),
        )

    def _tally(self, alias: str) -> _Tally:
        return self._tallies.setdefault(alias, _Tally())


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
