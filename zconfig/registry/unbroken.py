"""Work that goes on, and ends by itself, where Ctrl-C ends the wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

_LOOK_S = 0.1

T = TypeVar("T")


def unbroken(work: Callable[[], T], abandon: Callable[[], object]) -> T:
    """Do work; the main thread has another one do it, in its own context, and waits.

    Args:
        work: What to do.
        abandon: Has it end by itself soon; called at Ctrl-C, maybe before it has begun.

    Returns:
        What the work returns. What it raises is raised.

    Raises:
        KeyboardInterrupt: At Ctrl-C, at once.

    Example:
        >>> unbroken(lambda: 7, abandon=lambda: None)
        7
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    deed = _Deed(work)
    run = copy_context().run
    try:
        threading.Thread(target=run, args=(deed.do,), name="zconfig", daemon=True).start()
        deed.wait()
    except BaseException:  # Ctrl-C, or whatever else a handler of a signal raises
        abandon()
        raise
    return deed.outcome()


class _Deed(Generic[T]):
    """Work that one thread does while another one waits.

    By a bare lock: that of a condition stays locked where Ctrl-C meets who has just taken it.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._under_way = threading.Lock()
        self._under_way.acquire()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def do(self) -> None:
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        self._under_way.release()

    def wait(self) -> None:
        # A signal that comes in the moment before the wait does not wake it.
        while not self._under_way.acquire(timeout=_LOOK_S):
            pass

    def outcome(self) -> T:
        try:
            if self._error:
                raise self._error
            return self._result[0]
        finally:
            self._error = None  # whose traceback holds this very frame
