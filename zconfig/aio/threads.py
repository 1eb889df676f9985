"""Work that blocks, in a thread of its own, so that an event loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], unwanted: Callable[[T], object] | None = None) -> T:
    """Return what work comes to that blocks.

    Not `asyncio.to_thread`, whose few threads are the application's too: a connect has a deadline,
    and would wait for its turn behind whatever else runs there.

    Args:
        work: What to do; it goes on to its end, also where it is not waited for any more.
        unwanted: Takes what came of it then.
    """
    loop = asyncio.get_running_loop()
    awaited: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        outcome = _outcome(work)
        try:
            loop.call_soon_threadsafe(deliver, outcome)
        except RuntimeError:  # the loop was closed
            discard(outcome)

    def deliver(outcome: Future[T]) -> None:
        if awaited.done():
            discard(outcome)
        elif error := outcome.exception():
            awaited.set_exception(error)
        else:
            awaited.set_result(outcome.result())

    def discard(outcome: Future[T] | asyncio.Future[T]) -> None:
        if unwanted and not outcome.exception():
            unwanted(outcome.result())

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="zconfig-aio", daemon=True).start()
    try:
        return await awaited
    except asyncio.CancelledError:
        if not awaited.cancelled():  # it was done already when the cancellation came
            discard(awaited)
        raise


def _outcome(work: Callable[[], T]) -> Future[T]:
    outcome: Future[T] = Future()
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        outcome.set_exception(error)
    return outcome
