"""A recorder of lifecycle events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from zconfig.events import Event

E = TypeVar("E", bound=Event)

PATIENCE_S = 10.0
"""The default of all timeouts in seconds; longer than any operation takes."""


class Recorder:
    """Records events; `take` is a hook.

    Iteration yields the events so far, in order.

    Examples:
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
        """Record one event."""
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
            **fields: Values of fields that must match, e.g. `alias="prod"`.
        """
        return [each for each in self if isinstance(each, kind) and _has(each, fields)]

    def clear(self) -> None:
        """Forget the events so far."""
        with self._changed:
            self._events.clear()

    def wait_for(self, kind: type[E], timeout: float = PATIENCE_S, **fields: Any) -> E:
        """Return the first event of a class; wait for it if necessary.

        Args:
            kind: The class, e.g. `zconfig.events.ConnectionLost`.
            timeout: Seconds to wait.
            **fields: Values of fields that must match, e.g. `alias="prod"`.

        Raises:
            AssertionError: No such event within the timeout. The message lists the events so far.
        """
        seen = wait_until(self._changed, lambda: self.of(kind, **fields), timeout)
        if seen:
            return seen[0]
        wanted = " ".join((kind.name, *(f"{name}={value!r}" for name, value in fields.items())))
        came = ", ".join(self.names) or "none"
        raise AssertionError(f"no {wanted} within {timeout:g} s; events so far: {came}")


def _has(event: Event, fields: dict[str, Any]) -> bool:
    return all(getattr(event, name) == value for name, value in fields.items())


T = TypeVar("T")


def wait_until(changed: threading.Condition, find: Callable[[], T], timeout_s: float) -> T:
    """Return the result of `find` once it is true, or its last result after the timeout."""
    with changed:
        return changed.wait_for(find, timeout_s)
