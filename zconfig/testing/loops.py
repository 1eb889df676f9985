"""Closing what was opened on event loops, from outside them."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress

from zconfig.aio.home import LoopHome

_LONGEST_S = 5.0


def close_loops(loops: MutableMapping[asyncio.AbstractEventLoop, LoopHome]) -> None:
    """Close the connections of event loops, be they running, waiting to go on, or closed.

    `asyncio.run` has closed its own by then; test frameworks keep a loop for several tests.

    Args:
        loops: What is open, by loop.
    """
    for loop, home in tuple(loops.items()):
        if not home.is_over:
            _close(loop, home)
    loops.clear()


def _close(loop: asyncio.AbstractEventLoop, home: LoopHome) -> None:
    if loop.is_closed() or loop is _running():
        home.let_go()
    elif not loop.is_running():
        loop.run_until_complete(home.close())
    else:  # in another thread, where it may be busy with something else, or about to end
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(home.close(), loop).result(_LONGEST_S)


def _running() -> asyncio.AbstractEventLoop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None
