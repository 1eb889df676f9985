"""Reading the configuration again, and having what is open take up what changed.

One thread reads at a time. Events are put while it does, and delivered afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from zconfig.errors import ClosedError, ZConfigError
from zconfig.registry.announce import announcements, removed, rotation_refused
from zconfig.registry.table import Table
from zconfig.settings.configuration import Configuration
from zconfig.settings.load import has_remote
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

    Attributes:
        is_first: Whether the first use is still to come.
    """

    def __init__(
        self,
        registry: Registry,
        load: Callable[[], Configuration],
        at_first: Callable[[], Configuration] | None,
        has_changed: Callable[[], bool] | None,
    ) -> None:
        self._registry = registry
        self._load = load
        self._at_first = at_first
        self._has_changed = has_changed
        self.is_first = at_first is not None
        self.lock = threading.RLock()

    def after_fork(self) -> None:
        """Begin anew, in a child process: who reads is a thread of the parent."""
        self.lock = threading.RLock()

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
        scene.table = Table(configuration, scene.added)
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
            kept |= self._apply(new, scene.pool)
            scene.table = Table(read.configuration, {**kept, **scene.added})
            changes = compare(old, scene.table, tuple(kept))
        registry.deliver(*new)
        for alias in changes.removed:
            scene.retries.end(alias)
            scene.pool.close(alias)
            registry.emit(removed(old.spec(alias)))
        for event in announcements(scene.table, only=(*changes.added, *changes.changed)):
            registry.emit(event)
        return changes

    def _apply(self, new: Table, pool: Pool) -> dict[str, ConnectionSpec]:
        """Have connections take up their specifications; return those that stay."""
        from zconfig.registry.reload import reopens

        refused: dict[str, ConnectionSpec] = {}
        for alias in new:
            lifecycle, spec = pool.lifecycle(alias), new.spec(alias)
            if lifecycle is None or lifecycle.spec == spec:
                continue
            if not lifecycle.is_open or reopens(lifecycle.spec, spec):
                lifecycle.reopen_with(spec)
                continue
            try:
                lifecycle.take_up(spec)
            except ClosedError:
                continue
            except ZConfigError as error:
                refused[alias] = lifecycle.spec
                self._registry.put(rotation_refused(alias, error))
        return refused

    def renew(
        self, lifecycle: Lifecycle, is_due: Callable[[], bool], *, is_last: bool
    ) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Nothing else is taken up: credentials that came with another endpoint are for that one.

        Args:
            lifecycle: The connection.
            is_due: Whether it is still wanted, asked once no other thread reads.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not taken up.
        """
        with self.lock:
            scene = self._registry.scene
            if scene.pool.lifecycle(lifecycle.alias) is not lifecycle or not is_due():
                return None
            spec = self.newer(lifecycle.spec)
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
            scene.table.add(spec)
            return None

    def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the sources again; return a specification with the newer credentials in them.

        Args:
            spec: What is live.

        Returns:
            `None` if there are none, or if more than the credentials is different.
        """
        if spec.alias in self._registry.scene.added:
            return None
        read = Table(self._load())
        if spec.alias not in read:
            return None
        newer = read.spec(spec.alias)
        return newer if differences(spec, newer) == ("credentials",) else None

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused.

        The sources are read again, unless another thread has done so; what is found counts.

        Args:
            spec: What was refused.
        """
        with self.lock:
            table = self._registry.scene.table
            current = table.find(spec.alias)
            if current is None:
                return None
            if current != spec:
                return current if differences(spec, current) == ("credentials",) else None
            newer = self.newer(spec)
            if newer:
                table.add(newer)
            return newer
