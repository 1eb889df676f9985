"""One connect, which threads and event loops wait for: attempts until the server accepts us."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from zconfig import events
from zconfig._channel.bound_channel import Cancellation
from zconfig._channel.milvus import Server, handshake, run_exchange
from zconfig._connection import event_factories
from zconfig._connection.attempt import Attempt
from zconfig._connection.transport import Transport, acquire_transport
from zconfig._deadline import ConnectBudget, backoff_s
from zconfig._endpoint import TransportType
from zconfig._spec import ConnectionSpec
from zconfig.errors import ClosedError, ConnectError, ZConfigError

if TYPE_CHECKING:
    from zconfig._topology import TopologyCache


class ConnectResult(NamedTuple):
    """What a connect came to.

    Args:
        transport: What the connection holds.
        server: What the server said of itself.
        attempt: The number of the attempt that succeeded, from 1.
    """

    transport: Transport
    server: Server
    attempt: int


class Connector:
    """A connect, which another thread can end.

    Args:
        spec: What to connect to.
        budget: How long to go on trying.
        on_transport: Called with each transport that is held, before Connect is sent on it.
    """

    def __init__(
        self,
        spec: ConnectionSpec,
        budget: ConnectBudget,
        on_transport: Callable[[Transport], object],
    ) -> None:
        self.spec = spec
        self.started = time.monotonic()
        self.deadline = budget.deadline
        self._budget = budget
        self._on_transport = on_transport
        self._lock = threading.Lock()
        self._cancellation = Cancellation()
        self._transport: Transport | None = None

    def run(self, tell: Callable[[events.Event], None]) -> ConnectResult:
        """Try until the server accepts us.

        Args:
            tell: Takes the events of attempts that fail.

        Raises:
            ConnectError: What the last attempt failed of.
            MissingExtraError: If Milvus Lite is wanted and not installed.
            ClosedError: If it was cancelled.
        """
        try:
            return self._try_until_ready(tell)
        except BaseException:  # whatever it is, no channel is left half open
            self.cancel()
            raise

    def cancel(self) -> None:
        """End it; what it holds is given back."""
        self._cancellation.set()
        with self._lock:
            transport, self._transport = self._transport, None
        if transport:
            transport.release()

    def _try_until_ready(self, tell: Callable[[events.Event], None]) -> ConnectResult:
        budget = self._start_embedded()
        number = 1
        while True:
            outcome = self._try_once(budget, number)
            if isinstance(outcome, ConnectResult):
                return outcome
            delay_s = backoff_s(number)
            if outcome.permanent or not budget.allows_retry_after(delay_s):
                raise outcome
            tell(event_factories.retrying(outcome, delay_s))
            if self._cancellation.wait(delay_s):
                raise ClosedError(self.spec.alias)
            number += 1

    def _start_embedded(self) -> ConnectBudget:
        """Start an embedded server, and return the budget without the time of its start.

        The first start in a process imports a good part of pymilvus; a timeout is about servers.
        A start that fails for the moment is repeated by the first attempt.
        """
        if self.spec.endpoint.transport is not TransportType.LITE:
            return self._budget
        begun = time.monotonic()
        try:
            self._hold(Attempt(self.spec, self.started, self._budget.deadline))
        except ConnectError as error:
            if error.permanent:
                raise
        return self._budget.later(time.monotonic() - begun)

    def _try_once(self, budget: ConnectBudget, number: int) -> ConnectResult | ConnectError:
        """Return what came of one attempt, unless it was cancelled."""
        ends = min(budget.deadline, time.monotonic() + budget.attempt_s)
        attempt = Attempt(self.spec, self.started, ends, number)
        try:
            transport = self._transport_for(attempt)
            ask = partial(transport.bound(self.spec).ask, cancellation=self._cancellation)
            server = transport.resolve_target(attempt).run(
                lambda left_s: run_exchange(ask, handshake(self.spec), left_s)
            )
        except ConnectError as error:
            failure = error
        else:
            return ConnectResult(transport, server, number)
        if self._cancellation.is_set:
            raise ClosedError(self.spec.alias)
        return failure

    def _transport_for(self, attempt: Attempt) -> Transport:
        """Return the transport that there is, unless another server became the one to dial."""
        transport = self._transport
        if transport is None:
            return self._hold(attempt)
        if not transport.has_moved(attempt, at_once=attempt.number > 1):
            return transport
        new = self._hold(attempt, transport.topology_cache)
        transport.release()
        return new

    def _hold(self, attempt: Attempt, topology_cache: TopologyCache | None = None) -> Transport:
        """Keep a new transport, unless it was cancelled while that was made."""
        transport = acquire_transport(attempt, topology_cache)
        with self._lock:
            is_held = not self._cancellation.is_set
            if is_held:
                self._transport = transport
        if is_held:
            self._on_transport(transport)
            return transport
        transport.release()
        raise ClosedError(self.spec.alias)


class ConnectIntent(NamedTuple):
    """What is wanted of a connection.

    Args:
        budget: How long to go on trying.
        spec: What to connect to; what the connection has by then, by default.
        in_code: Whether just that specification is wanted, since code gave it. What was read may be
            out of date by now.
        may_reread: Whether refused credentials may be read again from their source. Those that
            only code gave are not.
        in_background: Whether it is tried again later, so that no failure is the end.
    """

    budget: ConnectBudget
    spec: ConnectionSpec | None = None
    in_code: bool = False
    may_reread: bool = True
    in_background: bool = False


class Waiter:
    """One caller of `ManagedConnection.open`, whether it makes the connect or waits for it.

    Attributes:
        pending: The connect under way that they make themselves.
        has_left: Whether they want it no longer.
    """

    def __init__(self) -> None:
        self.pending: PendingConnect | None = None
        self.has_left = False


@dataclass(frozen=True, slots=True)
class PendingConnect:
    """A connect that is under way: one thread makes it, the others wait for its outcome."""

    connector: Connector
    in_background: bool
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
            if error.permanent or not budget.outlives(self.connector.deadline):
                raise
            return
        else:
            return
        connector = self.connector
        attempt = Attempt(connector.spec, connector.started, connector.deadline)
        raise attempt.timed_out("another thread is still connecting")
