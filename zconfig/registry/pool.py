"""The connections of a registry, by alias."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zconfig.patience import Patience
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection import Connection, Lifecycle


class Place(NamedTuple):
    """What stands for an alias.

    Args:
        lifecycle: Opens, keeps and closes its connection.
        connection: What is handed out.
    """

    lifecycle: Lifecycle
    connection: Connection


class Pool:
    """One connection an alias; it outlives reloads and forks, until it is closed.

    Attributes:
        ready: What is open, by alias; who finds nothing here has to ask.

    Args:
        make: Makes a connection, unopened, that shows itself in `ready`.
    """

    def __init__(self, make: Callable[[ConnectionSpec, dict[str, Connection]], Place]) -> None:
        self._make = make
        self.ready: dict[str, Connection] = {}
        self._lock = threading.Lock()  # writers only
        self._places: dict[str, Place] = {}

    def find(self, alias: str) -> Connection | None:
        """Return the open connection of an alias, without taking a lock."""
        place = self._places.get(alias)
        return place.connection if place and place.lifecycle.is_open else None

    def open(
        self, spec: ConnectionSpec, patience: Patience, *, is_firm: bool, may_reread: bool
    ) -> Connection:
        """Return the open connection of an alias, opening it if there is none.

        Args:
            spec: What to connect to.
            patience: How long to go on trying.
            is_firm: Whether just this is wanted, whatever is open.
            may_reread: Whether credentials that are refused may be replaced by newer ones.

        Raises:
            ConflictError: The alias is live with another specification than is firmly wanted.
            ConnectError: It cannot be opened; its class names the cause.
            ClosedError: It was closed while it was opened.
        """
        place = self._place(spec)
        place.lifecycle.open(patience, spec, is_firm=is_firm, may_reread=may_reread)
        return place.connection

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that an alias is not live, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if place := self._places.get(spec.alias):
            place.lifecycle.check(spec)

    def lifecycle(self, alias: str) -> Lifecycle | None:
        """Return what opens and closes the connection of an alias, if it ever was opened."""
        place = self._places.get(alias)
        return place.lifecycle if place else None

    def live(self) -> Sequence[Lifecycle]:
        """Return everything that is open."""
        return [place.lifecycle for place in self._all() if place.lifecycle.is_open]

    def cancel(self, alias: str) -> None:
        """End the connect of an alias that is under way; leave it alone if it is live."""
        if place := self._places.get(alias):
            place.lifecycle.cancel()

    def close(self, alias: str) -> None:
        """Close an alias, be it live or being opened; nothing happens if it is neither."""
        with self._lock:
            place = self._places.pop(alias, None)
        if place:
            place.lifecycle.close()

    def close_all(self) -> None:
        """Close every alias."""
        for alias in tuple(self._places):
            self.close(alias)

    def abandon(self) -> tuple[str, ...]:
        """Forget what is the parent's, in a child process; return the aliases it had opened."""
        self._lock = threading.Lock()
        places = self._places.items()
        return tuple(alias for alias, place in places if place.lifecycle.abandon())

    def _place(self, spec: ConnectionSpec) -> Place:
        """Return what stands for an alias; closing makes room for another one."""
        with self._lock:
            place = self._places.get(spec.alias)
            if place is None or place.lifecycle.is_closed:
                place = self._places[spec.alias] = self._make(spec, self.ready)
            return place

    def _all(self) -> Sequence[Place]:
        with self._lock:
            return tuple(self._places.values())
