"""Delivery of events to hooks: once, in order for each alias, and outside all locks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from zconfig._per_process import PerProcess

if TYPE_CHECKING:
    from zconfig.events import E, Event, Kinds


class Dispatcher:
    """Calls every hook with each event; an exception of a hook is logged.

    An event is enqueued under the lock that guards the change it reports, and delivered after
    that lock is released. So the events of an alias keep their order, regardless of the thread
    that delivers them. A hook runs in a copy of the context in which its event was enqueued, so
    that a log record has the context variables of the request.

    Examples:
        >>> from zconfig.events import ConnectionClosed
        >>> seen = []
        >>> dispatcher = Dispatcher()
        >>> unsubscribe = dispatcher.subscribe(seen.append)
        >>> alias = dispatcher.enqueue(ConnectionClosed(alias="prod", endpoint="http://db:19530"))
        >>> dispatcher.flush(alias)
        >>> seen[0].name
        'zconfig.connection.closed'
    """

    # By alias. A forked child does not deliver its parent's events.
    _outboxes = PerProcess(dict["str | None", "_Outbox"])

    def __init__(self) -> None:
        self._hooks: tuple[tuple[Callable[[Any], object], Kinds[Any] | None], ...] = ()

    def subscribe(
        self, hook: Callable[[E], object], kinds: Kinds[E] | None = None
    ) -> Callable[[], None]:
        """Add a hook, and return a function that removes it.

        Args:
            hook: The function to call with each event.
            kinds: The event classes to call it with; by default all.
        """
        entry = (hook, kinds)
        self._hooks = (*self._hooks, entry)

        def unsubscribe() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not entry)

        return unsubscribe

    def enqueue(self, event: Event) -> str | None:
        """Add an event to the queue of its alias, and return the alias; no hook is called."""
        alias: str | None = getattr(event, "alias", None)
        outbox = self._outboxes.get(alias) or self._outboxes.setdefault(alias, _Outbox())
        outbox.add(event)
        return alias

    def flush(self, *aliases: str | None) -> None:
        """Call the hooks, in the order of their subscription, with the enqueued events.

        One thread at a time delivers the events of an alias. Another thread leaves its events to
        that thread and does not wait, because a hook may be waiting for it.

        Args:
            *aliases: The aliases to deliver events of; `None` for events without an alias.
        """
        for alias in aliases:
            if outbox := self._outboxes.get(alias):
                outbox.empty(self._hand_out)

    def publish(self, event: Event) -> None:
        """Enqueue an event, and deliver it after the earlier events of its alias."""
        self.flush(self.enqueue(event))

    def _hand_out(self, event: Event) -> None:
        for hook, kinds in self._hooks:
            if kinds and not isinstance(event, kinds):
                continue
            try:
                hook(event)
            except Exception:  # a hook of the application may raise anything
                logging.getLogger("zconfig").exception("a hook failed on %s", event.name)


class _Outbox:
    """The undelivered events of one alias."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Event, Context]] = deque()
        self._delivering = threading.Lock()

    def add(self, event: Event) -> None:
        """Add an event, with a copy of the current context."""
        self._waiting.append((event, copy_context()))

    def empty(self, hand_out: Callable[[Event], None]) -> None:
        """Deliver the events, unless another thread, or a caller of this method, is doing so."""
        # Checked again after the lock is released: another thread may have added an event after
        # the inner loop ended, and could not take the lock.
        while self._waiting and self._delivering.acquire(blocking=False):
            try:
                while self._waiting:
                    event, context = self._waiting.popleft()
                    context.run(hand_out, event)
            finally:
                self._delivering.release()
