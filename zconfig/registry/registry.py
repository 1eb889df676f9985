"""What is configured and what is open, kept together: the engine behind `connections`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from zconfig.dispatch import Dispatcher
from zconfig.errors import ClosedError, ZConfigError
from zconfig.patience import Patience
from zconfig.redaction import Hidden, RecentSecrets
from zconfig.registry.announce import announcements, forked, removed, rotation_refused
from zconfig.registry.bookkeeper import Bookkeeper
from zconfig.registry.forks import guard_forks, import_grpc
from zconfig.registry.keeper import Chore, Keeper
from zconfig.registry.pool import Place, Pool
from zconfig.registry.retry import Retries, Retry
from zconfig.registry.scene import Scene, situation
from zconfig.registry.table import Table
from zconfig.settings.arguments import check_seconds
from zconfig.settings.configuration import Configuration
from zconfig.settings.load import has_remote
from zconfig.spec import ConnectionSpec, differences

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
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        at_first: Callable[[], Configuration] | None = None,
    ) -> None:
        self._load = load
        self._may_lack = at_first is not None
        self._dispatcher = Dispatcher()
        self._bookkeeper = Bookkeeper()
        self._dispatcher.subscribe(self._bookkeeper)
        self.scene = self._make_scene((at_first or load)())
        self._set_aside: list[Scene] = []
        self._reloading = threading.RLock()
        self._keeper = Keeper(self._chores)
        self._recent = RecentSecrets()
        self._unannounced: deque[Callable[[], Iterable[events.Event]]] = deque()
        self._unannounced.append(partial(announcements, Table(self.known.configuration)))
        self._is_announced = False
        self._announcing = threading.RLock()

    @property
    def pool(self) -> Pool:
        """What is open."""
        return self.scene.pool

    @property
    def table(self) -> Table:
        """What is configured; on the first use also what only the network can tell."""
        if self._may_lack:
            guard_forks(self)
            with self._reloading:
                self._read_what_lacks()
        return self.scene.table

    @property
    def known(self) -> Table:
        """What is configured, as far as it has been read."""
        return self.scene.table

    def subscribe(
        self, hook: Callable[[events.E], object], kinds: events.Kinds[events.E] | None = None
    ) -> Callable[[], None]:
        """Have a hook called with events; return a function that takes it out again."""
        return self._dispatcher.subscribe(hook, kinds)

    def secrets(self) -> tuple[Hidden, ...]:
        """Return every secret that is configured, right or wrong, or was met lately."""
        specs = map(self.known.spec, self.known)
        configured = (secret for spec in specs for secret in spec.secrets)
        return (*configured, *self.known.configuration.secrets, *self._recent)

    def remember(self, secrets: Iterable[Hidden]) -> None:
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
        self.scene.added[spec.alias] = spec
        self.table.add(spec)

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
            if scene.retries.find(alias) is retry:
                event = retry.put_off(error)
                if event:
                    self.emit(event)
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
        from zconfig.registry.reload import compare, wrong_but_known

        self.announce()
        with self._reloading:
            self.remember(self.secrets())
            old, scene = self.table, self.scene
            read = Table(self._load(), scene.added)
            kept = wrong_but_known(old, read)
            new = Table(read.configuration, {**kept, **scene.added})
            refused = self._apply(new, scene.pool)
            kept |= refused
            scene.table = Table(read.configuration, {**kept, **scene.added})
            changes = compare(old, scene.table, tuple(kept))
        self._dispatcher.deliver(*new)
        for alias in changes.removed:
            scene.retries.end(alias)
            scene.pool.close(alias)
            self.emit(removed(old.spec(alias)))
        for event in announcements(scene.table, only=(*changes.added, *changes.changed)):
            self.emit(event)
        return changes

    def _apply(self, new: Table, pool: Pool) -> dict[str, ConnectionSpec]:
        """Have connections take up their specifications; return those that stay.

        The events are put, for the caller to have them delivered.
        """
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
                self.put(rotation_refused(alias, error))
        return refused

    def renew(
        self,
        lifecycle: Lifecycle,
        is_due: Callable[[], bool] = lambda: True,
        *,
        is_last: bool = True,
    ) -> bool:
        """Read the credentials of a connection again, and rotate if they are new.

        Nothing else is taken up: credentials that came with another endpoint are for that one.
        The event is put, for the caller to have it delivered.

        Args:
            lifecycle: The connection.
            is_due: Whether it is still wanted, asked once no other thread reads.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Whether there are new ones that were refused.
        """
        alias = lifecycle.alias
        with self._reloading:
            scene = self.scene
            if scene.pool.lifecycle(alias) is not lifecycle or not is_due():
                return False
            spec = self.newer(lifecycle.spec)
            if spec is None or not lifecycle.is_open:
                return False
            try:
                lifecycle.take_up(spec)
            except ClosedError:
                return False
            except ZConfigError as error:
                if is_last:
                    self.put(rotation_refused(alias, error))
                return True
            scene.table.add(spec)
            return False

    def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the sources again; return a specification with the newer credentials in them.

        Args:
            spec: What is live.

        Returns:
            `None` if there are none, or if more than the credentials is different.
        """
        if spec.alias in self.scene.added:
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
        with self._reloading:
            current = self.known.find(spec.alias)
            if current is None:
                return None
            if current != spec:
                return current if differences(spec, current) == ("credentials",) else None
            newer = self.newer(spec)
            if newer:
                self.scene.table.add(newer)
            return newer

    def _read_what_lacks(self) -> None:
        if self._may_lack and has_remote(self.known.configuration.options):
            self.scene.table = Table(self._load(), self.scene.added)
            read = Table(self.known.configuration, self.scene.added)
            self._unannounced, self._is_announced = deque([partial(announcements, read)]), False
        self._may_lack = False

    # --- what connections need --------------------------------------------------------------

    def emit(self, event: events.Event) -> None:
        """Hand an event to every hook, after those that came before."""
        self.announce()
        self._dispatcher.emit(event)

    def put(self, event: events.Event) -> None:
        """Take an event that is to be delivered; no hook is called."""
        self._dispatcher.put(event)

    def deliver(self, alias: str) -> None:
        """Have hooks told of what was put, and before it of what was read."""
        self.announce()
        self._dispatcher.deliver(alias)

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

    def attend(self, *, at_once: bool) -> None:
        """Have what is open looked after, in another thread; return at once."""
        self._keeper.call(at_once=at_once)

    def after_fork(self) -> None:
        """Forget, in a child process, what its parent opened; it opens again on use."""
        self._reloading, self._announcing = threading.RLock(), threading.RLock()
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
        return Scene(Table(configuration), Pool(self._make), retries)
