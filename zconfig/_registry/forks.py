"""Fork hooks: a connection belongs to the process that opened it.

A fork waits, for a limited time, until no call of this package is in flight. The child drops the
parent's gRPC channels without closing them, since closing them hangs if the parent was in a call.
"""

from __future__ import annotations

import os
import sys
import weakref
from importlib import import_module
from typing import Protocol

from zconfig._channel.fork_gate import GATE, refuse_where_grpc_hangs
from zconfig._per_process import renew_all

_LONGEST_WAIT_S = 1.0
_LONGEST_IMPORT_S = 60.0

LATE = (
    "zconfig.events",
    "zconfig._settings.explain",
    "zconfig._sources.dotenv",
    "zconfig._sources.files",
    "zconfig._sources.remote",
    "zconfig._sources.secrets_dir",
    "zconfig._sources.service_binding",
)
"""Modules that are imported on use, and before a fork at the latest.

None of them may register a fork hook: it would be registered while the hooks run.
"""

LATE_WITH_GRPC = ("zconfig._connection.error_mapping", "zconfig._topology")
"""More such modules, if gRPC is imported."""


class Forkable(Protocol):
    """An owner of resources that belong to one process."""

    def after_fork(self) -> None:
        """Drop the parent's resources, in the child."""


_guarded: weakref.WeakSet[Forkable] = weakref.WeakSet()
_hooked = False
_has_grpc = False


def guard_forks(forkable: Forkable) -> None:
    """Call `after_fork` of an object in every child that is forked from now on.

    Called on the first use, before any lock is taken, so that an import of the package does not
    change the process.
    """
    global _hooked  # noqa: PLW0603 - fork hooks are global, and cannot be removed
    _guarded.add(forkable)
    if _hooked or not hasattr(os, "register_at_fork"):  # Windows does not fork
        return
    os.register_at_fork(before=_hold, after_in_parent=GATE.open, after_in_child=_renew)
    _hooked = True  # after registering: hooks registered twice are safer than missing ones


def import_grpc() -> None:
    """Import the modules of connections; a fork waits for the import.

    Raises:
        ConfigurationError: gRPC would hang in this process.
    """
    global _has_grpc  # noqa: PLW0603 - a process imports it once
    if not _has_grpc:  # so that later calls do not wait for a thread that imports pymilvus
        with GATE, GATE.importing:
            from zconfig._connection import CHANNELS
        guard_forks(CHANNELS)
        _has_grpc = True
    refuse_where_grpc_hangs()


def _hold() -> None:
    """Wait for the calls and imports of other threads.

    A module that another thread is importing could never be imported in the child, which would
    wait for that thread.
    """
    for name in (*LATE, *(LATE_WITH_GRPC if "zconfig._connection" in sys.modules else ())):
        import_module(name)
    GATE.close(_LONGEST_WAIT_S)
    if GATE.importing.acquire(timeout=_LONGEST_IMPORT_S):  # the closed gate blocks new imports
        GATE.importing.release()


def _renew() -> None:
    renew_all()
    GATE.renew()
    for each in _guarded:
        each.after_fork()
