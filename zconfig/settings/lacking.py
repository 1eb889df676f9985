"""What an alias lacks, and where it may be: in a place that nobody named, and that is no use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.settings.precedence import Resolution
from zconfig.settings.stray import lacking_credentials

_WITHOUT_DOTENV = "set ZCONFIG_ENV_FILE=off"


def lacking(resolution: Resolution, invalid: Iterable[Problem]) -> tuple[str, ...]:
    """Return the aliases that have no URI, or no credentials; Milvus Lite needs none."""
    nowhere = (e.alias for e in invalid if e.code == "missing_uri" and e.severity == "error")
    return tuple(dict.fromkeys([*lacking_credentials(resolution), *filter(None, nowhere)]))


def judge_places(
    places: Iterable[tuple[bool, Iterable[Problem]]], aliases: Collection[str], *, strict: bool
) -> list[Problem]:
    """Say whom it concerns that a file or directory cannot be read.

    Where nobody named it, as `.env` and `/run/secrets`, it may be somebody else's: an error of the
    aliases that lack something, which may stand in it, and otherwise a warning.

    Args:
        places: For each layer, whether somebody named it, and what is wrong with it as a whole.
        aliases: Those that lack something.
        strict: Whether it is an error all the same.
    """
    return [
        judged
        for named, problems in places
        for problem in problems
        for judged in ([problem] if named else _of_nobody(problem, aliases, strict=strict))
    ]


def _of_nobody(problem: Problem, aliases: Collection[str], *, strict: bool) -> Iterator[Problem]:
    origin = problem.origin
    if problem.severity != "error" or problem.alias or origin is None or origin.line:
        yield problem
        return
    if origin.source == "dotenv":
        problem = replace(problem, remedy=f"{problem.remedy}, or {_WITHOUT_DOTENV}")
    if strict:
        yield problem
    elif aliases:
        yield from (replace(problem, alias=alias) for alias in aliases)
    else:
        yield replace(problem, severity="warning")
