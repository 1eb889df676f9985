"""What is recorded of a soak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class End(StrEnum):
    """How a call ended."""

    FINE = "fine"
    FAILED = "failed"
    """As calls fail that find no server."""
    CLOSED = "closed"
    """Its connection was closed, or the call cancelled."""
    ODD = "odd"
    """Otherwise: an error that nothing here accounts for."""
    NEVER = "never"
    """It had not ended when everything was over."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the application's.

    Args:
        way: How it was made, e.g. `ping`.
        alias: On which connection.
        began: The monotonic instant.
        took_s: Seconds until it ended, or until it was given up.
        limit_s: Seconds that it may take, by what was asked for.
        end: How it ended.
        said: The error.
    """

    way: str
    alias: str
    began: float
    took_s: float
    limit_s: float
    end: End
    said: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which calls may fail.

    Args:
        what: The trouble, e.g. `kill a`.
        aliases: Whose calls.
        began: The monotonic instant of its begin.
        ended: That at which there was no more reason to fail.
        admits: How calls may end.
        grace_s: Seconds after `ended` in which they still may.
    """

    what: str
    aliases: frozenset[str]
    began: float
    ended: float
    admits: End
    grace_s: float


@dataclass(frozen=True, slots=True)
class Child:
    """A forked child of the application's.

    Args:
        second: When it was forked, in seconds of the soak.
        fault: What went wrong in it; empty if nothing did.
        without_asyncio: Whether it was told that it can have no connections on event loops, which
            is what becomes of a fork amid a call that cannot be waited for.
    """

    second: float
    fault: str = ""
    without_asyncio: bool = False


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the application holds while it does nothing.

    Args:
        threads: By name, those of the system, gRPC's among them.
        descriptors: Open files and sockets.
        objects: By type, those that belong to a connection.
        memory_kb: Kilobytes that are this process' alone.
    """

    threads: Mapping[str, int]
    descriptors: int
    objects: Mapping[str, int]
    memory_kb: int


@dataclass(frozen=True, slots=True)
class Sample:
    """How much memory the application had to itself at a second of the soak."""

    second: float
    memory_kb: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of a soak.

    Args:
        minutes: How long it went on.
        seed: What all choices followed from.
        rows: What happened, by name.
        faults: What went wrong, a line each.
    """

    minutes: float
    seed: int
    rows: tuple[tuple[str, str], ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of a soak when it is over.

    Args:
        fine: How many calls went well, by way and alias, as `ping a`.
        calls: Those that did not, or took longer than their limit.
        windows: When calls may fail.
        children: All forked children.
        before: What was held after the warm-up.
        after: What was held at the end.
        samples: Memory from the warm-up on.
        troubles: How many troubles there were, by kind.
        faults: Whatever else went wrong.
    """

    fine: Mapping[str, int]
    calls: Sequence[Call]
    windows: Sequence[Window]
    children: Sequence[Child]
    before: Holdings
    after: Holdings
    samples: Sequence[Sample]
    troubles: Mapping[str, int]
    faults: Sequence[str] = field(default=())
