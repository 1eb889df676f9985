"""The life of one alias' connection: opened by one thread at a time, rotated, lost, closed.

Decisions are made under a lock, and their events put; calls are made, and events delivered, outside
it. Whoever looks at a live connection takes no lock.
"""

from __future__ import annotations

import threading
import time
from functools import partial

from zconfig import events
from zconfig.channel.interruptible import run_interruptibly
from zconfig.channel.line import Line
from zconfig.channel.milvus import Server
from zconfig.channel.view import ChannelView
from zconfig.connection import reports
from zconfig.connection.agreement import check_agreement
from zconfig.connection.flight import Flight, Passenger
from zconfig.connection.home import Home
from zconfig.connection.link import Link
from zconfig.connection.opening import Opened, Opening
from zconfig.connection.renewal import Renewal
from zconfig.connection.seam import Attempt
from zconfig.connection.sign import Sign
from zconfig.connection.state import State, Stateful
from zconfig.connection.watch import Watch, prove
from zconfig.errors import (
    ClosedError,
    ConnectError,
    RejectedCredentialsError,
    ZConfigError,
)
from zconfig.patience import Patience
from zconfig.spec import ConnectionSpec


class Lifecycle(Stateful):
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
        self.line: Line | None = None
        self.server: Server | None = None
        self.view = ChannelView(self)
        self.sign: Sign | None = None
        self._home = home
        self._link: Link | None = None
        self._flight: Flight | None = None
        self.watch = Watch(self, home)
        self.renewal = Renewal(self, home)
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
        return self.line is not None

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""
        return self.state is State.CLOSED

    @property
    def link(self) -> Link:
        """What it holds.

        Raises:
            ClosedError: It is not open.
        """
        link = self._link
        if link is None:
            raise ClosedError(self.alias)
        return link

    @property
    def held(self) -> Link | None:
        """What it holds; `None` where it is not open."""
        return self._link

    @property
    def is_lost(self) -> bool:
        """Whether it is open, and its server does not answer."""
        return self.state is State.LOST

    def aim(self, attempt: Attempt) -> Attempt:
        """Return an attempt that knows where the connection really leads."""
        link = self._link
        return link.aim(attempt) if link else attempt

    # --- opening ----------------------------------------------------------------------------

    def open(
        self,
        patience: Patience,
        spec: ConnectionSpec | None = None,
        *,
        is_firm: bool = False,
        may_reread: bool = True,
    ) -> None:
        """Connect, or wait for the thread that does so already.

        Args:
            patience: How long to go on trying.
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
        passenger, how = Passenger(), {"is_firm": is_firm, "may_reread": may_reread}
        connect = partial(self._open, passenger, patience, spec, **how)
        run_interruptibly(connect, partial(self._leave, passenger))

    def _open(
        self,
        passenger: Passenger,
        patience: Patience,
        spec: ConnectionSpec | None,
        *,
        is_firm: bool,
        may_reread: bool,
    ) -> None:
        newest: ConnectionSpec | None = None
        while True:
            flight, is_ours = self._board(passenger, patience, spec, is_firm=is_firm)
            if flight is None:
                return
            try:
                if is_ours:
                    self._fly(flight)
                else:
                    flight.join(patience)
            except ClosedError:
                if self.state is State.CLOSED:
                    raise
                if not is_firm and self.spec is not flight.opening.spec:
                    spec = None  # a reload replaced what was wanted
            except RejectedCredentialsError:
                refused = flight.opening.spec
                if not may_reread or refused == newest:
                    raise
                newest = spec = self.renewal.reread(refused, patience.left_s)
                if newest is None:
                    raise

    def wake(self, timeout_s: float | None = None) -> Line:
        """Return the line, after dialing anew where a fork or a reload has cut it.

        Args:
            timeout_s: Seconds that the caller has; at most the alias' TIMEOUT are spent.

        Raises:
            ConnectError: The server cannot be reached, or does not accept us.
            ClosedError: It is closed.
        """
        own_s = self.spec.timeout_s
        self.open(Patience.from_now(own_s if timeout_s is None else min(own_s, timeout_s)))
        line = self.line
        if line is None:
            raise ClosedError(self.alias)
        return line

    def check(self, spec: ConnectionSpec) -> None:
        """Make sure that it is not open, or being opened, with another specification.

        Raises:
            ConflictError: It is; the message names the fields that differ.
        """
        if self._flight or self.is_open:
            check_agreement(self.spec, spec)

    def _board(
        self,
        passenger: Passenger,
        patience: Patience,
        spec: ConnectionSpec | None,
        *,
        is_firm: bool,
    ) -> tuple[Flight | None, bool]:
        """Return the connect under way and whether it is for us to make; none if it is open."""
        with self._lock:
            if self.state is State.CLOSED or passenger.has_left:
                raise ClosedError(self.alias)
            if self._flight or self.is_open:
                if spec and is_firm:
                    check_agreement(self.spec, spec)
                return self._flight, False
            self.spec = spec or self.spec
            self.state = State.CONNECTING
            self._flight = passenger.flight = Flight(Opening(self.spec, patience))
            self._home.put(reports.connecting(self.spec))
            return self._flight, True

    def _leave(self, passenger: Passenger) -> None:
        """End the connect that a passenger has begun, unless it has ended; no other is begun."""
        with self._lock:
            passenger.has_left = True
        if flight := passenger.flight:
            self._crash(flight, ClosedError(self.alias))

    def _fly(self, flight: Flight) -> None:
        """Connect, and tell those who wait how it went."""
        opening = flight.opening
        try:
            self._home.deliver(self.alias)
            self.watch.begin(opening.spec)
            opened = opening.run(partial(self._tell, flight))
            self._land(flight, opened)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            self._crash(flight, error)
            raise
        flight.end()
        self._home.attend(at_once=False)
        self._home.deliver(self.alias)  # not before: a hook may look the alias up

    def _land(self, flight: Flight, opened: Opened) -> None:
        link, server, number = opened
        with self._lock:
            if self._flight is flight:
                self._flight, self._link = None, link
                self.server, self.state = server, State.READY
                self.line = link.line(self.spec, server)
                if self.sign:
                    self.sign.show()
                started = flight.opening.started
                self._home.put(reports.connected(self.spec, server, number, started))
                return
        link.release()
        raise ClosedError(self.alias)

    def _crash(self, flight: Flight, error: BaseException) -> None:
        """End a connect, unless it has ended."""
        with self._lock:
            is_under_way = self._flight is flight
            if is_under_way:
                self._flight, self.state = None, State.IDLE
                if isinstance(error, ConnectError) and not flight.opening.goes_on:
                    self._home.put(reports.failed(error))
        if is_under_way:
            flight.opening.cancel()
        try:
            self._home.deliver(self.alias)
        finally:
            flight.end(error if isinstance(error, ZConfigError) else ClosedError(self.alias))

    def _tell(self, flight: Flight, event: events.Event) -> None:
        with self._lock:
            if self._flight is flight:  # otherwise it was closed meanwhile, which has been told
                self._home.put(event)
        self._home.deliver(self.alias)

    def tell_of_failure(self, event: events.Event) -> None:
        """Have an event told of a connect that failed, unless another one has begun by now."""
        with self._lock:
            if self.state is State.IDLE:
                self._home.put(event)
        self._home.deliver(self.alias)

    # --- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close it for good; a connect under way ends."""
        self._cut(State.CLOSED, self.spec)
        self._home.deliver(self.alias)

    def reopen_with(self, spec: ConnectionSpec) -> None:
        """Close it until its next use, which opens it with another specification.

        The event is put, for the caller to have it delivered.
        """
        self._cut(State.IDLE, spec)

    def cancel(self) -> bool:
        """Close it if it is being opened, and tell whether it was."""
        is_opening = self._flight is not None
        if is_opening:
            self.close()
        return is_opening

    def abandon(self) -> bool:
        """Forget, in a child process, what the parent holds; return whether there was any.

        Nothing is closed: the channels belong to the parent. The next use opens it again.
        """
        self._lock, self.rotating = threading.Lock(), threading.Lock()
        self.renewal.after_fork()
        had_any = self.is_open or self._flight is not None
        if had_any:
            self.line = self.server = self._link = self._flight = None
            self.state = State.IDLE
            if self.sign:
                self.sign.hide()
        return had_any

    def _cut(self, state: State, spec: ConnectionSpec) -> None:
        with self._lock:
            if self.state is State.CLOSED:
                return
            before, was_open = self.spec, self.is_open
            link, flight = self._link, self._flight
            self.line = self.server = self._link = self._flight = None
            self.state, self.spec = state, spec
            if self.sign:
                self.sign.hide()
            if state is State.CLOSED:
                self.sign = None  # it has the connection, and clients keep what is closed here
            if was_open:
                self._home.put(reports.closed(before))
        if flight:
            flight.opening.cancel()
        if link:
            link.release()

    # --- rotation ---------------------------------------------------------------------------

    def take_up(self, spec: ConnectionSpec) -> None:
        """Take up what needs no other channel; credentials once the server accepted them.

        The event is put, for the caller to have it delivered.

        Args:
            spec: The new specification.

        Raises:
            ConnectError: The server does not accept the credentials; the old ones stay.
            ClosedError: It is not open.
        """
        link, server, started = self.link, self.server, time.monotonic()
        is_rotated = spec.credentials != self.spec.credentials
        self.watch.begin(spec)  # credentials that are refused are not tried again by themselves
        if is_rotated:
            server = prove(link, spec, spec.timeout_s)
        with self._lock:
            if self._link is not link:
                raise ClosedError(self.alias)
            self.spec, self.server = spec, server
            self.line = link.line(spec, server)
            if is_rotated:
                self._home.put(reports.rotated(spec, started))

    def renew(self, line: Line, timeout_s: float | None = None) -> Line | None:
        """Return a line to make a call on again, if there is one; see `Renewal.renew`.

        Args:
            line: The one on which its credentials were refused.
            timeout_s: Seconds that the caller has, also for `wake` where it was cut meanwhile.

        Raises:
            ConnectError: It was cut, and cannot be dialed anew.
            ClosedError: It was closed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        renew = partial(self.renewal.renew, line, timeout_s)
        newer = run_interruptibly(renew, lambda: None)  # it ends in time, and others wait for it
        if newer or self.line:
            return newer
        return self.wake(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def note_round_trip(self, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""
        self._home.note_round_trip(self.alias, round_trip_ms)

    # --- lost and found ---------------------------------------------------------------------

    def doubt(self, line: Line, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one to ask; see `Owner.doubt`."""
        if self.line is line and self.watch.doubt() and at_once:
            self._home.attend(at_once=True)
        return self.trouble if self.is_lost else ""

    def lose(self, link: Link, failure: ConnectError) -> None:
        """Note that the server is lost, and why, if that is news."""
        with self._lock:
            if self._link is link and self.state is State.READY:
                self.state, self.trouble = State.LOST, str(failure)
                self._lost_at = time.monotonic()
                self._home.put(reports.lost(self.spec, failure))
        self._home.deliver(self.alias)

    def regain(self, link: Link, server: Server) -> None:
        """Note that the server has accepted us again, if that is news."""
        with self._lock:
            if self._link is link and self.state is State.LOST:
                self.server, self.state = server, State.READY
                self.line = link.line(self.spec, server)
                self._home.put(reports.recovered(self.spec, server, self._lost_at))
        self._home.deliver(self.alias)

    def move(self, old: Link, new: Link, server: Server, started: float) -> bool:
        """Have a link taken the place of another one; tell whether it has.

        What is not held afterwards is given back: calls in flight on the old one are cancelled.

        Args:
            old: What was held.
            new: What takes its place.
            server: What the other server said of itself.
            started: The monotonic instant at which the move began.
        """
        with self._lock:
            is_moved = self._link is old
            if is_moved:
                self._link, self.server = new, server
                self.line = new.line(self.spec, server)
                self._home.put(reports.moved(self.spec, old.target, new.target, started))
        (old if is_moved else new).release()
        self._home.deliver(self.alias)
        return is_moved
