"""What a connection is doing, and since when."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.interruptible import run_interruptibly
from zconfig._channel.milvus import Server
from zconfig._channel.view import ChannelView
from zconfig._connection import event_factories
from zconfig._connection.attempt import Attempt, error_of
from zconfig._connection.connector import Connector, ConnectResult
from zconfig._connection.credentials import CredentialRefresher, Home
from zconfig._connection.monitor import Monitor, verify
from zconfig._connection.transport import Transport
from zconfig._deadline import ConnectBudget
from zconfig._spec import ConnectionSpec, require_same
from zconfig.errors import (
    ClosedError,
    ConnectError,
    RejectedCredentialsError,
    ServerSilentError,
    ZConfigError,
)

if TYPE_CHECKING:
    from zconfig._connection.connection import Connection


class State(StrEnum):
    """What a connection is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    LOST = "lost"
    CLOSED = "closed"


class Stateful:
    """Knows what it is doing, and since when.

    Attributes:
        since: Seconds since the epoch, at which its state last changed.
        last_error: Why its server was lost.
    """

    def __init__(self) -> None:
        self.last_error = ""
        self._state = State.IDLE
        self.since = time.time()

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is not self._state:
            self._state, self.since = state, time.time()


class Sign(NamedTuple):
    """Shows a connection to those who look it up, while it is open.

    Args:
        ready: What is open, by alias.
        alias: The connection's name.
        connection: What is handed out.
    """

    ready: dict[str, Connection]
    alias: str
    connection: Connection

    def show(self) -> None:
        """Show that it is open."""
        self.ready[self.alias] = self.connection

    def hide(self) -> None:
        """Show that it is not, unless another one has taken its place."""
        if self.ready.get(self.alias) is self.connection:
            del self.ready[self.alias]


class Waiter:
    """One who wants a connect.

    Attributes:
        pending: The connect under way that they make themselves.
        has_left: Whether they want it no longer.
    """

    def __init__(self) -> None:
        self.pending: PendingConnect | None = None
        self.has_left = False


@dataclass(frozen=True, slots=True)
class PendingConnect:
    """A connect that is under way: one thread flies it, the others wait for its outcome."""

    connector: Connector
    outcome: Future[None] = field(default_factory=Future)

    def end(self, error: ZConfigError | None = None) -> None:
        """Tell those who wait how it went, unless they know.

        Args:
            error: What it failed of.
        """
        with suppress(InvalidStateError):
            if error:
                self.outcome.set_exception(error)
            else:
                self.outcome.set_result(None)

    def join(self, budget: ConnectBudget) -> None:
        """Wait for the outcome; return also if it is worth trying oneself.

        Raises:
            ConnectError: It failed, or takes too long.
        """
        try:
            self.outcome.result(budget.left_s)
        except TimeoutError:
            pass
        except ConnectError as error:
            if error.permanent or not budget.allows_retry_after(0.0):
                raise
            return
        else:
            return
        detail = "another thread is still connecting"
        raise error_of(ServerSilentError, self.connector.spec, detail=detail)


