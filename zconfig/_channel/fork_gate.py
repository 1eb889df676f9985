"""The gate that calls pass, and that a fork closes for a moment.

A fork in the middle of another thread's gRPC call leaves the child with locks of gRPC's that
nobody will ever open, and with the parent's sockets: gRPC tidies up only where no thread is inside
it. So calls count themselves in and out, and a fork waits for those in flight while no new one
begins. Calls that may be made again give way to it at once.
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
    """Counts those who are inside; while it is closed nobody enters.

    Attributes:
        importing: Held while gRPC, pymilvus or Milvus Lite is imported, which a fork waits for,
            however long it takes. An import may want another one.
    """

    importing = PerProcess(threading.RLock)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew, in a child process: who was inside is a thread of the parent."""
        # Taken by itself: a condition stays locked where Ctrl-C meets who has just taken it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # One for each who is inside; to add one and to take one out needs no lock.
        self._inside: deque[None] = deque()
        self._closers = 0
        self._yielding: list[Callable[[], object]] = []

    def enter(self) -> None:
        """Count oneself in, as soon as the gate is open."""
        # In first, and then a look at the gate; who closes it closes it first, and then looks who
        # is inside: one of the two sees the other.
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
        """Count oneself out."""
        # A thread that forks inside has nothing to take out in the child, which began anew.
        try:  # noqa: SIM105 - `suppress` would cost more than all the rest
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
        """Start a call that is waited for later; it is inside until gRPC is done with it.

        Args:
            begin: Starts it, and returns its future.
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
        """For the time of a `with` block, have a call cancelled when the gate closes.

        Args:
            cancel: Cancels it; called in another thread, and also where that is too late.
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
        """Let nobody in, cancel what gives way, and wait until all have left.

        Args:
            timeout_s: Seconds to wait; who is inside longer than that stays there.
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
        """Let everybody in again, unless somebody else has closed it too."""
        with self._lock:
            self._closers -= 1
            self._changed.notify_all()


GATE = ForkGate()
"""The gate of this process."""


_ITS_OWN = ("threading", "socket")
_INTERPRETERS = ("_interpreters", "_xxsubinterpreters")  # as of Python 3.13, and before

# With gevent a thread of the standard library is a greenlet, and all share one thread. A call of
# gRPC's own would stop it until the server answers; nothing else would run meanwhile.
_GEVENT = Problem(
    "gevent_without_grpc",
    "gevent has replaced the standard library, and gRPC does not know: a call would stop every"
    " greenlet",
    "call grpc.experimental.gevent.init_gevent() after gevent.monkey.patch_all()",
)
_SUB_INTERPRETER = Problem(
    "sub_interpreter",
    "this is a sub-interpreter of Python, in which gRPC hangs",
    "run the application in the main interpreter: under mod_wsgi set WSGIApplicationGroup"
    " %{GLOBAL}",
)


def refuse_where_grpc_hangs() -> None:
    """Make sure that gRPC works here.

    Raises:
        ConfigurationError: gevent has replaced the standard library, and gRPC was not told of it;
            or this is a sub-interpreter.
    """
    if _is_sub_interpreter():
        raise ConfigurationError([_SUB_INTERPRETER])
    if _is_patched() and not _is_told():
        raise ConfigurationError([_GEVENT])


@cache
def _is_sub_interpreter() -> bool:
    """Tell whether this is not the main interpreter; nothing public says so."""
    for name in _INTERPRETERS:
        with suppress(ImportError):
            interpreters: Any = import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, _ITS_OWN))


def _is_told() -> bool:
    """Tell whether gRPC was told; nothing public says so. Where we cannot see it, it counts."""
    from grpc._cython import cygrpc  # type: ignore[attr-defined] # not in the stubs

    told: bool = getattr(cygrpc, "g_gevent_activated", True)
    return told
