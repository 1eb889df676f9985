"""Credentials without a URI: whose they are, and whether they are anybody's mistake."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.settings.configuration import Note
from zconfig.settings.fields import CREDENTIALS
from zconfig.settings.names import DEFAULT_ALIAS, fold, says_little, variable_name
from zconfig.settings.precedence import Resolution, Values

CONTROL_PLANE_KEY = "zilliz_api_key"

ALONE = "is set without ZILLIZ_URI: a key of the control plane, which other tools read"


def without_control_plane_key(resolution: Resolution) -> tuple[Resolution, tuple[Note, ...]]:
    """Pass over a `ZILLIZ_API_KEY` that is all there is of the alias `default`, and say so."""
    slots = [slot for slot in resolution.provenance if slot[0] == DEFAULT_ALIAS]
    origins = [resolution.provenance[slot].origin for slot in slots]
    alone = [fold(origin.key) for origin in origins] == [CONTROL_PLANE_KEY]
    if not alone or (DEFAULT_ALIAS, "uri") in resolution.broken:
        return resolution, ()
    others = tuple((name, _without(values, DEFAULT_ALIAS)) for name, values in resolution.layers)
    provenance = {s: p for s, p in resolution.provenance.items() if s not in slots}
    meant = _only(_lacking(resolution))
    hint = f"; the token of `{meant}` is {variable_name(meant, 'token')}" if meant else ""
    note = Note(origins[0], ALONE + hint)
    return resolution._replace(layers=others, provenance=provenance), (note,)


def judge_stray(
    problems: tuple[Problem, ...], resolution: Resolution, *, strict: bool
) -> tuple[Problem, ...]:
    """Say of credentials without a URI whose they are most probably.

    `ZILLIZ_API_TOKEN` beside `ZILLIZ_URI` reads as the token of an alias `api`, and is meant for
    the connection that has none. It may be another tool's as well, so it is a warning.

    Args:
        problems: What is wrong with the aliases.
        resolution: What is set.
        strict: Whether it is an error all the same.

    Returns:
        The same problems, but for those of aliases that have nothing but credentials, and whose
        name says little.
    """
    if not problems:
        return ()
    lacking = _lacking(resolution)
    first = dict(reversed(tuple(resolution.provenance)))
    more = {alias for alias, field in resolution.provenance if field not in CREDENTIALS}
    return tuple(
        _judged(each, first[each.alias], lacking, strict=strict)
        if each.code == "missing_uri" and each.alias and _is_stray(each.alias, more)
        else each
        for each in problems
    )


def _is_stray(alias: str, more: Collection[str]) -> bool:
    return says_little(alias) and alias not in more


def _judged(problem: Problem, field: str, lacking: list[str], *, strict: bool) -> Problem:
    meant = DEFAULT_ALIAS if DEFAULT_ALIAS in lacking else _only(lacking)
    if meant:
        problem = replace(problem, remedy=f"did you mean {variable_name(meant, field)}?")
    if strict or problem.alias == DEFAULT_ALIAS:
        return problem
    remedy = problem.remedy if meant else f"{problem.remedy}, unless another tool reads it"
    return replace(problem, remedy=remedy, severity="warning")


def _only(aliases: list[str]) -> str | None:
    return aliases[0] if len(aliases) == 1 else None


def _lacking(resolution: Resolution) -> list[str]:
    """Return the aliases that have a URI but no credentials; Milvus Lite needs none."""
    having = {alias for alias, field in resolution.provenance if field in CREDENTIALS}
    return [
        alias
        for _, values in resolution.layers
        for alias, fields in values.items()
        if "uri" in fields and alias not in having and not fields["uri"].endswith(".db")
    ]


def _without(values: Values, alias: str) -> Values:
    return {name: fields for name, fields in values.items() if name != alias}
