"""A thread that looks after connections: are they lost, back, are there new credentials?

gRPC reconnects by itself, but tells nobody, and nobody reads a secret file that was rewritten.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

_BETWEEN_ROUNDS_S = 0.5
_AT_ONCE = 16


class Chore(Protocol):
    """Something to look after."""

    @property
    def alias(self) -> str:
        """The connection's name."""

    def is_due(self) -> bool:
        """Tell whether there is anything to do. It is asked often, and makes no call."""

    def look(self) -> object:
        """Do it; that may take long."""


class Keeper:
    """Makes rounds while there is anything to look after; its thread ends with the last of it.

    What is due is done in a thread of its own, so that a server that is silent keeps nobody else
    waiting, nor the end of the process.

    Args:
        chores: Returns what there is to look after now. The thread does not keep its owner alive.
    """

    def __init__(self, chores: Callable[[], Sequence[Chore]]) -> None:
        self._chores = weakref.WeakMethod(chores)
        self._thread: threading.Thread | None = None
        self._begin()

    def call(self, *, at_once: bool = True) -> None:
        """Have rounds made, while there is anything to look after.

        Args:
            at_once: Whether the next one is made now; half a second later at most otherwise.
        """
        if at_once:
            self._called.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._make_rounds, name="zconfig-keeper", daemon=True
                )
                self._thread.start()

    def after_fork(self) -> None:
        """Begin anew, in a child process, which has no thread but the one that forked."""
        self._begin()

    def _begin(self) -> None:
        self._lock, self._called = threading.Lock(), threading.Event()
        self._thread = None
        self._doing: set[Chore] = set()

    def _make_rounds(self) -> None:
        goes_on = True
        while goes_on:
            self._called.wait(_BETWEEN_ROUNDS_S)
            self._called.clear()
            for chore in self._everything():
                if chore not in self._doing and len(self._doing) < _AT_ONCE and chore.is_due():
                    self._begin_to_do(chore)
            goes_on = self._goes_on()

    def _goes_on(self) -> bool:
        """Tell whether there is anything to look after; if not, the thread is done."""
        with self._lock:
            if self._called.is_set() or self._everything():
                return True
            self._thread = None
            return False

    def _everything(self) -> Sequence[Chore]:
        chores = self._chores()
        return chores() if chores else ()

    def _begin_to_do(self, chore: Chore) -> None:
        self._doing.add(chore)
        thread = threading.Thread(target=self._do, args=(chore,), name="zconfig-look", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads just now; it is due still
            self._doing.discard(chore)

    def _do(self, chore: Chore) -> None:
        try:
            chore.look()
        except Exception:  # sources of third parties are read in it; it is looked after still
            logging.getLogger("zconfig").exception("looking after %s failed", chore.alias)
        finally:
            self._doing.discard(chore)
