"""The configuration and its open connections: the implementation of `connections`."""

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
    )
    from zconfig._registry.stats import AliasState, AliasStats


class Registry:
    """Reads the configuration, opens its connections, and applies its changes.

    Attributes:
        registry_state: The current state.
        ready: The open connections by alias, for `connections["x"]`.

    Args:
        load: Reads the configuration, and returns its problems without raising.
        local_loader: Reads the sources that need no network, before the first use.
        has_changed: Returns whether `local_loader` would read other values now; called on the
            first use.
        load_beside: Reads the configuration again, except for sources whose results are passed.
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
        """The connections."""
        return self.registry_state.pool

    @property
    def table(self) -> SpecTable:
        """The configured aliases; the first use reads remote sources and changed local ones."""
        if self._reloader.is_first and not self.is_overridden:
            guard_forks(self)
            self._reloader.read_on_first_use()
        return self.registry_state.table

    @property
    def known(self) -> SpecTable:
        """The configured aliases, as far as they have been read."""
        return self.registry_state.table

    @property
    def is_overridden(self) -> bool:
        """Whether an override is in effect: sources are not read then."""
        return bool(self._overridden)

    @property
    def is_config_published(self) -> bool:
        """Whether the configuration events are published, so that `publish_config` returns."""
        return self._is_published

    def read_changes(self) -> None:
        """Read local sources that changed since the import, before the first use only."""
        if self._reloader.is_first and not self.is_overridden:
            guard_forks(self)
            self._reloader.read_changes()

    def subscribe(
        self, hook: Callable[[events.E], object], kinds: events.Kinds[events.E] | None = None
    ) -> Callable[[], None]:
        """Add a hook, and return a function that removes it."""
        return self._dispatcher.subscribe(hook, kinds)

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret of the configuration, valid or not, and those used recently."""
        known = self.known
        configured = (secret for _, spec in known.items() for secret in spec.secrets)
        return (*configured, *known.configuration.secrets, *self._recent)

    def remember(self, secrets: Iterable[Secret]) -> None:
        """Record secrets to mask that are not, or soon no longer, part of the configuration."""
        self._recent.add(secrets)

    def open(
        self,
        spec: ConnectionSpec,
        intent: ConnectIntent,
        has_left: threading.Event | None = None,
    ) -> Connection:
        """Return the open connection of an alias; connect first if necessary.

        Args:
            spec: The specification of the alias.
            intent: The arguments of the connect.
            has_left: The event that the caller passes to `leave` to give up.

        Raises:
            ConflictError: The specification was passed in code, and the alias is open with
                another one.
            ConnectError: Connecting failed; the class names the cause.
            ClosedError: It was closed while it was being opened.
        """
        slot = self.pool.slot(spec)
        slot.managed.open(intent, has_left)
        return slot.connection

    def connect(self, spec: ConnectionSpec) -> Connection:
        """Connect with a specification passed in code, and add it; Ctrl-C does not separate them.

        Raises:
            ConflictError: The alias is open with another specification.
            ConnectError: Connecting failed; the class names the cause.
            ClosedError: It was closed while it was being opened.
        """
        intent = self.intent(spec, in_code=True)
        slot, has_left = self.pool.slot(spec), threading.Event()
        connect = partial(self.open_and_add, slot.managed, spec, intent, has_left)
        run_interruptibly(connect, partial(slot.managed.leave, has_left))
        return slot.connection

    def open_and_add(
        self,
        managed: ManagedConnection,
        spec: ConnectionSpec,
        intent: ConnectIntent,
        has_left: threading.Event,
    ) -> None:
        """Connect with a specification passed in code, and then add it; see `connect`."""
        self._warn(spec)
        managed.open(intent, has_left)
        if managed.spec == spec or not intent.may_reread:  # not after a refresh of the credentials
            self._add(spec)

    def intent(
        self,
        spec: ConnectionSpec,
        wait: float | None = None,
        timeout: float | None = None,
        *,
        in_code: bool = False,
        in_background: bool = False,
    ) -> ConnectIntent:
        """Return the arguments of a connect, after publishing the configuration events.

        Args:
            spec: The specification to connect with.
            wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
            timeout: Seconds for the connect; by default the alias' `TIMEOUT`.
            in_code: Whether the specification was passed in code, and replaces the configured one.
            in_background: Whether the connect is retried later.
        """
        self.publish_config()
        import_grpc()
        from zconfig._connection import ConnectIntent

        # Credentials passed in code are not replaced by those of another source.
        may_reread = not in_code or self.known.find(spec.alias) == spec
        budget = self._budget(spec, wait, timeout)
        return ConnectIntent(budget, spec if in_code else None, may_reread, in_background)

    def _budget(
        self, spec: ConnectionSpec, wait: float | None, timeout: float | None
    ) -> ConnectBudget:
        timeout_s = spec.timeout_s if timeout is None else timeout
        wait_s = self.table.configuration.options.wait if wait is None else wait
        check_seconds(spec.alias, timeout=timeout_s, wait=wait_s)
        self.remember(spec.secrets)
        return ConnectBudget.from_now(timeout_s, wait_s)

    def add(self, spec: ConnectionSpec) -> None:
        """Add a specification passed in code; it replaces the configured one of its alias."""
        self._warn(spec)
        self._add(spec)

    def _warn(self, spec: ConnectionSpec) -> None:
        """Publish the warnings about a specification, unless it is already added."""
        is_new = self.registry_state.added.get(spec.alias) != spec
        for event in warnings_of(spec) if is_new else ():
            self.publish(event)

    def _add(self, spec: ConnectionSpec) -> None:
        _ = self.table  # the first use may reload, which takes the lock itself
        with self._reloader.table_lock:
            self.registry_state.added[spec.alias] = spec
            self.known.add(spec)

    def close(self, alias: str) -> None:
        """Close an alias, and stop retrying it."""
        self.registry_state.retries.end(alias)
        self.pool.close(alias)

    def close_all(self) -> None:
        """Close every alias, and stop retrying them."""
        for alias in self.registry_state.retries.aliases():
            self.registry_state.retries.end(alias)
        self.pool.close_all()

    def remove(self, alias: str) -> None:
        """Remove the configuration of an alias, and then close it, so that no use reopens it."""
        _ = self.table  # as in `_add`
        with self._reloader.table_lock:
            self.registry_state.added.pop(alias, None)
            spec = self.known.remove(alias)
        self.close(alias)
        if spec:
            self.publish(removed(spec))

    @contextmanager
    def overridden(self) -> Iterator[None]:
        """Use an empty configuration during a `with` block, without any open connection."""
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
        """Retry aliases in the background until they connect; return immediately.

        Args:
            failures: The error of each alias' latest attempt; `None` before the first.
        """
        for alias, error in failures.items():
            self.registry_state.retries.begin(alias, error)
        if failures:
            self._worker.call()

    def _try_again(self, retry: Retry) -> None:
        registry_state, alias = self.registry_state, retry.alias
        if registry_state.retries.find(alias) is not retry:
            return  # the alias was closed meanwhile
        try:
            spec = self.table.spec(alias)
            intent = self.intent(spec, wait=0, in_background=True)
            slot = registry_state.pool.slot(spec)
            if registry_state.retries.find(alias) is not retry:
                return  # the alias was closed while the configuration was read
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

    # --- status -----------------------------------------------------------------------------

    def state(self, alias: str) -> AliasState:
        """Return the state of an alias."""
        return slot_status(self.registry_state, alias).state

    def stats(self, spec: ConnectionSpec) -> AliasStats:
        """Return the statistics of an alias."""
        state, since, last_error = slot_status(self.registry_state, spec.alias)
        return self._collector.stats(spec.alias, state, since, last_error, required=spec.required)

    # --- reload -----------------------------------------------------------------------------

    def reload(self) -> Changes:
        """Read the configuration again, apply the changes, and return them."""
        return self._reloader.reload()

    # --- services for connections -----------------------------------------------------------

    def publish(self, event: events.Event) -> None:
        """Publish the configuration events, if necessary, and then an event."""
        self.publish_config()
        self._dispatcher.publish(event)

    def relay(self, event: events.Event) -> None:
        """Publish an event of another registry."""
        self._dispatcher.publish(event)

    def enqueue(self, event: events.Event) -> None:
        """Add an event to the queue of its alias; no hook is called."""
        self._dispatcher.enqueue(event)

    def flush(self, *aliases: str) -> None:
        """Publish the configuration events, if necessary, and then the enqueued events."""
        self.publish_config()
        self._dispatcher.flush(*aliases)

    def publish_config(self) -> None:
        """Publish the configuration events, once, on the first use.

        They are not published on import, before the application has set up its logging.
        """
        guard_forks(self)
        _ = self.table
        if self._is_published:
            return
        told: dict[str | None, None] = {}
        with self._publishing:  # other threads wait until all events are enqueued
            while self._unpublished:
                for event in self._unpublished.popleft()():
                    told[self._dispatcher.enqueue(event)] = None
            self._is_published = True
        self._dispatcher.flush(*told)

    def queue_config_events(self, table: SpecTable) -> None:
        """Publish the events of a new configuration on the next use, instead of pending ones."""
        self._unpublished = deque([partial(events_of, table)])
        self._is_published = False

    def after_fork(self) -> None:
        """Drop the parent's channels, in a forked child; connections reconnect on use."""
        abandoned: list[str] = []
        for registry_state in (*self._overridden, self.registry_state):
            abandoned += registry_state.pool.abandon()
        if abandoned:
            self._unpublished.append(partial(forked, tuple(abandoned)))
            self._is_published = False

    def _make(
        self, state: RegistryState, spec: ConnectionSpec, ready: dict[str, Connection]
    ) -> Slot:
        # Imported here, since it needs grpc, and `import zconfig` must not import grpc.
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
            elif ready.get(spec.alias) is connection:  # not if another one has replaced it
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
        registry: The registry.
        load: Reads the configuration, and returns its problems without raising.
        local_loader: Reads the sources that need no network, if only these were read so far.
        has_changed: Returns whether `local_loader` would read other values now.
        load_beside: Reads the configuration again, except for sources whose results are passed.

    Attributes:
        is_first: Whether the registry has not been used yet.
    """

    lock = PerProcess(threading.RLock)  # held while a whole configuration is read
    table_lock = PerProcess(threading.Lock)  # held briefly, while the table is changed

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
        """Read, once, the local sources that changed since the import, and the remote sources."""
        with self.lock:
            if self.is_first:
                self.read_changes()
                if has_remote(self._registry.registry_state.table.configuration.options):
                    self._replace(self._load())
            self.is_first = False

    def read_changes(self) -> None:
        """Read the local sources again, once, if they may have changed since the import.

        A file that was missing or invalid then may have been written meanwhile.
        """
        has_changed = self._has_changed
        if has_changed is None:
            return  # without the lock, which a thread may hold while it reads remote sources
        with self.lock:
            configuration = self._registry.known.configuration
            is_faulty = bool(configuration.errors) or not configuration.aliases
            if self._at_first and self.is_first and (is_faulty or has_changed()):
                self._replace(self._at_first())
            self._has_changed = None

    def _replace(self, configuration: Configuration) -> None:
        registry_state = self._registry.registry_state
        registry_state.table = SpecTable(configuration, registry_state.added, self._is_outdated)
        self._registry.queue_config_events(registry_state.table.snapshot())

    def reload(self) -> Changes:
        """Read the configuration again, apply the changes, and return them."""
        registry = self._registry
        registry.publish_config()
        with self.lock:
            registry.remember(registry.secrets())
            old, registry_state = registry.table, registry.registry_state
            configuration = Configuration() if registry.is_overridden else self._load()
            read = SpecTable(configuration, registry_state.added)
            kept = wrong_but_known(old, read)
            new = SpecTable(read.configuration, {**kept, **registry_state.added})
            self._rotate(new, registry_state.pool)
            with self.table_lock:
                # Connections whose rotation failed, or that applied newer credentials meanwhile,
                # keep their specification.
                kept |= {alias: each.spec for alias, each in registry_state.pool.differing(new)}
                overrides, before = {**kept, **registry_state.added}, old.snapshot()
                registry_state.table = SpecTable(read.configuration, overrides, self._is_outdated)
            registry_state.pool.reopen(registry_state.table)
            changes = compare(before, registry_state.table, tuple(kept))
        registry.flush(*new)
        for alias in changes.removed:
            registry_state.retries.end(alias)
            registry_state.pool.close(alias)
            registry.publish(removed(before.spec(alias)))
        for event in events_of(registry_state.table, only=(*changes.added, *changes.changed)):
            registry.publish(event)
        return changes

    def _rotate(self, new: SpecTable, pool: Pool) -> None:
        """Apply new specifications to the open connections that need no reconnect."""
        for alias, managed in pool.differing(new):
            try:
                with managed.rotating:
                    managed.apply(new.spec(alias))
            except ClosedError:
                continue
            except ZConfigError as error:
                self._registry.enqueue(rotation_refused(alias, error))

    def renew_if(self, is_due: Callable[[], bool], connection: Refreshable) -> None:
        """Call `renew`, if it is still due after a reload in progress."""
        with self.lock:
            if is_due():
                self.renew(connection)

    def renew(self, connection: Refreshable, *, is_last: bool = True) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Credentials are not applied if other fields changed too: with another endpoint, they belong
        to that endpoint.

        Args:
            connection: The connection.
            is_last: Whether to report a rejection as an event, because no retry follows.

        Returns:
            The error if new credentials were not applied.
        """
        registry_state = self._registry.registry_state
        current: object = registry_state.pool.managed(connection.alias)
        if current is not connection:
            return None
        read = self._read(connection.spec)  # without a lock, since it may take long
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
        with self.table_lock:
            if connection.spec is spec and spec.alias in registry_state.table:
                registry_state.table.add(spec)
        return None

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with new credentials in place of rejected ones, if any.

        It reads the source again, unless another thread has done so, and updates the table.

        Args:
            spec: The rejected specification.
        """
        registry_state = self._registry.registry_state
        is_news = registry_state.table.find(spec.alias) == spec
        read = self._read(spec) if is_news else None
        newer = read and with_newer_credentials(spec, read)
        with self.table_lock:
            current = registry_state.table.find(spec.alias)
            if newer and current == spec:
                registry_state.table.add(newer)
                return newer
        return current and with_newer_credentials(spec, current)

    def _read(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the source of credentials again; return the specification, if it is configured."""
        registry_state = self._registry.registry_state
        if spec.alias in registry_state.added:
            return None
        sources = {spec.origins[name].source for name in CREDENTIALS if name in spec.origins}
        remote = registry_state.table.configuration.remote
        known = [result for result in remote if result.name not in sources]
        read = SpecTable(self._load_beside(known))
        return read.spec(spec.alias) if spec.alias in read else None
