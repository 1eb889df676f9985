"""Pinging connections in the background, each at its own pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from zconfig import events
from zconfig._cli.report import Failure, Outcomes, Report, Row, failure_of, reported
from zconfig._connection import Connection
from zconfig._connection.managed import State
from zconfig._registry import Connections
from zconfig._registry.stats import AliasStats
from zconfig._spec import ConnectionSpec
from zconfig.errors import ClosedError, ConnectError, ExitCode, Problem, ZConfigError, worst

_LOOK_S = 0.2
_GRACE_S = 1.0


class Pulse:
    """Has aliases connected, and pings what is connected, until its `with` block ends.

    Each alias has a thread of its own, so that a server that is slow or dead keeps nobody waiting.
    What is lost is not pinged: it is looked after already, and says when it is back.

    Args:
        connections: The registry; it is closed at the end.
        aliases: At least one, all of them configured.
        interval_s: Seconds from one ping to the next.
    """

    def __init__(self, connections: Connections, aliases: Iterable[str], interval_s: float) -> None:
        self._connections = connections
        self._interval_s = interval_s
        self._is_over = threading.Event()
        self._asked_at: dict[str, float] = {}
        self._errors: dict[str, ZConfigError] = {}
        self._threads = {
            alias: threading.Thread(
                target=self._beat, args=(alias,), name="zconfig-ping", daemon=True
            )
            for alias in aliases
        }

    def __enter__(self) -> Self:
        self._connections.keep_trying(*self._threads)
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._connections.close()  # which ends the pings under way
        deadline = time.monotonic() + _GRACE_S
        for thread in self._threads.values():
            thread.join(max(deadline - time.monotonic(), 0))

    def waiting_s(self, alias: str) -> float | None:
        """Return for how many seconds a ping has been under way; `None` if there is none."""
        asked_at = self._asked_at.get(alias)
        return None if asked_at is None else time.monotonic() - asked_at

    def error(self, alias: str) -> ZConfigError | None:
        """Return why the last ping had no answer; `None` if it had one, or there was no ping."""
        return self._errors.get(alias)

    def _beat(self, alias: str) -> None:
        pause_s = 0.0
        while not self._is_over.wait(pause_s):
            begun = time.monotonic()
            connection = self._find(alias)
            if connection is None:
                self._errors.pop(alias, None)
                pause_s = _LOOK_S
                continue
            self._ping(connection)
            pause_s = max(self._interval_s - (time.monotonic() - begun), 0)

    def _find(self, alias: str) -> Connection | None:
        """Return the connection of an alias if it is well; nothing is dialed for it."""
        if not self._connections.has_connection(alias):
            return None
        connection = dict(self._connections.list_connections()).get(alias)
        return connection if connection and connection.state is State.READY else None

    def _ping(self, connection: Connection) -> None:
        alias = connection.alias
        self._asked_at[alias] = time.monotonic()
        try:
            connection.ping()
        except ClosedError:  # it is over
            return
        except ZConfigError as error:
            self._errors[alias] = error
        else:
            self._errors.pop(alias, None)
        finally:
            del self._asked_at[alias]


@dataclass(frozen=True, slots=True)
class AliasSnapshot:
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
class Snapshot:
    """How it goes with all of them.

    Args:
        at: When they were looked at.
        standings: One for each alias.
        problems: What is wrong with the configuration, warnings included.
        elapsed_ms: Since the first was dialed.
    """

    at: datetime
    standings: tuple[AliasSnapshot, ...]
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


class Sampler:
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

    def look(self, pulse: Pulse | None = None) -> Snapshot:
        """Return how it goes with them now.

        Args:
            pulse: What pings them, if they are pinged.
        """
        stats = self._connections.stats()
        standings = tuple(
            self._standing(row, stats[row.alias], pulse)
            if pulse and not row.failure
            else AliasSnapshot(row, AliasStats("idle", self._began, row.required))
            for row in self._configured.rows
        )
        elapsed_ms = (time.monotonic() - self._started) * 1e3
        return Snapshot(datetime.now(UTC), standings, self._configured.problems, elapsed_ms)

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

    def _standing(self, row: Row, stats: AliasStats, pulse: Pulse) -> AliasSnapshot:
        alias = row.alias
        is_first_attempt = stats.state == "retrying" and not stats.last_error
        row = replace(
            row,
            state="connecting" if is_first_attempt else stats.state,
            server_version=self._versions.get(alias),
            round_trip_ms=stats.round_trips.last_ms if stats.round_trips else None,
            failure=self._failure(stats, self._connections.spec(alias), pulse),
        )
        return AliasSnapshot(row, stats, pulse.waiting_s(alias))

    def _failure(self, stats: AliasStats, spec: ConnectionSpec, pulse: Pulse) -> Failure | None:
        if stats.state == "connected":
            error = pulse.error(spec.alias)
            return failure_of(error, spec) if error else None
        if not stats.last_error:
            return None
        if event := self._failed.get(spec.alias):
            failure = failure_of(_error(event, spec), spec)
            return replace(failure, message=stats.last_error, elapsed_ms=None)
        return Failure("missing_extra", stats.last_error, ExitCode.CONFIGURATION)


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
