"""Work that Ctrl-C does not break off between two of its steps.

Python raises KeyboardInterrupt between any two steps of the main thread. In the middle of starting
a call that leaves gRPC with one whose end nobody will notice, and whoever closes the channel then
waits for that end for ever; elsewhere a lock stays locked, or a connect under way without anybody
who makes it. https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_LOOK_S = 0.1

T = TypeVar("T")

Act = Callable[[], object]
Caller = Callable[[Act], None]
"""Has the thread that wants the work done do a part of it, and returns when that is over."""


def unbroken(work: Callable[[Caller], T], abandon: Act) -> T:
    """Do work; the main thread has another one do it, in its own context, and waits.

    Args:
        work: What to do. It is given what has the caller do a part: calls into the application,
            which may expect the thread that they know.
        abandon: Has it end by itself soon; called at Ctrl-C, maybe before it has begun.

    Returns:
        What the work returns. What it raises is raised.

    Raises:
        KeyboardInterrupt: At Ctrl-C, at once.

    Example:
        >>> unbroken(lambda caller: 7, abandon=lambda: None)
        7
    """
    if threading.current_thread() is not threading.main_thread():
        return work(by_oneself)
    deed = _Deed(work)
    run = copy_context().run
    try:
        threading.Thread(target=run, args=(deed.do,), name="zconfig", daemon=True).start()
        deed.attend()
    except BaseException:
        deed.is_abandoned = True
        abandon()
        raise
    return deed.outcome()


def by_oneself(act: Act) -> None:
    """Do a part in the thread that does the work."""
    act()


class _Deed(Generic[T]):
    """Work that one thread does while another one attends to it.

    They meet where Ctrl-C leaves nothing locked: in a queue and in locks that are not Python code.
    """

    def __init__(self, work: Callable[[Caller], T]) -> None:
        self._work = work
        self._acts: SimpleQueue[Act | None] = SimpleQueue()
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.is_abandoned = False

    def do(self) -> None:
        try:
            self._result.append(self._work(self._by_caller))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        self._acts.put(None)

    def _by_caller(self, act: Act) -> None:
        under_way = threading.Lock()
        under_way.acquire()

        def act_and_tell() -> None:
            act()
            under_way.release()

        self._acts.put(act_and_tell)
        while not self.is_abandoned and not under_way.acquire(timeout=_LOOK_S):
            pass

    def attend(self) -> None:
        """Do what is for the caller to do, until the work has ended."""
        while True:
            # A signal that comes in the moment before the wait does not wake it.
            try:
                act = self._acts.get(timeout=_LOOK_S)
            except Empty:
                continue
            if act is None:
                return
            act()

    def outcome(self) -> T:
        try:
            if self._error:
                raise self._error
            return self._result[0]
        finally:
            self._error = None  # whose traceback holds this very frame
