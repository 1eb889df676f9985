"""A connection belongs to the process that opened it.

While a process forks, no call of ours is under way in it, unless one takes too long to be waited
for. In the child gRPC's channels are forgotten, never closed: closing them there hangs when the
parent is in the middle of a call.
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
"""What is imported when it is needed, and before a fork in any case.

Nothing that has a hook of its own for forks may be among it: half of that would run in this one.
"""

LATE_WITH_GRPC = ("zconfig._connection.error_mapping", "zconfig._topology")
"""The same, where gRPC is imported."""


class Forkable(Protocol):
    """What holds something of its process."""

    def after_fork(self) -> None:
        """Forget, in the child, what belongs to the parent."""


_guarded: weakref.WeakSet[Forkable] = weakref.WeakSet()
_hooked = False
_has_grpc = False


def guard_forks(forkable: Forkable) -> None:
    """Have something told in every child that is forked from now on.

    Called on the first use, before any lock is taken: until then there is nothing to forget, and
    importing the package changes nothing in the process.
    """
    global _hooked  # noqa: PLW0603 - fork hooks are the process' own, and cannot be taken back
    _guarded.add(forkable)
    if _hooked or not hasattr(os, "register_at_fork"):  # Windows does not fork
        return
    os.register_at_fork(before=_hold, after_in_parent=GATE.open, after_in_child=_renew)
    _hooked = True  # not before: two threads that hook do less harm than one that relies on it


def import_grpc() -> None:
    """Import what connections need; a fork waits until that is done, however long it takes.

    Raises:
        ConfigurationError: gRPC would hang here.
    """
    global _has_grpc  # noqa: PLW0603 - a process imports it once
    if not _has_grpc:  # afterwards nobody waits for a thread that imports pymilvus
        with GATE, GATE.importing:
            from zconfig._connection import CHANNELS
        guard_forks(CHANNELS)
        _has_grpc = True
    refuse_where_grpc_hangs()


def _hold() -> None:
    """Have nothing of ours under way in another thread.

    What one was importing just then, the child could never import: it would wait for that thread.
    """
    for name in (*LATE, *(LATE_WITH_GRPC if "zconfig._connection" in sys.modules else ())):
        import_module(name)
    GATE.close(_LONGEST_WAIT_S)
    if GATE.importing.acquire(timeout=_LONGEST_IMPORT_S):  # nobody can begin another one
        GATE.importing.release()


def _renew() -> None:
    renew_all()
    GATE.renew()
    for each in _guarded:
        each.after_fork()
