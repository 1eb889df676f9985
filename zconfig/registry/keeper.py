"""A thread that looks after live connections: are they lost, back, are there new credentials?

gRPC reconnects by itself, but tells nobody, and nobody reads a secret file that was rewritten.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zconfig.connection import Lifecycle

_BETWEEN_ROUNDS_S = 0.5
_AT_ONCE = 8


class Keeper:
    """Makes rounds while there is anything to look after; its thread ends with the last of it.

    Args:
        live: Returns what is open now. The thread does not keep its owner alive.
    """

    def __init__(self, live: Callable[[], Sequence[Lifecycle]]) -> None:
        self._live = weakref.WeakMethod(live)
        self._lock = threading.Lock()
        self._called = threading.Event()
        self._thread: threading.Thread | None = None

    def call(self) -> None:
        """Have the next round made at once."""
        self._called.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._make_rounds, name="zconfig-keeper", daemon=True
                )
                self._thread.start()

    def after_fork(self) -> None:
        """Begin anew, in a child process, which has no thread but the one that forked."""
        self._lock, self._called, self._thread = threading.Lock(), threading.Event(), None

    def _make_rounds(self) -> None:
        while self._goes_on():
            self._called.wait(_BETWEEN_ROUNDS_S)
            self._called.clear()
            look_round(self._everything())

    def _goes_on(self) -> bool:
        """Tell whether there is anything to look after; if not, the thread is done."""
        with self._lock:
            if self._called.is_set() or self._everything():
                return True
            self._thread = None
            return False

    def _everything(self) -> Sequence[Lifecycle]:
        live = self._live()
        return live() if live else ()


def look_round(lifecycles: Sequence[Lifecycle]) -> None:
    """Look at each connection that needs it, several at a time: one may be slow to answer."""
    needy = [each for each in lifecycles if each.watch.is_due()]
    if len(needy) <= 1:
        for each in needy:
            _look(each)
        return
    with ThreadPoolExecutor(min(len(needy), _AT_ONCE), thread_name_prefix="zconfig-look") as pool:
        list(pool.map(_look, needy))


def _look(lifecycle: Lifecycle) -> None:
    try:
        lifecycle.watch.look()
    except Exception:  # sources of third parties are read in it; the others are looked after still
        logging.getLogger("zconfig").exception("looking after %s failed", lifecycle.alias)
