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
        managed: The state of the connection.
        connection: The connection that applications use.
    """

    managed: ManagedConnection
    connection: Connection


class Pool:
    """The connections by alias; each outlives reloads and forks, until it is closed.

    Attributes:
        ready: The open connections, by alias.

    Args:
        make: Creates an unopened connection, which adds itself to `ready` when it opens.
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
        """Check that an alias is not open, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if slot := self._slots.get(spec.alias):
            slot.managed.check(spec)

    def leave(self, alias: str, has_left: threading.Event) -> None:
        """Give up the connect of a caller, before or after it has started."""
        has_left.set()
        if slot := self._slots.get(alias):
            slot.managed.leave(has_left)

    def managed(self, alias: str) -> ManagedConnection | None:
        """Return the managed connection of an alias, if there is one."""
        slot = self._slots.get(alias)
        return slot.managed if slot else None

    def live(self) -> Sequence[ManagedConnection]:
        """Return the open connections."""
        return [slot.managed for slot in self._all() if slot.managed.is_open]

    def cancel(self, alias: str) -> None:
        """Cancel the connect of an alias, if it is in progress."""
        if slot := self._slots.get(alias):
            slot.managed.cancel()

    def differing(self, new: SpecTable) -> Iterator[tuple[str, ManagedConnection]]:
        """Yield the open connections whose new specification needs no reconnect."""
        for alias, spec in new.items():
            managed = self.managed(alias)
            is_open = managed and managed.is_open and managed.spec != spec
            if managed and is_open and not reopens(managed.spec, spec):
                yield alias, managed

    def reopen(self, new: SpecTable) -> None:
        """Close the connections whose specification changed; they reconnect on their next use."""
        for alias, spec in new.items():
            managed = self.managed(alias)
            if managed and managed.spec != spec:
                managed.replace_spec(spec)

    def close(self, alias: str) -> None:
        """Close an alias, if it is open or being opened."""
        with self._lock:
            slot = self._slots.pop(alias, None)
        if slot:
            slot.managed.close()

    def close_all(self) -> None:
        """Close every alias."""
        for alias in tuple(self._slots):
            self.close(alias)

    def abandon(self) -> tuple[str, ...]:
        """Drop the parent's channels, in a forked child; return the aliases that were open."""
        slots = self._slots.items()
        return tuple(alias for alias, slot in slots if slot.managed.abandon())

    def slot(self, spec: ConnectionSpec) -> Slot:
        """Return the connection of an alias; create one if there is none or it was closed."""
        with self._lock:
            slot = self._slots.get(spec.alias)
            if slot is None or slot.managed.is_closed:
                slot = self._slots[spec.alias] = self._make(spec, self.ready)
            return slot

    def _all(self) -> Sequence[Slot]:
        with self._lock:
            return tuple(self._slots.values())


class RegistryState:
    """The state of one configuration, which an override replaces temporarily.

    Args:
        table: The configured aliases.
        pool: The connections.
        retries: The aliases that are retried in the background.

    Attributes:
        added: The specifications that were added in code.
        since: The time of its creation, in seconds since the epoch.
    """

    __slots__ = ("added", "pool", "retries", "since", "table")

    def __init__(self, table: SpecTable, pool: Pool, retries: Retries) -> None:
        self.table = table
        self.pool = pool
        self.retries = retries
        self.added: dict[str, ConnectionSpec] = {}
        self.since = time.time()


class SlotStatus(NamedTuple):
    """The status of an alias.

    Args:
        state: The state.
        since: The time of the latest state change, in seconds since the epoch.
        last_error: The error of an alias that is lost or retried.
    """

    state: AliasState
    since: float
    last_error: str = ""


def slot_status(registry_state: RegistryState, alias: str) -> SlotStatus:
    """Return the status of an alias."""
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
