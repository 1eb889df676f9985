"""The specifications by alias: those added in code take precedence over the configuration."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from zconfig._origin import Origin
from zconfig._per_process import PerProcess
from zconfig._settings.arguments import (
    SETTINGS,
    bad_alias,
    check_arguments,
    fold_alias,
    from_arguments,
    has_endpoint,
)
from zconfig._settings.configuration import Configuration, nothing_configured
from zconfig._settings.fields import ConnectionSettings
from zconfig._settings.lacking import (
    doubtful_values,
    hints,
    hints_in_code,
    is_of_place,
    meant_for,
    unread_places,
)
from zconfig._settings.names import DEFAULT_ALIAS, variable_name
from zconfig._spec import ConnectionSpec, differences, override, to_spec
from zconfig._value import Value, value
from zconfig.errors import ConfigurationError, Problem, UnknownAliasError


class SpecTable:
    """The specifications of all aliases, converted from the configuration on use.

    Args:
        configuration: The configuration.
        overrides: Specifications that take precedence, because they were added in code or kept
            by a reload.
        is_outdated: Returns whether the variables have changed since they were read.
    """

    _lock = PerProcess(threading.Lock)  # for writers only: they replace the dictionary

    def __init__(
        self,
        configuration: Configuration,
        overrides: Mapping[str, ConnectionSpec] | None = None,
        is_outdated: Callable[[], bool] | None = None,
    ) -> None:
        self.configuration = configuration
        self._is_outdated = is_outdated
        read: dict[str, ConnectionSpec | None] = dict.fromkeys(configuration.aliases)
        self._specs = {**read, **(overrides or {})}  # `None` until it is converted

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._specs))

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, alias: object) -> bool:
        return alias in self._specs

    def spec(self, alias: str) -> ConnectionSpec:
        """Return the specification of an alias.

        Raises:
            ConfigurationError: Its configuration is invalid.
            UnknownAliasError: It is not configured.
        """
        spec = self.find(alias)
        if spec is None:
            raise self.error_for(alias)
        return spec

    def find(self, alias: str) -> ConnectionSpec | None:
        """Return the specification of an alias, or `None` if it is not configured."""
        specs = self._specs
        return self._converted(specs, alias) if alias in specs else None

    def items(self) -> Iterator[tuple[str, ConnectionSpec]]:
        """Yield every alias with its specification, whatever a writer removes meanwhile."""
        specs = self._specs
        for alias in tuple(specs):
            yield alias, self._converted(specs, alias)

    def _converted(self, specs: dict[str, ConnectionSpec | None], alias: str) -> ConnectionSpec:
        # If a writer replaces the dictionary now, the conversion is repeated later.
        spec = specs[alias] or spec_of(alias, self.configuration)
        specs[alias] = spec
        return spec

    def add(self, spec: ConnectionSpec) -> None:
        """Add a specification; it replaces the one of the same alias."""
        with self._lock:
            self._specs = {**self._specs, spec.alias: spec}

    def remove(self, alias: str) -> ConnectionSpec | None:
        """Remove an alias, and return its specification."""
        with self._lock:
            spec = self.find(alias)
            self._specs = {name: each for name, each in self._specs.items() if name != alias}
        return spec

    def snapshot(self) -> SpecTable:
        """Return a copy, which later changes do not affect."""
        table = SpecTable(self.configuration, is_outdated=self._is_outdated)
        table._specs = self._specs  # both share the conversions
        return table

    def error_for(self, alias: str) -> ConfigurationError:
        """Return the error of an alias: its problems, or that it is not configured."""
        others = meant_for(alias, self.configuration)
        if problems := self.configuration.why_not(alias):
            told = dict.fromkeys((*problems, *others, *doubtful_values(alias, self.configuration)))
            return ConfigurationError(map(self._or_reload, told))
        if problem := bad_alias(alias):
            return UnknownAliasError([problem])
        if alias in self:
            return UnknownAliasError([_only_in_code(alias)])
        known = self._configured()
        if not known:
            return UnknownAliasError(self._nothing(alias))
        problem = self._or_reload(_unknown(alias, known))
        places = unread_places(alias, self.configuration)
        return UnknownAliasError([problem, *others, *places, *self._chosen(alias)])

    def _chosen(self, alias: str) -> Iterator[Problem]:
        """Yield the problem of `ZCONFIG_DEFAULT_ALIAS`, if it names this alias."""
        if alias == self.configuration.options.default_alias:
            problems = self.configuration.problems
            yield from (each for each in problems if each.code == "unknown_default_alias")

    def default(self) -> str:
        """Return the default alias.

        Raises:
            UnknownAliasError: Several aliases are configured, and none is the default.
        """
        chosen = self.configuration.options.default_alias
        known = self._configured()
        if chosen or DEFAULT_ALIAS in known or not known:
            return chosen or DEFAULT_ALIAS
        if len(known) == 1:
            return known[0]
        names = ", ".join(known)
        problem = Problem(
            "no_default_alias",
            f"several aliases are configured and none is the default (configured: {names})",
            "pass an alias or set ZCONFIG_DEFAULT_ALIAS",
        )
        raise UnknownAliasError([self._or_reload(problem)])

    def check_all(self) -> None:
        """Check the configuration of the required aliases.

        Raises:
            ConfigurationError: A required alias is invalid, or no alias is configured; lists all
                problems.
        """
        errors = self.configuration.errors_required
        if errors:
            raise ConfigurationError(map(self._or_reload, errors))
        if not self._specs and not self.configuration.errors:
            raise ConfigurationError(self._nothing())

    def check(self, aliases: Iterable[str]) -> None:
        """Check that aliases are configured and valid.

        Raises:
            ConfigurationError: An alias is invalid; lists the problems of all aliases.
            UnknownAliasError: Aliases are not configured, and the others are valid.
        """
        complaints = [self.error_for(alias) for alias in aliases if alias not in self._specs]
        problems = [problem for each in complaints for problem in each.problems]
        if problems:
            unknown = all(isinstance(each, UnknownAliasError) for each in complaints)
            raise UnknownAliasError(problems) if unknown else ConfigurationError(problems)

    def _configured(self) -> tuple[str, ...]:
        """Return every configured alias, including invalid configurations."""
        named = (each.alias for each in self.configuration.errors if each.alias)
        wrong = (alias for alias in named if bad_alias(alias) is None)
        return tuple(dict.fromkeys((*self._specs, *wrong)))

    def _nothing(self, alias: str = DEFAULT_ALIAS) -> list[Problem]:
        """Return the problem of an empty configuration, after the files that were not read."""
        nothing = self._or_reload(nothing_configured(self.configuration, alias))
        problems = self.configuration.problems
        return sorted((nothing, *problems), key=lambda each: not is_of_place(each))

    def _or_reload(self, problem: Problem) -> Problem:
        """Replace a problem's remedy if variables have changed since they were read."""
        if not (self._is_outdated and self._is_outdated()):
            return problem
        remedy = "variables have changed since they were read; call zconfig.reload()"
        return replace(problem, remedy=remedy)


