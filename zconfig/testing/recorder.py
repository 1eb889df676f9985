"""Lifecycle events, written down as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from zconfig.events import Event

E = TypeVar("E", bound=Event)

PATIENCE_S = 10.0
"""How many seconds are waited for something unless it is said; longer than anything takes."""


class Recorder:
    """Writes events down; `take` is a hook.

    Iterating it gives the events so far, in order.

    Example:
        >>> from zconfig.events import ConnectionClosed
        >>> events = Recorder()
        >>> events.take(ConnectionClosed(alias="prod", endpoint="http://db:19530"))
        >>> events.wait_for(ConnectionClosed).alias
        'prod'
        >>> events.names
        ['zconfig.connection.closed']
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition()

    def take(self, event: Event, /) -> None:
        """Take one event."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"<Recorder {self.names}>"

    @property
    def names(self) -> list[str]:
        """The names of the events so far, in order."""
        return [event.name for event in self]

    def of(self, kind: type[E], **fields: Any) -> list[E]:
        """Return the events of a class so far.

        Args:
            kind: The class, e.g. `zconfig.events.ConnectionLost`.
            **fields: Values that their fields have, e.g. `alias="prod"`.
        """
        return [each for each in self if isinstance(each, kind) and _has(each, fields)]

    def clear(self) -> None:
        """Forget the events so far."""
        with self._changed:
            self._events.clear()

    def wait_for(self, kind: type[E], timeout: float = PATIENCE_S, **fields: Any) -> E:
        """Return the first event of a class, if need be once it comes.

        Args:
            kind: The class, e.g. `zconfig.events.ConnectionLost`.
            timeout: Seconds to wait.
            **fields: Values that its fields have, e.g. `alias="prod"`.

        Raises:
            AssertionError: None came; the message says which events did.
        """
        seen = wait_until(self._changed, lambda: self.of(kind, **fields), timeout)
        if seen:
            return seen[0]
        wanted = " ".join((kind.name, *(f"{name}={value!r}" for name, value in fields.items())))
        came = ", ".join(self.names) or "nothing"
        raise AssertionError(f"no {wanted} within {timeout:g} s; there came: {came}")


def _has(event: Event, fields: dict[str, Any]) -> bool:
    return all(getattr(event, name) == value for name, value in fields.items())


T = TypeVar("T")


def wait_until(changed: threading.Condition, find: Callable[[], T], timeout_s: float) -> T:
    """Return what is found, once that is true, or whatever it is after so many seconds."""
    with changed:
        return changed.wait_for(find, timeout_s)
