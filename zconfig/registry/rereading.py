"""Reading the configuration again, and having what is open take up what changed.

One thread at a time reads all of it. Events are put while it does, and delivered afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from zconfig.errors import ClosedError, ZConfigError
from zconfig.registry.announce import announcements, removed, rotation_refused
from zconfig.registry.table import Table
from zconfig.settings.configuration import Configuration
from zconfig.settings.fields import CREDENTIALS
from zconfig.settings.load import has_remote
from zconfig.sources.entry import Reading
from zconfig.spec import ConnectionSpec, differences

if TYPE_CHECKING:
    from zconfig.connection import Lifecycle
    from zconfig.registry.pool import Pool
    from zconfig.registry.registry import Registry
    from zconfig.registry.reload import Changes


class Rereading:
    """Reads the configuration of a registry again.

    Args:
        registry: What it is for.
        load: Reads the configuration; it raises nothing for what is wrong in it.
        at_first: Reads what can be read without the network, if that is all that was read so far.
        has_changed: Whether `at_first` would read something else now.
        load_beside: Reads it again, but for the sources of which it is given what they said.

    Attributes:
        is_first: Whether the first use is still to come.
    """

    def __init__(
        self,
        registry: Registry,
        load: Callable[[], Configuration],
        at_first: Callable[[], Configuration] | None,
        has_changed: Callable[[], bool] | None,
        load_beside: Callable[[Sequence[Reading]], Configuration],
    ) -> None:
        self._registry = registry
        self._load = load
        self._load_beside = load_beside
        self._at_first = at_first
        self._has_changed = self._is_outdated = has_changed
        self.is_first = at_first is not None
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
                if has_remote(self._registry.scene.table.configuration.options):
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
        scene = self._registry.scene
        scene.table = Table(configuration, scene.added, self._is_outdated)
        self._registry.announce_instead(scene.table.snapshot())

    def reload(self) -> Changes:
        """Read the configuration again, apply what changed, and return that."""
        from zconfig.registry.reload import compare, wrong_but_known

        registry = self._registry
        registry.announce()
        with self.lock:
            registry.remember(registry.secrets())
            old, scene = registry.table, registry.scene
            read = Table(self._load(), scene.added)
            kept = wrong_but_known(old, read)
            new = Table(read.configuration, {**kept, **scene.added})
            self._rotate(new, scene.pool)
            with self._table_lock:
                # What was refused stays, and what took up newer credentials meanwhile.
                kept |= {alias: each.spec for alias, each in _differing(new, scene.pool)}
                besides = {**kept, **scene.added}
                scene.table = Table(read.configuration, besides, self._is_outdated)
            _reopen(scene.table, scene.pool)
            changes = compare(old, scene.table, tuple(kept))
        registry.deliver(*new)
        for alias in changes.removed:
            scene.retries.end(alias)
            scene.pool.close(alias)
            registry.emit(removed(old.spec(alias)))
        for event in announcements(scene.table, only=(*changes.added, *changes.changed)):
            registry.emit(event)
        return changes

    def _rotate(self, new: Table, pool: Pool) -> None:
        """Have open connections take up what they can without being opened anew."""
        for alias, lifecycle in _differing(new, pool):
            try:
                with lifecycle.rotating:
                    lifecycle.take_up(new.spec(alias))
            except ClosedError:
                continue
            except ZConfigError as error:
                self._registry.put(rotation_refused(alias, error))

    def renew_if(self, is_due: Callable[[], bool], lifecycle: Lifecycle) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""
        with self.lock:
            if is_due():
                self.renew(lifecycle)

    def renew(self, lifecycle: Lifecycle, *, is_last: bool = True) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Nothing else is taken up: credentials that came with another endpoint are for that one.

        Args:
            lifecycle: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not taken up.
        """
        scene = self._registry.scene
        if scene.pool.lifecycle(lifecycle.alias) is not lifecycle:
            return None
        read = self._read(lifecycle.spec)  # without a lock: it may take long
        with lifecycle.rotating:
            spec = read and _with_newer_credentials(lifecycle.spec, read)
            if spec is None or not lifecycle.is_open:
                return None
            try:
                lifecycle.take_up(spec)
            except ClosedError:
                return None
            except ZConfigError as error:
                if is_last:
                    self._registry.put(rotation_refused(lifecycle.alias, error))
                return error
        with self._table_lock:
            if lifecycle.spec is spec and spec.alias in scene.table:
                scene.table.add(spec)
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
        scene = self._registry.scene
        newer = self.newer(spec) if scene.table.find(spec.alias) == spec else None
        with self._table_lock:
            current = scene.table.find(spec.alias)
            if newer and current == spec:
                scene.table.add(newer)
                return newer
        return current and _with_newer_credentials(spec, current)

    def _read(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the source of credentials again; return what is configured now, if anything is."""
        scene = self._registry.scene
        if spec.alias in scene.added:
            return None
        sources = {spec.origins[name].source for name in CREDENTIALS if name in spec.origins}
        remote = scene.table.configuration.remote
        known = [reading for reading in remote if reading.name not in sources]
        read = Table(self._load_beside(known))
        return read.spec(spec.alias) if spec.alias in read else None


def _with_newer_credentials(live: ConnectionSpec, read: ConnectionSpec) -> ConnectionSpec | None:
    """Return what was read, if it differs from what is live in the credentials and nothing else."""
    return read if differences(live, read) == ("credentials",) else None


def _differing(new: Table, pool: Pool) -> Iterator[tuple[str, Lifecycle]]:
    """Return what is open with another specification, for which it need not be opened anew."""
    from zconfig.registry.reload import reopens

    for alias in new:
        lifecycle, spec = pool.lifecycle(alias), new.spec(alias)
        is_open = lifecycle and lifecycle.is_open and lifecycle.spec != spec
        if lifecycle and is_open and not reopens(lifecycle.spec, spec):
            yield alias, lifecycle


def _reopen(new: Table, pool: Pool) -> None:
    """Have everything else that has another specification open with the new one on its next use."""
    for alias in new:
        lifecycle, spec = pool.lifecycle(alias), new.spec(alias)
        if lifecycle and lifecycle.spec != spec:
            lifecycle.reopen_with(spec)
