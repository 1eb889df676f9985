"""What is configured and what is open, kept together: the engine behind `connections`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from zconfig._channel.interruptible import run_interruptibly
from zconfig._deadline import ConnectBudget
from zconfig._event_bus import Dispatcher
from zconfig._per_process import PerProcess
from zconfig._redaction import RecentSecrets, Secret
from zconfig._registry.background import BackgroundWorker, PeriodicTask, Retries, Retry
from zconfig._registry.config_events import (
    events_of,
    forked,
    removed,
    rotation_refused,
    warnings_of,
)
from zconfig._registry.forks import guard_forks, import_grpc
from zconfig._registry.pool import Pool, RegistryState, Slot, slot_status
from zconfig._registry.specs import (
    Changes,
    SpecTable,
    compare,
    with_newer_credentials,
    wrong_but_known,
)
from zconfig._registry.stats import StatsCollector
from zconfig._settings.arguments import check_seconds
from zconfig._settings.configuration import Configuration
from zconfig._settings.fields import CREDENTIALS
from zconfig._settings.load import has_remote
from zconfig._sources.base import SourceResult
from zconfig._spec import ConnectionSpec
from zconfig.errors import ClosedError, ZConfigError

if TYPE_CHECKING:
    from zconfig import events
    from zconfig._connection import (
        ConnectIntent,
        Connection,
        ManagedConnection,
        Refreshable,
        Waiter,
    )
    from zconfig._registry.stats import AliasState, AliasStats


class Registry:
    """Reads the configuration, opens what it names, and applies what changes.

    Attributes:
        registry_state: What there is now.
        ready: What is open now, by alias; `connections["x"]` looks here first.

    Args:
        load: Reads the configuration; it raises nothing for what is wrong in it.
        local_loader: Reads what can be read without the network, which is all that is
            read until the first use.
        has_changed: Whether `local_loader` would read something else now; asked on the first use.
        load_beside: Reads it again, but for the sources of which it is given what they said.
    """

    _publishing = PerProcess(threading.RLock)

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
        self._use(self._new_state((local_loader or load)()))
        self._overridden: list[RegistryState] = []
        load_beside = load_beside or (lambda _: load())
        self._reloader = Reloader(self, load, local_loader, has_changed, load_beside)
        self._worker = BackgroundWorker(self._tasks)
        self._recent = RecentSecrets()
        self._unpublished: deque[Callable[[], Iterable[events.Event]]] = deque()
        self._is_published = False
        self.queue_config_events(self.known.snapshot())

    @property
    def pool(self) -> Pool:
        """What is open."""
        return self.registry_state.pool

    @property
    def table(self) -> SpecTable:
        """What is configured; the first use reads what was not read on import, or has changed."""
        if self._reloader.is_first and not self._overridden:
            guard_forks(self)
            self._reloader.read_on_first_use()
        return self.registry_state.table

    @property
    def known(self) -> SpecTable:
        """What is configured, as far as it has been read."""
        return self.registry_state.table

    @property
    def is_config_published(self) -> bool:
        """Whether what was read is reported, so that `publish_config` calls no hook."""
        return self._is_published

    def read_changes(self) -> None:
        """Read what has changed since the import, if nothing was used yet; not over the network."""
        if self._reloader.is_first and not self._overridden:
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

    def open(self, spec: ConnectionSpec, intent: ConnectIntent) -> Connection:
        """Return the open connection of an alias, opening it if there is none.

        Args:
            spec: The alias' specification.
            intent: What is wanted.

        Raises:
            ConflictError: The alias is live with another specification than code gave.
            ConnectError: It cannot be opened; its class names the cause.
            ClosedError: It was closed while it was opened.
        """
        slot = self.pool.slot(spec)
        slot.managed.open(intent)
        return slot.connection

    def connect(self, spec: ConnectionSpec) -> Connection:
        """Open what code gave, and configure it; Ctrl-C comes between neither.

        Raises:
            ConflictError: The alias is live with another specification.
            ConnectError: It cannot be opened; its class names the cause.
            ClosedError: It was closed while it was opened.
        """
        intent = self.intent(spec, in_code=True)
        from zconfig._connection import Waiter

        slot, waiter = self.pool.slot(spec), Waiter()
        connect = partial(self.open_and_add, slot.managed, spec, intent, waiter)
        run_interruptibly(connect, partial(slot.managed.leave, waiter))
        return slot.connection

    def open_and_add(
        self,
        managed: ManagedConnection,
        spec: ConnectionSpec,
        intent: ConnectIntent,
        waiter: Waiter,
    ) -> None:
        """Open what code gave, and configure it once it is open; see `connect`."""
        managed.open(intent, waiter)
        if managed.spec == spec or not intent.may_reread:  # not where refused ones were read anew
            self.add(spec)

    def intent(
        self,
        spec: ConnectionSpec,
        wait: float | None = None,
        timeout: float | None = None,
        *,
        in_code: bool = False,
        in_background: bool = False,
    ) -> ConnectIntent:
        """Return what is wanted of a connection, once what was read is reported.

        Args:
            spec: What to connect to.
            wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
            timeout: Seconds for the connect; the alias' own by default.
            in_code: Whether just this is wanted, whatever is configured.
            in_background: Whether it is tried again later.
        """
        self.publish_config()
        import_grpc()
        from zconfig._connection import ConnectIntent

        # What code gave is not replaced by what stands elsewhere.
        may_reread = not in_code or self.known.find(spec.alias) == spec
        budget = self._budget(spec, wait, timeout)
        return ConnectIntent(budget, spec, in_code, may_reread, in_background)

    def _budget(
        self, spec: ConnectionSpec, wait: float | None, timeout: float | None
    ) -> ConnectBudget:
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
        for event in warnings_of(spec) if is_new else ():
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
    def overridden(self) -> Iterator[None]:
        """For the time of a `with` block, have nothing configured and nothing open."""
        self.remember(self.secrets())
        self._overridden.append(self.registry_state)
        self._use(self._new_state(Configuration()))
        try:
            yield
        finally:
            self.close_all()
            self._use(self._overridden.pop())

    def _use(self, registry_state: RegistryState) -> None:
        self.registry_state, self.ready = registry_state, registry_state.pool.ready

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
            spec = self.table.spec(alias)
            intent = self.intent(spec, wait=0, in_background=True)
            slot = registry_state.pool.slot(spec)
            if registry_state.retries.find(alias) is not retry:
                return  # it was closed while it was read, say
            slot.managed.open(intent)
        except ZConfigError as error:
            managed = registry_state.pool.managed(alias)
            if registry_state.retries.find(alias) is retry:
                event = retry.postpone(error)
                if event and managed:
                    managed.publish_failure(event)
        else:
            registry_state.retries.end(alias)

    def _tasks(self) -> Sequence[PeriodicTask]:
        states = (*self._overridden, self.registry_state)
        monitors = [
            each.monitor for registry_state in states for each in registry_state.pool.live()
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

    # --- reading again ----------------------------------------------------------------------

    def reload(self) -> Changes:
        """Read the configuration again, apply what changed, and return that."""
        return self._reloader.reload()

    # --- what connections need --------------------------------------------------------------

    def publish(self, event: events.Event) -> None:
        """Hand an event to every hook, after those that came before."""
        self.publish_config()
        self._dispatcher.publish(event)

    def relay(self, event: events.Event) -> None:
        """Hand an event of another registry to every hook."""
        self._dispatcher.publish(event)

    def enqueue(self, event: events.Event) -> None:
        """Take an event that is to be delivered; no hook is called."""
        self._dispatcher.enqueue(event)

    def flush(self, *aliases: str) -> None:
        """Have hooks told of what was enqueued, and before it of what was read."""
        self.publish_config()
        self._dispatcher.flush(*aliases)

    def publish_config(self) -> None:
        """Report what was read, once, on first use.

        Not on import: the application has not yet set up its logging then.
        """
        guard_forks(self)
        _ = self.table
        if self._is_published:
            return
        told: dict[str | None, None] = {}
        with self._publishing:  # nobody goes on before all of it is enqueued
            while self._unpublished:
                for event in self._unpublished.popleft()():
                    told[self._dispatcher.enqueue(event)] = None
            self._is_published = True
        self._dispatcher.flush(*told)

    def queue_config_events(self, table: SpecTable) -> None:
        """Have the next use report what was read now, and no more what was read before."""
        self._unpublished = deque([partial(events_of, table)])
        self._is_published = False

    def after_fork(self) -> None:
        """Forget, in a child process, what its parent opened; it opens again on use."""
        abandoned: list[str] = []
        for registry_state in (*self._overridden, self.registry_state):
            abandoned += registry_state.pool.abandon()
        if abandoned:
            self._unpublished.append(partial(forked, tuple(abandoned)))
            self._is_published = False

    def _make(
        self, state: RegistryState, spec: ConnectionSpec, ready: dict[str, Connection]
    ) -> Slot:
        # It needs grpc, which importing us must not.
        from zconfig._connection import Connection, ConnectionServices, ManagedConnection

        notice = self._collector.note_round_trip
        services = ConnectionServices(
            self,
            self._reloader,
            self._worker.call,
            notice,
            lambda alias: state.table.find(alias),  # noqa: PLW0108 - a reload replaces the table
        )
        managed = ManagedConnection(spec, services)
        connection = Connection(managed)

        def show() -> None:
            if managed.is_open:
                ready[spec.alias] = connection
            elif ready.get(spec.alias) is connection:  # another one may have taken its place
                del ready[spec.alias]

        managed.on_change = show
        return Slot(managed, connection)

    def _new_state(self, configuration: Configuration) -> RegistryState:
        retries = Retries(partial(Retry, again=self._try_again))
        table = SpecTable(configuration, is_outdated=self._has_changed)
        pool = Pool(lambda spec, ready: self._make(state, spec, ready))
        state = RegistryState(table, pool, retries)
        return state


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

    lock = PerProcess(threading.RLock)  # held while a whole configuration is read
    _table_lock = PerProcess(threading.Lock)  # held for a moment

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
        registry.publish_config()
        with self.lock:
            registry.remember(registry.secrets())
            old, registry_state = registry.table, registry.registry_state
            read = SpecTable(self._load(), registry_state.added)
            kept = wrong_but_known(old, read)
            new = SpecTable(read.configuration, {**kept, **registry_state.added})
            self._rotate(new, registry_state.pool)
            with self._table_lock:
                # What was refused stays, and what applied newer credentials meanwhile.
                kept |= {alias: each.spec for alias, each in registry_state.pool.differing(new)}
                overrides = {**kept, **registry_state.added}
                registry_state.table = SpecTable(read.configuration, overrides, self._is_outdated)
            registry_state.pool.reopen(registry_state.table)
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
        """Have open connections apply what they can without being opened anew."""
        for alias, managed in pool.differing(new):
            try:
                with managed.rotating:
                    managed.apply(new.spec(alias))
            except ClosedError:
                continue
            except ZConfigError as error:
                self._registry.enqueue(rotation_refused(alias, error))

    def renew_if(self, is_due: Callable[[], bool], connection: Refreshable) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""
        with self.lock:
            if is_due():
                self.renew(connection)

    def renew(self, connection: Refreshable, *, is_last: bool = True) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Nothing else is applied: credentials that came with another endpoint are for that one.

        Args:
            connection: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not applied.
        """
        registry_state = self._registry.registry_state
        current: object = registry_state.pool.managed(connection.alias)
        if current is not connection:
            return None
        read = self._read(connection.spec)  # without a lock: it may take long
        with connection.rotating:
            spec = read and with_newer_credentials(connection.spec, read)
            if spec is None or not connection.is_open:
                return None
            try:
                connection.apply(spec)
            except ClosedError:
                return None
            except ZConfigError as error:
                if is_last:
                    self._registry.enqueue(rotation_refused(connection.alias, error))
                return error
        with self._table_lock:
            if connection.spec is spec and spec.alias in registry_state.table:
                registry_state.table.add(spec)
        return None

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused.

        Their source is read again, unless another thread has done so; what is found counts.

        Args:
            spec: What was refused.
        """
        registry_state = self._registry.registry_state
        is_news = registry_state.table.find(spec.alias) == spec
        read = self._read(spec) if is_news else None
        newer = read and with_newer_credentials(spec, read)
        with self._table_lock:
            current = registry_state.table.find(spec.alias)
            if newer and current == spec:
                registry_state.table.add(newer)
                return newer
        return current and with_newer_credentials(spec, current)

    def _read(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the source of credentials again; return what is configured now, if anything is."""
        registry_state = self._registry.registry_state
        if spec.alias in registry_state.added:
            return None
        sources = {spec.origins[name].source for name in CREDENTIALS if name in spec.origins}
        remote = registry_state.table.configuration.remote
        known = [result for result in remote if result.name not in sources]
        read = SpecTable(self._load_beside(known))
        return read.spec(spec.alias) if spec.alias in read else None
