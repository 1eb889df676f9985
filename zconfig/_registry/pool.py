"""The connections of a registry, by alias."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from zconfig._deadline import ConnectBudget
from zconfig._registry.background import Retries, Retry
from zconfig._registry.specs import SpecTable
from zconfig._spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig._connection import Connection, ManagedConnection
    from zconfig._connection.managed import Stateful
    from zconfig._registry.stats import AliasState


class Slot(NamedTuple):
    """What stands for an alias.

    Args:
        managed: Opens, keeps and closes its connection.
        connection: What is handed out.
    """

    managed: ManagedConnection
    connection: Connection


class Pool:
    """One connection an alias; it outlives reloads and forks, until it is closed.

    Attributes:
        ready: What is open, by alias; who finds nothing here has to ask.

    Args:
        make: Makes a connection, unopened, that shows itself in `ready`.
    """

    def __init__(self, make: Callable[[ConnectionSpec, dict[str, Connection]], Slot]) -> None:
        self._make = make
        self.ready: dict[str, Connection] = {}
        self._lock = threading.Lock()  # writers only
        self._places: dict[str, Slot] = {}

    def find(self, alias: str) -> Connection | None:
        """Return the open connection of an alias, without taking a lock."""
        place = self._places.get(alias)
        return place.connection if place and place.managed.is_open else None

    def open(
        self, spec: ConnectionSpec, budget: ConnectBudget, *, is_firm: bool, may_reread: bool
    ) -> Connection:
        """Return the open connection of an alias, opening it if there is none.

        Args:
            spec: What to connect to.
            budget: How long to go on trying.
            is_firm: Whether just this is wanted, whatever is open.
            may_reread: Whether credentials that are refused may be replaced by newer ones.

        Raises:
            ConflictError: The alias is live with another specification than is firmly wanted.
            ConnectError: It cannot be opened; its class names the cause.
            ClosedError: It was closed while it was opened.
        """
        place = self._place(spec)
        place.managed.open(budget, spec, is_firm=is_firm, may_reread=may_reread)
        return place.connection

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that an alias is not live, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if place := self._places.get(spec.alias):
            place.managed.check(spec)

    def managed(self, alias: str) -> ManagedConnection | None:
        """Return what opens and closes the connection of an alias, if it ever was opened."""
        place = self._places.get(alias)
        return place.managed if place else None

    def live(self) -> Sequence[ManagedConnection]:
        """Return everything that is open."""
        return [place.managed for place in self._all() if place.managed.is_open]

    def cancel(self, alias: str) -> None:
        """End the connect of an alias that is under way; leave it alone if it is live."""
        if place := self._places.get(alias):
            place.managed.cancel()

    def close(self, alias: str) -> None:
        """Close an alias, be it live or being opened; nothing happens if it is neither."""
        with self._lock:
            place = self._places.pop(alias, None)
        if place:
            place.managed.close()

    def close_all(self) -> None:
        """Close every alias."""
        for alias in tuple(self._places):
            self.close(alias)

    def abandon(self) -> tuple[str, ...]:
        """Forget what is the parent's, in a child process; return the aliases it had opened."""
        self._lock = threading.Lock()
        places = self._places.items()
        return tuple(alias for alias, place in places if place.managed.abandon())

    def _place(self, spec: ConnectionSpec) -> Slot:
        """Return what stands for an alias; closing makes room for another one."""
        with self._lock:
            place = self._places.get(spec.alias)
            if place is None or place.managed.is_closed:
                place = self._places[spec.alias] = self._make(spec, self.ready)
            return place

    def _all(self) -> Sequence[Slot]:
        with self._lock:
            return tuple(self._places.values())


class RegistryState:
    """What one configuration has: an override sets it aside, and puts it back.

    Args:
        table: What is configured.
        pool: What is open.
        retries: What could not be opened, and is tried again.

    Attributes:
        added: What code added to what was read.
        loops: What is open on event loops, by loop; `zconfig.aio` keeps it.
        since: Seconds since the epoch, at which it was made.
    """

    __slots__ = ("added", "loops", "pool", "retries", "since", "table")

    def __init__(self, table: SpecTable, pool: Pool, retries: Retries[Retry]) -> None:
        self.table = table
        self.pool = pool
        self.retries = retries
        self.added: dict[str, ConnectionSpec] = {}
        self.loops: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.since = time.time()


class SlotStatus(NamedTuple):
    """What an alias is doing.

    Args:
        state: The state.
        since: Seconds since the epoch, at which it came into it.
        last_error: Why it is lost or tried again.
    """

    state: AliasState
    since: float
    last_error: str = ""


def slot_status(registry_state: RegistryState, alias: str) -> SlotStatus:
    """Return what an alias is doing, on threads and event loops; the worst that is open counts."""
    # A loop that does not run knows nothing new of its own; `keyrefs` is a list, whoever adds one.
    loops = [
        loop for ref in registry_state.loops.keyrefs() if (loop := ref()) and loop.is_running()
    ]
    loop_pools = [
        home for loop in loops if (home := registry_state.loops.get(loop)) and not home.is_over
    ]
    places = [registry_state.pool.managed(alias), *(home.managed(alias) for home in loop_pools)]
    retries = [
        registry_state.retries.find(alias),
        *(home.retries.find(alias) for home in loop_pools),
    ]
    return _worst(
        registry_state, [each for each in places if each], [each for each in retries if each]
    )


def _worst(
    registry_state: RegistryState, places: Sequence[Stateful], retries: Sequence[Retry]
) -> SlotStatus:
    by_state = {str(each.state): each for each in places}
    if lost := by_state.get("lost"):
        return SlotStatus("lost", lost.since, lost.last_error)
    if ready := by_state.get("ready"):
        return SlotStatus("connected", ready.since)
    if retries:
        return SlotStatus("retrying", retries[0].since, retries[0].last_error)
    if connecting := by_state.get("connecting"):
        return SlotStatus("connecting", connecting.since)
    return SlotStatus("idle", max((each.since for each in places), default=registry_state.since))
