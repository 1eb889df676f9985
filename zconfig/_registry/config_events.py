"""The configuration → its events.

The module of events is imported on use, since its many types would slow down `import zconfig`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from zconfig._registry.specs import SpecTable
from zconfig._settings.validation import sent_in_the_clear
from zconfig._spec import ConnectionSpec
from zconfig.errors import Problem, ZConfigError

if TYPE_CHECKING:
    from zconfig import events


def events_of(table: SpecTable, only: Collection[str] | None = None) -> tuple[events.Event, ...]:
    """Return the events of a configuration: loaded, its problems, its aliases.

    Args:
        table: The configured aliases.
        only: The aliases to report; by default all.
    """
    from zconfig import events

    configuration, specs = table.configuration, dict(table.items())
    loaded = events.ConfigLoaded(
        aliases=tuple(specs),
        files=tuple(seen.path for seen in configuration.files if seen.state == "read"),
        problems=len(configuration.errors),
        elapsed_ms=configuration.elapsed_ms,
    )
    problems = (_problem(each) for each in configuration.problems)
    told = [spec for alias, spec in specs.items() if only is None or alias in only]
    return (loaded, *problems, *map(configured, told))


def warnings_of(spec: ConnectionSpec) -> Iterator[events.Event]:
    """Yield the warnings about a specification that was passed in code."""
    if spec.credentials and spec.endpoint.is_exposed:
        yield _problem(sent_in_the_clear(spec.alias, spec.endpoint.host, spec.origin("endpoint")))


def configured(spec: ConnectionSpec) -> events.ConnectionConfigured:
    """Return the event of a configured alias."""
    from zconfig import events

    return events.ConnectionConfigured(
        alias=spec.alias, endpoint=str(spec.endpoint), origin=str(spec.origin())
    )


def removed(spec: ConnectionSpec) -> events.ConnectionRemoved:
    """Return the event of a removed alias."""
    from zconfig import events

    return events.ConnectionRemoved(alias=spec.alias, endpoint=str(spec.endpoint))


def rotation_refused(alias: str, error: ZConfigError) -> events.ConfigProblem:
    """Return the event of new credentials that were not applied."""
    from zconfig import events

    return events.ConfigProblem(
        code="rotation_refused",
        problem=f"the new credentials were not applied: {error}",
        severity="error",
        remedy=getattr(error, "remedy", "correct them"),
        alias=alias,
        origin=getattr(error, "origin", None),
    )


def forked(aliases: tuple[str, ...]) -> tuple[events.Event, ...]:
    """Return the event of a forked child.

    Args:
        aliases: The aliases whose connections belong to the parent.
    """
    from zconfig import events

    return (events.ProcessForked(pid=os.getpid(), aliases=aliases),)


def _problem(problem: Problem) -> events.ConfigProblem:
    from zconfig import events

    return events.ConfigProblem(
        code=problem.code,
        problem=problem.message,
        severity=problem.severity,
        remedy=problem.remedy,
        alias=problem.alias,
        origin=str(problem.origin) if problem.origin else None,
    )
