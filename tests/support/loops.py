"""The asyncio face of a registry of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

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
