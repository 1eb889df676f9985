"""One alias' connection: the state machine that threads and event loops share."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Protocol

from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._channel.channels import SharedChannel
from zconfig._channel.interruptible import run_interruptibly
from zconfig._channel.milvus import Server
from zconfig._channel.view import ChannelView
from zconfig._connection import event_factories
from zconfig._connection.attempt import Attempt
from zconfig._connection.connector import (
    ConnectIntent,
    Connector,
    ConnectResult,
    PendingConnect,
)
from zconfig._connection.credentials import ConnectionServices, CredentialRefresher
from zconfig._connection.monitor import Monitor, verify
from zconfig._connection.transport import Transport
from zconfig._deadline import ConnectBudget
from zconfig._per_process import PerProcess
from zconfig._spec import ConnectionSpec, require_same
from zconfig.errors import (
    ClosedError,
    ConnectError,
    RejectedCredentialsError,
    ZConfigError,
)


class State(StrEnum):
    """The state of a connection.

    `idle`: not connected, connects on its next use. `connecting`: a connect is in progress.
    `ready`: open; `connections.stats()` and the command call it `connected`. `lost`: open, but the
    server does not respond. `closed`: closed permanently.
    """

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    LOST = "lost"
    CLOSED = "closed"


class Borrower(Protocol):
    """A user of a connection with channels of its own, such as an event loop."""

    def dial_soon(self, shared: SharedChannel, *, redial: bool) -> None:
        """Dial the server of the shared channels; called in any thread, and returns at once.

        Args:
            shared: The process' channels to the server.
            redial: Whether to replace channels that wait before they dial again.
        """

    def forget(self) -> None:
        """Drop the connection, which is closed permanently; called in any thread."""


class ManagedConnection:
    """The connection of one alias, from the first attempt to the close.

    Attributes:
        since: The time of the last state change, in seconds since the epoch.
        last_error: The error of the latest outage.
        on_change: A function to call when it opens or closes, under its lock or in a forked
            child; `None` for none.
        rotating: The lock of the thread that applies another specification.

    Args:
        spec: The specification to connect with.
        services: The services of the registry.
    """

    rotating = PerProcess(threading.Lock)
    _lock = PerProcess(threading.Lock)

    def __init__(self, spec: ConnectionSpec, services: ConnectionServices) -> None:
        self.last_error = ""
        self._state = State.IDLE
        self.since = time.time()
        self.spec = spec
        self.bound: BoundChannel | None = None
        self.server: Server | None = None
        self.view = ChannelView(self)
        self.on_change: Callable[[], object] | None = None
        self._services = services
        self._publisher = services.publisher
        self._transport: Transport | None = None
        self._pending: PendingConnect | None = None
        self.monitor = Monitor(self, services)
        self.refresher = CredentialRefresher(self, services)
        self._lost_at = 0.0
        self._borrowers: weakref.WeakSet[Borrower] = weakref.WeakSet()

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is not self._state:
            self._state, self.since = state, time.time()

    @property
    def alias(self) -> str:
        """The alias of the connection."""
        return self.spec.alias

    @property
    def is_open(self) -> bool:
        """Whether it is open. It stays open while the server is lost, though calls fail."""
        return self.bound is not None

    @property
    def is_closed(self) -> bool:
        """Whether it is closed permanently."""
        return self.state is State.CLOSED

    @property
    def transport(self) -> Transport:
        """The transport.

        Raises:
            ClosedError: It is not open.
        """
        transport = self._transport
        if transport is None:
            raise ClosedError(self.alias)
        return transport

    @property
    def transport_if_open(self) -> Transport | None:
        """The transport; `None` if it is not open."""
        return self._transport

    @property
    def is_lost(self) -> bool:
        """Whether it is open, but its server is lost."""
        return self.state is State.LOST

    def resolve_target(self, attempt: Attempt) -> Attempt:
        """Return the attempt with the address that the connection dials."""
        transport = self._transport
        return transport.resolve_target(attempt) if transport else attempt

    def add_borrower(self, borrower: Borrower) -> None:
        """Notify a borrower, for as long as it exists, of the server to dial."""
        with self._lock:
            self._borrowers.add(borrower)

    def _dial_borrowers(self, transport: Transport) -> None:
        with self._lock:
            for each in self._borrowers:
                each.dial_soon(transport.channel_ref.shared, redial=False)

    # --- opening ----------------------------------------------------------------------------

    def open(self, intent: ConnectIntent, has_left: threading.Event | None = None) -> None:
        """Connect, or wait for the thread that is connecting.

        Args:
            intent: The arguments of the connect.
            has_left: The event that the caller passes to `leave` to give up.

        Raises:
            ConflictError: The specification was passed in code, and the connection is open, or
                being opened, with another one.
            ConnectError: The last attempt failed.
            MissingExtraError: The alias needs Milvus Lite, which is not installed.
            ClosedError: It is closed, or was closed meanwhile.
        """
        if self.is_open and intent.spec is None:
            return
        has_left = has_left or threading.Event()
        connect = partial(self._open, intent, has_left)
        run_interruptibly(connect, partial(self.leave, has_left))

    def _open(self, intent: ConnectIntent, has_left: threading.Event) -> None:
        newest: ConnectionSpec | None = None
        while True:
            pending, is_ours = self._join_or_start(intent, has_left)
            if pending is None:
                return
            try:
                if is_ours:
                    self._lead(pending)
                else:
                    pending.join(intent.budget)
            except ClosedError:
                if self.state is State.CLOSED:
                    raise
            except RejectedCredentialsError:
                refused = pending.connector.spec
                if not intent.may_reread or refused == newest:
                    raise
                newest = self.refresher.reread(refused, intent.budget.left_s)
                if newest is None:
                    raise
                if intent.spec:
                    intent = intent._replace(spec=newest)

    def ensure_open(self, timeout_s: float | None = None) -> BoundChannel:
        """Return the channels for calls; connect first, e.g. after a fork or a reload.

        Args:
            timeout_s: Seconds to wait, limited by the alias' `TIMEOUT`.

        Raises:
            ConnectError: The server cannot be reached, or rejects the credentials.
            ClosedError: It is closed.
        """
        own_s = self.spec.timeout_s
        budget = ConnectBudget.from_now(own_s if timeout_s is None else min(own_s, timeout_s))
        self.open(ConnectIntent(budget))
        bound = self.bound
        if bound is None:
            raise ClosedError(self.alias)
        return bound

    def check(self, spec: ConnectionSpec) -> None:
        """Check that it is not open, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if self._pending or self.is_open:
            require_same(self.spec, spec)

    def _join_or_start(
        self, intent: ConnectIntent, has_left: threading.Event
    ) -> tuple[PendingConnect | None, bool]:
        """Return the connect in progress, if any, and whether the caller has to make it."""
        with self._lock:
            # A caller that has left still gets an open connection, so that code that connected
            # it also configures its alias.
            if self.state is State.CLOSED or (has_left.is_set() and not self.is_open):
                raise ClosedError(self.alias)
            if self._pending or self.is_open:
                if intent.spec:
                    require_same(self.spec, intent.spec)
                return self._pending, False
            self.spec, self.state = self._wanted(intent), State.CONNECTING
            connector = Connector(self.spec, intent.budget, self._dial_borrowers)
            self._pending = PendingConnect(connector, intent.in_background, has_left)
            self._publisher.enqueue(event_factories.connecting(self.spec))
            return self._pending, True

    def _wanted(self, intent: ConnectIntent) -> ConnectionSpec:
        """Return the specification to connect with: the one in code, or else the configured one.

        Raises:
            ClosedError: The alias was removed from the configuration meanwhile.
        """
        spec = intent.spec or self._services.configured(self.alias)
        if spec is None:
            raise ClosedError(self.alias)
        return spec

    def leave(self, has_left: threading.Event) -> None:
        """Cancel the connect that a caller makes, if it is in progress, and start no other."""
        if end := self.begin_leave(has_left):
            end()

    def begin_leave(self, has_left: threading.Event) -> Callable[[], None] | None:
        """Leave as `leave` does, but return the part that may block, if any, to be called."""
        with self._lock:
            has_left.set()
            pending = self._pending
            if pending is None or pending.has_left is not has_left:
                return None
            self._pending, self.state = None, State.IDLE
        return partial(self._end_failed, pending, ClosedError(self.alias), is_under_way=True)

    def _lead(self, pending: PendingConnect) -> None:
        """Connect, and set the outcome for the waiting threads."""
        connector = pending.connector
        try:
            self._publisher.flush(self.alias)
            self.monitor.begin(connector.spec)
            opened = connector.run(partial(self._tell, pending))
            self._complete(pending, opened)
        except BaseException as error:  # also after Ctrl-C: other threads wait for the outcome
            self._fail(pending, error)
            raise
        pending.end()
        self._services.monitor_soon(False)
        self._publisher.flush(self.alias)  # after `end`: a hook may use the connection

    def _complete(self, pending: PendingConnect, opened: ConnectResult) -> None:
        transport, server, number = opened
        with self._lock:
            if self._pending is pending:
                self._pending, self._transport = None, transport
                self.server, self.state = server, State.READY
                self.bound = transport.bound(self.spec, server)
                self._has_changed()
                started = pending.connector.started
                event = event_factories.connected(self.spec, server, number, started)
                self._publisher.enqueue(event)
                return
        transport.release()
        raise ClosedError(self.alias)

    def _fail(self, pending: PendingConnect, error: BaseException) -> None:
        """Fail a connect, if it is still in progress."""
        with self._lock:
            is_under_way = self._pending is pending
            if is_under_way:
                self._pending, self.state = None, State.IDLE
                if isinstance(error, ConnectError) and not pending.in_background:
                    self._publisher.enqueue(event_factories.failed(error))
        self._end_failed(pending, error, is_under_way=is_under_way)

    def _end_failed(
        self, pending: PendingConnect, error: BaseException, *, is_under_way: bool
    ) -> None:
        if is_under_way:
            pending.connector.cancel()
        try:
            self._publisher.flush(self.alias)
        finally:
            pending.end(error if isinstance(error, ZConfigError) else ClosedError(self.alias))

    def _tell(self, pending: PendingConnect, event: events.Event) -> None:
        with self._lock:
            if self._pending is pending:  # otherwise it was closed meanwhile, and reported so
                self._publisher.enqueue(event)
        self._publisher.flush(self.alias)

    def publish_failure(self, event: events.Event) -> None:
        """Publish the event of a failed connect, unless another connect has started."""
        with self._lock:
            if self.state is State.IDLE:
                self._publisher.enqueue(event)
        self._publisher.flush(self.alias)

    # --- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close it permanently; cancel a connect in progress."""
        self._cut(State.CLOSED, self.spec)
        self._publisher.flush(self.alias)

    def replace_spec(self, spec: ConnectionSpec) -> None:
        """Close it; the next use connects with another specification.

        The event is enqueued; the caller flushes it.
        """
        self._cut(State.IDLE, spec)

    def cancel(self) -> None:
        """Close it if a connect is in progress."""
        if self._pending is not None:
            self.close()

    def abandon(self) -> bool:
        """Drop the parent's channels, in a forked child; return whether there were any.

        The channels are not closed, since they belong to the parent. The next use reconnects.
        """
        had_any = self.is_open or self._pending is not None
        if had_any:
            self.bound = self.server = self._transport = self._pending = None
            self.state = State.IDLE
            self._has_changed()
        return had_any

    def _cut(self, state: State, spec: ConnectionSpec) -> None:
        with self._lock:
            if self.state is State.CLOSED:
                return
            before, was_open = self.spec, self.is_open
            borrowers = tuple(self._borrowers) if state is State.CLOSED else ()
            transport, pending = self._transport, self._pending
            self.bound = self.server = self._transport = self._pending = None
            self.state, self.spec = state, spec
            self._has_changed()
            if state is State.CLOSED:
                self.on_change = None  # it refers to the connection, and clients to this object
            if was_open:
                self._publisher.enqueue(event_factories.closed(before))
        for each in borrowers:
            each.forget()
        if pending:
            pending.connector.cancel()
        if transport:
            transport.release()

    def _has_changed(self) -> None:
        if self.on_change:
            self.on_change()

    # --- rotation ---------------------------------------------------------------------------

    def apply(self, spec: ConnectionSpec) -> None:
        """Apply a specification without reconnecting; new credentials once they are verified.

        The event is enqueued; the caller flushes it.

        Args:
            spec: The new specification, whose changes need no other channel.

        Raises:
            ConnectError: The credentials were not verified; the current ones stay.
            ClosedError: It is not open.
        """
        started = time.monotonic()
        self.monitor.begin(spec)  # so that the monitor does not retry rejected credentials
        while not self._apply_over(self.transport, spec, started):
            pass  # the global cluster has changed its primary meanwhile

    def _apply_over(self, transport: Transport, spec: ConnectionSpec, started: float) -> bool:
        """Apply a specification over a transport; return false if it was replaced meanwhile."""
        server, is_rotated = self.server, spec.credentials != self.spec.credentials
        if is_rotated:
            try:
                server = verify(transport, spec, spec.timeout_s)
            except ClosedError:
                if self._transport is transport:
                    raise
                return False
        with self._lock:
            is_held = self._transport is transport
            if is_held:
                self.spec, self.server = spec, server
                self.bound = transport.bound(spec, server)
                if is_rotated:
                    self._publisher.enqueue(event_factories.rotated(spec, started))
            return is_held

    def renew(self, bound: BoundChannel, timeout_s: float | None = None) -> BoundChannel | None:
        """Return a bound channel to repeat a call on; see `CredentialRefresher.renew`.

        Args:
            bound: The channel on which the server rejected the credentials.
            timeout_s: Seconds to wait, including a reconnect.

        Raises:
            ConnectError: It was disconnected meanwhile, and reconnecting failed.
            ClosedError: It was closed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        renew = partial(self.refresher.renew, bound, timeout_s)
        newer = run_interruptibly(renew, lambda: None)  # not cancelled, since other calls share it
        if newer or self.bound:
            return newer
        return self.ensure_open(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def note_round_trip(self, round_trip_ms: float) -> None:
        """Record the round trip of a ping, in milliseconds."""
        self._services.note_round_trip(self.alias, round_trip_ms)

    # --- lost and found ---------------------------------------------------------------------

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Request a check of the server; see `ChannelOwner.report_failure`."""
        if self.bound is bound and self.monitor.report_failure() and at_once:
            self._services.monitor_soon(True)
        return self.last_error if self.is_lost else ""

    def report_success(self) -> None:
        """Check a lost server soon, after a call over an event loop's channels succeeded."""
        if self.is_lost and self.monitor.check_soon():
            self._services.monitor_soon(True)

    def mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        """Set the state to lost, if the transport is current and ready."""
        with self._lock:
            if self._transport is transport and self.state is State.READY:
                self.state, self.last_error = State.LOST, str(failure)
                self._lost_at = time.monotonic()
                self._publisher.enqueue(event_factories.lost(self.spec, failure))
        self._publisher.flush(self.alias)

    def mark_recovered(self, transport: Transport, server: Server) -> None:
        """Set the state to ready, if the transport is current and lost."""
        with self._lock:
            if self._transport is transport and self.state is State.LOST:
                self.server, self.state = server, State.READY
                self.bound = transport.bound(self.spec, server)
                for each in self._borrowers:  # before the event: no call fails after it
                    each.dial_soon(transport.channel_ref.shared, redial=True)
                self._publisher.enqueue(event_factories.recovered(self.spec, server, self._lost_at))
        self._publisher.flush(self.alias)

    def move(self, old: Transport, new: Transport, server: Server, started: float) -> bool:
        """Replace a transport by another one; return whether the old one was still current.

        The unused transport is released, which cancels calls in flight on the old one.

        Args:
            old: The transport to replace.
            new: The transport to the new primary.
            server: The new primary's description of itself.
            started: The monotonic instant at which the move started.
        """
        with self._lock:
            is_moved = self._transport is old
            if is_moved:
                self._transport, self.server = new, server
                self.bound = new.bound(self.spec, server)
                self._publisher.enqueue(
                    event_factories.moved(self.spec, old.target, new.target, started)
                )
        (old if is_moved else new).release()
        self._publisher.flush(self.alias)
        return is_moved
