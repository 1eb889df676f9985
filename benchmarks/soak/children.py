"""Forked children of the application's, each of which calls in several ways."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import signal
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

from benchmarks.soak.ways import Way
from zconfig import aio
from zconfig.errors import ConfigurationError

ALARM_S = 30
"""Seconds after which a child counts as stuck."""

_WITHOUT_ASYNCIO = 3
_TOLD = "forked_amid_asyncio"

Fate = tuple[str, bool]
"""What went wrong in a child, if anything; and whether it could have no asyncio."""


def fork(count: int, ways: Sequence[Way], aliases: Sequence[str], seed: int) -> list[Fate]:
    """Fork children that live at the same time, and return what became of each.

    Args:
        count: How many.
        ways: How they call.
        aliases: On what, all of which must work.
        seed: What their order follows from.
    """
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            _live(ways, aliases, random.Random(f"{seed}/{number}"))  # noqa: S311 - no secret
        pids.append(pid)
    return [_reap(pid) for pid in pids]


def _reap(pid: int) -> Fate:
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        return f"it was stuck for {ALARM_S} s", False
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}", False
    fault = "" if code in (0, _WITHOUT_ASYNCIO) else f"it ended with {code}; see its log"
    return fault, code == _WITHOUT_ASYNCIO


def _live(ways: Sequence[Way], aliases: Sequence[str], draw: random.Random) -> NoReturn:
    signal.alarm(ALARM_S)
    faulthandler.dump_traceback_later(ALARM_S - 1)
    code = 1
    try:
        code = _use_everything(ways, aliases, draw)
    except BaseException:  # noqa: BLE001 - a child never runs its parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _use_everything(ways: Sequence[Way], aliases: Sequence[str], draw: random.Random) -> int:
    half = draw.randrange(len(aliases) + 1)  # asyncio is the first, the last, or in between
    order = draw.sample(aliases, len(aliases))
    for alias in order[:half]:
        draw.choice(ways).call(alias)
    is_there = _asyncio_is_there(draw.choice(aliases))
    for alias in order[half:]:
        draw.choice(ways).call(alias)
    return 0 if is_there else _WITHOUT_ASYNCIO


def _asyncio_is_there(alias: str) -> bool:
    """Ping on an event loop of its own; tell whether there can be one."""
    found: list[BaseException | float] = []

    def ping() -> None:
        try:
            found.append(asyncio.run(aio.ping(alias)))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            found.append(error)

    thread = threading.Thread(target=ping)
    thread.start()
    thread.join()
    (outcome,) = found
    if isinstance(outcome, ConfigurationError) and outcome.problems[0].code == _TOLD:
        return False
    if isinstance(outcome, BaseException):
        raise outcome
    return True
