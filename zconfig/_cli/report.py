"""What a command found out, as values: rendering comes later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from zconfig._channel.interruptible import run_concurrently
from zconfig._connection import Connection
from zconfig._origin import Origin, printable
from zconfig._registry import Connections
from zconfig._registry.stats import AliasStats
from zconfig._settings.arguments import wanted_alias
from zconfig._settings.configuration import Configuration, nothing_configured
from zconfig._spec import ConnectionSpec
from zconfig.errors import (
    ClosedError,
    ConfigurationError,
    ConnectError,
    ExitCode,
    Problem,
    Severity,
    ZConfigError,
    worst,
)

Outcome = Connection | ZConfigError | None
"""What became of an alias; `None` if it was not dialed."""
Outcomes = Mapping[str, Outcome]


# Of the other sources the path is no file's.
_FILES = frozenset({"dotenv", "secrets directory", "service binding"})


def place(origin: Origin | None) -> tuple[str | None, int | None]:
    """Return the file, and the line in it, that a value stood in; none if it stood elsewhere.

    Example:
        >>> place(Origin("dotenv", "ZILLIZ_URI", ".env", 3))
        ('.env', 3)
        >>> place(Origin("AWS Secrets Manager", "ZILLIZ_URI", "prod/zilliz"))
        (None, None)
    """
    if origin is None or origin.source not in _FILES:
        return None, None
    return origin.path and printable(origin.path), origin.line


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an alias is not connected.

    Args:
        cause: Stable identifier: of a cause in errors.md, or of a problem in problems.md.
        message: The whole message, without secrets.
        exit_code: The exit code it calls for.
        stage: How far the connect came; `None` for a wrong configuration.
        permanent: Whether trying again cannot help.
        remedy: One thing to do.
        problem: What is wrong, in a few words.
        detail: What was seen.
        origin: Where the value at fault was set.
        hint: An observation about the surroundings that makes the cause likelier.
        elapsed_ms: Milliseconds from the start of the connect to this verdict.
        file: The file in which the value at fault was set; `None` if it was set in none.
        line: The line in that file, from 1; `None` where the file is the value.
    """

    cause: str
    message: str
    exit_code: ExitCode
    stage: str | None = None
    permanent: bool = True
    remedy: str = ""
    problem: str = ""
    detail: str = ""
    origin: str = ""
    hint: str = ""
    elapsed_ms: float | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One alias.

    Args:
        alias: Its name.
        endpoint: Where it leads, without credentials; `None` if that is not known.
        db_name: The database.
        required: Whether its failure counts.
        origin: Where its URI was set.
        state: `configured`: not dialed; `given up`: not waited for, since another failed for good.
        server_version: What the server calls itself.
        round_trip_ms: Milliseconds of one ping.
        failure: Why it is not connected.
        stats: What has happened to it since the command began; only with `--watch`.
    """

    alias: str
    endpoint: str | None = None
    db_name: str | None = None
    required: bool = True
    origin: str | None = None
    state: Literal["configured", "connected", "failed", "given up"] = "configured"
    server_version: str | None = None
    round_trip_ms: float | None = None
    failure: Failure | None = None
    stats: AliasStats | None = None


@dataclass(frozen=True, slots=True)
class ReportedProblem:
    """What is wrong with the configuration, as JSON tells it.

    Args:
        code: Stable identifier; see problems.md.
        message: What is wrong.
        remedy: One thing to do.
        alias: The alias concerned, if it is one in particular.
        field: The field concerned, if it is one in particular.
        origin: Where the value stood.
        severity: `error` keeps the alias from connecting, `warning` does not.
        file: The file that it stood in, if it was in one.
        line: The line in that file.
    """

    code: str
    message: str
    remedy: str
    alias: str | None
    field: str | None
    origin: str | None
    severity: Severity
    file: str | None
    line: int | None


def _reported(problems: tuple[Problem, ...]) -> tuple[ReportedProblem, ...]:
    return tuple(
        ReportedProblem(
            p.code,
            p.message,
            p.remedy,
            p.alias,
            p.field,
            str(p.origin) if p.origin else None,
            p.severity,
            *place(p.origin),
        )
        for p in problems
    )


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found out.

    Attributes:
        ok: Whether every required alias is fine.
        exit_code: The exit code that it calls for.

    Args:
        aliases: The aliases, in the order they were asked for or declared.
        problems: What is wrong with the configuration, warnings included.
        elapsed_ms: Milliseconds that it took.
        at: When it was made, in UTC.
    """

    aliases: tuple[Row, ...]
    problems: tuple[Problem, ...] = field(metadata={"json": _reported})
    elapsed_ms: float
    at: datetime = field(default_factory=partial(datetime.now, UTC))

    @property
    def ok(self) -> bool:
        """Whether every required alias is fine."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> ExitCode:
        """What speaks for all that is wrong."""
        codes = [row.failure.exit_code for row in self.aliases if row.failure and row.required]
        known = {row.alias for row in self.aliases}
        if any(p.severity == "error" and p.alias not in known for p in self.problems):
            codes.append(ExitCode.CONFIGURATION)
        return worst(codes)

    def unquoted(self) -> Iterator[Problem]:
        """Yield the problems, but for the warnings that the hint of a failure quotes."""
        hints = [row.failure.hint for row in self.aliases if row.failure]
        for each in self.problems:
            text = str(replace(each, alias=None))
            if each.severity == "error" or not any(text in hint for hint in hints):
                yield each

    def summary(self) -> str:
        """Return what is wrong, a line each."""
        failures = [row.failure.message for row in self.aliases if row.failure]
        general = [str(p) for p in self.problems if p.severity == "error" and not p.alias]
        return "\n".join([*general, *failures])


def checked(
    connections: Connections, aliases: Iterable[str], *, wait: float | None, timeout: float | None
) -> Report:
    """Connect aliases, by default all, and report.

    Args:
        connections: The registry.
        aliases: Which ones; all of them count as required then.
        wait: Seconds for which transient failures are retried.
        timeout: Seconds for each connect.
    """

    def attempt(names: Sequence[str]) -> Outcomes:
        return connections.attempt(*names, wait=wait, timeout=timeout)

    return reported(connections, aliases, attempt, timeout=timeout)


def reported(
    connections: Connections,
    aliases: Iterable[str],
    attempt: Callable[[Sequence[str]], Outcomes],
    *,
    timeout: float | None = None,
) -> Report:
    """Report what becomes of aliases, by default of all.

    Args:
        connections: The registry.
        aliases: Which ones; all of them count as required then.
        attempt: Connects them.
        timeout: Seconds for the ping of each; its own by default.
    """
    started = time.perf_counter()
    named = tuple(dict.fromkeys(wanted_alias(alias) for alias in aliases))
    configuration = connections.configuration
    wrong = dict.fromkeys(p.alias for p in configuration.errors if p.alias)
    outcomes = attempt(named or tuple(dict.fromkeys((*connections, *wrong))))

    def row_of(alias: str) -> Row:
        return _row(connections, timeout, alias, outcomes[alias], forced=bool(named))

    rows = tuple(run_concurrently(row_of, outcomes, connections.disconnect).values())
    problems = configuration.problems
    if named:
        problems = tuple(each for alias in named for each in _problems_of(configuration, alias))
    elif not rows:
        problems = (*problems, nothing_configured(configuration))
    return Report(rows, problems, (time.perf_counter() - started) * 1e3)


def _problems_of(configuration: Configuration, alias: str) -> Iterator[Problem]:
    """Yield the problems of an alias that was named: an error is what keeps it from connecting."""
    reasons = configuration.why_not(alias)
    yield from reasons
    told = {(each.code, each.message) for each in reasons}
    for problem in configuration.problems:
        if problem.alias == alias and (problem.code, problem.message) not in told:
            yield problem


def listed(connections: Connections) -> Report:
    """Report what is configured, without connecting anything."""
    configuration = connections.configuration
    rows = [_configured(connections.spec(alias)) for alias in connections]
    for alias in dict.fromkeys(p.alias for p in configuration.errors if p.alias):
        error = ConfigurationError(configuration.errors_of(alias))
        required = alias not in configuration.optional
        rows.append(Row(alias, required=required, state="failed", failure=failure_of(error)))
    nothing = () if rows else (nothing_configured(configuration),)
    problems = (*configuration.problems, *nothing)
    return Report(tuple(rows), problems, configuration.elapsed_ms)


def _row(
    connections: Connections, timeout: float | None, alias: str, outcome: Outcome, *, forced: bool
) -> Row:
    """Report what became of one alias; a server that stops answering at once has failed, too."""
    if isinstance(outcome, Connection):
        try:
            return _connected(outcome, timeout, required=forced or outcome.spec.required)
        except ZConfigError as error:
            outcome = error
    required = forced or alias not in connections.configuration.optional
    if isinstance(outcome, ZConfigError) and alias not in connections:
        return Row(alias, required=required, state="failed", failure=failure_of(outcome))
    spec = connections.spec(alias)
    row = replace(_configured(spec), required=required)
    if outcome is None:
        return row
    if isinstance(outcome, ClosedError):
        return replace(row, state="given up")
    return replace(row, state="failed", failure=failure_of(outcome, spec))


def _connected(connection: Connection, timeout: float | None, *, required: bool) -> Row:
    return replace(
        _configured(connection.spec),
        required=required,
        state="connected",
        server_version=connection.server.version,
        round_trip_ms=connection.ping(timeout),
    )


def _configured(spec: ConnectionSpec) -> Row:
    return Row(spec.alias, str(spec.endpoint), spec.db_name, spec.required, str(spec.origin()))


def failure_of(error: ZConfigError, spec: ConnectionSpec | None = None) -> Failure:
    """Return an error as the reason why an alias is not connected.

    Args:
        error: The error.
        spec: What the alias is configured with, if that is known.
    """
    if isinstance(error, ConnectError):
        origins = spec.origins.values() if spec else ()
        origin = next((each for each in origins if str(each) == error.origin), None)
        return Failure(
            error.cause,
            str(error),
            error.exit_code,
            str(error.stage),
            error.permanent,
            error.remedy,
            error.problem,
            error.detail,
            error.origin,
            error.hint,
            error.elapsed_ms,
            *place(origin),
        )
    if not isinstance(error, ConfigurationError):
        return Failure("missing_extra", str(error), error.exit_code)
    first = error.problems[0]
    file, line = place(first.origin)
    return Failure(
        first.code,
        str(error),
        error.exit_code,
        remedy=first.remedy,
        problem=first.message,
        origin=str(first.origin or ""),
        file=file,
        line=line,
    )
