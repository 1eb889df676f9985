"""What code gives as arguments → specifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zconfig.errors import ConfigurationError, Problem, UnknownAliasError
from zconfig.origin import Origin
from zconfig.registry.table import Table
from zconfig.settings.arguments import (
    check_arguments,
    fold_alias,
    from_arguments,
    names_a_place,
)
from zconfig.spec import ConnectionSpec, differences, override, to_spec


def wanted(table: Table, alias: str, arguments: Mapping[str, Any], call: str) -> ConnectionSpec:
    """Return what the arguments of `connect` ask for, where need be with what is configured.

    Args:
        table: What is configured.
        alias: The connection's name, folded.
        arguments: As they were given, hidden.
        call: Where they were given.

    Raises:
        ConfigurationError: They are wrong, or nothing configures the alias.
    """
    check_arguments(alias, arguments, call)
    if names_a_place(arguments):
        return _spec(alias, arguments, call)
    check_place(table, alias, arguments, call)
    configured = table.spec(alias)
    place = replace(configured.endpoint, db_name=None)
    asked = _spec(alias, {**arguments, "uri": str(place)}, call, configured.origin("endpoint"))
    spec = override(configured, asked)
    if arguments.get("secure") is False and spec.endpoint.secure:
        raise ConfigurationError([_not_plaintext(spec, call)])
    if asked.endpoint.secure == spec.endpoint.secure:
        return spec
    endpoint = replace(asked.endpoint, db_name=spec.endpoint.db_name)
    origins = {**spec.origins, "uri": Origin("code", "secure", path=call)}
    return replace(spec, endpoint=endpoint, origins=origins)


def check_place(table: Table, alias: str, arguments: Mapping[str, Any], call: str) -> None:
    """Refuse a place that is `None` for an alias that nothing configures: it is not set.

    Raises:
        UnknownAliasError: One is.
    """
    none = [name for name in ("uri", "address", "host") if arguments.get(name, "") is None]
    is_known = alias in table or table.configuration.why_not(alias)
    if not none or is_known or names_a_place(arguments):
        return
    what, remedy = "is None, and nothing configures the alias", f"pass the server's {none[0]}"
    origin = Origin("code", none[0], path=call)
    raise UnknownAliasError([Problem("missing_uri", what, remedy, alias, "uri", origin)])


def _not_plaintext(spec: ConnectionSpec, call: str) -> Problem:
    what = f"is False, and {spec.origin('endpoint')} asks for TLS"
    remedy = "leave it out, or pass the uri with http:// as well"
    origin = Origin("code", "secure", path=call)
    return Problem("bad_argument", what, remedy, spec.alias, None, origin)


def several(connections: Mapping[str, Mapping[str, Any]], call: str) -> list[ConnectionSpec]:
    """Return the specifications of several aliases.

    Args:
        connections: By alias, its arguments, hidden.
        call: Where they were given.

    Raises:
        ConfigurationError: With everything that is wrong with any of them.
    """
    specs: list[ConnectionSpec] = []
    problems: list[Problem] = []
    for alias, arguments in connections.items():
        try:
            specs.append(_once(_spec(fold_alias(alias), arguments, call), specs))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return specs


def _once(spec: ConnectionSpec, others: list[ConnectionSpec]) -> ConnectionSpec:
    """Refuse two spellings of one alias that are not configured alike."""
    for other in others:
        if other.alias == spec.alias and other != spec:
            names = " and ".join(differences(other, spec))
            what = f"two spellings of it differ in {names}"
            raise ConfigurationError([Problem("conflict", what, "keep one of them", spec.alias)])
    return spec


def _spec(
    alias: str, arguments: Mapping[str, Any], call: str, place: Origin | None = None
) -> ConnectionSpec:
    return to_spec(alias, *from_arguments(alias, arguments, call, place))
