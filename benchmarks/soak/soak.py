"""A soak from its first trouble to its record."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak.driver import Application
from benchmarks.soak.scene import Scene, scene
from benchmarks.soak.servers import Milvus, Server
from benchmarks.soak.troubles import KINDS, Troubles
from benchmarks.soak.values import Holdings, Record, Sample
from benchmarks.soak.verdict import RECOVERY_S, grown

_BETWEEN_LOOKS_S = 0.5
_LOOKS_ALIKE = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """What a soak is made of.

    Args:
        seconds: How long it goes on after the warm-up, which is each kind of trouble once.
        seed: What all choices follow from.
        threads: How many threads and how many tasks call.
        kinds: Which troubles there are.
        with_lite: Whether there is an alias on Milvus Lite. gRPC cannot tidy up in a child of a
            process whose threads serve, so that there should be no forks beside it.
        longest_gap_s: Seconds between two troubles, at most.
        longest_outage_s: Seconds that a server is away, at most.
        resting_s: Seconds for everything to recover before it is counted.
        settling_s: Seconds in which what was let go of must be gone, when nobody calls.
    """

    seconds: float
    seed: int
    threads: int = 6
    kinds: Sequence[str] = KINDS
    with_lite: bool = False
    longest_gap_s: float = 2.0
    longest_outage_s: float = 4.0
    resting_s: float = RECOVERY_S
    settling_s: float = 90.0


@contextmanager
def two_servers(directory: Path) -> Iterator[Mapping[str, Server]]:
    """Start two real Milvus servers side by side."""
    with ExitStack() as stack:
        servers = {name: Milvus(directory / f"milvus_{name}") for name in ("a", "b")}
        for server in servers.values():
            stack.callback(server.kill)
        for server in servers.values():
            server.wait_ready()
        yield servers


def soak(
    plan: Plan, directory: Path, servers: Mapping[str, Server], say: Callable[[str], None]
) -> Record:
    """Run the application and its troubles, and return what is known of them.

    Args:
        plan: What to do.
        directory: An empty one, for the application.
        servers: By name.
        say: Takes a line of the log.

    Raises:
        StuckError: The application does not answer any more.
    """
    with (
        scene(directory, servers, with_lite=plan.with_lite) as there,
        Application(directory, there.aliases, plan.threads, plan.seed) as application,
    ):
        draw = random.Random(plan.seed)  # noqa: S311 - no secret
        troubles = Troubles(there, application, draw, time.monotonic(), say, plan.longest_outage_s)
        return _go_through(plan, there, application, troubles)


def _go_through(plan: Plan, there: Scene, application: Application, troubles: Troubles) -> Record:
    troubles.faults += application.ask("try_all", there.aliases)
    for kind in troubles.draw.sample(plan.kinds, len(plan.kinds)):
        _one(plan, troubles, kind)
    before = _at_rest(plan, there, application, troubles)
    application.ask("go_on")
    calls = application.calls(troubles.start)
    samples, end = [], troubles.second + plan.seconds
    while troubles.second < end:
        _one(plan, troubles, troubles.draw.choice(plan.kinds))
        calls += application.calls(troubles.start)
        samples.append(Sample(troubles.second, application.ask("memory")))
        troubles.say(f"{troubles.second:7.1f} s  {samples[-1].memory_kb} KB of memory")
    after = _at_rest(plan, there, application, troubles, before)
    calls += application.calls(troubles.start)
    fine, unfinished = application.end(troubles.start)
    return Record(
        fine=fine,
        calls=[*calls, *unfinished],
        windows=troubles.windows,
        children=troubles.children,
        before=before,
        after=after,
        samples=samples,
        troubles=troubles.count,
        faults=troubles.faults,
    )


def _one(plan: Plan, troubles: Troubles, kind: str) -> None:
    time.sleep(troubles.draw.uniform(0, plan.longest_gap_s))
    troubles.make(kind)


def _at_rest(
    plan: Plan,
    there: Scene,
    application: Application,
    troubles: Troubles,
    before: Holdings | None = None,
) -> Holdings:
    """Have everything recover and rest; every alias must work. Return what is held then."""
    troubles.calm()
    time.sleep(plan.resting_s)
    troubles.faults += application.ask("try_all", there.aliases)
    application.ask("rest")
    held = _settled(application, plan.settling_s, before)
    counts = (
        f"{sum(held.threads.values())} threads, {held.descriptors} descriptors, {held.memory_kb} KB"
    )
    troubles.say(f"{troubles.second:7.1f} s  at rest: {counts}")
    return held


def _settled(application: Application, budget_s: float, before: Holdings | None) -> Holdings:
    """Return what is held once it is no more than before, or else stays the same for a while.

    gRPC lets go of threads and sockets some seconds after their last use.
    """
    deadline, held = time.monotonic() + budget_s, [application.hold()]
    while time.monotonic() < deadline:
        if before and not any(grown(before, held[-1])):
            break
        if not before and _stays(held):
            break
        time.sleep(_BETWEEN_LOOKS_S)
        held.append(application.hold())
    return held[-1]


def _stays(held: Sequence[Holdings]) -> bool:
    last = {(sum(each.threads.values()), each.descriptors) for each in held[-_LOOKS_ALIKE:]}
    return len(held) > _LOOKS_ALIKE and len(last) == 1
