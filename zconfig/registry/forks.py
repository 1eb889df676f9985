"""A connection belongs to the process that opened it.

While a process forks, no call of ours is under way in it, unless one takes too long to be waited
for. In the child gRPC's channels are forgotten, never closed: closing them there hangs when the
parent is in the middle of a call.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

_LONGEST_WAIT_S = 1.0


class Forkable(Protocol):
    """What has connections to forget."""

    def after_fork(self) -> None:
        """Forget, in the child, what belongs to the parent."""
        ...


_guarded: weakref.WeakSet[Forkable] = weakref.WeakSet()
_hooked = False


def guard_forks(registry: Forkable) -> None:
    """Have a registry told in every child that is forked from now on.

    Called on the first connect: until then there is nothing to forget, and importing the package
    changes nothing in the process.
    """
    global _hooked  # noqa: PLW0603 - fork hooks are the process' own, and cannot be taken back
    # Imported here and not in the child: a fork while another thread imports it would hang there.
    from zconfig.channel.gate import GATE
    from zconfig.connection import CORES

    _guarded.add(registry)
    if _hooked:
        return
    _hooked = True

    def after_in_child() -> None:
        GATE.renew()
        CORES.forget()
        for each in _guarded:
            each.after_fork()

    os.register_at_fork(
        before=lambda: GATE.close(_LONGEST_WAIT_S),
        after_in_parent=GATE.open,
        after_in_child=after_in_child,
    )
