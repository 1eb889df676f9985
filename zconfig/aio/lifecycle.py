"""The life of one alias' connection on one event loop, as `zconfig.connection.lifecycle`.

Nothing here is called from another thread, so there are no locks but those that span an await.
"""

from __future__ import annotations

import asyncio
import time

from zconfig import events
from zconfig.aio.flight import AsyncFlight
from zconfig.aio.following import Following
from zconfig.aio.ground import Ground
from zconfig.aio.opening import AsyncOpening
from zconfig.aio.view import AsyncChannelView
from zconfig.aio.watch import AsyncWatch
from zconfig.channel.line import Line
from zconfig.channel.milvus import Server
from zconfig.connection import State, reports
from zconfig.connection.agreement import check_agreement
from zconfig.connection.link import Link
from zconfig.connection.opening import Opened
from zconfig.connection.seam import Attempt
from zconfig.connection.state import Stateful
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError
from zconfig.patience import Patience
from zconfig.spec import ConnectionSpec


class AsyncLifecycle(Stateful):
    """One alias' connection, from the first attempt to the close.

    Args:
        spec: What to connect to.
        ground: What it stands on.
    """

    def __init__(self, spec: ConnectionSpec, ground: Ground) -> None:
        super().__init__()
        self.spec = spec
        self.line: Line | None = None
        self.server: Server | None = None
        self.view = AsyncChannelView(self)
        self.watch = AsyncWatch(self, ground)
        self._ground = ground
        self._link: Link | None = None
        self._flight: AsyncFlight | None = None
        self._ending: asyncio.Task[Opened] | None = None
        self._lost_at = 0.0
        self.following = Following(self, ground)

    @property
    def alias(self) -> str:
        """The connection's name."""
        return self.spec.alias

    @property
    def is_open(self) -> bool:
        """Whether calls can be made; they fail while the server is lost."""
        return self.line is not None

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""
        return self.state is State.CLOSED

    @property
    def is_lost(self) -> bool:
        """Whether it is open, and its server does not answer."""
        return self.state is State.LOST

    @property
    def is_current(self) -> bool:
        """Whether it is open with what is configured now."""
        return self.is_open and not self.following.is_behind

    @property
    def held(self) -> Link | None:
        """What it holds; `None` where it is not open."""
        return self._link

    def aim(self, attempt: Attempt) -> Attempt:
        """Return an attempt that knows where the connection really leads."""
        return self._link.aim(attempt) if self._link else attempt

    def closed_error(self) -> ClosedError:
        """Return the error of one who uses it though it is closed, or of another event loop."""
        return ClosedError(
            self.alias, f"take a live one with `await zconfig.aio.get({self.alias!r})`"
        )

    # --- opening ----------------------------------------------------------------------------

    async def open(self, patience: Patience, spec: ConnectionSpec | None = None) -> None:
        """Connect, or wait for the task that does so already.

        Args:
            patience: How long to go on trying.
            spec: What is wanted; what is configured by default.

        Raises:
            ConflictError: It is open, or being opened, with another specification.
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
            ClosedError: If it is closed, also meanwhile.
        """
        may_reread = spec is None  # what code gave is not replaced by what stands elsewhere
        while True:
            self._check_place()
            await self.following.catch_up(patience.left_s)
            self._check(spec)
            if self.is_open:
                return
            others = self._flight
            flight = others or self._take_off(patience, spec)
            try:
                await flight.join(patience)
            except RejectedCredentialsError:
                is_outdated = self.following.is_outdated
                if not (may_reread and await is_outdated(flight.spec, patience.left_s)):
                    raise
                may_reread = False
            except ConnectError as error:
                # What others gave up is worth another try for one with more patience.
                if not others or error.permanent or not patience.outlasts(0.0):
                    raise
            except ClosedError:  # by whom had a new specification for it, perhaps
                self._check_place()

    async def ready(self, timeout_s: float | None = None) -> Line:
        """Return the line, after dialing anew, or proving new credentials, where that is due.

        Args:
            timeout_s: Seconds that the caller has; at most the alias' TIMEOUT are spent.

        Raises:
            ConnectError: The server cannot be reached, or does not accept us.
            ClosedError: It is closed, or belongs to another event loop.
        """
        line = self.line
        if line and self._ground.is_here and not self.following.is_behind:
            return line
        own_s = self.spec.timeout_s
        await self.open(Patience.from_now(own_s if timeout_s is None else min(own_s, timeout_s)))
        return self.at_once()

    def at_once(self) -> Line:
        """Return the line for a call that cannot wait.

        Raises:
            ClosedError: It is closed, not open just now, or belongs to another event loop.
        """
        line = self.line
        if line is None or not self._ground.is_here:
            raise self.closed_error()
        return line

    def _check_place(self) -> None:
        if self.is_closed or not self._ground.is_here:
            raise self.closed_error()

    def _check(self, spec: ConnectionSpec | None) -> None:
        if spec and (self._flight or self.is_open):
            check_agreement(self.spec, spec)

    def _take_off(self, patience: Patience, spec: ConnectionSpec | None) -> AsyncFlight:
        # What was wanted last may have been refused, and so was never configured.
        self.spec = spec or self._ground.configured(self.alias) or self.spec
        self.state = State.CONNECTING
        opening = AsyncOpening(self.spec, patience, self._ground)
        task = asyncio.get_running_loop().create_task(self._fly(opening))
        self._flight = AsyncFlight(self.spec, task)
        task.add_done_callback(self._end)  # it may be cancelled before it has begun
        return self._flight

    def _end(self, task: asyncio.Task[Opened] | None) -> None:
        if self._flight and self._flight.task is task:
            self._flight, self.state = None, State.IDLE

    async def _fly(self, opening: AsyncOpening) -> Opened:
        """Connect; where it was ended meanwhile, this task is cancelled."""
        spec = opening.spec
        try:
            self._ground.emit(reports.connecting(spec))
            self.watch.begin(spec)
            opened = await opening.run()
        except BaseException as error:  # whoever waits must hear of it, also of a cancellation
            self._end(asyncio.current_task())
            if isinstance(error, ConnectError) and not opening.goes_on:
                self._ground.emit(reports.failed(error))
            raise
        self._flight, self._link = None, opened.link
        self.server, self.state = opened.server, State.READY
        self.line = opened.link.line(spec, opened.server)
        self._ground.attend()
        # Not before: a hook may look the alias up.
        self._ground.emit(reports.connected(spec, opened.server, opened.attempt, opening.started))
        return opened

    def tell_of_failure(self, event: events.Event) -> None:
        """Have an event told of a connect that failed, unless another one has begun by now."""
        if self.state is State.IDLE:
            self._ground.emit(event)

    def note_round_trip(self, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        self._ground.note_round_trip(self.alias, round_trip_ms)

    # --- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close it for good; a connect under way ends."""
        self._cut(State.CLOSED, self.spec)

    async def settle(self) -> None:
        """Wait until nothing of what was closed is left."""
        if self._ending:
            await asyncio.wait([self._ending])
        await self._ground.settle()

    def reopen_with(self, spec: ConnectionSpec) -> None:
        """Close it until its next use, which opens it with another specification."""
        self._cut(State.IDLE, spec)

    def abandon(self) -> None:
        """Forget all, and close nothing: the event loop is over, or another process'."""
        self.line = self._link = self._flight = None
        self.state = State.CLOSED

    def _cut(self, state: State, spec: ConnectionSpec) -> None:
        if self.is_closed:
            return
        before, was_open = self.spec, self.is_open
        link, flight = self._link, self._flight
        self.line = self._link = self._flight = None
        self.state, self.spec = state, spec
        if flight:
            flight.task.cancel()
            self._ending = flight.task
        if link:
            self._ground.release(link)
        if was_open:
            self._ground.emit(reports.closed(before))

    # --- what is configured -----------------------------------------------------------------

    async def renew(self, line: Line, timeout_s: float | None = None) -> Line | None:
        """Return a line to make a call on again, if there is one; see `Following.renew`.

        Args:
            line: The one on which its credentials were refused.
            timeout_s: Seconds that the caller has, also for `ready` where it was cut meanwhile.

        Raises:
            ConnectError: It was cut, and cannot be dialed anew.
            ClosedError: It was closed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        newer = await self.following.renew(line, timeout_s)
        if newer or self.line:
            return newer
        return await self.ready(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def switch(self, link: Link, spec: ConnectionSpec, server: Server | None) -> None:
        """Have calls go over the same link with another specification from now on.

        Raises:
            ClosedError: The link is not held any more.
        """
        if self._link is not link:
            raise self.closed_error()
        self.spec, self.server = spec, server
        self.line = link.line(spec, server)

    # --- lost and found ---------------------------------------------------------------------

    def doubt(self, line: Line, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one to ask; see `Owner.doubt`."""
        if self.line is line and self.watch.doubt() and at_once:
            self._ground.attend()
        return self.trouble if self.is_lost else ""

    def lose(self, link: Link, failure: ConnectError) -> None:
        """Note that the server is lost, and why, if that is news."""
        if self._link is link and self.state is State.READY:
            self.state, self.trouble = State.LOST, str(failure)
            self._lost_at = time.monotonic()
            self._ground.emit(reports.lost(self.spec, failure))

    def regain(self, link: Link, server: Server) -> None:
        """Note that the server has accepted us again, if that is news."""
        if self._link is link and self.is_lost:
            self.server, self.state = server, State.READY
            self.line = link.line(self.spec, server)
            self._ground.emit(reports.recovered(self.spec, server, self._lost_at))

    def move(self, old: Link, new: Link, server: Server, started: float) -> bool:
        """Have a link taken the place of another one; tell whether it has.

        Args:
            old: What was held.
            new: What takes its place.
            server: What the other server said of itself.
            started: The monotonic instant at which the move began.
        """
        is_moved = self._link is old
        if is_moved:
            self._link, self.server = new, server
            self.line = new.line(self.spec, server)
        self._ground.release(old if is_moved else new)
        if is_moved:
            self._ground.emit(reports.moved(self.spec, old.target, new.target, started))
        return is_moved
