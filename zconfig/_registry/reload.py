"""A new configuration beside the old one → what changed, and what that asks of a connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zconfig._registry.config_events import events_of, removed, rotation_refused
from zconfig._registry.specs import SpecTable
from zconfig._settings.configuration import Configuration
from zconfig._settings.fields import CREDENTIALS
from zconfig._settings.load import has_remote
from zconfig._sources.base import SourceResult
from zconfig._spec import ConnectionSpec, differences
from zconfig.errors import ClosedError, Problem, ZConfigError

if TYPE_CHECKING:
    from zconfig._connection import ManagedConnection
    from zconfig._registry.pool import Pool
    from zconfig._registry.registry import Registry


# What a live connection takes up without being opened anew.
_AT_ONCE = frozenset({"credentials", "required", "timeout_s"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload changed.

    Args:
        added: Aliases that are new.
        removed: Aliases that are gone; they were closed.
        changed: For each changed alias the names of its changed fields, never their values.
        kept: Aliases that stay as they were, because what was read for them is wrong, or because
            their server did not accept the new credentials.
        problems: Everything that is wrong in what was read.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(old: SpecTable, new: SpecTable, kept: tuple[str, ...] = ()) -> Changes:
    """Return what differs between two tables.

    Args:
        old: What was configured.
        new: What is configured now.
        kept: Aliases that were left as they were.
    """
    both = [alias for alias in new if alias in old]
    compared = {alias: differences(old.spec(alias), new.spec(alias)) for alias in both}
    return Changes(
        added=tuple(alias for alias in new if alias not in old),
        removed=tuple(alias for alias in old if alias not in new),
        changed={alias: names for alias, names in compared.items() if names},
        kept=kept,
        problems=new.configuration.problems,
    )


def wrong_but_known(old: SpecTable, new: SpecTable) -> dict[str, ConnectionSpec]:
    """Return the specifications of aliases for which something wrong is read now."""
    wrong = {problem.alias for problem in new.configuration.errors}
    return {alias: old.spec(alias) for alias in old if alias in wrong and alias not in new}


def reopens(live: ConnectionSpec, new: ConnectionSpec) -> bool:
    """Tell whether a live connection has to be opened anew for a specification."""
    return not _AT_ONCE.issuperset(differences(live, new))


class Reloader:
    """Reads the configuration of a registry again.

    Args:
        registry: What it is for.
        load: Reads the configuration; it raises nothing for what is wrong in it.
        local_loader: Reads what can be read without the network, if that is all that was read
            so far.
        has_changed: Whether `local_loader` would read something else now.
        load_beside: Reads it again, but for the sources of which it is given what they said.

    Attributes:
        is_first: Whether the first use is still to come.
    """

    def __init__(
        self,
        registry: Registry,
        load: Callable[[], Configuration],
        local_loader: Callable[[], Configuration] | None,
        has_changed: Callable[[], bool] | None,
        load_beside: Callable[[Sequence[SourceResult]], Configuration],
    ) -> None:
        self._registry = registry
        self._load = load
        self._load_beside = load_beside
        self._at_first = local_loader
        self._has_changed = self._is_outdated = has_changed
        self.is_first = local_loader is not None
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, in a child process: who reads is a thread of the parent."""
        self.lock = threading.RLock()  # held while a whole configuration is read
        self._table_lock = threading.Lock()  # held for a moment

    def read_on_first_use(self) -> None:
        """Read, once, what has changed since the import, and what only the network can tell."""
        with self.lock:
            if self.is_first:
                self.read_changes()
                if has_remote(self._registry.registry_state.table.configuration.options):
                    self._replace(self._load())
            self.is_first = False

    def read_changes(self) -> None:
        """Read again, once, if what was read on import would be something else now."""
        has_changed = self._has_changed
        if has_changed is None:
            return  # without the lock: who reads over the network holds it
        with self.lock:
            if self._at_first and self.is_first and has_changed():
                self._replace(self._at_first())
            self._has_changed = None

    def _replace(self, configuration: Configuration) -> None:
        registry_state = self._registry.registry_state
        registry_state.table = SpecTable(configuration, registry_state.added, self._is_outdated)
        self._registry.queue_config_events(registry_state.table.snapshot())

    def reload(self) -> Changes:
        """Read the configuration again, apply what changed, and return that."""
        registry = self._registry
        registry.announce()
        with self.lock:
            registry.remember(registry.secrets())
            old, registry_state = registry.table, registry.registry_state
            read = SpecTable(self._load(), registry_state.added)
            kept = wrong_but_known(old, read)
            new = SpecTable(read.configuration, {**kept, **registry_state.added})
            self._rotate(new, registry_state.pool)
            with self._table_lock:
                # What was refused stays, and what took up newer credentials meanwhile.
                kept |= {alias: each.spec for alias, each in _differing(new, registry_state.pool)}
                besides = {**kept, **registry_state.added}
                registry_state.table = SpecTable(read.configuration, besides, self._is_outdated)
            _reopen(registry_state.table, registry_state.pool)
            changes = compare(old, registry_state.table, tuple(kept))
        registry.flush(*new)
        for alias in changes.removed:
            registry_state.retries.end(alias)
            registry_state.pool.close(alias)
            registry.publish(removed(old.spec(alias)))
        for event in events_of(registry_state.table, only=(*changes.added, *changes.changed)):
            registry.publish(event)
        return changes

    def _rotate(self, new: SpecTable, pool: Pool) -> None:
        """Have open connections take up what they can without being opened anew."""
        for alias, managed in _differing(new, pool):
            try:
                with managed.rotating:
                    managed.apply(new.spec(alias))
            except ClosedError:
                continue
            except ZConfigError as error:
                self._registry.enqueue(rotation_refused(alias, error))

    def renew_if(self, is_due: Callable[[], bool], managed: ManagedConnection) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""
        with self.lock:
            if is_due():
                self.renew(managed)

    def renew(self, managed: ManagedConnection, *, is_last: bool = True) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Nothing else is taken up: credentials that came with another endpoint are for that one.

        Args:
            managed: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not taken up.
        """
        registry_state = self._registry.registry_state
        if registry_state.pool.managed(managed.alias) is not managed:
            return None
        read = self._read(managed.spec)  # without a lock: it may take long
        with managed.rotating:
            spec = read and _with_newer_credentials(managed.spec, read)
            if spec is None or not managed.is_open:
                return None
            try:
                managed.apply(spec)
            except ClosedError:
                return None
            except ZConfigError as error:
                if is_last:
                    self._registry.enqueue(rotation_refused(managed.alias, error))
                return error
        with self._table_lock:
            if managed.spec is spec and spec.alias in registry_state.table:
                registry_state.table.add(spec)
        return None

    def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read its source again; return a specification with the newer credentials in them.

        Args:
            spec: What is live.

        Returns:
            `None` if there are none, or if more than the credentials is different.
        """
        read = self._read(spec)
        return read and _with_newer_credentials(spec, read)

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused.

        Their source is read again, unless another thread has done so; what is found counts.

        Args:
            spec: What was refused.
        """
        registry_state = self._registry.registry_state
        newer = self.newer(spec) if registry_state.table.find(spec.alias) == spec else None
        with self._table_lock:
            current = registry_state.table.find(spec.alias)
            if newer and current == spec:
                registry_state.table.add(newer)
                return newer
        return current and _with_newer_credentials(spec, current)

    def _read(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the source of credentials again; return what is configured now, if anything is."""
        registry_state = self._registry.registry_state
        if spec.alias in registry_state.added:
            return None
        sources = {spec.origins[name].source for name in CREDENTIALS if name in spec.origins}
        remote = registry_state.table.configuration.remote
        known = [reading for reading in remote if reading.name not in sources]
        read = SpecTable(self._load_beside(known))
        return read.spec(spec.alias) if spec.alias in read else None


def _with_newer_credentials(live: ConnectionSpec, read: ConnectionSpec) -> ConnectionSpec | None:
    """Return what was read, if it differs from what is live in the credentials and nothing else."""
    return read if differences(live, read) == ("credentials",) else None


def _differing(new: SpecTable, pool: Pool) -> Iterator[tuple[str, ManagedConnection]]:
    """Return what is open with another specification, for which it need not be opened anew."""
    for alias in new:
        managed, spec = pool.managed(alias), new.spec(alias)
        is_open = managed and managed.is_open and managed.spec != spec
        if managed and is_open and not reopens(managed.spec, spec):
            yield alias, managed


def _reopen(new: SpecTable, pool: Pool) -> None:
    """Have everything else that has another specification open with the new one on its next use."""
    for alias in new:
        managed, spec = pool.managed(alias), new.spec(alias)
        if managed and managed.spec != spec:
            managed.replace_spec(spec)
