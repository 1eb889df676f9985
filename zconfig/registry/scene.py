"""What one configuration has open, and what each alias of it is doing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from zconfig.registry.pool import Pool
from zconfig.registry.retry import Retries, Retry
from zconfig.registry.table import Table
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection.state import Stateful
    from zconfig.registry.stats import AliasState


class Scene:
    """What one configuration has: an override sets it aside, and puts it back.

    Args:
        table: What is configured.
        pool: What is open.
        retries: What could not be opened, and is tried again.

    Attributes:
        added: What code added to what was read.
        loops: What is open on event loops, by loop; `zconfig.aio` keeps it.
        since: Seconds since the epoch, at which it was made.
    """

    __slots__ = ("added", "loops", "pool", "retries", "since", "table")

    def __init__(self, table: Table, pool: Pool, retries: Retries[Retry]) -> None:
        self.table = table
        self.pool = pool
        self.retries = retries
        self.added: dict[str, ConnectionSpec] = {}
        self.loops: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.since = time.time()


class Situation(NamedTuple):
    """What an alias is doing.

    Args:
        state: The state.
        since: Seconds since the epoch, at which it came into it.
        trouble: Why it is lost or tried again.
    """

    state: AliasState
    since: float
    trouble: str = ""


def situation(scene: Scene, alias: str) -> Situation:
    """Return what an alias is doing, on threads and event loops; the worst that is open counts."""
    # A loop that does not run knows nothing new of its own; `keyrefs` is a list, whoever adds one.
    loops = [loop for ref in scene.loops.keyrefs() if (loop := ref()) and loop.is_running()]
    homes = [home for loop in loops if (home := scene.loops.get(loop)) and not home.is_over]
    places = [scene.pool.lifecycle(alias), *(home.lifecycle(alias) for home in homes)]
    retries = [scene.retries.find(alias), *(home.retries.find(alias) for home in homes)]
    return _worst(scene, [each for each in places if each], [each for each in retries if each])


def _worst(scene: Scene, places: Sequence[Stateful], retries: Sequence[Retry]) -> Situation:
    by_state = {str(each.state): each for each in places}
    if lost := by_state.get("lost"):
        return Situation("lost", lost.since, lost.trouble)
    if ready := by_state.get("ready"):
        return Situation("connected", ready.since)
    if retries:
        return Situation("retrying", retries[0].since, retries[0].trouble)
    if connecting := by_state.get("connecting"):
        return Situation("connecting", connecting.since)
    return Situation("idle", max((each.since for each in places), default=scene.since))
