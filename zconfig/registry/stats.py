"""How it goes with each alias: what it is doing now, and what has happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

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
