"""Credentials and settings without an endpoint: find the alias or program that they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from zconfig._settings.configuration import UNLESS_OTHERS, Note
from zconfig._settings.fields import CREDENTIALS
from zconfig._settings.names import DEFAULT_ALIAS, is_generic, nearest, variable_name
from zconfig._settings.precedence import Resolution, Setting
from zconfig._sources.environment import is_milvus
from zconfig.errors import Problem

# With more aliases than this, every name resembles another, and comparing them all is slow.
_FEW = 100

ALONE = "is set without ZILLIZ_URI, and is not used: other tools use it for the control plane"


def unpaired_notes(resolution: Resolution) -> Iterator[Note]:
    """Yield notes about credentials that belong to an endpoint which is not used."""
    for each in resolution.unpaired:
        yield Note(each.origin, _unpaired(each, resolution))


def _unpaired(declared: Setting, resolution: Resolution) -> str:
    uri = resolution.provenance.get((DEFAULT_ALIAS, "uri"))
    if is_milvus(declared.origin.key):
        instead = variable_name(DEFAULT_ALIAS, declared.word.field)
        used = f"but {uri.origin} is used; set {instead}" if uri else "which is not set"
        return f"is only for the endpoint in MILVUS_URI, {used}"
    if uri:
        return f"is not sent to {uri.origin}, since other tools use it for the control plane"
    meant = _only(lacking_credentials(resolution))
    hint = f"; the token of `{meant}` is {variable_name(meant, 'token')}" if meant else ""
    return ALONE + hint


def soften_orphans(
    problems: tuple[Problem, ...], resolution: Resolution, *, strict: bool
) -> tuple[Problem, ...]:
    """Reduce problems of variables without an endpoint to warnings, and name the likely variable.

    `ZILLIZ_API_TOKEN` with `ZILLIZ_URI` parses as the token of an alias `api`, but is meant for the
    connection without credentials. An application's own `ZILLIZ_CONNECT_TIMEOUT` parses as a field
    of an alias `connect`, and other tools read `ZILLIZ_CLOUD_URI=https://api.cloud.zilliz.com`. A
    problem of a variable that may belong to another program is a warning.

    Args:
        problems: The problems of the aliases.
        resolution: The resolved settings.
        strict: Whether such problems remain errors.

    Returns:
        The same problems, with the variable that was probably meant as their remedy. Other
        problems of variables that may belong to another program are left out.
    """
    known = _Set(resolution)
    judged = [_judged(each, known, strict=strict) for each in problems]
    others = {each.alias for each in judged if each.severity == "warning"}
    return tuple(each for each in judged if each.severity == "warning" or each.alias not in others)


class _Set:
    """An index of the settings by alias, built once for all problems."""

    def __init__(self, resolution: Resolution) -> None:
        self.provenance = resolution.provenance
        self.broken = resolution.broken
        self.fields: dict[str, list[str]] = defaultdict(list)
        for alias, field in resolution.provenance:
            self.fields[alias].append(field)
        self.with_uri = [alias for alias, fields in self.fields.items() if "uri" in fields]
        self._lacking = dict.fromkeys(CREDENTIALS, lacking_credentials(resolution))

    def lacking(self, field: str) -> list[str]:
        """Return the aliases that have a URI, but not this field."""
        if field not in self._lacking:
            field_keys = ((alias, field) for alias in self.with_uri)
            self._lacking[field] = [
                field_key[0] for field_key in field_keys if field_key not in self.provenance
            ]
        return self._lacking[field]

    def has_credentials(self, alias: str) -> bool:
        """Return whether an alias has credentials, valid or not."""
        field_keys = ((alias, field) for field in CREDENTIALS)
        return any(
            field_key in self.provenance or field_key in self.broken for field_key in field_keys
        )


def _judged(problem: Problem, known: _Set, *, strict: bool) -> Problem:
    alias = problem.alias or DEFAULT_ALIAS
    if problem.code == "control_plane" and alias != DEFAULT_ALIAS:
        return _others(problem, strict=strict)
    if problem.code != "missing_uri":
        return problem
    fields = known.fields[alias]
    has_credentials = known.has_credentials(alias)
    says_much = has_credentials and not (is_generic(alias) and set(CREDENTIALS).issuperset(fields))
    meant = _near(alias, fields[0], known)
    if meant is None and not says_much:
        lacking = known.lacking(fields[0])
        meant = DEFAULT_ALIAS if DEFAULT_ALIAS in lacking else _only(lacking)
    if meant:
        problem = replace(problem, remedy=f"did you mean {variable_name(meant, fields[0])}?")
    if says_much or (has_credentials and alias == DEFAULT_ALIAS):
        return problem
    return _others(problem, strict=strict, is_known=meant is not None)


def _others(problem: Problem, *, strict: bool, is_known: bool = False) -> Problem:
    """Reduce a problem of a variable that another program may read to a warning."""
    if strict:
        return problem
    remedy = problem.remedy if is_known else problem.remedy + UNLESS_OTHERS
    return replace(problem, remedy=remedy, severity="warning")


def _near(alias: str, field: str, known: _Set) -> str | None:
    """Return the alias with a similar name that has a URI, but not this field in this layer."""
    if len(known.with_uri) > _FEW:
        return None
    layer = known.provenance[alias, field].layer
    there = ((other, known.provenance.get((other, field))) for other in known.with_uri)
    return nearest(alias, (other for other, each in there if not each or each.layer != layer))


def _only(aliases: list[str]) -> str | None:
    return aliases[0] if len(aliases) == 1 else None


def lacking_credentials(resolution: Resolution) -> list[str]:
    """Return the aliases that have a URI but no credentials; Milvus Lite needs none."""
    field_keys = (*resolution.provenance, *resolution.broken)
    having = {alias for alias, field in field_keys if field in CREDENTIALS}
    return [
        alias
        for (alias, field), each in resolution.provenance.items()
        if field == "uri" and alias not in having and not each.entry.value.reveal().endswith(".db")
    ]
