"""What a command found out, as values: rendering comes later."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from inspect import signature
from typing import Any, Literal, TypeVar

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

T = TypeVar("T")

Outcome = Connection | ZConfigError | None
"""What became of an alias; `None` if it was not dialed."""
Outcomes = Mapping[str, Outcome]


# Of the other sources the path is no file's.
_FILES = frozenset({"dotenv", "secrets directory", "service binding"})


def place(origin: Origin | None) -> dict[str, Any]:
    """Return the file and the line that a value stood in; none if it stood elsewhere.

    Example:
        >>> place(Origin("dotenv", "ZILLIZ_URI", ".env", 3))
        {'file': '.env', 'line': 3}
        >>> place(Origin("AWS Secrets Manager", "ZILLIZ_URI", "prod/zilliz"))
        {'file': None, 'line': None}
    """
    if origin is None or origin.source not in _FILES:
        return {"file": None, "line": None}
    return {"file": origin.path and printable(origin.path), "line": origin.line}


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


def copy_fields(kind: Callable[..., T], source: object, **values: Any) -> T:
    """Return a dataclass' value: values, and the attributes of an object that its fields name."""
    names = signature(kind).parameters.keys() - values.keys()
    return kind(**values, **{name: getattr(source, name) for name in names})


def _reported_problems(problems: tuple[Problem, ...]) -> tuple[ReportedProblem, ...]:
    return tuple(
        copy_fields(ReportedProblem, p, origin=p.origin and str(p.origin), **place(p.origin))
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
    problems: tuple[Problem, ...] = field(metadata={"json": _reported_problems})
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


def check_aliases(
    connections: Connections, aliases: Iterable[str], *, wait: float | None, timeout: float | None
) -> Report:
    """Connect aliases, by default all, and report.

    Args:
        connections: The registry.
        aliases: Which ones; all of them count as required then.
        wait: Seconds for which transient failures are retried.
        timeout: Seconds for each connect.
    """

    def attempt(names: Sequence[str], _: Collection[str]) -> Outcomes:
        return connections.attempt(*names, wait=wait, timeout=timeout)

    return report_on(connections, aliases, attempt, timeout=timeout)


def list_aliases(connections: Connections) -> Report:
    """Report what is configured, without connecting anything."""
    configuration = connections.configuration

    def look_up(names: Sequence[str], _: Collection[str]) -> Outcomes:
        wrong = [name for name in names if name not in connections]
        errors = {name: ConfigurationError(configuration.errors_of(name)) for name in wrong}
        return {**dict.fromkeys(names), **errors}

    report = report_on(connections, (), look_up)
    return replace(report, elapsed_ms=configuration.elapsed_ms)


def report_on(
    connections: Connections,
    aliases: Iterable[str],
    attempt: Callable[[Sequence[str], Collection[str]], Outcomes],
    *,
    timeout: float | None = None,
) -> Report:
    """Report what becomes of aliases, by default of all.

    Args:
        connections: The registry.
        aliases: Which ones; all of them count as required then.
        attempt: Connects aliases, given which of them are optional.
        timeout: Seconds for the ping of each; its own by default.
    """
    started = time.perf_counter()
    named = tuple(dict.fromkeys(wanted_alias(alias) for alias in aliases))
    configuration = connections.configuration
    wrong = [p.alias for p in configuration.errors if p.alias]
    optional = frozenset() if named else configuration.optional
    outcomes = attempt(named or tuple(dict.fromkeys((*connections, *wrong))), optional)

    def row_of(alias: str) -> Row:
        return _row(connections, alias, outcomes[alias], timeout, required=alias not in optional)

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


def _row(
    connections: Connections,
    alias: str,
    outcome: Outcome,
    timeout: float | None,
    *,
    required: bool,
) -> Row:
    """Report what became of one alias; a server that stops answering at once has failed, too."""
    row, spec = Row(alias, required=required), None
    if alias in connections:
        spec = connections.spec(alias)
        row = Row(alias, str(spec.endpoint), spec.db_name, required, str(spec.origin()))
    if isinstance(outcome, Connection):
        try:
            round_trip_ms = outcome.ping(timeout)
        except ZConfigError as error:
            outcome = error
        else:
            version = outcome.server.version
            return replace(
                row, state="connected", server_version=version, round_trip_ms=round_trip_ms
            )
    if outcome is None:
        return row
    if isinstance(outcome, ClosedError):
        return replace(row, state="given up")
    return replace(row, state="failed", failure=failure_of(outcome, spec))


def failure_of(error: ZConfigError, spec: ConnectionSpec | None) -> Failure:
    """Return an error as the reason why an alias is not connected.

    Args:
        error: The error.
        spec: What the alias is configured with, if that is known.
    """
    if isinstance(error, ConnectError):
        origins = spec.origins.values() if spec else ()
        origin = next((each for each in origins if str(each) == error.origin), None)
        stage = str(error.stage)
        return copy_fields(Failure, error, message=str(error), stage=stage, **place(origin))
    if not isinstance(error, ConfigurationError):
        return Failure("missing_extra", str(error), error.exit_code)
    first = error.problems[0]
    return Failure(
        first.code,
        str(error),
        error.exit_code,
        remedy=first.remedy,
        problem=first.message,
        origin=str(first.origin or ""),
        **place(first.origin),
    )