def _only_in_code(alias: str) -> Problem:
    return Problem(
        "unknown_alias",
        "the alias was added in code, and no source configures it",
        f"call zconfig.connections.settings({alias!r}) for its values",
        alias,
    )


def _unknown(alias: str, known: Iterable[str]) -> Problem:
    return Problem(
        "unknown_alias",
        f"the alias is not configured (configured: {', '.join(known)})",
        f"set {variable_name(alias, 'uri')} or use one of them",
        alias=alias,
    )


def spec_of(alias: str, configuration: Configuration) -> ConnectionSpec:
    """Convert the settings of an alias."""
    slots = ((alias, field) for field in ConnectionSettings.model_fields)
    declared = {slot[1]: configuration.provenance.get(slot) for slot in slots}
    origins = {field: each.origin for field, each in declared.items() if each}
    spec = to_spec(alias, configuration.aliases[alias], origins, configuration.directory)
    return replace(spec, hints=tuple(dict.fromkeys(hints(alias, configuration))))


def spec_from_arguments(
    table: SpecTable, alias: str, arguments: Mapping[str, Any], call: str
) -> ConnectionSpec:
    """Return the specification of the arguments of `connect`, over the configured one.

    Args:
        table: The configured aliases.
        alias: The alias, folded.
        arguments: The arguments, hidden.
        call: The name of the called function, for origins.

    Raises:
        ConfigurationError: An argument is invalid, or the alias is not configured.
    """
    check_arguments(alias, arguments, call)
    if has_endpoint(arguments) or arguments.get(SETTINGS):
        return _spec_in_code(alias, arguments, call)
    check_place(table, alias, arguments, call)
    return _overridden(table.spec(alias), arguments, call)


def _spec_in_code(alias: str, arguments: Mapping[str, Any], call: str) -> ConnectionSpec:
    """Return the specification of arguments that are complete without the configuration."""
    check_arguments(alias, arguments, call)
    settings = arguments.get(SETTINGS)
    if not settings:
        return _spec(alias, arguments, call)
    given = _with_hints(alias, *from_arguments(alias, settings, call, within=f"{SETTINGS}."))
    others = {name: each for name, each in arguments.items() if name != SETTINGS}
    return _overridden(given, others, call)


def _overridden(
    configured: ConnectionSpec, arguments: Mapping[str, Any], call: str
) -> ConnectionSpec:
    """Return a specification with the fields that arguments without an endpoint replace."""
    place, alias = replace(configured.endpoint, db_name=None), configured.alias
    asked = _spec(alias, {**arguments, "uri": str(place)}, call, configured.origin("endpoint"))
    spec = override(configured, asked)
    if arguments.get("secure") is False and spec.endpoint.secure:
        raise ConfigurationError([_not_plaintext(spec, call)])
    if asked.endpoint.secure == spec.endpoint.secure:
        return spec
    endpoint = replace(asked.endpoint, db_name=spec.endpoint.db_name)
    origins = {**spec.origins, "uri": Origin("code", "secure", path=call)}
    return replace(spec, endpoint=endpoint, origins=origins)


