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
    Waiter,
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
    """What a connection is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    LOST = "lost"
    CLOSED = "closed"


class Borrower(Protocol):
    """Uses a connection over channels of its own, such as an event loop's."""

    def dial_soon(self, shared: SharedChannel, *, redial: bool) -> None:
        """Dial the server of the shared channels; called in any thread, and returns at once.

        Args:
            shared: The process' channels to the server.
            redial: Whether to replace channels that wait before they dial again.
        """

    def forget(self) -> None:
        """Let go of the connection, which is closed for good; called in any thread."""


class ManagedConnection:
    """One alias' connection, from the first attempt to the close.

    Attributes:
        since: Seconds since the epoch, at which its state last changed.
        last_error: Why its server was lost.
        on_change: Called, under its lock or in a forked child, when it opens or is closed; `None`
            for nothing.
        rotating: Held by the thread that has it apply another specification.

    Args:
        spec: What to connect to.
        services: What it needs of the registry.
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
        """What it is doing."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is not self._state:
            self._state, self.since = state, time.time()

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

    def add_borrower(self, borrower: Borrower) -> None:
        """Tell a borrower, for as long as it exists, which server to dial."""
        with self._lock:
            self._borrowers.add(borrower)

    def _dial_borrowers(self, transport: Transport) -> None:
        with self._lock:
            for each in self._borrowers:
                each.dial_soon(transport.channel_ref.shared, redial=False)

    # --- opening ----------------------------------------------------------------------------

    def open(self, intent: ConnectIntent, waiter: Waiter | None = None) -> None:
        """Connect, or wait for the thread that does so already.

        Args:
            intent: What is wanted.
            waiter: What the caller gives up with: it is passed to `leave`.

        Raises:
            ConflictError: It is open, or being opened, with another specification than code gave.
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
            ClosedError: If it is closed, also meanwhile.
        """
        if self.is_open and not intent.in_code:
            return
        waiter = waiter or Waiter()
        connect = partial(self._open, intent, waiter)
        run_interruptibly(connect, partial(self.leave, waiter))

    def _open(self, intent: ConnectIntent, waiter: Waiter) -> None:
        newest: ConnectionSpec | None = None
        while True:
            pending, is_ours = self._join_or_start(intent, waiter)
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
                if not intent.in_code and self.spec is not pending.connector.spec:
                    intent = intent._replace(spec=None)  # a reload replaced it
            except RejectedCredentialsError:
                refused = pending.connector.spec
                if not intent.may_reread or refused == newest:
                    raise
                newest = self.refresher.reread(refused, intent.budget.left_s)
                if newest is None:
                    raise
                intent = intent._replace(spec=newest)

    def ensure_open(self, timeout_s: float | None = None) -> BoundChannel:
        """Return what calls go over, after dialing anew where a fork or a reload has cut it.

        Args:
            timeout_s: Seconds that the caller has; at most the alias' TIMEOUT are spent.

        Raises:
            ConnectError: The server cannot be reached, or does not accept us.
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
        """Make sure that it is not open, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if self._pending or self.is_open:
            require_same(self.spec, spec)

    def _join_or_start(
        self, intent: ConnectIntent, waiter: Waiter
    ) -> tuple[PendingConnect | None, bool]:
        """Return the connect under way and whether it is for us to make; none if it is open."""
        with self._lock:
            # What is open by now stays open: who has it configured must not hear that it is not.
            if self.state is State.CLOSED or (waiter.has_left and not self.is_open):
                raise ClosedError(self.alias)
            if self._pending or self.is_open:
                if intent.spec and intent.in_code:
                    require_same(self.spec, intent.spec)
                return self._pending, False
            self.spec, self.state = self._wanted(intent), State.CONNECTING
            connector = Connector(self.spec, intent.budget, self._dial_borrowers)
            self._pending = waiter.pending = PendingConnect(connector, intent.in_background)
            self._publisher.enqueue(event_factories.connecting(self.spec))
            return self._pending, True

    def _wanted(self, intent: ConnectIntent) -> ConnectionSpec:
        """Return what to connect to: a reload may have changed it since it was looked up."""
        configured = None if intent.in_code else self._services.configured(self.alias)
        return configured or intent.spec or self.spec

    def leave(self, waiter: Waiter) -> None:
        """End the connect that a waiter has begun, unless it has ended; no other is begun."""
        with self._lock:
            waiter.has_left = True
        if pending := waiter.pending:
            self._fail(pending, ClosedError(self.alias))

    def _lead(self, pending: PendingConnect) -> None:
        """Connect, and tell those who wait how it went."""
        connector = pending.connector
        try:
            self._publisher.flush(self.alias)
            self.monitor.begin(connector.spec)
            opened = connector.run(partial(self._tell, pending))
            self._complete(pending, opened)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            self._fail(pending, error)
            raise
        pending.end()
        self._services.monitor_soon(False)
        self._publisher.flush(self.alias)  # not before: a hook may look the alias up

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
        """End a connect, unless it has ended."""
        with self._lock:
            is_under_way = self._pending is pending
            if is_under_way:
                self._pending, self.state = None, State.IDLE
                if isinstance(error, ConnectError) and not pending.in_background:
                    self._publisher.enqueue(event_factories.failed(error))
        if is_under_way:
            pending.connector.cancel()
        try:
            self._publisher.flush(self.alias)
        finally:
            pending.end(error if isinstance(error, ZConfigError) else ClosedError(self.alias))

    def _tell(self, pending: PendingConnect, event: events.Event) -> None:
        with self._lock:
            if self._pending is pending:  # otherwise it was closed meanwhile, which has been told
                self._publisher.enqueue(event)
        self._publisher.flush(self.alias)

    def publish_failure(self, event: events.Event) -> None:
        """Have an event told of a connect that failed, unless another one has begun by now."""
        with self._lock:
            if self.state is State.IDLE:
                self._publisher.enqueue(event)
        self._publisher.flush(self.alias)

    # --- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close it for good; a connect under way ends."""
        self._cut(State.CLOSED, self.spec)
        self._publisher.flush(self.alias)

    def replace_spec(self, spec: ConnectionSpec) -> None:
        """Close it until its next use, which opens it with another specification.

        The event is enqueued; the caller flushes it.
        """
        self._cut(State.IDLE, spec)

    def cancel(self) -> None:
        """Close it if it is being opened."""
        if self._pending is not None:
            self.close()

    def abandon(self) -> bool:
        """Forget, in a child process, what the parent holds; return whether there was any.

        Nothing is closed: the channels belong to the parent. The next use opens it again.
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
                self.on_change = None  # it has the connection, and clients keep what is closed
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
        """Take up what needs no other channel; credentials once the server accepted them.

        The event is enqueued; the caller flushes it.

        Args:
            spec: The new specification.

        Raises:
            ConnectError: The server does not accept the credentials; the old ones stay.
            ClosedError: It is not open.
        """
        started = time.monotonic()
        self.monitor.begin(spec)  # credentials that are refused are not tried again by themselves
        while not self._apply_over(self.transport, spec, started):
            pass  # a global cluster has moved to another primary meanwhile

    def _apply_over(self, transport: Transport, spec: ConnectionSpec, started: float) -> bool:
        """Do what `apply` does, and return whether that transport is still held afterwards."""
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
        self._services.note_round_trip(self.alias, round_trip_ms)

    # --- lost and found ---------------------------------------------------------------------

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one; see `ChannelOwner.report_failure`."""
        if self.bound is bound and self.monitor.report_failure() and at_once:
            self._services.monitor_soon(True)
        return self.last_error if self.is_lost else ""

    def report_success(self) -> None:
        """Check soon whether a lost server is back: a call over other channels succeeded."""
        if self.is_lost and self.monitor.check_soon():
            self._services.monitor_soon(True)

    def mark_lost(self, transport: Transport, failure: ConnectError) -> None:
        """Note that the server is lost, and why, if that is news."""
        with self._lock:
            if self._transport is transport and self.state is State.READY:
                self.state, self.last_error = State.LOST, str(failure)
                self._lost_at = time.monotonic()
                self._publisher.enqueue(event_factories.lost(self.spec, failure))
        self._publisher.flush(self.alias)

    def mark_recovered(self, transport: Transport, server: Server) -> None:
        """Note that the server has accepted us again, if that is news."""
        with self._lock:
            if self._transport is transport and self.state is State.LOST:
                self.server, self.state = server, State.READY
                self.bound = transport.bound(self.spec, server)
                for each in self._borrowers:  # before the event: no call fails after it
                    each.dial_soon(transport.channel_ref.shared, redial=True)
                self._publisher.enqueue(event_factories.recovered(self.spec, server, self._lost_at))
        self._publisher.flush(self.alias)

    def move(self, old: Transport, new: Transport, server: Server, started: float) -> bool:
        """Put a transport in the place of another one; tell whether it was still held.

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
                self._publisher.enqueue(
                    event_factories.moved(self.spec, old.target, new.target, started)
                )
        (old if is_moved else new).release()
        self._publisher.flush(self.alias)
        return is_moved
