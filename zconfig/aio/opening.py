"""One connect on an event loop: attempts until the server accepts us, or there is no use in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from zconfig.aio.core import ask
from zconfig.aio.ground import Ground
from zconfig.aio.threads import in_thread
from zconfig.channel.milvus import Server, converse_async, greet
from zconfig.connection import reports
from zconfig.connection.link import Link, make_link
from zconfig.connection.opening import Opened
from zconfig.connection.seam import FAILURES, Attempt
from zconfig.endpoint import Transport
from zconfig.errors import ConnectError
from zconfig.patience import Patience, backoff_s
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.topology import Follower

T = TypeVar("T")


class AsyncOpening:
    """A connect. Cancelling it leaves nothing half open.

    Args:
        spec: What to connect to.
        patience: How long to go on trying.
        ground: What it stands on.
    """

    def __init__(self, spec: ConnectionSpec, patience: Patience, ground: Ground) -> None:
        self.spec = spec
        self.started = time.monotonic()
        self.goes_on = patience.goes_on
        self._patience = patience
        self._ground = ground
        self._link: Link | None = None

    async def run(self) -> Opened:
        """Try until the server accepts us.

        Raises:
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
        """
        try:
            return await self._try_until_ready()
        except BaseException:  # a cancellation too must not leave a channel half open
            self._keep(None)
            raise

    async def _try_until_ready(self) -> Opened:
        patience = await self._make_ready_to_dial()
        number = 1
        while True:
            outcome = await self._try_once(patience, number)
            if isinstance(outcome, Opened):
                return outcome
            delay_s = backoff_s(number)
            if outcome.permanent or not patience.outlasts(delay_s):
                raise outcome
            self._ground.emit(reports.retrying(outcome, delay_s))
            await asyncio.sleep(delay_s)
            number += 1

    async def _make_ready_to_dial(self) -> Patience:
        """Start an embedded server, and return the patience that is left as if it had run."""
        if self.spec.endpoint.transport is not Transport.LITE:
            return self._patience
        begun = time.monotonic()
        try:
            await self._hold(Attempt(self.spec, self.started, self._patience.deadline))
        except ConnectError as error:
            if error.permanent:
                raise
        return self._patience.later(time.monotonic() - begun)

    async def _try_once(self, patience: Patience, number: int) -> Opened | ConnectError:
        """Return what came of one attempt."""
        ends = min(patience.deadline, time.monotonic() + patience.attempt_s)
        attempt = Attempt(self.spec, self.started, ends, number)
        try:
            link = await self._link_for(attempt)
            return Opened(link, await introduce(link, attempt), number)
        except ConnectError as error:
            return error

    async def _link_for(self, attempt: Attempt) -> Link:
        """Return the link that there is, unless another server became the one to dial."""
        link = self._link
        if link is None:
            return await self._hold(attempt)
        if not await has_moved(link, attempt, at_once=attempt.number > 1):
            return link
        return await self._hold(attempt, link.follower)

    async def _hold(self, attempt: Attempt, follower: Follower | None = None) -> Link:
        link = await take_link(self._ground, attempt, follower)
        self._keep(link)
        return link

    def _keep(self, link: Link | None) -> None:
        """Hold a link in place of the one there is, which is given back."""
        old, self._link = self._link, link
        if old:
            self._ground.release(old)


async def take_link(ground: Ground, attempt: Attempt, follower: Follower | None = None) -> Link:
    """Take what a connection needs, as `make_link` does."""
    make = partial(make_link, attempt, follower, ground.cores)
    return await in_thread(make, unwanted=ground.release)


async def has_moved(link: Link, attempt: Attempt, *, at_once: bool) -> bool:
    """Tell whether another server is the one to dial, as `Link.has_moved` does."""
    if not link.follows:
        return False
    return await in_thread(lambda: link.has_moved(attempt, at_once=at_once))


async def introduce(link: Link, attempt: Attempt) -> Server:
    """Introduce ourselves: the server proves our credentials and our database.

    Raises:
        ConnectError: The server cannot be reached, or does not accept us.
        ClosedError: The channels were closed.
    """
    line, spec = link.line(attempt.spec), attempt.spec
    say = partial(converse_async, partial(ask, line), greet(spec))
    return await diagnosed(link.aim(attempt), say)


async def prove(link: Link, spec: ConnectionSpec, timeout_s: float) -> Server:
    """Introduce ourselves over channels that are there already; see `introduce`."""
    now = time.monotonic()
    return await introduce(link, Attempt(spec, now, now + timeout_s))


async def diagnosed(attempt: Attempt, call: Callable[[float], Awaitable[T]]) -> T:
    """Make a call, as `Attempt.run` does; a probe runs in a thread.

    Raises:
        ConnectError: Its class names the cause.
    """
    try:
        return await call(attempt.left_s)
    except FAILURES as error:
        failure = await in_thread(partial(attempt.explain, error))
    # Outside the `except`, as there.
    raise failure
