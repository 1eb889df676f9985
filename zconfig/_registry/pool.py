"""The connections of a registry, by alias."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zconfig._per_process import PerProcess
from zconfig._registry.background import Retries
from zconfig._registry.specs import SpecTable, reopens
from zconfig._spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig._connection import Connection, ManagedConnection
    from zconfig._registry.stats import AliasState


class Slot(NamedTuple):
    """The connection of an alias.

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

    _lock = PerProcess(threading.Lock)  # writers only

    def __init__(self, make: Callable[[ConnectionSpec, dict[str, Connection]], Slot]) -> None:
        self._make = make
        self.ready: dict[str, Connection] = {}
        self._slots: dict[str, Slot] = {}

    def find(self, alias: str) -> Connection | None:
        """Return the open connection of an alias, without taking a lock."""
        slot = self._slots.get(alias)
        return slot.connection if slot and slot.managed.is_open else None

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that an alias is not live, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if slot := self._slots.get(spec.alias):
            slot.managed.check(spec)

    def managed(self, alias: str) -> ManagedConnection | None:
        """Return what opens and closes the connection of an alias, if it ever was opened."""
        slot = self._slots.get(alias)
        return slot.managed if slot else None

    def live(self) -> Sequence[ManagedConnection]:
        """Return everything that is open."""
        return [slot.managed for slot in self._all() if slot.managed.is_open]

    def cancel(self, alias: str) -> None:
        """End the connect of an alias that is under way; leave it alone if it is live."""
        if slot := self._slots.get(alias):
            slot.managed.cancel()

    def differing(self, new: SpecTable) -> Iterator[tuple[str, ManagedConnection]]:
        """Yield what is open with another specification that it can apply without a reconnect."""
        for alias in new:
            managed, spec = self.managed(alias), new.spec(alias)
            is_open = managed and managed.is_open and managed.spec != spec
            if managed and is_open and not reopens(managed.spec, spec):
                yield alias, managed

    def reopen(self, new: SpecTable) -> None:
        """Have everything else that differs open with the new specification on its next use."""
        for alias in new:
            managed, spec = self.managed(alias), new.spec(alias)
            if managed and managed.spec != spec:
                managed.replace_spec(spec)

    def close(self, alias: str) -> None:
        """Close an alias, be it live or being opened; nothing happens if it is neither."""
        with self._lock:
            slot = self._slots.pop(alias, None)
        if slot:
            slot.managed.close()

    def close_all(self) -> None:
        """Close every alias."""
        for alias in tuple(self._slots):
            self.close(alias)

    def abandon(self) -> tuple[str, ...]:
        """Forget what is the parent's, in a child process; return the aliases it had opened."""
        slots = self._slots.items()
        return tuple(alias for alias, slot in slots if slot.managed.abandon())

    def slot(self, spec: ConnectionSpec) -> Slot:
        """Return the connection of an alias, open or not; a new one where it was closed."""
        with self._lock:
            slot = self._slots.get(spec.alias)
            if slot is None or slot.managed.is_closed:
                slot = self._slots[spec.alias] = self._make(spec, self.ready)
            return slot

    def _all(self) -> Sequence[Slot]:
        with self._lock:
            return tuple(self._slots.values())


class RegistryState:
    """What one configuration has: an override sets it aside, and puts it back.

    Args:
        table: What is configured.
        pool: What is open.
        retries: What could not be opened, and is tried again.

    Attributes:
        added: What code added to what was read.
        since: Seconds since the epoch, at which it was made.
    """

    __slots__ = ("added", "pool", "retries", "since", "table")

    def __init__(self, table: SpecTable, pool: Pool, retries: Retries) -> None:
        self.table = table
        self.pool = pool
        self.retries = retries
        self.added: dict[str, ConnectionSpec] = {}
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
    """Return what an alias is doing."""
    managed = registry_state.pool.managed(alias)
    state = str(managed.state) if managed else "idle"
    if managed and state == "lost":
        return SlotStatus("lost", managed.since, managed.last_error)
    if managed and state == "ready":
        return SlotStatus("connected", managed.since)
    if retry := registry_state.retries.find(alias):
        return SlotStatus("retrying", retry.since, retry.last_error)
    if managed and state == "connecting":
        return SlotStatus("connecting", managed.since)
    return SlotStatus("idle", managed.since if managed else registry_state.since)
