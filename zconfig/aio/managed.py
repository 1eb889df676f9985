"""The life of one alias' connection on one event loop, as `zconfig._connection.managed`.

Nothing here is called from another thread, so there are no locks but those that span an await.
"""

from __future__ import annotations

import asyncio
import time

from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.milvus import Server
from zconfig._connection import State, event_factories
from zconfig._connection.attempt import Attempt
from zconfig._connection.connector import ConnectResult
from zconfig._connection.managed import Stateful
from zconfig._connection.transport import Transport
from zconfig._deadline import ConnectBudget
from zconfig._spec import ConnectionSpec, require_same
from zconfig.aio.config_follower import ConfigFollower
from zconfig.aio.connector import AsyncConnector, AsyncPendingConnect
from zconfig.aio.loop_context import LoopContext
from zconfig.aio.monitor import AsyncMonitor
from zconfig.aio.view import AsyncChannelView
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError


class AsyncManagedConnection(Stateful):
    """One alias' connection, from the first attempt to the close.

    Args:
        spec: What to connect to.
        ground: What it stands on.
    """

    def __init__(self, spec: ConnectionSpec, ground: LoopContext) -> None:
        super().__init__()
        self.spec = spec
        self.bound: BoundChannel | None = None
        self.server: Server | None = None
        self.view = AsyncChannelView(self)
        self.monitor = AsyncMonitor(self, ground)
        self._ground = ground
        self._transport: Transport | None = None
        self._pending: AsyncPendingConnect | None = None
        self._ending: asyncio.Task[ConnectResult] | None = None
        self._lost_at = 0.0
        self.following = ConfigFollower(self, ground)

    @property
    def alias(self) -> str:
        """The connection's name."""
        return self.spec.alias

    @property
    def is_open(self) -> bool:
        """Whether calls can be made; they fail while the server is lost."""
        return self.bound is not None

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
        return self.is_open and not self.following.is_stale

    @property
    def transport_if_open(self) -> Transport | None:
        """What it holds; `None` where it is not open."""
        return self._transport

    def resolve_target(self, attempt: Attempt) -> Attempt:
        """Return an attempt that knows where the connection really leads."""
        return self._transport.resolve_target(attempt) if self._transport else attempt

    def closed_error(self) -> ClosedError:
        """Return the error of one who uses it though it is closed, or of another event loop."""
        return ClosedError(
            self.alias, f"take a live one with `await zconfig.aio.get({self.alias!r})`"
        )

    # --- opening ----------------------------------------------------------------------------

    async def open(self, budget: ConnectBudget, spec: ConnectionSpec | None = None) -> None:
        """Connect, or wait for the task that does so already.

        Args:
            budget: How long to go on trying.
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
            await self.following.sync_with_config(budget.left_s)
            self._check(spec)
            if self.is_open:
                return
            others = self._pending
            pending = others or self._start_connect(budget, spec)
            try:
                await pending.join(budget)
            except RejectedCredentialsError:
                is_outdated = self.following.is_outdated
                if not (may_reread and await is_outdated(pending.spec, budget.left_s)):
                    raise
                may_reread = False
            except ConnectError as error:
                # What others gave up is worth another try for one with more patience.
                if not others or error.permanent or not budget.allows_retry_after(0.0):
                    raise
            except ClosedError:  # by whom had a new specification for it, perhaps
                self._check_place()

    async def ready(self, timeout_s: float | None = None) -> BoundChannel:
        """Return the line, after dialing anew, or proving new credentials, where that is due.

        Args:
            timeout_s: Seconds that the caller has; at most the alias' TIMEOUT are spent.

        Raises:
            ConnectError: The server cannot be reached, or does not accept us.
            ClosedError: It is closed, or belongs to another event loop.
        """
        bound = self.bound
        if bound and self._ground.is_here and not self.following.is_stale:
            return bound
        own_s = self.spec.timeout_s
        await self.open(
            ConnectBudget.from_now(own_s if timeout_s is None else min(own_s, timeout_s))
        )
        return self.at_once()

    def at_once(self) -> BoundChannel:
        """Return the line for a call that cannot wait.

        Raises:
            ClosedError: It is closed, not open just now, or belongs to another event loop.
        """
        bound = self.bound
        if bound is None or not self._ground.is_here:
            raise self.closed_error()
        return bound

    def _check_place(self) -> None:
        if self.is_closed or not self._ground.is_here:
            raise self.closed_error()

    def _check(self, spec: ConnectionSpec | None) -> None:
        if spec and (self._pending or self.is_open):
            require_same(self.spec, spec)

    def _start_connect(
        self, budget: ConnectBudget, spec: ConnectionSpec | None
    ) -> AsyncPendingConnect:
        # What was wanted last may have been refused, and so was never configured.
        self.spec = spec or self._ground.configured(self.alias) or self.spec
        self.state = State.CONNECTING
        connector = AsyncConnector(self.spec, budget, self._ground)
        task = asyncio.get_running_loop().create_task(self._lead(connector))
        self._pending = AsyncPendingConnect(self.spec, task)
        task.add_done_callback(self._end)  # it may be cancelled before it has begun
        return self._pending

    def _end(self, task: asyncio.Task[ConnectResult] | None) -> None:
        if self._pending and self._pending.task is task:
            self._pending, self.state = None, State.IDLE

    async def _lead(self, connector: AsyncConnector) -> ConnectResult:
        """Connect; where it was ended meanwhile, this task is cancelled."""
        spec = connector.spec
        try:
            self._ground.publish(event_factories.connecting(spec))
            self.monitor.begin(spec)
            opened = await connector.run()
        except BaseException as error:  # whoever waits must hear of it, also of a cancellation
            self._end(asyncio.current_task())
            if isinstance(error, ConnectError) and not connector.in_background:
                self._ground.publish(event_factories.failed(error))
            raise
        self._pending, self._transport = None, opened.transport
        self.server, self.state = opened.server, State.READY
        self.bound = opened.transport.bound(spec, opened.server)
        self._ground.attend()
        # Not before: a hook may look the alias up.
        self._ground.publish(
            event_factories.connected(spec, opened.server, opened.attempt, connector.started)
        )
        return opened

    def publish_failure(self, event: events.Event) -> None:
        """Have an event told of a connect that failed, unless another one has begun by now."""
        if self.state is State.IDLE:
            self._ground.publish(event)

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

    def replace_spec(self, spec: ConnectionSpec) -> None:
        """Close it until its next use, which opens it with another specification."""
        self._cut(State.IDLE, spec)

    def abandon(self) -> None:
        """Forget all, and close nothing: the event loop is over, or another process'."""
        self.bound = self._transport = self._pending = None
        self.state = State.CLOSED

    def _cut(self, state: State, spec: ConnectionSpec) -> None:
        if self.is_closed:
            return
        before, was_open = self.spec, self.is_open
        transport, pending = self._transport, self._pending
        self.bound = self._transport = self._pending = None
        self.state, self.spec = state, spec
        if pending:
            pending.task.cancel()
            self._ending = pending.task
        if transport:
            self._ground.release(transport)
        if was_open:
            self._ground.publish(event_factories.closed(before))

    # --- what is configured -----------------------------------------------------------------

    async def renew(
        self, bound: BoundChannel, timeout_s: float | None = None
    ) -> BoundChannel | None:
        """Return a line to make a call on again, if there is one; see `ConfigFollower.renew`.

        Args:
            bound: The one on which its credentials were refused.
            timeout_s: Seconds that the caller has, also for `ready` where it was cut meanwhile.

        Raises:
            ConnectError: It was cut, and cannot be dialed anew.
            ClosedError: It was closed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        newer = await self.following.renew(bound, timeout_s)
        if newer or self.bound:
            return newer
        return await self.ready(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def switch(self, transport: Transport, spec: ConnectionSpec, server: Server | None) -> None:
        """Have calls go over the same link with another specification from now on.

        Raises:
            ClosedError: The link is not held any more.
        """
        if self._transport is not transport:
            raise self.closed_error()
        self.spec, self.server = spec, server
        self.bound = transport.bound(spec, server)

    # --- lost and found ---------------------------------------------------------------------

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one to ask; see `AsyncChannelOwner.doubt`."""
        if self.bound is bound and self.monitor.report_failure() and at_once:
            self._ground.attend()
        return self.last_error if self.is_lost else ""

    def mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        """Note that the server is lost, and why, if that is news."""
        if self._transport is transport and self.state is State.READY:
            self.state, self.last_error = State.LOST, str(failure)
            self._lost_at = time.monotonic()
            self._ground.publish(event_factories.lost(self.spec, failure))

    def mark_recovered(self, transport: Transport, server: Server) -> None:
        """Note that the server has accepted us again, if that is news."""
        if self._transport is transport and self.is_lost:
            self.server, self.state = server, State.READY
            self.bound = transport.bound(self.spec, server)
            self._ground.publish(event_factories.recovered(self.spec, server, self._lost_at))

    def move(self, old: Transport, new: Transport, server: Server, started: float) -> bool:
        """Have a link taken the place of another one; tell whether it has.

        Args:
            old: What was held.
            new: What takes its place.
            server: What the other server said of itself.
            started: The monotonic instant at which the move began.
        """
        is_moved = self._transport is old
        if is_moved:
            self._transport, self.server = new, server
            self.bound = new.bound(self.spec, server)
        self._ground.release(old if is_moved else new)
        if is_moved:
            self._ground.publish(event_factories.moved(self.spec, old.target, new.target, started))
        return is_moved
