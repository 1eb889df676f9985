"""A connect on an event loop, and the tasks that wait for it."""

from __future__ import annotations

import asyncio

from zconfig.connection.opening import Opened
from zconfig.connection.seam import error_of
from zconfig.errors import ClosedError, ConnectError, ServerSilentError
from zconfig.patience import Patience
from zconfig.spec import ConnectionSpec


class AsyncFlight:
    """A connect that is under way: a task of its own flies it, and others wait for its outcome.

    It ends with the last who waits for it.

    Args:
        spec: What is connected to.
        task: Connects.
    """

    def __init__(self, spec: ConnectionSpec, task: asyncio.Task[Opened]) -> None:
        self.spec = spec
        self.task = task
        self._waiting = 0
        task.add_done_callback(_notice)

    async def join(self, patience: Patience) -> None:
        """Wait for the outcome.

        Raises:
            ConnectError: It failed, or takes too long.
            ClosedError: It was ended.
        """
        self._waiting += 1
        try:
            await self._outcome(patience)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.task.cancel()

    async def _outcome(self, patience: Patience) -> None:
        done, _ = await asyncio.wait([self.task], timeout=patience.left_s)
        if not done:
            raise still_busy(self.spec)
        if self.task.cancelled():
            raise ClosedError(self.spec.alias)
        self.task.result()


def still_busy(spec: ConnectionSpec) -> ConnectError:
    """Return the error of one who waited too long for what another task does."""
    return error_of(ServerSilentError, spec, detail="another task is still connecting")


def _notice(task: asyncio.Task[Opened]) -> None:
    """Look at a failure, lest asyncio complain where nobody waits any more."""
    if not task.cancelled():
        task.exception()
