"""A connection belongs to the process that opened it.

In a forked child gRPC's channels are dropped, never closed: closing them there hangs when the
parent is in the middle of a call.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What has connections to drop."""

    def after_fork(self) -> None:
        """Drop, in the child, what belongs to the parent."""
        ...


_guarded: weakref.WeakSet[Forkable] = weakref.WeakSet()
_hooked = False


def guard_forks(registry: Forkable) -> None:
    """Have a registry told in every child that is forked from now on.

    Called on the first connect: until then there is nothing to drop, and importing the package
    changes nothing in the process.
    """
    global _hooked  # noqa: PLW0603 - fork hooks are the process' own, and cannot be taken back
    # Imported here and not in the child: a fork while another thread imports it would hang there.
    import zconfig.connection  # noqa: F401 - see above

    _guarded.add(registry)
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    from zconfig.connection import CORES

    for registry in _guarded:
        registry.after_fork()
    CORES.forget()
