"""Validate settings with pydantic, and convert its errors to problems without the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from zconfig._redaction import SHORTEST
from zconfig._settings.fields import FROM_SOURCES, ConnectionSettings, Variable
from zconfig._settings.names import unset_name, variable_name
from zconfig._settings.precedence import FieldKey, Resolution, Setting
from zconfig.errors import Problem, with_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

    from zconfig._origin import Origin
    from zconfig._redaction import Hidden


def problem_of(  # noqa: PLR0913 - one parameter per field of a problem
    detail: ErrorDetails,
    variable: Variable,
    *,
    origin: Origin | None,
    value: str | None = None,
    alias: str | None = None,
    field: str | None = None,
    name_of: Callable[[str], str] = str,
) -> Problem:
    """Convert one of pydantic's error details to a problem.

    The validators of `fields` provide message and remedy. For pydantic's own checks, both come from
    the declaration of the field, since pydantic's messages may quote the value.

    Args:
        detail: One item of `ValidationError.errors()`.
        variable: The declaration of the field.
        origin: The origin of the value.
        value: The value, which is shown if it cannot be a secret.
        alias: The alias.
        field: The field.
        name_of: Returns the variable or parameter of a field, which replaces `{field}` in the
            messages of validators.
    """
    context = detail.get("ctx", {})
    if "remedy" in context:
        message, remedy = (with_names(context[each], name_of) for each in ("message", "remedy"))
        return Problem(detail["type"], message, remedy, alias, field, origin)
    name = field or (origin.key if origin else "value")
    shown = None if variable.secret or value is None else _harmless(value)
    return Problem(
        f"bad_{str(detail['loc'][-1] if field is None else field).lower()}",
        f"{shown} is not {variable.expected}" if shown else f"is not {variable.expected}",
        f"write e.g. {origin.key if origin else name}={variable.example}",
        alias,
        field,
        origin,
    )


def _harmless(text: str) -> str | None:
    """Return a value for display, or `None`: it may be a secret in the wrong variable."""
    return repr(str(text)) if len(text) < SHORTEST and text.isprintable() else None


def tls_remedy(origin: Origin) -> str:
    """Return how to use TLS at an endpoint; in code, a host or an address has no scheme.

    Examples:
        >>> from zconfig._origin import Origin
        >>> tls_remedy(Origin("environment", "ZILLIZ_URI"))
        'use https:// in ZILLIZ_URI'
        >>> tls_remedy(Origin("code", "address", "connections.connect"))
        'pass secure=True'
    """
    is_uri = origin.source != "code" or origin.key in {"uri", "settings.uri"}
    return f"use https:// in {origin.name}" if is_uri else "pass secure=True"


def sent_in_the_clear(alias: str, host: str | None, origin: Origin) -> Problem:
    """Return the warning about credentials that can be read in transit.

    Args:
        alias: The alias.
        host: The host that they are sent to.
        origin: The origin of the URI.
    """
    return Problem(
        "credentials_in_the_clear",
        f"the credentials are sent to {host} without TLS",
        f"{tls_remedy(origin)} if the server has TLS",
        alias,
        "uri",
        origin,
        "warning",
    )


# A missing field is reported at the origin of the field that requires it.
_SIBLING = {"tls_key": "tls_cert"}


def validate(
    resolution: Resolution,
) -> tuple[Mapping[str, ConnectionSettings], tuple[Problem, ...]]:
    """Validate every alias of a resolution.

    Returns:
        The settings of the valid aliases, and every problem of the others. An invalid alias does
        not affect the others.
    """
    settings: dict[str, ConnectionSettings] = {}
    problems: list[Problem] = []
    broken = {alias for alias, _ in resolution.broken}
    by_field = reversed(tuple(resolution.provenance.items()))
    first = {alias: each for (alias, _), each in by_field}
    for alias, values in resolution.values.items():
        outcome = _validated(values)
        if not isinstance(outcome, ConnectionSettings):
            problems += _problems(alias, outcome, resolution, first[alias])
        elif alias not in broken:
            settings[alias] = outcome
    return settings, tuple(problems)


def _validated(values: Mapping[str, Hidden]) -> ConnectionSettings | list[ErrorDetails]:
    """Return the settings, or pydantic's errors without the input."""
    try:
        return ConnectionSettings.model_validate(values, context=FROM_SOURCES)
    except ValidationError as error:
        return error.errors(include_input=False, include_url=False)


def _problems(
    alias: str, details: Iterable[ErrorDetails], resolution: Resolution, first: Setting
) -> Iterator[Problem]:
    for detail in details:
        field = str(detail["loc"][0])
        if (alias, field) in resolution.broken:
            continue  # it is missing because it is unusable, which is already reported
        if detail["type"] == "missing":
            yield _missing_uri(alias, first)
            continue
        at_fault = field if (alias, field) in resolution.provenance else _SIBLING.get(field, field)
        provenance = resolution.provenance.get((alias, at_fault))
        yield problem_of(
            detail,
            Variable.of(ConnectionSettings, field),
            origin=provenance.origin if provenance else None,
            value=provenance.entry.value.reveal() if provenance else None,
            alias=alias,
            field=field,
            name_of=partial(_name_of, resolution.provenance, alias),
        )


def _name_of(provenance: Mapping[FieldKey, Setting], alias: str, field: str) -> str:
    """Return the variable or parameter of a field, set or not."""
    if found := provenance.get((alias, field)):
        return found.origin.name
    uri, *others = (
        provenance.get((alias, each)) for each in ("uri", *ConnectionSettings.model_fields)
    )
    # If code passes any field, name a parameter, even if the URI comes from another source.
    passed = (each.origin for each in others if each and each.origin.source == "code")
    return unset_name(alias, field, next(passed, uri.origin if uri else None))


def _missing_uri(alias: str, first: Setting) -> Problem:
    """Return the problem of an alias without a URI; `soften_orphans` refines it."""
    wanted = variable_name(alias, "uri")
    what = f"is set, but {wanted} is not"
    return Problem("missing_uri", what, f"set {wanted}", alias, "uri", first.origin)
