"""Work that Ctrl-C does not interrupt between two bytecode instructions.

Python raises KeyboardInterrupt between any two instructions of the main thread. If that happens
while gRPC starts a call, gRPC misses the end of the call, and closing the channel hangs. So the
work runs in another thread, which does not receive signals.
https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

from zconfig._per_process import PerProcess

_POLL_S = 0.1

K = TypeVar("K")
T = TypeVar("T")


def run_interruptibly(work: Callable[[], T], cancel: Callable[[], object]) -> T:
    """Run a function; if called in the main thread, in another thread with a copy of the context.

    Args:
        work: The function.
        cancel: Ends the work soon. Another thread calls it after Ctrl-C, perhaps before the work
            has started.

    Returns:
        The result of the function; its exception is raised.

    Raises:
        KeyboardInterrupt: Immediately after Ctrl-C.

    Examples:
        >>> run_interruptibly(lambda: 7, cancel=lambda: None)
        7
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    task = _Task(work)
    try:
        task.start()
        task.wait()
    except BaseException:  # KeyboardInterrupt, or another exception of a signal handler
        cancelling = _Task(cancel)
        cancelling.start()
        cancelling.wait()
        raise
    return task.outcome()


def run_concurrently(
    work: Callable[[K], T], keys: Iterable[K], cancel: Callable[[K], object]
) -> dict[K, T]:
    """Run a function for each key, in one thread per key, with a copy of the caller's context.

    It does not use an executor, which rejects work during shutdown, e.g. in an `atexit` handler.

    Args:
        work: The function. It must be interruptible, since a single key runs in this thread.
        keys: The keys.
        cancel: Ends the work for one key soon; called for each key after Ctrl-C.

    Returns:
        The results of the function, by key.

    Raises:
        KeyboardInterrupt: Immediately after Ctrl-C; no more work starts.

    Examples:
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
    """Run a function in another thread, and return a future of its result.

    The main thread must not wait for it: Ctrl-C may leave the lock of a future locked.
    """
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            future.set_exception(error)

    _Task(do).start()
    return future


class _Task(Generic[T]):
    """Work that one thread does while another one waits.

    It waits on a bare lock: Ctrl-C right after a condition's `acquire` leaves that locked.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._under_way = threading.Lock()
        self._under_way.acquire()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        run = copy_context().run
        try:
            _WORKERS.take().give(lambda worker: run(self._do, worker))
        except RuntimeError:  # no thread can start, e.g. during interpreter shutdown
            run(self._do, None)

    def wait(self) -> None:
        # With a timeout: a signal just before the wait does not wake it.
        while not self._under_way.acquire(timeout=_POLL_S):
            pass

    def outcome(self) -> T:
        try:
            if self._error:
                raise self._error
            return self._result[0]
        finally:
            self._error = None  # its traceback refers to this frame

    def _do(self, worker: _Worker | None) -> None:
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            self._error = error
        if worker:
            _WORKERS.keep(worker)  # first: the waiting thread may start another task at once
        self._under_way.release()


class _Worker:
    """A thread that runs one function after another, until it is no longer needed."""

    def __init__(self) -> None:
        self.is_needed = True
        self._has_work = threading.Lock()
        self._has_work.acquire()
        self._run: Callable[[_Worker], object] | None = None
        threading.Thread(target=self._serve, name="zconfig", daemon=True).start()

    def give(self, run: Callable[[_Worker], object]) -> None:
        """Have the thread run a function, which is passed the worker."""
        self._run = run
        self._has_work.release()

    def _serve(self) -> None:
        while self.is_needed:
            self._has_work.acquire()
            run, self._run = self._run, None
            if run:
                run(self)
            del run  # it refers to the caller's objects


class _Workers:
    """The idle worker, since starting a thread takes longer than a call on a local network."""

    _idle: PerProcess[list[_Worker]] = PerProcess(list)

    def take(self) -> _Worker:
        """Return an idle worker, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return _Worker()

    def keep(self, worker: _Worker) -> None:
        """Keep a worker for the next task; a single one is enough."""
        worker.is_needed = not self._idle
        if worker.is_needed:
            self._idle.append(worker)


_WORKERS = _Workers()