def check_place(table: SpecTable, alias: str, arguments: Mapping[str, Any], call: str) -> None:
    """Reject an endpoint argument that is `None` or empty, if the alias is not configured.

    Raises:
        UnknownAliasError: An endpoint argument is `None` or empty.
    """
    passed = next((each for each in ("uri", "address", "host") if each in arguments), None)
    is_known = alias in table or table.configuration.why_not(alias)
    if passed is None or is_known or has_endpoint(arguments):
        return
    state = "None" if arguments[passed] is None else "empty"
    what, remedy = f"is {state}, and the alias is not configured", f"pass the server's {passed}"
    origin = Origin("code", passed, path=call)
    raise UnknownAliasError([Problem("missing_uri", what, remedy, alias, "uri", origin)])


def _not_plaintext(spec: ConnectionSpec, call: str) -> Problem:
    what = f"is False, but {spec.origin('endpoint')} requires TLS"
    remedy = "omit it or pass a uri with http:// too"
    origin = Origin("code", "secure", path=call)
    return Problem("bad_argument", what, remedy, spec.alias, None, origin)


def specs_from_arguments(
    connections: Mapping[str, Mapping[str, Any]], call: str
) -> list[ConnectionSpec]:
    """Return the specifications of several aliases.

    Args:
        connections: The arguments of each alias, hidden.
        call: The name of the called function, for origins.

    Raises:
        ConfigurationError: An argument is invalid; lists the problems of all aliases.
    """
    specs: list[ConnectionSpec] = []
    problems: list[Problem] = []
    for alias, arguments in connections.items():
        try:
            specs.append(_once(_spec_in_code(fold_alias(alias), arguments, call), specs))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return specs


def _once(spec: ConnectionSpec, others: list[ConnectionSpec]) -> ConnectionSpec:
    """Reject two spellings of one alias with different arguments."""
    for other in others:
        if other.alias == spec.alias and other != spec:
            names = " and ".join(differences(other, spec))
            what = f"two spellings of the alias differ in {names}"
            raise ConfigurationError([Problem("conflict", what, "keep one of them", spec.alias)])
    return spec


def _spec(
    alias: str, arguments: Mapping[str, Any], call: str, place: Origin | None = None
) -> ConnectionSpec:
    return _with_hints(alias, *from_arguments(alias, arguments, call, place))


def _with_hints(
    alias: str, settings: ConnectionSettings, origins: Mapping[str, Origin]
) -> ConnectionSpec:
    return replace(to_spec(alias, settings, origins), hints=tuple(hints_in_code(settings, origins)))


# The fields that an open connection applies without reconnecting.
_AT_ONCE = frozenset({"credentials", "required", "timeout_s"})


@value
class Changes(Value):
    """The changes of a reload; true if there are any.

    Args:
        added: The new aliases.
        removed: The removed aliases, whose connections were closed.
        changed: The names of the changed fields of each changed alias, without values.
        kept: The aliases that keep their previous configuration, because the new one is invalid
            or the server rejected the new credentials.
        problems: The problems of the new configuration.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(old: SpecTable, new: SpecTable, kept: tuple[str, ...] = ()) -> Changes:
    """Return the changes between two tables.

    Args:
        old: The previous table.
        new: The current table.
        kept: The aliases that keep their previous configuration.
    """
    before, after = dict(old.items()), dict(new.items())
    both = [alias for alias in after if alias in before]
    compared = {alias: differences(before[alias], after[alias]) for alias in both}
    return Changes(
        added=tuple(alias for alias in after if alias not in before),
        removed=tuple(alias for alias in before if alias not in after),
        changed={alias: names for alias, names in compared.items() if names},
        kept=kept,
        problems=new.configuration.problems,
    )


def wrong_but_known(old: SpecTable, new: SpecTable) -> dict[str, ConnectionSpec]:
    """Return the previous specifications of the aliases whose new configuration is invalid."""
    wrong = {problem.alias for problem in new.configuration.errors}
    return {alias: each for alias, each in old.items() if alias in wrong and alias not in new}


def reopens(live: ConnectionSpec, new: ConnectionSpec) -> bool:
    """Return whether an open connection has to reconnect for a specification."""
    return not _AT_ONCE.issuperset(differences(live, new))


def with_newer_credentials(live: ConnectionSpec, read: ConnectionSpec) -> ConnectionSpec | None:
    """Return the specification read, if only its credentials differ from the live one."""
    return read if differences(live, read) == ("credentials",) else None