class ManagedConnection(Stateful):
    """One alias' connection, from the first attempt to the close.

    Attributes:
        sign: Shows whether it is open, if anybody looks.
        rotating: Held by the thread that has it take up another specification.

    Args:
        spec: What to connect to.
        home: Where it belongs.
    """

    def __init__(self, spec: ConnectionSpec, home: Home) -> None:
        super().__init__()
        self.spec = spec
        self.bound: BoundChannel | None = None
        self.server: Server | None = None
        self.view = ChannelView(self)
        self.sign: Sign | None = None
        self._home = home
        self._transport: Transport | None = None
        self._pending: PendingConnect | None = None
        self.monitor = Monitor(self, home)
        self.refresher = CredentialRefresher(self, home)
        self._lost_at = 0.0
        self.rotating = threading.Lock()
        self._lock = threading.Lock()

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
    def transport(self) -> Transport:
        """What it holds.

        Raises:
            ClosedError: It is not open.
        """
        transport = self._transport
        if transport is None:
            raise ClosedError(self.alias)
        return transport

    @property
    def transport_if_open(self) -> Transport | None:
        """What it holds; `None` where it is not open."""
        return self._transport

    @property
    def is_lost(self) -> bool:
        """Whether it is open, and its server does not answer."""
        return self.state is State.LOST

    def resolve_target(self, attempt: Attempt) -> Attempt:
        """Return an attempt that knows where the connection really leads."""
        transport = self._transport
        return transport.resolve_target(attempt) if transport else attempt

    # --- opening ----------------------------------------------------------------------------

    def open(
        self,
        budget: ConnectBudget,
        spec: ConnectionSpec | None = None,
        *,
        is_firm: bool = False,
        may_reread: bool = True,
    ) -> None:
        """Connect, or wait for the thread that does so already.

        Args:
            budget: How long to go on trying.
            spec: What is wanted; what it was made for by default.
            is_firm: Whether just that is wanted. What was read may be out of date by now.
            may_reread: Whether credentials that are refused may be replaced by newer ones: those
                that a child of an old process knows may be out of date.

        Raises:
            ConflictError: It is open, or being opened, with another specification than the one
                that is firmly wanted.
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
            ClosedError: If it is closed, also meanwhile.
        """
        if self.is_open and not (spec and is_firm):
            return
        waiter, how = Waiter(), {"is_firm": is_firm, "may_reread": may_reread}
        connect = partial(self._open, waiter, budget, spec, **how)
        run_interruptibly(connect, partial(self._abandon, waiter))

    def _open(
        self,
        waiter: Waiter,
        budget: ConnectBudget,
        spec: ConnectionSpec | None,
        *,
        is_firm: bool,
        may_reread: bool,
    ) -> None:
        newest: ConnectionSpec | None = None
        while True:
            pending, is_ours = self._join_or_start(waiter, budget, spec, is_firm=is_firm)
            if pending is None:
                return
            try:
                if is_ours:
                    self._lead(pending)
                else:
                    pending.join(budget)
            except ClosedError:
                if self.state is State.CLOSED:
                    raise
                if not is_firm and self.spec is not pending.connector.spec:
                    spec = None  # a reload replaced what was wanted
            except RejectedCredentialsError:
                refused = pending.connector.spec
                if not may_reread or refused == newest:
                    raise
                newest = spec = self.refresher.reread(refused, budget.left_s)
                if newest is None:
                    raise

    def ensure_open(self, timeout_s: float | None = None) -> BoundChannel:
        """Return the line, after dialing anew where a fork or a reload has cut it.

        Args:
            timeout_s: Seconds that the caller has; at most the alias' TIMEOUT are spent.

        Raises:
            ConnectError: The server cannot be reached, or does not accept us.
            ClosedError: It is closed.
        """
        own_s = self.spec.timeout_s
        self.open(ConnectBudget.from_now(own_s if timeout_s is None else min(own_s, timeout_s)))
        bound = self.bound
        if bound is None:
            raise ClosedError(self.alias)
        return bound

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that it is not open, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if self._pending or self.is_open:
            require_same(self.spec, spec)

    def _join_or_start(
        self,
        waiter: Waiter,
        budget: ConnectBudget,
        spec: ConnectionSpec | None,
        *,
        is_firm: bool,
    ) -> tuple[PendingConnect | None, bool]:
        """Return the connect under way and whether it is for us to make; none if it is open."""
        with self._lock:
            if self.state is State.CLOSED or waiter.has_left:
                raise ClosedError(self.alias)
            if self._pending or self.is_open:
                if spec and is_firm:
                    require_same(self.spec, spec)
                return self._pending, False
            self.spec = spec or self.spec
            self.state = State.CONNECTING
            self._pending = waiter.pending = PendingConnect(Connector(self.spec, budget))
            self._home.enqueue(event_factories.connecting(self.spec))
            return self._pending, True

    def _abandon(self, waiter: Waiter) -> None:
        """End the connect that a passenger has begun, unless it has ended; no other is begun."""
        with self._lock:
            waiter.has_left = True
        if pending := waiter.pending:
            self._fail(pending, ClosedError(self.alias))

    def _lead(self, pending: PendingConnect) -> None:
        """Connect, and tell those who wait how it went."""
        connector = pending.connector
        try:
            self._home.flush(self.alias)
            self.monitor.begin(connector.spec)
            opened = connector.run(partial(self._tell, pending))
            self._complete(pending, opened)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            self._fail(pending, error)
            raise
        pending.end()
        self._home.attend(at_once=False)
        self._home.flush(self.alias)  # not before: a hook may look the alias up

    def _complete(self, pending: PendingConnect, opened: ConnectResult) -> None:
        transport, server, number = opened
        with self._lock:
            if self._pending is pending:
                self._pending, self._transport = None, transport
                self.server, self.state = server, State.READY
                self.bound = transport.bound(self.spec, server)
                if self.sign:
                    self.sign.show()
                started = pending.connector.started
                self._home.enqueue(event_factories.connected(self.spec, server, number, started))
                return
        transport.release()
        raise ClosedError(self.alias)

    def _fail(self, pending: PendingConnect, error: BaseException) -> None:
        """End a connect, unless it has ended."""
        with self._lock:
            is_under_way = self._pending is pending
            if is_under_way:
                self._pending, self.state = None, State.IDLE
                if isinstance(error, ConnectError) and not pending.connector.in_background:
                    self._home.enqueue(event_factories.failed(error))
        if is_under_way:
            pending.connector.cancel()
        try:
            self._home.flush(self.alias)
        finally:
            pending.end(error if isinstance(error, ZConfigError) else ClosedError(self.alias))

    def _tell(self, pending: PendingConnect, event: events.Event) -> None:
        with self._lock:
            if self._pending is pending:  # otherwise it was closed meanwhile, which has been told
                self._home.enqueue(event)
        self._home.flush(self.alias)

    def publish_failure(self, event: events.Event) -> None:
        """Have an event told of a connect that failed, unless another one has begun by now."""
        with self._lock:
            if self.state is State.IDLE:
                self._home.enqueue(event)
        self._home.flush(self.alias)

    # --- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close it for good; a connect under way ends."""
        self._cut(State.CLOSED, self.spec)
        self._home.flush(self.alias)

    def replace_spec(self, spec: ConnectionSpec) -> None:
        """Close it until its next use, which opens it with another specification.

        The event is put, for the caller to have it delivered.
        """
        self._cut(State.IDLE, spec)

    def cancel(self) -> bool:
        """Close it if it is being opened, and tell whether it was."""
        is_opening = self._pending is not None
        if is_opening:
            self.close()
        return is_opening

    def abandon(self) -> bool:
        """Forget, in a child process, what the parent holds; return whether there was any.

        Nothing is closed: the channels belong to the parent. The next use opens it again.
        """
        self._lock, self.rotating = threading.Lock(), threading.Lock()
        self.refresher.after_fork()
        had_any = self.is_open or self._pending is not None
        if had_any:
            self.bound = self.server = self._transport = self._pending = None
            self.state = State.IDLE
            if self.sign:
                self.sign.hide()
        return had_any

    def _cut(self, state: State, spec: ConnectionSpec) -> None:
        with self._lock:
            if self.state is State.CLOSED:
                return
            before, was_open = self.spec, self.is_open
            transport, pending = self._transport, self._pending
            self.bound = self.server = self._transport = self._pending = None
            self.state, self.spec = state, spec
            if self.sign:
                self.sign.hide()
            if state is State.CLOSED:
                self.sign = None  # it has the connection, and clients keep what is closed here
            if was_open:
                self._home.enqueue(event_factories.closed(before))
        if pending:
            pending.connector.cancel()
        if transport:
            transport.release()

    # --- rotation ---------------------------------------------------------------------------

    def apply(self, spec: ConnectionSpec) -> None:
        """Take up what needs no other channel; credentials once the server accepted them.

        The event is put, for the caller to have it delivered.

        Args:
            spec: The new specification.

        Raises:
            ConnectError: The server does not accept the credentials; the old ones stay.
            ClosedError: It is not open.
        """
        transport, server, started = self.transport, self.server, time.monotonic()
        is_rotated = spec.credentials != self.spec.credentials
        self.monitor.begin(spec)  # credentials that are refused are not tried again by themselves
        if is_rotated:
            server = verify(transport, spec, spec.timeout_s)
        with self._lock:
            if self._transport is not transport:
                raise ClosedError(self.alias)
            self.spec, self.server = spec, server
            self.bound = transport.bound(spec, server)
            if is_rotated:
                self._home.enqueue(event_factories.rotated(spec, started))

    def renew(self, bound: BoundChannel, timeout_s: float | None = None) -> BoundChannel | None:
        """Return a line to make a call on again, if there is one; see `CredentialRefresher.renew`.

        Args:
            bound: The one on which its credentials were refused.
            timeout_s: Seconds that the caller has, also for `ensure_open` where it was
                cut meanwhile.

        Raises:
            ConnectError: It was cut, and cannot be dialed anew.
            ClosedError: It was closed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        renew = partial(self.refresher.renew, bound, timeout_s)
        newer = run_interruptibly(renew, lambda: None)  # it ends in time, and others wait for it
        if newer or self.bound:
            return newer
        return self.ensure_open(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def note_round_trip(self, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        self._home.note_round_trip(self.alias, round_trip_ms)

    # --- lost and found ---------------------------------------------------------------------

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one to ask; see `ChannelOwner.doubt`."""
        if self.bound is bound and self.monitor.report_failure() and at_once:
            self._home.attend(at_once=True)
        return self.last_error if self.is_lost else ""

    def mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        """Note that the server is lost, and why, if that is news."""
        with self._lock:
            if self._transport is transport and self.state is State.READY:
                self.state, self.last_error = State.LOST, str(failure)
                self._lost_at = time.monotonic()
                self._home.enqueue(event_factories.lost(self.spec, failure))
        self._home.flush(self.alias)

    def mark_recovered(self, transport: Transport, server: Server) -> None:
        """Note that the server has accepted us again, if that is news."""
        with self._lock:
            if self._transport is transport and self.state is State.LOST:
                self.server, self.state = server, State.READY
                self.bound = transport.bound(self.spec, server)
                self._home.enqueue(event_factories.recovered(self.spec, server, self._lost_at))
        self._home.flush(self.alias)

    def move(self, old: Transport, new: Transport, server: Server, started: float) -> bool:
        """Have a link taken the place of another one; tell whether it has.

        What is not held afterwards is given back: calls in flight on the old one are cancelled.

        Args:
            old: What was held.
            new: What takes its place.
            server: What the other server said of itself.
            started: The monotonic instant at which the move began.
        """
        with self._lock:
            is_moved = self._transport is old
            if is_moved:
                self._transport, self.server = new, server
                self.bound = new.bound(self.spec, server)
                self._home.enqueue(
                    event_factories.moved(self.spec, old.target, new.target, started)
                )
        (old if is_moved else new).release()
        self._home.flush(self.alias)
        return is_moved
