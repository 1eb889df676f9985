"""What was read → the events that say so."""

from __future__ import annotations

from zconfig import events
from zconfig.errors import Problem
from zconfig.registry.table import Table
from zconfig.spec import ConnectionSpec


def announcements(table: Table) -> tuple[events.Event, ...]:
    """Return the events of a configuration: that it was read, its problems, its aliases."""
    configuration = table.configuration
    loaded = events.ConfigLoaded(
        aliases=tuple(table),
        files=tuple(seen.path for seen in configuration.files if seen.state == "read"),
        problems=len(configuration.errors),
        elapsed_ms=configuration.elapsed_ms,
    )
    problems = (_problem(each) for each in configuration.problems)
    return (loaded, *problems, *(configured(table.spec(alias)) for alias in table))


def configured(spec: ConnectionSpec) -> events.ConnectionConfigured:
    """Return the event of an alias that was configured."""
    return events.ConnectionConfigured(
        alias=spec.alias, endpoint=str(spec.endpoint), origin=str(spec.origin())
    )


def removed(spec: ConnectionSpec) -> events.ConnectionRemoved:
    """Return the event of an alias that was taken out."""
    return events.ConnectionRemoved(alias=spec.alias, endpoint=str(spec.endpoint))


def _problem(problem: Problem) -> events.ConfigProblem:
    return events.ConfigProblem(
        code=problem.code,
        problem=problem.message,
        severity=problem.severity,
        remedy=problem.remedy,
        alias=problem.alias,
        origin=str(problem.origin) if problem.origin else None,
    )
