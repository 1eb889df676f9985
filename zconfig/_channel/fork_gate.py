"""A gate around gRPC calls, which is closed during a fork.

A fork during another thread's gRPC call leaves the child with locked gRPC locks and the parent's
sockets: gRPC cleans up in the child only if no thread is inside it. So the gate counts the calls
in flight. A fork blocks new calls, cancels those that can be repeated, and waits for the others.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any

from zconfig._per_process import PerProcess
from zconfig.errors import ConfigurationError, Problem


class ForkGate:
    """Counts the calls inside; while it is closed, new calls wait.

    Attributes:
        importing: The lock for imports of gRPC, pymilvus and Milvus Lite; reentrant, since they
            nest. A fork waits for it up to a minute.
    """

    importing = PerProcess(threading.RLock)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Reset the gate, in a forked child: the threads inside are the parent's."""
        # Acquired directly: Ctrl-C right after a condition's `acquire` leaves it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # One item per call inside; append and pop need no lock.
        self._inside: deque[None] = deque()
        self._closers = 0
        self._yielding: list[Callable[[], object]] = []

    def enter(self) -> None:
        """Enter the gate, once it is open."""
        # `enter` counts first and then reads `_closers`; `close` sets `_closers` first and then
        # reads the count. So at least one of the two sees the other.
        self._inside.append(None)
        if self._closers:
            self._wait_outside()

    def _wait_outside(self) -> None:
        with self._lock:
            self._inside.pop()
            self._changed.notify_all()
            while self._closers:
                self._changed.wait()
            self._inside.append(None)

    def leave(self) -> None:
        """Leave the gate."""
        # The deque is empty in a child that was forked inside the gate: `renew` has reset it.
        try:  # noqa: SIM105 - `suppress` would cost more than the rest of the method
            self._inside.pop()
        except IndexError:
            pass
        if self._closers:
            with self._lock:
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def start(self, begin: Callable[[], Any]) -> Any:
        """Start a call and return its future; the call leaves the gate when it is done.

        Args:
            begin: The function that starts the call and returns its future.
        """
        self.enter()
        try:
            future = begin()
        except BaseException:  # Ctrl-C too must leave the gate
            self.leave()
            raise
        future.add_done_callback(lambda _: self.leave())
        return future

    @contextmanager
    def cancel_on_fork(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Cancel a call if the gate closes during a `with` block.

        Args:
            cancel: Cancels the call. Another thread calls it, perhaps after the call ended.
        """
        with self._lock:
            self._yielding.append(cancel)
            is_closed = self._closers > 0
        try:
            if is_closed:
                cancel()
            yield
        finally:
            with self._lock:
                self._yielding.remove(cancel)

    def close(self, timeout_s: float) -> None:
        """Block new calls, cancel those that can be repeated, and wait for the others.

        Args:
            timeout_s: Seconds to wait; calls that take longer continue.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._closers += 1
            yielding = tuple(self._yielding)
        for cancel in yielding:
            cancel()
        with self._lock:
            while self._inside and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def open(self) -> None:
        """Open the gate, unless another thread has closed it too."""
        with self._lock:
            self._closers -= 1
            self._changed.notify_all()


GATE = ForkGate()
"""The gate of this process."""


_ITS_OWN = ("threading", "socket")
_INTERPRETERS = ("_interpreters", "_xxsubinterpreters")  # as of Python 3.13, and before

# With gevent, threads of the standard library are greenlets of one thread. A gRPC call without
# gRPC's gevent support blocks that thread until the server responds.
_GEVENT = Problem(
    "gevent_without_grpc",
    "gevent has patched the standard library but gRPC's gevent support is off, so a call would"
    " block every greenlet",
    "call grpc.experimental.gevent.init_gevent() after gevent.monkey.patch_all()",
)
_SUB_INTERPRETER = Problem(
    "sub_interpreter",
    "the application runs in a Python sub-interpreter, in which gRPC hangs",
    "run it in the main interpreter; under mod_wsgi, set WSGIApplicationGroup %{GLOBAL}",
)


def refuse_where_grpc_hangs() -> None:
    """Check that gRPC works in this process and interpreter.

    Raises:
        ConfigurationError: gevent has patched the standard library and gRPC's gevent support is
            off, or this is a sub-interpreter.
    """
    if _is_sub_interpreter():
        raise ConfigurationError([_SUB_INTERPRETER])
    if _is_patched() and not _is_told():
        raise ConfigurationError([_GEVENT])


@cache
def _is_sub_interpreter() -> bool:
    """Return whether this is a sub-interpreter; Python has no public API for it."""
    for name in _INTERPRETERS:
        with suppress(ImportError):
            interpreters: Any = import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, _ITS_OWN))


def _is_told() -> bool:
    """Return whether gRPC's gevent support is on; no public API says so. True if unknown."""
    from grpc._cython import cygrpc  # type: ignore[attr-defined] # not in the stubs

    told: bool = getattr(cygrpc, "g_gevent_activated", True)
    return told
