"""Calls from threads and from tasks on an event loop, one after the other, until it is over."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.soak.values import Call, End
from benchmarks.soak.ways import AsyncWay, Way, asynchronous, end_of

_LONGEST_PAUSE_S = 0.04
_LOOK_S = 0.02
_PATIENCE_S = 30.0
"""Longer than any call takes that is not stuck."""


class Tally:
    """What became of all calls."""

    def __init__(self) -> None:
        self.fine: Counter[str] = Counter()
        self.remarkable: list[Call] = []
        self.under_way: dict[int, Call] = {}
        self._lock = threading.Lock()

    @contextmanager
    def noting(self, caller: int, way: Way | AsyncWay, alias: str) -> Iterator[None]:
        """Note how a call ends that is made in the `with` block."""
        began, error = time.monotonic(), None
        self.under_way[caller] = Call(way.name, alias, began, 0.0, way.limit_s, End.NEVER)
        try:
            yield
        except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001 - each one counts
            error = caught
        took_s = time.monotonic() - began
        end = end_of(error) if error else End.FINE
        said = f"{type(error).__name__}: {error}" if error else ""
        self._note(Call(way.name, alias, began, took_s, way.limit_s, end, said))
        del self.under_way[caller]

    def take_remarkable(self) -> list[Call]:
        """Return the calls that failed or were late, and forget them: they are memory, too."""
        with self._lock:
            taken, self.remarkable = self.remarkable, []
        return taken

    def unfinished(self) -> list[Call]:
        """Return the calls that have not ended."""
        now = time.monotonic()
        return [replace(each, took_s=now - each.began) for each in tuple(self.under_way.values())]

    def _note(self, call: Call) -> None:
        with self._lock:
            if call.end is End.FINE:
                self.fine[f"{call.way} {call.alias}"] += 1
            if call.end is not End.FINE or call.took_s > call.limit_s:
                self.remarkable.append(call)


class Load:
    """The callers: threads, and as many tasks on an event loop in a thread more.

    Args:
        aliases: Whose connections they use.
        threads: How many.
        ways: How the threads call.
        seed: What each caller's choices follow from.
    """

    def __init__(
        self, aliases: Sequence[str], threads: int, ways: Sequence[Way], seed: int
    ) -> None:
        self.tally = Tally()
        self.loop = asyncio.new_event_loop()
        self._aliases = aliases
        self._ways = ways
        self._seed = seed
        self._over = False
        self._going = threading.Event()
        self._callers = [
            threading.Thread(target=self._call, args=(number,), name=f"caller-{number}")
            for number in range(threads)
        ]
        numbers = range(threads, 2 * threads)
        self._tasks = [self.loop.create_task(self._call_on_loop(number)) for number in numbers]
        self._looper = threading.Thread(target=self.loop.run_forever, name="event loop")

    def start(self) -> None:
        """Begin to call."""
        self._going.set()
        for thread in (*self._callers, self._looper):
            thread.daemon = True  # one that is stuck must not keep the process
            thread.start()

    def rest(self) -> None:
        """Make no calls until `go_on`; return when none is under way, or one is stuck."""
        self._going.clear()
        deadline = time.monotonic() + _PATIENCE_S
        while self.tally.under_way and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def go_on(self) -> None:
        """Call again."""
        self._going.set()

    def on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the callers' event loop, and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_PATIENCE_S)

    def _call(self, number: int) -> None:
        draw = random.Random(f"{self._seed}/{number}")  # noqa: S311 - no secret
        while not self._over:
            self._going.wait()
            way, alias = draw.choice(self._ways), draw.choice(self._aliases)
            with self.tally.noting(number, way, alias):
                way.call(alias)
            time.sleep(draw.uniform(0, _LONGEST_PAUSE_S))

    async def _call_on_loop(self, number: int) -> None:
        draw, ways = random.Random(f"{self._seed}/{number}"), asynchronous()  # noqa: S311 - as above
        while not self._over:
            while not self._going.is_set():  # noqa: ASYNC110 - it is a thread that sets it
                await asyncio.sleep(_LOOK_S)
            way, alias = draw.choice(ways), draw.choice(self._aliases)
            with self.tally.noting(number, way, alias):
                await way.call(alias)
            await asyncio.sleep(draw.uniform(0, _LONGEST_PAUSE_S))
