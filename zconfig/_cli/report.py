"""The results of the commands, as values for `render`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
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
from zconfig._value import Value, value
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
"""The connection or the error of an alias; `None` if it was not dialed."""
Outcomes = Mapping[str, Outcome]


# The path of any other source is not a file.
_FILES = frozenset({"dotenv", "secrets directory", "service binding"})


def place(origin: Origin | None) -> dict[str, Any]:
    """Return the file and the line in which a value is set; `None` if it is not set in a file.

    Examples:
        >>> place(Origin("dotenv", "ZILLIZ_URI", ".env", 3))
        {'file': '.env', 'line': 3}
        >>> place(Origin("AWS Secrets Manager", "ZILLIZ_URI", "prod/zilliz"))
        {'file': None, 'line': None}
    """
    if origin is None or origin.source not in _FILES:
        return {"file": None, "line": None}
    return {"file": origin.path and printable(origin.path), "line": origin.line}


@value
class Failure(Value):
    """The reason why an alias is not connected.

    Args:
        cause: Stable identifier: of a cause in errors.md, or of a problem in problems.md.
        message: The whole message, without secrets.
        exit_code: The exit code for this failure.
        stage: The stage that failed; `None` for invalid configuration.
        permanent: Whether retries cannot succeed.
        remedy: One action that fixes it.
        problem: The problem in a few words.
        detail: The error as it was observed.
        origin: The place where the value at fault is set.
        hint: An observation about the environment that supports the cause.
        elapsed_ms: Milliseconds from the start of the connect to the failure.
        file: The file in which the value at fault is set; `None` if it is not set in a file.
        line: The line in that file, from 1; `None` if the file is the value.
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


@value
class Row(Value):
    """The result for one alias.

    Args:
        alias: The alias.
        endpoint: The endpoint, without credentials; `None` if it is not known.
        db_name: The database.
        required: Whether a failure of the alias is a failure of the command.
        origin: The place where the URI is set.
        state: `configured`: not dialed; `given up`: cancelled after a permanent failure of another
            alias.
        server_version: The release that the server reports.
        round_trip_ms: Milliseconds of one ping.
        failure: The reason why it is not connected.
        stats: The statistics since the command began; only with `--watch`.
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


@value
class ReportedProblem(Value):
    """A problem of the configuration, as it is written to JSON.

    Args:
        code: Stable identifier; see problems.md.
        message: The fact, without secrets.
        remedy: One action that fixes it.
        alias: The alias concerned; `None` for no single alias.
        field: The field concerned; `None` for no single field.
        origin: The place where the wrong value is set.
        severity: `error` prevents the alias from connecting, `warning` does not.
        file: The file in which the value is set; `None` if it is not set in a file.
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
    """Return a dataclass made of given values, and of an object's attributes of the same names."""
    names = signature(kind).parameters.keys() - values.keys()
    return kind(**values, **{name: getattr(source, name) for name in names})


def _reported_problems(problems: tuple[Problem, ...]) -> tuple[ReportedProblem, ...]:
    return tuple(
        copy_fields(ReportedProblem, p, origin=p.origin and str(p.origin), **place(p.origin))
        for p in problems
    )


@value
class Report(Value):
    """The result of a command.

    Attributes:
        ok: Whether the exit code is 0.
        exit_code: The exit code of the command.

    Args:
        aliases: The aliases, in the order of the arguments or of their declaration.
        problems: The problems of the configuration, warnings included.
        elapsed_ms: Duration in milliseconds.
        at: The time of the report, in UTC.
    """

    aliases: tuple[Row, ...]
    problems: tuple[Problem, ...] = field(metadata={"json": _reported_problems})
    elapsed_ms: float
    at: datetime = field(default_factory=partial(datetime.now, UTC))

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that takes precedence among all failures."""
        codes = [row.failure.exit_code for row in self.aliases if row.failure and row.required]
        known = {row.alias for row in self.aliases}
        if any(p.severity == "error" and p.alias not in known for p in self.problems):
            codes.append(ExitCode.CONFIGURATION)
        return worst(codes)

    def unquoted(self) -> Iterator[Problem]:
        """Yield the problems, except for warnings that the hint of a failure quotes."""
        hints = [row.failure.hint for row in self.aliases if row.failure]
        for each in self.problems:
            text = str(replace(each, alias=None))
            if each.severity == "error" or not any(text in hint for hint in hints):
                yield each

    def summary(self) -> str:
        """Return the failures and general problems, one line each."""
        failures = [row.failure.message for row in self.aliases if row.failure]
        general = [str(p) for p in self.problems if p.severity == "error" and not p.alias]
        return "\n".join([*general, *failures])


def check_aliases(
    connections: Connections, aliases: Iterable[str], *, wait: float | None, timeout: float | None
) -> Report:
    """Connect aliases, by default all, and report.

    Args:
        connections: The registry.
        aliases: The aliases; those that are named count as required.
        wait: Seconds to retry transient failures.
        timeout: Seconds for each connection attempt.
    """

    def attempt(names: Sequence[str], _: Collection[str]) -> Outcomes:
        return connections.attempt(*names, wait=wait, timeout=timeout)

    return report_on(connections, aliases, attempt, timeout=timeout)


def list_aliases(connections: Connections) -> Report:
    """Report the configured aliases without connecting them."""
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
    """Report the outcome for aliases, by default for all.

    Args:
        connections: The registry.
        aliases: The aliases; those that are named count as required.
        attempt: Connects aliases; its arguments are all aliases, and the optional ones.
        timeout: Seconds for the ping of each; the TIMEOUT of the alias by default.
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
    """Yield the problems of a named alias, first those that prevent it from connecting."""
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
    """Report the outcome for one alias; a failed ping after the connect is a failure, too."""
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
    """Return an error as a `Failure`.

    Args:
        error: The error.
        spec: The specification of the alias, if it is known.
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
