"""What is configured, by alias: in code first, then as it was read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from zconfig.errors import ConfigurationError, Problem, UnknownAliasError
from zconfig.settings.arguments import bad_alias
from zconfig.settings.configuration import Configuration, nothing_configured
from zconfig.settings.fields import ConnectionSettings
from zconfig.settings.lacking import hints, meant_for
from zconfig.settings.names import DEFAULT_ALIAS, variable_name
from zconfig.spec import ConnectionSpec, to_spec


class Table:
    """The specifications of all aliases. It opens nothing.

    What was read is converted when it is asked for: importing us waits for the names only.

    Args:
        configuration: What was read.
        besides: What takes precedence over it: what was added in code, or is kept.
        is_outdated: Whether the variables have changed since it was read.
    """

    def __init__(
        self,
        configuration: Configuration,
        besides: Mapping[str, ConnectionSpec] | None = None,
        is_outdated: Callable[[], bool] | None = None,
    ) -> None:
        self.configuration = configuration
        self._is_outdated = is_outdated
        read: dict[str, ConnectionSpec | None] = dict.fromkeys(configuration.aliases)
        self._specs = {**read, **(besides or {})}  # `None` until it is converted
        self._lock = threading.Lock()  # writers only: readers see one dictionary or the next

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._specs))

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, alias: object) -> bool:
        return alias in self._specs

    def spec(self, alias: str) -> ConnectionSpec:
        """Return the specification of an alias.

        Raises:
            ConfigurationError: What is configured for it is wrong.
            UnknownAliasError: Nothing configures it.
        """
        specs = self._specs  # a writer replaces it, and what is converted here is then forgotten
        if alias not in specs:
            raise self.complaint(alias)
        spec = specs[alias] or spec_of(alias, self.configuration)
        specs[alias] = spec
        return spec

    def find(self, alias: str) -> ConnectionSpec | None:
        """Return the specification of an alias, if anything configures it."""
        return self.spec(alias) if alias in self._specs else None

    def add(self, spec: ConnectionSpec) -> None:
        """Take a specification from code; it replaces what was read for its alias."""
        with self._lock:
            self._specs = {**self._specs, spec.alias: spec}

    def remove(self, alias: str) -> ConnectionSpec | None:
        """Take an alias out, and return what was configured for it."""
        with self._lock:
            spec = self.spec(alias) if alias in self._specs else None
            self._specs = {name: each for name, each in self._specs.items() if name != alias}
        return spec

    def snapshot(self) -> Table:
        """Return what is configured now, without what is added or removed later."""
        table = Table(self.configuration, is_outdated=self._is_outdated)
        table._specs = self._specs  # what one converts the other need not
        return table

    def after_fork(self) -> None:
        """Renew the lock, in a child process: a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def complaint(self, alias: str) -> ConfigurationError:
        """Return why an alias cannot be used: its problems, or that nothing configures it."""
        others = meant_for(alias, self.configuration)
        if problems := self.configuration.why_not(alias):
            told = dict.fromkeys((*problems, *others))
            return ConfigurationError(map(self._or_reload, told))
        if problem := bad_alias(alias):
            return UnknownAliasError([problem])
        known = self._configured()
        problem = self._or_reload(_unknown(alias, known)) if known else None
        return UnknownAliasError([problem, *others] if problem else self._nothing(alias))

    def default(self) -> str:
        """Return the alias that is meant where none is named.

        Raises:
            UnknownAliasError: None is configured, or several are and none is the default.
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
            f"no alias was named, and none of {names} is the default",
            "name one, or set ZCONFIG_DEFAULT_ALIAS",
        )
        raise UnknownAliasError([self._or_reload(problem)])

    def check_all(self) -> None:
        """Make sure that everything required is right, and that there is anything at all.

        Raises:
            ConfigurationError: With every error that keeps a required alias from connecting.
        """
        errors = self.configuration.errors_required
        if errors:
            raise ConfigurationError(map(self._or_reload, errors))
        if not self._specs and not self.configuration.errors:
            raise ConfigurationError(self._nothing())

    def check(self, aliases: Iterable[str]) -> None:
        """Make sure that these aliases are configured, and rightly.

        Raises:
            ConfigurationError: With every error of any of them.
            UnknownAliasError: If being unknown is all that is wrong.
        """
        complaints = [self.complaint(alias) for alias in aliases if alias not in self._specs]
        problems = [problem for each in complaints for problem in each.problems]
        if problems:
            unknown = all(isinstance(each, UnknownAliasError) for each in complaints)
            raise UnknownAliasError(problems) if unknown else ConfigurationError(problems)

    def _configured(self) -> tuple[str, ...]:
        """Return every alias that is configured, rightly or wrongly."""
        wrong = (each.alias for each in self.configuration.errors if each.alias)
        return tuple(dict.fromkeys((*self._specs, *wrong)))

    def _nothing(self, alias: str = DEFAULT_ALIAS) -> list[Problem]:
        """Return that nothing is configured, and the problems that may be why."""
        nothing = self._or_reload(nothing_configured(self.configuration, alias))
        return [nothing, *self.configuration.problems]

    def _or_reload(self, problem: Problem) -> Problem:
        """Return a problem with the remedy of variables that were set after they were read."""
        if not (self._is_outdated and self._is_outdated()):
            return problem
        remedy = "call zconfig.reload(): variables have changed since they were read"
        return replace(problem, remedy=remedy)


def _unknown(alias: str, known: Iterable[str]) -> Problem:
    return Problem(
        "unknown_alias",
        f"nothing configures it; known are {', '.join(known)}",
        f"set {variable_name(alias, 'uri')}, or use one of those",
        alias=alias,
    )


def spec_of(alias: str, configuration: Configuration) -> ConnectionSpec:
    """Convert the settings of an alias."""
    slots = ((alias, field) for field in ConnectionSettings.model_fields)
    declared = {slot[1]: configuration.provenance.get(slot) for slot in slots}
    origins = {field: each.origin for field, each in declared.items() if each}
    spec = to_spec(alias, configuration.aliases[alias], origins, configuration.directory)
    return replace(spec, hints=tuple(hints(alias, configuration)))
