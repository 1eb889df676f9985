"""The live connections, and the ones being opened: one connect per alias in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zconfig.errors import ClosedError, ConflictError, ConnectError, Problem, ServerSilentError
from zconfig.registry.patience import Patience
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
    """

    def __init__(self, make: Callable[[ConnectionSpec], Connection]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._flights: dict[str, Flight] = {}
        self.live: dict[str, Connection] = {}
        """Ready connections; read without the lock."""

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
                live, others = self.live.get(spec.alias), self._flights.get(spec.alias)
                if not live and not others:
                    self._flights[spec.alias] = own
            if live:
                return _expect(spec, live)
            if not others:
                return self._fly(own, patience)
            if joined := _join(others, patience):
                return _expect(spec, joined)

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that an alias is not live with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        live = self.live.get(spec.alias)
        if live:
            _expect(spec, live)

    def close(self, alias: str) -> None:
        """Close an alias, be it live or being opened; nothing happens if it is neither."""
        with self._lock:
            live, flight = self.live.pop(alias, None), self._flights.get(alias)
        for connection in filter(None, (live, flight.connection if flight else None)):
            connection.close()

    def close_all(self) -> None:
        """Close every alias."""
        for alias in {*self.live, *self._flights}:
            self.close(alias)

    def abandon(self) -> tuple[str, ...]:
        """Drop everything without closing it, in a child process; return the aliases."""
        live = self.live
        self._lock, self._flights, self.live = threading.Lock(), {}, {}
        for connection in live.values():
            connection.abandon()
        return tuple(live)

    def _fly(self, flight: Flight, patience: Patience) -> Connection:
        """Open a connection, and tell those who wait how it went."""
        connection = flight.connection
        try:
            connection.open(deadline=patience.deadline, retry_until=patience.retry_until)
        except BaseException as error:
            with self._lock:
                self._flights.pop(connection.alias, None)
            known = isinstance(error, ConnectError)
            flight.outcome.set_exception(error if known else ClosedError(connection.alias))
            raise
        with self._lock:
            self._flights.pop(connection.alias, None)
            if connection.is_open:
                self.live[connection.alias] = connection
        flight.outcome.set_result(connection)
        return connection


def _join(flight: Flight, patience: Patience) -> Connection | None:
    """Return the outcome of somebody else's connect, or `None` to try oneself."""
    try:
        return flight.outcome.result(patience.left_s)
    except TimeoutError:
        pass
    except ConnectError as error:
        if error.permanent or not patience.retries:
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
