"""Pinging connections in the background, each at its own pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from zconfig.connection import Connection
from zconfig.connection.state import State
from zconfig.errors import ClosedError, ZConfigError
from zconfig.registry import Connections

_LOOK_S = 0.2
_GRACE_S = 1.0


class Pulse:
    """Has aliases connected, and pings what is connected, until its `with` block ends.

    Each alias has a thread of its own, so that a server that is slow or dead keeps nobody waiting.
    What is lost is not pinged: it is looked after already, and says when it is back.

    Args:
        connections: The registry; it is closed at the end.
        aliases: At least one, all of them configured.
        interval_s: Seconds from one ping to the next.
    """

    def __init__(self, connections: Connections, aliases: Iterable[str], interval_s: float) -> None:
        self._connections = connections
        self._interval_s = interval_s
        self._is_over = threading.Event()
        self._asked_at: dict[str, float] = {}
        self._errors: dict[str, ZConfigError] = {}
        self._threads = {
            alias: threading.Thread(
                target=self._beat, args=(alias,), name="zconfig-ping", daemon=True
            )
            for alias in aliases
        }

    def __enter__(self) -> Self:
        self._connections.keep_trying(*self._threads)
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._connections.close()  # which ends the pings under way
        deadline = time.monotonic() + _GRACE_S
        for thread in self._threads.values():
            thread.join(max(deadline - time.monotonic(), 0))

    def waiting_s(self, alias: str) -> float | None:
        """Return for how many seconds a ping has been under way; `None` if there is none."""
        asked_at = self._asked_at.get(alias)
        return None if asked_at is None else time.monotonic() - asked_at

    def error(self, alias: str) -> ZConfigError | None:
        """Return why the last ping had no answer; `None` if it had one, or there was no ping."""
        return self._errors.get(alias)

    def _beat(self, alias: str) -> None:
        pause_s = 0.0
        while not self._is_over.wait(pause_s):
            begun = time.monotonic()
            connection = self._find(alias)
            if connection is None:
                self._errors.pop(alias, None)
                pause_s = _LOOK_S
                continue
            self._ping(connection)
            pause_s = max(self._interval_s - (time.monotonic() - begun), 0)

    def _find(self, alias: str) -> Connection | None:
        """Return the connection of an alias if it is well; nothing is dialed for it."""
        if not self._connections.has_connection(alias):
            return None
        connection = dict(self._connections.list_connections()).get(alias)
        return connection if connection and connection.state is State.READY else None

    def _ping(self, connection: Connection) -> None:
        alias = connection.alias
        self._asked_at[alias] = time.monotonic()
        try:
            connection.ping()
        except ClosedError:  # it is over
            return
        except ZConfigError as error:
            self._errors[alias] = error
        else:
            self._errors.pop(alias, None)
        finally:
            del self._asked_at[alias]
