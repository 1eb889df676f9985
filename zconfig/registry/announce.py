"""What was read → the events that say so."""

from __future__ import annotations

from collections.abc import Collection

from zconfig import events
from zconfig.errors import Problem, ZConfigError
from zconfig.registry.table import Table
from zconfig.spec import ConnectionSpec


def announcements(table: Table, only: Collection[str] | None = None) -> tuple[events.Event, ...]:
    """Return the events of a configuration: that it was read, its problems, its aliases.

    Args:
        table: What is configured.
        only: The aliases that are told of; all of them by default.
    """
    configuration = table.configuration
    loaded = events.ConfigLoaded(
        aliases=tuple(table),
        files=tuple(seen.path for seen in configuration.files if seen.state == "read"),
        problems=len(configuration.errors),
        elapsed_ms=configuration.elapsed_ms,
    )
    problems = (_problem(each) for each in configuration.problems)
    told = [alias for alias in table if only is None or alias in only]
    return (loaded, *problems, *(configured(table.spec(alias)) for alias in told))


def configured(spec: ConnectionSpec) -> events.ConnectionConfigured:
    """Return the event of an alias that was configured."""
    return events.ConnectionConfigured(
        alias=spec.alias, endpoint=str(spec.endpoint), origin=str(spec.origin())
    )


def removed(spec: ConnectionSpec) -> events.ConnectionRemoved:
    """Return the event of an alias that was taken out."""
    return events.ConnectionRemoved(alias=spec.alias, endpoint=str(spec.endpoint))


def rotation_refused(alias: str, error: ZConfigError) -> events.ConfigProblem:
    """Return the event of new credentials that were not taken up."""
    return events.ConfigProblem(
        code="rotation_refused",
        problem=f"the new credentials are not taken up: {error}",
        severity="error",
        remedy=getattr(error, "remedy", "correct them"),
        alias=alias,
        origin=getattr(error, "origin", None),
    )


def _problem(problem: Problem) -> events.ConfigProblem:
    return events.ConfigProblem(
        code=problem.code,
        problem=problem.message,
        severity=problem.severity,
        remedy=problem.remedy,
        alias=problem.alias,
        origin=str(problem.origin) if problem.origin else None,
    )
