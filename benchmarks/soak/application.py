"""The application that is put under load; it does what it is told in lines of JSON.

    python -m benchmarks.soak.application ALIASES THREADS SEED

In the directory of its `.env`. Each line on standard input is a list, a command and its arguments;
the answer to it is a line on standard output.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import zconfig
from benchmarks.soak.children import Fate, fork
from benchmarks.soak.holdings import holdings, memory_kb
from benchmarks.soak.load import Load
from benchmarks.soak.ways import AsyncWay, Way, asynchronous, blocking, secret_on_loop
from zconfig import aio
from zconfig.errors import UnknownAliasError

_ASK_TO_DUMP = signal.SIGUSR1


class Application:
    """Carries commands out.

    Args:
        load: The callers.
        ways: How its threads call.
    """

    def __init__(self, load: Load, ways: Sequence[Way]) -> None:
        self._load = load
        self._ways = ways

    def fork(self, count: int, aliases: list[str], seed: int) -> list[Fate]:
        """Fork children that call, and return what became of them."""
        return fork(count, self._ways, aliases, seed)

    def reload(self) -> str:
        """Reload; return what changed."""
        return str(zconfig.reload())

    def disconnect(self, alias: str) -> None:
        """Close an alias, on the threads and on the event loop."""
        zconfig.connections.disconnect(alias)
        self._load.on_loop(aio.disconnect(alias))

    def has_taken_up(self, alias: str, secret: str) -> bool:
        """Tell whether an alias calls with a secret, on the threads and on the event loop."""
        credentials = zconfig.connections[alias].spec.credentials
        ours = credentials.secret if credentials else ""
        return bool(ours == secret == self._load.on_loop(secret_on_loop(alias)))

    def visit(self, alias: str) -> str | None:
        """Ping an alias; return where it leads, or nothing if it is not configured."""
        try:
            connection = zconfig.connections[alias]
        except UnknownAliasError:
            return None
        connection.ping()
        return str(connection.endpoint)

    def try_all(self, aliases: list[str]) -> list[str]:
        """Call in every way on every alias; return what failed."""
        failures = []
        ways: tuple[Way | AsyncWay, ...] = (*self._ways, *asynchronous())
        for way, alias in product(ways, aliases):
            try:
                if isinstance(way, AsyncWay):
                    self._load.on_loop(way.call(alias))
                else:
                    way.call(alias)
            except Exception as error:  # noqa: BLE001 - each one counts
                failures.append(f"{way.name} {alias}: {type(error).__name__}: {error}")
        return failures

    def rest(self) -> None:
        """Have no calls made."""
        self._load.rest()

    def go_on(self) -> None:
        """Have calls made again."""
        self._load.go_on()

    def hold(self) -> dict[str, Any]:
        """Return what is held."""
        return asdict(holdings())

    def memory(self) -> int:
        """Return the kilobytes of memory that are this process' alone, without rubbish."""
        gc.collect()
        return memory_kb()

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls that did not go well since this was last asked."""
        return [asdict(call) for call in self._load.tally.take_remarkable()]

    def end(self) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Return how many calls went well, and those that have not ended."""
        tally = self._load.tally
        return dict(tally.fine), [asdict(call) for call in tally.unfinished()]


def main(aliases: list[str], threads: int, seed: int) -> None:
    """Call, and do what is told, until there is nobody to tell it."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it tells of each failed call
    faulthandler.register(_ASK_TO_DUMP, all_threads=True)
    zconfig.autoconnect(wait=30)
    ways = blocking()
    load = Load(aliases, threads, ways, seed)
    load.start()
    application = Application(load, ways)
    _answer(None)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        carry_out: Callable[..., Any] = getattr(application, command)
        _answer(carry_out(*arguments))
    os._exit(0)  # callers that are stuck would be waited for


def _answer(value: Any) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]))
