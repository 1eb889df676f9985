"""The live connections, and the ones being opened: one connect per alias in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zconfig import events
from zconfig.errors import (
    ClosedError,
    ConflictError,
    ConnectError,
    Problem,
    ServerSilentError,
    ZConfigError,
)
from zconfig.patience import Patience
from zconfig.spec import ConnectionSpec, differences

if TYPE_CHECKING:
    from zconfig.connection import Connection


@dataclass(frozen=True, slots=True)
class Flight:
    """A connect in flight: one thread flies it, the others wait for its outcome."""

    connection: Connection
    outcome: Future[Connection] = field(default_factory=Future)


class Pool:
    """Live connections by alias. Decisions are made under a lock, connecting outside it.

    Args:
        make: Makes a connection, unopened.
        emit: Takes the lifecycle events.
    """

    def __init__(
        self,
        make: Callable[[ConnectionSpec], Connection],
        emit: Callable[[events.Event], None],
    ) -> None:
        self._make = make
        self._emit = emit
        self._lock = threading.Lock()
        self._flights: dict[str, Flight] = {}
        self._live: dict[str, Connection] = {}

    def find(self, alias: str) -> Connection | None:
        """Return the live connection of an alias, without taking the lock."""
        connection = self._live.get(alias)
        return connection if connection is not None and connection.is_open else None

    def open(self, spec: ConnectionSpec, patience: Patience) -> Connection:
        """Return the live connection of a specification, opening it if there is none.

        Raises:
            ConflictError: The alias is live with another specification.
            ConnectError: It cannot be opened; its class names the cause.
            ClosedError: It was closed while it was opened.
        """
        while True:
            own = Flight(self._make(spec))
            with self._lock:
                live, others = self.find(spec.alias), self._flights.get(spec.alias)
                if not live and not others:
                    self._flights[spec.alias] = own
            if live:
                return _expect(spec, live)
            if not others:
                return self._fly(own, patience)
            if joined := _join(others, patience):
                return _expect(spec, joined)

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that an alias is not live, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        flight, live = self._flights.get(spec.alias), self.find(spec.alias)
        for connection in (live, flight.connection if flight else None):
            if connection:
                _expect(spec, connection)

    def cancel(self, alias: str) -> None:
        """End the connect of an alias that is in flight; leave it alone if it is live."""
        with self._lock:
            flight = self._flights.pop(alias, None)
        if flight:
            flight.connection.close()

    def close(self, alias: str) -> None:
        """Close an alias, be it live or being opened; nothing happens if it is neither."""
        self.cancel(alias)
        with self._lock:
            live = self._live.pop(alias, None)
        if live:
            live.close()

    def close_all(self) -> None:
        """Close every alias."""
        for alias in {*self._live, *self._flights}:
            self.close(alias)

    def abandon(self) -> tuple[str, ...]:
        """Drop everything without closing it, in a child process; return the aliases."""
        connections = {**self._live, **{a: each.connection for a, each in self._flights.items()}}
        self._lock, self._flights, self._live = threading.Lock(), {}, {}
        for connection in connections.values():
            connection.abandon()
        return tuple(connections)

    def _fly(self, flight: Flight, patience: Patience) -> Connection:
        """Open a connection, and tell those who wait how it went."""
        connection = flight.connection
        try:
            connected = connection.open(patience)
            self._land(flight)
        except BaseException as error:  # whoever waits must hear of it, also of Ctrl-C
            with self._lock:
                if self._flights.get(connection.alias) is flight:
                    del self._flights[connection.alias]
            known = isinstance(error, ZConfigError)
            flight.outcome.set_exception(error if known else ClosedError(connection.alias))
            raise
        flight.outcome.set_result(connection)
        # Not before: a hook may look the alias up.
        self._emit(connected)
        return connection

    def _land(self, flight: Flight) -> None:
        """Make a connection live, unless someone cancelled it, who closes it then."""
        connection = flight.connection
        with self._lock:
            if self._flights.get(connection.alias) is flight:
                del self._flights[connection.alias]
                self._live[connection.alias] = connection
                return
        raise ClosedError(connection.alias)


def _join(flight: Flight, patience: Patience) -> Connection | None:
    """Return the outcome of somebody else's connect, or `None` to try oneself."""
    try:
        return flight.outcome.result(patience.left_s)
    except TimeoutError:
        pass
    except ConnectError as error:
        if error.permanent or not patience.outlasts(0.0):
            raise
        return None
    spec = flight.connection.spec
    raise ServerSilentError(
        spec.alias,
        endpoint=str(spec.endpoint),
        origin=str(spec.origin()),
        detail="another thread is still connecting",
    )


def _expect(spec: ConnectionSpec, live: Connection) -> Connection:
    names = differences(live.spec, spec)
    if names:
        raise ConflictError(
            [
                Problem(
                    "live_with_another_configuration",
                    f"is connected, and differs in {' and '.join(names)}",
                    f"call connections.disconnect({spec.alias!r}) first",
                    alias=spec.alias,
                    origin=spec.origin(*names),
                )
            ]
        )
    return live
