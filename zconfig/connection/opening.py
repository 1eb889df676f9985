"""One connect: attempts until the server accepts us, or until there is no use in trying."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from zconfig import events
from zconfig.channel.cancellation import Cancellation
from zconfig.channel.milvus import Server, converse, greet
from zconfig.connection import reports
from zconfig.connection.link import Link, make_link
from zconfig.connection.seam import Attempt
from zconfig.endpoint import Transport
from zconfig.errors import ClosedError, ConnectError
from zconfig.patience import Patience, backoff_s
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.topology import Follower


class Opened(NamedTuple):
    """What a connect came to.

    Args:
        link: What the connection holds.
        server: What the server said of itself.
        attempt: The number of the attempt that succeeded, from 1.
    """

    link: Link
    server: Server
    attempt: int


class Opening:
    """A connect, which another thread can end.

    Args:
        spec: What to connect to.
        patience: How long to go on trying.
    """

    def __init__(self, spec: ConnectionSpec, patience: Patience) -> None:
        self.spec = spec
        self.started = time.monotonic()
        self.goes_on = patience.goes_on
        self._patience = patience
        self._lock = threading.Lock()
        self._cancellation = Cancellation()
        self._link: Link | None = None

    def run(self, tell: Callable[[events.Event], None]) -> Opened:
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
            link, self._link = self._link, None
        if link:
            link.release()

    def _try_until_ready(self, tell: Callable[[events.Event], None]) -> Opened:
        patience = self._make_ready_to_dial()
        number = 1
        while True:
            outcome = self._try_once(patience, number)
            if isinstance(outcome, Opened):
                return outcome
            delay_s = backoff_s(number)
            if outcome.permanent or not patience.outlasts(delay_s):
                raise outcome
            tell(reports.retrying(outcome, delay_s))
            if self._cancellation.wait(delay_s):
                raise ClosedError(self.spec.alias)
            number += 1

    def _make_ready_to_dial(self) -> Patience:
        """Start an embedded server, and return the patience that is left as if it had run.

        The first start in a process imports a good part of pymilvus; a timeout is about servers.
        A start that fails for the moment is repeated by the first attempt.
        """
        if self.spec.endpoint.transport is not Transport.LITE:
            return self._patience
        begun = time.monotonic()
        try:
            self._hold(Attempt(self.spec, self.started, self._patience.deadline))
        except ConnectError as error:
            if error.permanent:
                raise
        return self._patience.later(time.monotonic() - begun)

    def _try_once(self, patience: Patience, number: int) -> Opened | ConnectError:
        """Return what came of one attempt, unless it was cancelled."""
        ends = min(patience.deadline, time.monotonic() + patience.attempt_s)
        attempt = Attempt(self.spec, self.started, ends, number)
        try:
            link = self._link_for(attempt)
            ask = partial(link.line(self.spec).ask, cancellation=self._cancellation)
            server = link.aim(attempt).run(lambda left_s: converse(ask, greet(self.spec), left_s))
        except ConnectError as error:
            failure = error
        else:
            return Opened(link, server, number)
        if self._cancellation.is_set:
            raise ClosedError(self.spec.alias)
        return failure

    def _link_for(self, attempt: Attempt) -> Link:
        """Return the link that there is, unless another server became the one to dial."""
        link = self._link
        if link is None:
            return self._hold(attempt)
        if not link.has_moved(attempt, at_once=attempt.number > 1):
            return link
        new = self._hold(attempt, link.follower)
        link.release()
        return new

    def _hold(self, attempt: Attempt, follower: Follower | None = None) -> Link:
        """Keep a new link, unless it was cancelled while that was made."""
        link = make_link(attempt, follower)
        with self._lock:
            if not self._cancellation.is_set:
                self._link = link
                return link
        link.release()
        raise ClosedError(self.spec.alias)
