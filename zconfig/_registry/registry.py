"""What is configured and what is open, kept together: the engine behind `connections`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from zconfig._deadline import ConnectBudget
from zconfig._event_bus import Dispatcher
from zconfig._redaction import RecentSecrets, Secret
from zconfig._registry.background import BackgroundWorker, PeriodicTask, Retries, Retry
from zconfig._registry.config_events import events_of, forked, given_in_code, removed
from zconfig._registry.forks import guard_forks, import_grpc
from zconfig._registry.pool import Pool, RegistryState, Slot, slot_status
from zconfig._registry.reload import Reloader
from zconfig._registry.specs import SpecTable
from zconfig._registry.stats import StatsCollector
from zconfig._settings.arguments import check_seconds
from zconfig._settings.configuration import Configuration
from zconfig._sources.base import SourceResult
from zconfig._spec import ConnectionSpec
from zconfig.errors import ZConfigError

if TYPE_CHECKING:
    from zconfig import events
    from zconfig._connection import Connection, ManagedConnection
    from zconfig._registry.reload import Changes
    from zconfig._registry.stats import AliasState, AliasStats


class Registry:
    """Reads the configuration, opens what it names, and applies what changes.

    Attributes:
        registry_state: What there is now.

    Args:
        load: Reads the configuration; it raises nothing for what is wrong in it.
        local_loader: Reads what can be read without the network, which is all that is
            read until the first use.
        has_changed: Whether `local_loader` would read something else now; asked on the first use.
        load_beside: Reads it again, but for the sources of which it is given what they said.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        local_loader: Callable[[], Configuration] | None = None,
        has_changed: Callable[[], bool] | None = None,
        load_beside: Callable[[Sequence[SourceResult]], Configuration] | None = None,
    ) -> None:
        self._dispatcher = Dispatcher()
        self._collector = StatsCollector()
        self._dispatcher.subscribe(self._collector)
        self._has_changed = has_changed
        self.registry_state = self._make_scene((local_loader or load)())
        self._set_aside: list[RegistryState] = []
        load_beside = load_beside or (lambda _: load())
        self._reloader = Reloader(self, load, local_loader, has_changed, load_beside)
        self._worker = BackgroundWorker(self._tasks)
        self._recent = RecentSecrets()
        self._announcing = threading.RLock()
        self._unannounced: deque[Callable[[], Iterable[events.Event]]] = deque()
        self._is_announced = False
        self.queue_config_events(self.known.snapshot())

    @property
    def pool(self) -> Pool:
        """What is open."""
        return self.registry_state.pool

    @property
    def table(self) -> SpecTable:
        """What is configured; the first use reads what was not read on import, or has changed."""
        if self._reloader.is_first and not self._set_aside:
            guard_forks(self)
            self._reloader.read_on_first_use()
        return self.registry_state.table

    @property
    def known(self) -> SpecTable:
        """What is configured, as far as it has been read."""
        return self.registry_state.table

    def read_changes(self) -> None:
        """Read what has changed since the import, if nothing was used yet; not over the network."""
        if self._reloader.is_first and not self._set_aside:
            guard_forks(self)
            self._reloader.read_changes()

    def subscribe(
        self, hook: Callable[[events.E], object], kinds: events.Kinds[events.E] | None = None
    ) -> Callable[[], None]:
        """Have a hook called with events; return a function that takes it out again."""
        return self._dispatcher.subscribe(hook, kinds)

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret that is configured, right or wrong, or was met lately."""
        specs = map(self.known.spec, self.known)
        configured = (secret for spec in specs for secret in spec.secrets)
        return (*configured, *self.known.configuration.secrets, *self._recent)

    def remember(self, secrets: Iterable[Secret]) -> None:
        """Take note of secrets that may never count, or soon count no longer."""
        self._recent.add(secrets)

    def open(
        self,
        spec: ConnectionSpec,
        wait: float | None = None,
        timeout: float | None = None,
        *,
        in_code: bool = False,
        in_background: bool = False,
    ) -> Connection:
        """Open a connection, unless it is open.

        Args:
            spec: What to connect to.
            wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
            timeout: Seconds for the connect; the alias' own by default.
            in_code: Whether just this is wanted, whatever is configured.
            in_background: Whether it is tried again later.
        """
        self.announce()
        import_grpc()
        budget = self.budget(spec, wait, timeout)._replace(in_background=in_background)
        # What code gave is not replaced by what stands elsewhere.
        may_reread = not in_code or self.known.find(spec.alias) == spec
        return self.pool.open(spec, budget, is_firm=in_code, may_reread=may_reread)

    def budget(
        self, spec: ConnectionSpec, wait: float | None = None, timeout: float | None = None
    ) -> ConnectBudget:
        """Return how long to go on trying to open a connection; the arguments are `open`'s."""
        timeout_s = spec.timeout_s if timeout is None else timeout
        wait_s = self.table.configuration.options.wait if wait is None else wait
        check_seconds(spec.alias, timeout=timeout_s, wait=wait_s)
        self.remember(spec.secrets)
        return ConnectBudget.from_now(timeout_s, wait_s)

    def add(self, spec: ConnectionSpec) -> None:
        """Take a specification from code; it replaces what was read for its alias."""
        is_new = self.registry_state.added.get(spec.alias) != spec
        self.registry_state.added[spec.alias] = spec
        self.table.add(spec)
        for event in given_in_code(spec) if is_new else ():
            self.publish(event)

    def close(self, alias: str) -> None:
        """Close an alias; it is tried in the background no longer."""
        self.registry_state.retries.end(alias)
        self.pool.close(alias)

    def close_all(self) -> None:
        """Close every alias."""
        for alias in self.registry_state.retries.aliases():
            self.registry_state.retries.end(alias)
        self.pool.close_all()

    def remove(self, alias: str) -> None:
        """Close an alias, and forget what is configured for it."""
        self.close(alias)
        self.registry_state.added.pop(alias, None)
        if spec := self.table.remove(alias):
            self.publish(removed(spec))

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """For the time of a `with` block, have nothing configured and nothing open."""
        self.remember(self.secrets())
        self._set_aside.append(self.registry_state)
        self.registry_state = self._make_scene(Configuration())
        try:
            yield
        finally:
            self.close_all()
            self.registry_state = self._set_aside.pop()

    # --- in the background ------------------------------------------------------------------

    def keep_trying(self, failures: Mapping[str, ZConfigError | None]) -> None:
        """Have aliases opened in the background, tried until they can be; return at once.

        Args:
            failures: By alias, why it could not be opened just now, if it was tried.
        """
        for alias, error in failures.items():
            self.registry_state.retries.begin(alias, error)
        if failures:
            self._worker.call()

    def _try_again(self, retry: Retry) -> None:
        registry_state, alias = self.registry_state, retry.alias
        if registry_state.retries.find(alias) is not retry:
            return  # it was closed meanwhile
        try:
            self.open(self.table.spec(alias), wait=0, in_background=True)
        except ZConfigError as error:
            managed = registry_state.pool.managed(alias)
            if registry_state.retries.find(alias) is retry:
                event = retry.put_off(error)
                if event and managed:
                    managed.publish_failure(event)
        else:
            registry_state.retries.end(alias)

    def _tasks(self) -> Sequence[PeriodicTask]:
        scenes = (*self._set_aside, self.registry_state)
        monitors = [
            each.monitor for registry_state in scenes for each in registry_state.pool.live()
        ]
        return [*monitors, *self.registry_state.retries.outstanding(self.pool.find)]

    # --- how it goes ------------------------------------------------------------------------

    def state(self, alias: str) -> AliasState:
        """Return what an alias is doing."""
        return slot_status(self.registry_state, alias).state

    def stats(self, alias: str) -> AliasStats:
        """Return how it goes with an alias, on whatever it is open."""
        state, since, last_error = slot_status(self.registry_state, alias)
        required = self.known.spec(alias).required
        return self._collector.stats(alias, state, since, last_error, required=required)

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        self._collector.note_round_trip(alias, round_trip_ms)

    # --- reading again ----------------------------------------------------------------------

    def reload(self) -> Changes:
        """Read the configuration again, apply what changed, and return that."""
        return self._reloader.reload()

    def renew(self, managed: ManagedConnection, *, is_last: bool = True) -> ZConfigError | None:
        """Read the credentials of a connection again; see `Reloader.renew`.

        The event is put, for the caller to have it delivered.
        """
        return self._reloader.renew(managed, is_last=is_last)

    def renew_if(self, is_due: Callable[[], bool], managed: ManagedConnection) -> None:
        """Read the credentials of a connection again if that is due; see `Reloader.renew_if`."""
        self._reloader.renew_if(is_due, managed)

    def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with newer credentials; see `Reloader.newer`."""
        return self._reloader.newer(spec)

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return one with other credentials than were refused; see `Reloader.reread`."""
        return self._reloader.reread(spec)

    # --- what connections need --------------------------------------------------------------

    def publish(self, event: events.Event) -> None:
        """Hand an event to every hook, after those that came before."""
        self.announce()
        self._dispatcher.publish(event)

    def enqueue(self, event: events.Event) -> None:
        """Take an event that is to be delivered; no hook is called."""
        self._dispatcher.enqueue(event)

    def flush(self, *aliases: str) -> None:
        """Have hooks told of what was put, and before it of what was read."""
        self.announce()
        self._dispatcher.flush(*aliases)

    def announce(self) -> None:
        """Report what was read, once, on first use.

        Not on import: the application has not yet set up its logging then.
        """
        guard_forks(self)
        _ = self.table
        if self._is_announced:
            return
        told: dict[str | None, None] = {}
        with self._announcing:  # nobody goes on before all of it is put
            while self._unannounced:
                for event in self._unannounced.popleft()():
                    told[self._dispatcher.enqueue(event)] = None
            self._is_announced = True
        self._dispatcher.flush(*told)

    def queue_config_events(self, table: SpecTable) -> None:
        """Have the next use report what was read now, and no more what was read before."""
        self._unannounced = deque([partial(events_of, table)])
        self._is_announced = False

    def attend(self, *, at_once: bool) -> None:
        """Have what is open looked after, in another thread; return at once."""
        self._worker.call(at_once=at_once)

    def after_fork(self) -> None:
        """Forget, in a child process, what its parent opened; it opens again on use."""
        self._announcing = threading.RLock()
        self._reloader.after_fork()
        self._dispatcher.after_fork()
        self._worker.after_fork()
        self._collector.after_fork()
        abandoned: list[str] = []
        for registry_state in (*self._set_aside, self.registry_state):
            abandoned += registry_state.pool.abandon()
            registry_state.table.after_fork()
        if abandoned:
            self._unannounced.append(partial(forked, tuple(abandoned)))
            self._is_announced = False

    def _make(self, spec: ConnectionSpec, ready: dict[str, Connection]) -> Slot:
        # It needs grpc, which importing us must not.
        from zconfig._connection import Connection, ManagedConnection, Sign

        managed = ManagedConnection(spec, self)
        connection = Connection(managed)
        managed.sign = Sign(ready, spec.alias, connection)
        return Slot(managed, connection)

    def _make_scene(self, configuration: Configuration) -> RegistryState:
        retries = Retries(partial(Retry, again=self._try_again))
        table = SpecTable(configuration, is_outdated=self._has_changed)
        return RegistryState(table, Pool(self._make), retries)
