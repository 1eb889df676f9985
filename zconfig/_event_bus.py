"""How events reach their hooks: once, in order for each alias, and outside all locks."""

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
    """Hands each event to every hook; a hook that raises harms nothing.

    What happens is decided under a lock, and told outside it. So an event is put under the lock
    under which it was decided, and delivered after that was given back: the events of an alias
    keep the order in which they happened, whichever thread delivers them. Hooks run in a copy of
    the context in which it happened: a log has the context variables of its request.

    Example:
        >>> from zconfig.events import ConnectionClosed
        >>> seen = []
        >>> dispatcher = Dispatcher()
        >>> unsubscribe = dispatcher.subscribe(seen.append)
        >>> alias = dispatcher.enqueue(ConnectionClosed(alias="prod", endpoint="http://db:19530"))
        >>> dispatcher.flush(alias)
        >>> seen[0].name
        'zconfig.connection.closed'
    """

    # By alias. A child delivers nothing of its parent's.
    _outboxes = PerProcess(dict["str | None", "_Outbox"])

    def __init__(self) -> None:
        self._hooks: tuple[tuple[Callable[[Any], object], Kinds[Any] | None], ...] = ()

    def subscribe(
        self, hook: Callable[[E], object], kinds: Kinds[E] | None = None
    ) -> Callable[[], None]:
        """Add a hook, and return a function that takes it out again.

        Args:
            hook: What is called.
            kinds: The events that it is called with; all of them by default.
        """
        entry = (hook, kinds)
        self._hooks = (*self._hooks, entry)

        def unsubscribe() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not entry)

        return unsubscribe

    def enqueue(self, event: Event) -> str | None:
        """Take an event that is to be delivered, and return its alias; no hook is called."""
        alias: str | None = getattr(event, "alias", None)
        outbox = self._outboxes.get(alias) or self._outboxes.setdefault(alias, _Outbox())
        outbox.add(event)
        return alias

    def flush(self, *aliases: str | None) -> None:
        """Hand every hook, in the order they subscribed, the events that it wants.

        One thread at a time does so for an alias. Another one leaves its events to that one, and
        does not wait: a hook may be waiting for it.

        Args:
            *aliases: Whose events; `None` stands for those of no alias.
        """
        for alias in aliases:
            if outbox := self._outboxes.get(alias):
                outbox.empty(self._hand_out)

    def publish(self, event: Event) -> None:
        """Take an event, and deliver it after those of its alias that came before."""
        self.flush(self.enqueue(event))

    def _hand_out(self, event: Event) -> None:
        for hook, kinds in self._hooks:
            if kinds and not isinstance(event, kinds):
                continue
            try:
                hook(event)
            except Exception:  # a hook is the application's, and may raise anything
                logging.getLogger("zconfig").exception("a hook failed on %s", event.name)


class _Outbox:
    """The events of one alias that are still to be delivered."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Event, Context]] = deque()
        self._delivering = threading.Lock()

    def add(self, event: Event) -> None:
        """Put an event in."""
        self._waiting.append((event, copy_context()))

    def empty(self, hand_out: Callable[[Event], None]) -> None:
        """Hand out what is in it, unless another thread, or a caller of this one, is at it."""
        # Looked at once more after the lock is given back: what another thread has put since this
        # one found nothing more, it could not hand out itself.
        while self._waiting and self._delivering.acquire(blocking=False):
            try:
                while self._waiting:
                    event, context = self._waiting.popleft()
                    context.run(hand_out, event)
            finally:
                self._delivering.release()
