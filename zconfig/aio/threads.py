"""Work that blocks, in a thread of its own, so that an event loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Return what work comes to that blocks.

    Not `asyncio.to_thread`, whose few threads are the application's too: a connect has a deadline,
    and would wait for its turn behind whatever else runs there. An executor's threads, besides, are
    joined at the end of the interpreter.

    Args:
        work: What to do; it goes on to its end, also where nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    awaited: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        outcome = _outcome(work)
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(deliver, outcome)

    def deliver(outcome: Future[T]) -> None:
        if awaited.done():
            return
        if error := outcome.exception():
            awaited.set_exception(error)
        else:
            awaited.set_result(outcome.result())

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="zconfig-aio", daemon=True).start()
    return await awaited


def _outcome(work: Callable[[], T]) -> Future[T]:
    outcome: Future[T] = Future()
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        outcome.set_exception(error)
    return outcome
