"""A thread that looks after connections: are they lost, back, are there new credentials?

gRPC reconnects by itself, but tells nobody, and nobody reads a secret file that was rewritten.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from zconfig._deadline import backoff_s
from zconfig._per_process import PerProcess
from zconfig.errors import ConnectError, ZConfigError

if TYPE_CHECKING:
    from zconfig import events


_BETWEEN_ROUNDS_S = 0.5
_AT_ONCE = 16


class PeriodicTask(Protocol):
    """Something to look after."""

    @property
    def alias(self) -> str:
        """The connection's name."""

    def is_due(self) -> bool:
        """Return whether there is anything to do. It is asked often, and makes no call."""

    def check(self) -> object:
        """Do it; that may take long."""


class BackgroundWorker:
    """Makes rounds while there is anything to look after; its thread ends with the last of it.

    What is due is done in a thread of its own, so that a server that is silent keeps nobody else
    waiting, nor the end of the process.

    Args:
        tasks: Returns what there is to look after now. The thread does not keep its owner alive.
    """

    _lock = PerProcess(threading.Lock)
    _called = PerProcess(threading.Event)
    _thread = PerProcess[threading.Thread | None](lambda: None)
    _running = PerProcess(set["PeriodicTask"])

    def __init__(self, tasks: Callable[[], Sequence[PeriodicTask]]) -> None:
        self._tasks = weakref.WeakMethod(tasks)

    def call(self, at_once: bool = True) -> None:  # noqa: FBT001, FBT002 - passed on as it is
        """Have rounds made, while there is anything to look after.

        Args:
            at_once: Whether the next one is made now; half a second later at most otherwise.
        """
        if at_once:
            self._called.set()
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._make_rounds, name="zconfig-background", daemon=True
                )
                with suppress(RuntimeError):  # there can be no more now; the next call tries again
                    thread.start()
                    self._thread = thread

    def _make_rounds(self) -> None:
        in_background = True
        while in_background:
            self._called.wait(_BETWEEN_ROUNDS_S)
            self._called.clear()
            for task in self._all_tasks():
                if task not in self._running and len(self._running) < _AT_ONCE and task.is_due():
                    self._start(task)
            in_background = self._has_more()

    def _has_more(self) -> bool:
        """Return whether there is anything to look after; if not, the thread is done."""
        with self._lock:
            if self._called.is_set() or self._all_tasks():
                return True
            self._thread = None
            return False

    def _all_tasks(self) -> Sequence[PeriodicTask]:
        tasks = self._tasks()
        return tasks() if tasks else ()

    def _start(self, task: PeriodicTask) -> None:
        self._running.add(task)
        thread = threading.Thread(target=self._run, args=(task,), name="zconfig-check", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads just now; it is due still
            self._running.discard(task)

    def _run(self, task: PeriodicTask) -> None:
        try:
            task.check()
        except Exception:  # sources of third parties are read in it; it is looked after still
            logging.getLogger("zconfig").exception("looking after %s failed", task.alias)
        finally:
            self._running.discard(task)


_LONGEST_PAUSE_S = 30.0


class Retry:
    """When an alias is tried again, and why it has to be.

    Attributes:
        last_error: Why it could not be connected; empty if it was not tried yet.
        since: Seconds since the epoch, at which it was first wanted.

    Args:
        alias: The connection's name.
        again: Tries once more.
    """

    def __init__(self, alias: str, again: Callable[[Retry], Any]) -> None:
        self.alias = alias
        self.last_error = ""
        self.since = time.time()
        self._again = again
        self._attempts = 0
        self._next_at = 0.0

    def is_due(self) -> bool:
        """Return whether it is time to try once more."""
        return time.monotonic() >= self._next_at

    def check(self) -> object:
        """Try once more."""
        return self._again(self)

    def postpone(self, error: ZConfigError) -> events.ConnectionRetrying | None:
        """Try again later; return the event that says so, where a server is the trouble.

        What does not pass by itself may be mended by somebody: it is tried again too, less often.

        Args:
            error: Why it failed.
        """
        self._attempts += 1
        self.last_error = str(error)
        may_pass = isinstance(error, ConnectError) and not error.permanent
        pause_s = backoff_s(self._attempts, _LONGEST_PAUSE_S) if may_pass else _LONGEST_PAUSE_S
        self._next_at = time.monotonic() + pause_s
        if not isinstance(error, ConnectError):
            return None
        # It needs grpc, which importing us must not.
        from zconfig._connection.event_factories import retrying

        return replace(retrying(error, pause_s), attempt=self._attempts)


class Retries:
    """The aliases that are tried again.

    Args:
        make: Makes a retry of an alias.
    """

    def __init__(self, make: Callable[[str], Retry]) -> None:
        self._make = make
        self._by_alias: dict[str, Retry] = {}

    def begin(self, alias: str, error: ZConfigError | None = None) -> None:
        """Have an alias tried again from now on.

        Args:
            alias: The connection's name.
            error: Why it could not be opened just now, if it was tried.
        """
        retry = self._by_alias.setdefault(alias, self._make(alias))
        if error:
            retry.postpone(error)

    def end(self, alias: str) -> None:
        """Have an alias tried no longer."""
        self._by_alias.pop(alias, None)

    def aliases(self) -> Sequence[str]:
        """Return what is tried again."""
        return tuple(self._by_alias)

    def find(self, alias: str) -> Retry | None:
        """Return how it goes with an alias, if it is tried again."""
        return self._by_alias.get(alias)

    def outstanding(self, is_open: Callable[[str], object]) -> Sequence[Retry]:
        """Return what is still to be connected; what somebody else has connected is done."""
        for alias in self.aliases():
            if is_open(alias):
                self.end(alias)
        return tuple(self._by_alias.values())
