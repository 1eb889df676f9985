"""How it goes with aliases at one moment, as values: rendering comes later."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from zconfig import events
from zconfig.cli.pulse import Pulse
from zconfig.cli.report import Failure, Outcomes, Report, Row, failure_of, reported
from zconfig.errors import ConnectError, ExitCode, Problem, worst
from zconfig.registry import Connections
from zconfig.registry.stats import AliasStats
from zconfig.spec import ConnectionSpec


@dataclass(frozen=True, slots=True)
class Standing:
    """How it goes with one alias.

    Args:
        row: What it is; and why, if it is not well.
        stats: What has happened to it.
        waiting_s: For how many seconds a ping has been under way; `None` if there is none.
    """

    row: Row
    stats: AliasStats
    waiting_s: float | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it has answered, or failed to, at least once."""
        return self.row.failure is not None or self.row.round_trip_ms is not None


@dataclass(frozen=True, slots=True)
class Look:
    """How it goes with all of them.

    Args:
        at: When they were looked at.
        standings: One for each alias.
        problems: What is wrong with the configuration, warnings included.
        elapsed_ms: Since the first was dialed.
    """

    at: datetime
    standings: tuple[Standing, ...]
    problems: tuple[Problem, ...]
    elapsed_ms: float

    @property
    def report(self) -> Report:
        """The same as other commands report it."""
        rows = tuple(each.row for each in self.standings)
        return Report(rows, self.problems, self.elapsed_ms)

    @property
    def exit_code(self) -> ExitCode:
        """What speaks for all that is wrong; what is not connected yet is not reached."""
        required = [each.row for each in self.standings if each.row.required]
        is_pending = any(not row.failure and row.state != "connected" for row in required)
        return worst([self.report.exit_code, *([ExitCode.UNREACHABLE] if is_pending else [])])

    @property
    def is_settled(self) -> bool:
        """Whether each alias has answered, or failed to, at least once."""
        return all(each.is_settled for each in self.standings)


class Observer:
    """Looks at aliases; it hears why they fail, and dials nothing.

    Args:
        connections: The registry.
        aliases: Which ones, all of them required then; by default all.
    """

    def __init__(self, connections: Connections, aliases: Iterable[str]) -> None:
        self._connections = connections
        self._configured = reported(connections, aliases, self._wrong)
        self._began, self._started = datetime.now(UTC), time.monotonic()
        self._versions: dict[str, str] = {}
        self._failed: dict[str, _Failed] = {}
        connections.subscribe(self._hear, events.ConnectionEvent)

    @property
    def aliases(self) -> Sequence[str]:
        """Those that can be connected."""
        return [row.alias for row in self._configured.rows if not row.failure]

    def look(self, pulse: Pulse | None = None) -> Look:
        """Return how it goes with them now.

        Args:
            pulse: What pings them, if they are pinged.
        """
        stats = self._connections.stats()
        standings = tuple(
            self._standing(row, stats[row.alias], pulse)
            if pulse and not row.failure
            else Standing(row, AliasStats("idle", self._began, row.required))
            for row in self._configured.rows
        )
        elapsed_ms = (time.monotonic() - self._started) * 1e3
        return Look(datetime.now(UTC), standings, self._configured.problems, elapsed_ms)

    def _wrong(self, aliases: Sequence[str]) -> Outcomes:
        """Return why some aliases cannot be dialed at all."""
        wrong = self._connections.attempt(*(a for a in aliases if a not in self._connections))
        return {**dict.fromkeys(aliases), **wrong}

    def _hear(self, event: events.ConnectionEvent) -> None:
        match event:
            case events.ConnectionConnected() | events.ConnectionRecovered():
                self._versions[event.alias] = event.server_version
            case events.ConnectionLost() | events.ConnectionRetrying():
                self._failed[event.alias] = event

    def _standing(self, row: Row, stats: AliasStats, pulse: Pulse) -> Standing:
        alias = row.alias
        is_first_attempt = stats.state == "retrying" and not stats.trouble
        row = replace(
            row,
            state="connecting" if is_first_attempt else stats.state,
            server_version=self._versions.get(alias),
            round_trip_ms=stats.round_trips.last_ms if stats.round_trips else None,
            failure=self._failure(stats, self._connections.spec(alias), pulse),
        )
        return Standing(row, stats, pulse.waiting_s(alias))

    def _failure(self, stats: AliasStats, spec: ConnectionSpec, pulse: Pulse) -> Failure | None:
        if stats.state == "connected":
            error = pulse.error(spec.alias)
            return failure_of(error, spec) if error else None
        if not stats.trouble:
            return None
        if event := self._failed.get(spec.alias):
            failure = failure_of(_error(event, spec), spec)
            return replace(failure, message=stats.trouble, elapsed_ms=None)
        return Failure("missing_extra", stats.trouble, ExitCode.CONFIGURATION)


_Failed = events.ConnectionLost | events.ConnectionRetrying


def _error(event: _Failed, spec: ConnectionSpec) -> ConnectError:
    """Return an error of the kind that an event tells of."""
    kind = next((each for each in _kinds() if each.cause == event.cause), ConnectError)
    origin = str(spec.origin(*kind.at_fault))
    return kind(spec.alias, endpoint=event.endpoint, origin=origin, remedy=event.remedy)


def _kinds(base: type[ConnectError] = ConnectError) -> Iterator[type[ConnectError]]:
    for each in base.__subclasses__():
        yield each
        yield from _kinds(each)
