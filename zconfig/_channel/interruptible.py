"""Work that Ctrl-C does not break off between two steps.

Python raises KeyboardInterrupt between any two steps of the main thread. In the middle of starting
a call that leaves gRPC with one whose end nobody will notice, and whoever closes the channel then
waits for that end for ever. Signals do not reach another thread.
https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

_POLL_S = 0.1

K = TypeVar("K")
T = TypeVar("T")


def run_interruptibly(work: Callable[[], T], cancel: Callable[[], object]) -> T:
    """Do work; the main thread has another thread do it, in its own context, and waits.

    Args:
        work: What to do.
        cancel: Has it end soon; called in another thread at Ctrl-C, maybe before it has begun.

    Returns:
        What the work returns. What it raises is raised.

    Raises:
        KeyboardInterrupt: At Ctrl-C, at once.

    Example:
        >>> run_interruptibly(lambda: 7, cancel=lambda: None)
        7
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    task = _Task(work)
    try:
        task.start()
        task.wait()
    except BaseException:  # Ctrl-C, or whatever else a handler of a signal raises
        cancelling = _Task(cancel)
        cancelling.start()
        cancelling.wait()
        raise
    return task.outcome()


def run_concurrently(
    work: Callable[[K], T], keys: Iterable[K], cancel: Callable[[K], object]
) -> dict[K, T]:
    """Do work for each key, in a thread for each and in the context of the caller.

    Not by an executor, which takes no work once the interpreter ends, as in an `atexit` handler.

    Args:
        work: What to do; it can be interrupted itself, since the caller does it for a single key.
        keys: What to do it for.
        cancel: Has the work for one key end soon; called for each at Ctrl-C.

    Returns:
        What the work returns, by key.

    Raises:
        KeyboardInterrupt: At Ctrl-C, at once; no more work begins.

    Example:
        >>> run_concurrently(len, ["a", "bc"], cancel=print)
        {'a': 1, 'bc': 2}
    """
    is_cancelled = threading.Event()

    def do(key: K) -> T:
        if is_cancelled.is_set():
            raise KeyboardInterrupt
        return work(key)

    def do_all() -> dict[K, T]:
        for task in tasks.values():
            task.start()
        for task in tasks.values():
            task.wait()
        return {key: task.outcome() for key, task in tasks.items()}

    def cancel_all() -> None:
        is_cancelled.set()
        for key in tasks:
            cancel(key)

    tasks = {key: _Task(partial(do, key)) for key in keys}
    if len(tasks) <= 1:
        return {key: work(key) for key in tasks}
    return run_interruptibly(do_all, cancel_all)


def begin(work: Callable[[], T]) -> Future[T]:
    """Begin work in another thread, and return what it will come to.

    The main thread must not wait for it: Ctrl-C may leave the lock of a future locked.
    """
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)

    _Task(do).start()
    return future


class _Task(Generic[T]):
    """Work that one thread does while another one waits.

    By a bare lock: that of a condition stays locked where Ctrl-C meets who has just taken it.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._under_way = threading.Lock()
        self._under_way.acquire()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        run = copy_context().run
        thread = threading.Thread(target=run, args=(self._do,), name="zconfig", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads, as when the interpreter ends
            self._do()

    def wait(self) -> None:
        # A signal that comes in the moment before the wait does not wake it.
        while not self._under_way.acquire(timeout=_POLL_S):
            pass

    def outcome(self) -> T:
        try:
            if self._error:
                raise self._error
            return self._result[0]
        finally:
            self._error = None  # whose traceback holds this very frame

    def _do(self) -> None:
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        self._under_way.release()
