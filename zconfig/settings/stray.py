"""Credentials without a URI: whose they are, and whether they are anybody's mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.settings.configuration import Note
from zconfig.settings.fields import CREDENTIALS
from zconfig.settings.grouping import Declared
from zconfig.settings.names import DEFAULT_ALIAS, says_little, variable_name
from zconfig.settings.precedence import Resolution
from zconfig.sources.milvus_env import is_milvus

ALONE = "is set without ZILLIZ_URI: a key of the control plane, which other tools read"


def unpaired_notes(resolution: Resolution) -> Iterator[Note]:
    """Say of credentials that belong to an endpoint which is not in use that they go nowhere."""
    for each in resolution.unpaired:
        yield Note(each.origin, _unpaired(each, resolution))


def _unpaired(declared: Declared, resolution: Resolution) -> str:
    uri = resolution.provenance.get((DEFAULT_ALIAS, "uri"))
    if is_milvus(declared.origin.key):
        instead = variable_name(DEFAULT_ALIAS, declared.word.field)
        used = f"{uri.origin} is used; set {instead}" if uri else "that is not set"
        return f"is sent to the endpoint of MILVUS_URI only, and {used}"
    if uri:
        return f"is not sent to {uri.origin}, since other tools read it for the control plane"
    meant = _only(lacking_credentials(resolution))
    hint = f"; the token of `{meant}` is {variable_name(meant, 'token')}" if meant else ""
    return ALONE + hint


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
    lacking = lacking_credentials(resolution)
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


def lacking_credentials(resolution: Resolution) -> list[str]:
    """Return the aliases that have a URI but no credentials; Milvus Lite needs none."""
    having = {alias for alias, field in resolution.provenance if field in CREDENTIALS}
    return [
        alias
        for _, values in resolution.layers
        for alias, fields in values.items()
        if "uri" in fields and alias not in having and not fields["uri"].endswith(".db")
    ]
