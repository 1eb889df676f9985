"""The background thread: monitors open connections, and retries aliases that failed to connect.

gRPC reconnects by itself, but does not report it, and does not read changed credential files.
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
    """A task of the background thread."""

    @property
    def alias(self) -> str:
        """The alias of the task."""

    def is_due(self) -> bool:
        """Return whether to run the task; called often, and must not make a call."""

    def check(self) -> object:
        """Run the task; this may take long."""


class BackgroundWorker:
    """Runs periodic tasks in threads; its own thread ends with the last task.

    Each due task runs in a daemon thread of its own, so that an unresponsive server delays
    neither other tasks nor the exit of the process.

    Args:
        tasks: A method that returns the current tasks. Its object is referenced weakly.
    """

    _lock = PerProcess(threading.Lock)
    _called = PerProcess(threading.Event)
    _thread = PerProcess[threading.Thread | None](lambda: None)
    _running = PerProcess(set["PeriodicTask"])

    def __init__(self, tasks: Callable[[], Sequence[PeriodicTask]]) -> None:
        self._tasks = weakref.WeakMethod(tasks)

    def call(self, at_once: bool = True) -> None:  # noqa: FBT001, FBT002 - passed on as it is
        """Start the thread, if it does not run.

        Args:
            at_once: Whether to check the tasks now, instead of within half a second.
        """
        if at_once:
            self._called.set()
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._make_rounds, name="zconfig-background", daemon=True
                )
                with suppress(RuntimeError):  # no thread can start now; the next call retries
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
        """Return whether there are tasks; if not, mark the thread as ended."""
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
        except RuntimeError:  # no thread can start now; the task is still due
            self._running.discard(task)

    def _run(self, task: PeriodicTask) -> None:
        try:
            task.check()
        except Exception:  # a source of a third party may raise anything; the task runs again
            logging.getLogger("zconfig").exception("the background check of %s failed", task.alias)
        finally:
            self._running.discard(task)


_LONGEST_PAUSE_S = 30.0


class Retry:
    """The retries of one alias in the background.

    Attributes:
        last_error: The error of the latest attempt; empty before the first.
        since: The time of the first request, in seconds since the epoch.

    Args:
        alias: The alias.
        again: The function that makes one attempt.
    """

    def __init__(self, alias: str, again: Callable[[Retry], Any]) -> None:
        self.alias = alias
        self.last_error = ""
        self.since = time.time()
        self._again = again
        self._attempts = 0
        self._next_at = 0.0

    def is_due(self) -> bool:
        """Return whether the next attempt is due."""
        return time.monotonic() >= self._next_at

    def check(self) -> object:
        """Make one attempt."""
        return self._again(self)

    def postpone(self, error: ZConfigError) -> events.ConnectionRetrying | None:
        """Schedule the next attempt; return its event if connecting failed.

        Permanent failures are retried too, with the longest pause, since they may be corrected.

        Args:
            error: The error of the failed attempt.
        """
        self._attempts += 1
        self.last_error = str(error)
        may_pass = isinstance(error, ConnectError) and not error.permanent
        pause_s = backoff_s(self._attempts, _LONGEST_PAUSE_S) if may_pass else _LONGEST_PAUSE_S
        self._next_at = time.monotonic() + pause_s
        if not isinstance(error, ConnectError):
            return None
        # Imported here, since it needs grpc, and `import zconfig` must not import grpc.
        from zconfig._connection.event_factories import retrying

        return replace(retrying(error, pause_s), attempt=self._attempts)


class Retries:
    """The aliases that are retried in the background.

    Args:
        make: Creates the retry of an alias.
    """

    def __init__(self, make: Callable[[str], Retry]) -> None:
        self._make = make
        self._by_alias: dict[str, Retry] = {}

    def begin(self, alias: str, error: ZConfigError | None = None) -> None:
        """Start to retry an alias.

        Args:
            alias: The alias.
            error: The error of the latest attempt, if there was one.
        """
        retry = self._by_alias.setdefault(alias, self._make(alias))
        if error:
            retry.postpone(error)

    def end(self, alias: str) -> None:
        """Stop retrying an alias."""
        self._by_alias.pop(alias, None)

    def aliases(self) -> Sequence[str]:
        """Return the aliases that are retried."""
        return tuple(self._by_alias)

    def find(self, alias: str) -> Retry | None:
        """Return the retry of an alias, if it is retried."""
        return self._by_alias.get(alias)

    def outstanding(self, is_open: Callable[[str], object]) -> Sequence[Retry]:
        """Return the retries of aliases that are not open yet, and end the others."""
        for alias in self.aliases():
            if is_open(alias):
                self.end(alias)
        return tuple(self._by_alias.values())
