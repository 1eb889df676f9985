"""What is configured and what is open, kept together: the engine behind `connections`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from zconfig.dispatch import Dispatcher
from zconfig.errors import ZConfigError
from zconfig.patience import Patience
from zconfig.redaction import RecentSecrets, Secret
from zconfig.registry.announce import announcements, forked, given_in_code, removed
from zconfig.registry.bookkeeper import Bookkeeper
from zconfig.registry.forks import guard_forks, import_grpc
from zconfig.registry.keeper import Chore, Keeper
from zconfig.registry.pool import Place, Pool
from zconfig.registry.rereading import Rereading
from zconfig.registry.retry import Retries, Retry
from zconfig.registry.scene import Scene, situation
from zconfig.registry.table import Table
from zconfig.settings.arguments import check_seconds
from zconfig.settings.configuration import Configuration
from zconfig.sources.entry import Reading
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig import events
    from zconfig.connection import Connection, Lifecycle
    from zconfig.registry.reload import Changes
    from zconfig.registry.stats import AliasState, AliasStats


class Registry:
    """Reads the configuration, opens what it names, and applies what changes.

    Attributes:
        scene: What there is now.

    Args:
        load: Reads the configuration; it raises nothing for what is wrong in it.
        at_first: Reads what can be read without the network, which is all that is read until the
            first use.
        has_changed: Whether `at_first` would read something else now; asked on the first use.
        load_beside: Reads it again, but for the sources of which it is given what they said.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        at_first: Callable[[], Configuration] | None = None,
        has_changed: Callable[[], bool] | None = None,
        load_beside: Callable[[Sequence[Reading]], Configuration] | None = None,
    ) -> None:
        self._dispatcher = Dispatcher()
        self._bookkeeper = Bookkeeper()
        self._dispatcher.subscribe(self._bookkeeper)
        self._has_changed = has_changed
        self.scene = self._make_scene((at_first or load)())
        self._set_aside: list[Scene] = []
        load_beside = load_beside or (lambda _: load())
        self._rereading = Rereading(self, load, at_first, has_changed, load_beside)
        self._keeper = Keeper(self._chores)
        self._recent = RecentSecrets()
        self._announcing = threading.RLock()
        self._unannounced: deque[Callable[[], Iterable[events.Event]]] = deque()
        self._is_announced = False
        self.announce_instead(self.known.snapshot())

    @property
    def pool(self) -> Pool:
        """What is open."""
        return self.scene.pool

    @property
    def table(self) -> Table:
        """What is configured; the first use reads what was not read on import, or has changed."""
        if self._rereading.is_first and not self._set_aside:
            guard_forks(self)
            self._rereading.read_on_first_use()
        return self.scene.table

    @property
    def known(self) -> Table:
        """What is configured, as far as it has been read."""
        return self.scene.table

    def read_changes(self) -> None:
        """Read what has changed since the import, if nothing was used yet; not over the network."""
        if self._rereading.is_first and not self._set_aside:
            guard_forks(self)
            self._rereading.read_changes()

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
        goes_on: bool = False,
    ) -> Connection:
        """Open a connection, unless it is open.

        Args:
            spec: What to connect to.
            wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
            timeout: Seconds for the connect; the alias' own by default.
            in_code: Whether just this is wanted, whatever is configured.
            goes_on: Whether it is tried again later.
        """
        self.announce()
        import_grpc()
        patience = self.patience(spec, wait, timeout)._replace(goes_on=goes_on)
        # What code gave is not replaced by what stands elsewhere.
        may_reread = not in_code or self.known.find(spec.alias) == spec
        return self.pool.open(spec, patience, is_firm=in_code, may_reread=may_reread)

    def patience(
        self, spec: ConnectionSpec, wait: float | None = None, timeout: float | None = None
    ) -> Patience:
        """Return how long to go on trying to open a connection; the arguments are `open`'s."""
        timeout_s = spec.timeout_s if timeout is None else timeout
        wait_s = self.table.configuration.options.wait if wait is None else wait
        check_seconds(spec.alias, timeout=timeout_s, wait=wait_s)
        self.remember(spec.secrets)
        return Patience.from_now(timeout_s, wait_s)

    def add(self, spec: ConnectionSpec) -> None:
        """Take a specification from code; it replaces what was read for its alias."""
        is_new = self.scene.added.get(spec.alias) != spec
        self.scene.added[spec.alias] = spec
        self.table.add(spec)
        for event in given_in_code(spec) if is_new else ():
            self.emit(event)

    def close(self, alias: str) -> None:
        """Close an alias; it is tried in the background no longer."""
        self.scene.retries.end(alias)
        self.pool.close(alias)

    def close_all(self) -> None:
        """Close every alias."""
        for alias in self.scene.retries.aliases():
            self.scene.retries.end(alias)
        self.pool.close_all()

    def remove(self, alias: str) -> None:
        """Close an alias, and forget what is configured for it."""
        self.close(alias)
        self.scene.added.pop(alias, None)
        if spec := self.table.remove(alias):
            self.emit(removed(spec))

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """For the time of a `with` block, have nothing configured and nothing open."""
        self.remember(self.secrets())
        self._set_aside.append(self.scene)
        self.scene = self._make_scene(Configuration())
        try:
            yield
        finally:
            self.close_all()
            self.scene = self._set_aside.pop()

    # --- in the background ------------------------------------------------------------------

    def keep_trying(self, failures: Mapping[str, ZConfigError | None]) -> None:
        """Have aliases opened in the background, tried until they can be; return at once.

        Args:
            failures: By alias, why it could not be opened just now, if it was tried.
        """
        for alias, error in failures.items():
            self.scene.retries.begin(alias, error)
        if failures:
            self._keeper.call()

    def _try_again(self, retry: Retry) -> None:
        scene, alias = self.scene, retry.alias
        if scene.retries.find(alias) is not retry:
            return  # it was closed meanwhile
        try:
            self.open(self.table.spec(alias), wait=0, goes_on=True)
        except ZConfigError as error:
            lifecycle = scene.pool.lifecycle(alias)
            if scene.retries.find(alias) is retry:
                event = retry.put_off(error)
                if event and lifecycle:
                    lifecycle.tell_of_failure(event)
        else:
            scene.retries.end(alias)

    def _chores(self) -> Sequence[Chore]:
        scenes = (*self._set_aside, self.scene)
        watches = [each.watch for scene in scenes for each in scene.pool.live()]
        return [*watches, *self.scene.retries.outstanding(self.pool.find)]

    # --- how it goes ------------------------------------------------------------------------

    def state(self, alias: str) -> AliasState:
        """Return what an alias is doing."""
        return situation(self.scene, alias).state

    def stats(self, alias: str) -> AliasStats:
        """Return how it goes with an alias, on whatever it is open."""
        state, since, trouble = situation(self.scene, alias)
        required = self.known.spec(alias).required
        return self._bookkeeper.stats(alias, state, since, trouble, required=required)

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        self._bookkeeper.note_round_trip(alias, round_trip_ms)

    # --- reading again ----------------------------------------------------------------------

    def reload(self) -> Changes:
        """Read the configuration again, apply what changed, and return that."""
        return self._rereading.reload()

    def renew(self, lifecycle: Lifecycle, *, is_last: bool = True) -> ZConfigError | None:
        """Read the credentials of a connection again; see `Rereading.renew`.

        The event is put, for the caller to have it delivered.
        """
        return self._rereading.renew(lifecycle, is_last=is_last)

    def renew_if(self, is_due: Callable[[], bool], lifecycle: Lifecycle) -> None:
        """Read the credentials of a connection again if that is due; see `Rereading.renew_if`."""
        self._rereading.renew_if(is_due, lifecycle)

    def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with newer credentials; see `Rereading.newer`."""
        return self._rereading.newer(spec)

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return one with other credentials than were refused; see `Rereading.reread`."""
        return self._rereading.reread(spec)

    # --- what connections need --------------------------------------------------------------

    def emit(self, event: events.Event) -> None:
        """Hand an event to every hook, after those that came before."""
        self.announce()
        self._dispatcher.emit(event)

    def put(self, event: events.Event) -> None:
        """Take an event that is to be delivered; no hook is called."""
        self._dispatcher.put(event)

    def deliver(self, *aliases: str) -> None:
        """Have hooks told of what was put, and before it of what was read."""
        self.announce()
        self._dispatcher.deliver(*aliases)

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
                    told[self._dispatcher.put(event)] = None
            self._is_announced = True
        self._dispatcher.deliver(*told)

    def announce_instead(self, table: Table) -> None:
        """Have the next use report what was read now, and no more what was read before."""
        self._unannounced = deque([partial(announcements, table)])
        self._is_announced = False

    def attend(self, *, at_once: bool) -> None:
        """Have what is open looked after, in another thread; return at once."""
        self._keeper.call(at_once=at_once)

    def after_fork(self) -> None:
        """Forget, in a child process, what its parent opened; it opens again on use."""
        self._announcing = threading.RLock()
        self._rereading.after_fork()
        self._dispatcher.after_fork()
        self._keeper.after_fork()
        self._bookkeeper.after_fork()
        abandoned: list[str] = []
        for scene in (*self._set_aside, self.scene):
            abandoned += scene.pool.abandon()
            scene.table.after_fork()
        if abandoned:
            self._unannounced.append(partial(forked, tuple(abandoned)))
            self._is_announced = False

    def _make(self, spec: ConnectionSpec, ready: dict[str, Connection]) -> Place:
        # It needs grpc, which importing us must not.
        from zconfig.connection import Connection, Lifecycle, Sign

        lifecycle = Lifecycle(spec, self)
        connection = Connection(lifecycle)
        lifecycle.sign = Sign(ready, spec.alias, connection)
        return Place(lifecycle, connection)

    def _make_scene(self, configuration: Configuration) -> Scene:
        retries = Retries(partial(Retry, again=self._try_again))
        table = Table(configuration, is_outdated=self._has_changed)
        return Scene(table, Pool(self._make), retries)
