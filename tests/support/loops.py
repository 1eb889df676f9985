"""The asyncio face of a registry of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from tests.support.ears import Ears
from tests.support.registries import registry
from zconfig._registry import Connections
from zconfig.aio import AsyncConnections

T = TypeVar("T")


class Faces(NamedTuple):
    """Both faces of a registry, and all that it reports.

    Args:
        aio: The asyncio face.
        blocking: The blocking one.
        ears: What it reports.
    """

    aio: AsyncConnections
    blocking: Connections
    ears: Ears


@contextmanager
def faces(**environ: str) -> Iterator[Faces]:
    """Return a registry that finds these variables in the environment, and nothing else."""
    with registry(**environ) as connections:
        yield faces_of(connections)


def faces_of(connections: Connections) -> Faces:
    """Return both faces of a registry."""
    return Faces(AsyncConnections(connections), connections, Ears(connections))


async def aside(block: Callable[[], T]) -> T:
    """Do what blocks, e.g. wait for a server of ours, while the event loop goes on."""
    return await asyncio.to_thread(block)


class LoopThread:
    """An event loop that runs in a thread of its own.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)


@contextmanager
def loop_thread() -> Iterator[LoopThread]:
    """Run an event loop in a thread, which ends as `asyncio.run` does."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="test loop")
    thread.start()
    loop, stop = started.result()
    try:
        yield LoopThread(loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
