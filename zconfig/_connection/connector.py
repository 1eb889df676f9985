"""One connect, which threads and event loops share: attempts until one succeeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import field
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
from zconfig._value import Value, value
from zconfig.errors import ClosedError, ConnectError, ZConfigError

if TYPE_CHECKING:
    from zconfig._topology import TopologyCache


class ConnectResult(NamedTuple):
    """The result of a successful connect.

    Args:
        transport: The resources of the connection.
        server: The server's description of itself.
        attempt: The number of the attempt that succeeded, from 1.
    """

    transport: Transport
    server: Server
    attempt: int


class Connector:
    """A connect, which another thread can cancel.

    Args:
        spec: The specification to connect with.
        budget: The time limits.
        on_transport: Called with each acquired transport, before Connect is sent on it.
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
        """Connect: retry until the server accepts the credentials.

        Args:
            tell: Receives the event of each failed attempt that is retried.

        Raises:
            ConnectError: The last attempt failed.
            MissingExtraError: The alias needs Milvus Lite, which is not installed.
            ClosedError: The connect was cancelled.
        """
        try:
            return self._try_until_ready(tell)
        except BaseException:  # also after Ctrl-C: release the channels
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel the connect, and release its transport."""
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
            delay_s = budget.pause_s(backoff_s(number))
            if outcome.permanent or delay_s is None:
                raise outcome
            tell(event_factories.retrying(outcome, delay_s))
            if self._cancellation.wait(delay_s):
                raise ClosedError(self.spec.alias)
            number += 1

    def _start_embedded(self) -> ConnectBudget:
        """Start an embedded server, and return the budget extended by the time of its start.

        The first start in a process imports a large part of pymilvus, which does not count
        towards the timeout. The first attempt repeats a start that failed transiently.
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
        """Return the result or the error of one attempt.

        Raises:
            ClosedError: The connect was cancelled.
        """
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
        """Return the current transport, or a new one if a global cluster changed its primary."""
        transport = self._transport
        if transport is None:
            return self._hold(attempt)
        if not transport.has_moved(attempt, at_once=attempt.number > 1):
            return transport
        new = self._hold(attempt, transport.topology_cache)
        transport.release()
        return new

    def _hold(self, attempt: Attempt, topology_cache: TopologyCache | None = None) -> Transport:
        """Acquire and keep a transport; release it if the connect was cancelled meanwhile."""
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
    """The arguments of a connect.

    Args:
        budget: The time limits.
        spec: The specification that was passed in code; by default the one that is configured
            when the connect starts.
        may_reread: Whether rejected credentials may be read again from their source; not for
            credentials that were passed in code.
        in_background: Whether the connect is retried later, so that its failure is not final.
    """

    budget: ConnectBudget
    spec: ConnectionSpec | None = None
    may_reread: bool = True
    in_background: bool = False


@value
class PendingConnect(Value):
    """A connect in progress: one thread makes it, other threads wait for its outcome.

    Args:
        connector: The connect.
        in_background: Whether it is retried later, so that its failure is not final.
        has_left: Set when the caller that makes it has given up.
    """

    connector: Connector
    in_background: bool
    has_left: threading.Event
    outcome: Future[None] = field(default_factory=Future)

    def end(self, error: ZConfigError | None = None) -> None:
        """Set the outcome for the waiting threads, unless it is set.

        Args:
            error: The error of a failed connect.
        """
        with suppress(InvalidStateError):
            if error:
                self.outcome.set_exception(error)
            else:
                self.outcome.set_result(None)

    def join(self, budget: ConnectBudget) -> None:
        """Wait for the outcome; return also if the caller should connect itself.

        Raises:
            ConnectError: The connect failed, or the budget of the caller is used up.
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
