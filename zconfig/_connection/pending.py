"""A connect that threads and event loops share: one makes it, the others wait for its outcome."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from zconfig._connection.attempt import error_of
from zconfig._connection.connector import Connector
from zconfig._deadline import ConnectBudget
from zconfig._spec import ConnectionSpec
from zconfig.errors import ConnectError, ServerSilentError, ZConfigError


class ConnectIntent(NamedTuple):
    """What is wanted of a connection.

    Args:
        budget: How long to go on trying.
        spec: What to connect to; what the connection has by then, by default.
        in_code: Whether just that specification is wanted, since code gave it. What was read may be
            out of date by now.
        may_reread: Whether credentials that are refused may be replaced by newer ones: those that
            a child of an old process knows may be out of date, those that code gave are not.
        in_background: Whether it is tried again later, so that no failure is the end.
    """

    budget: ConnectBudget
    spec: ConnectionSpec | None = None
    in_code: bool = False
    may_reread: bool = True
    in_background: bool = False


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
        detail = "another thread is still connecting"
        raise error_of(ServerSilentError, self.connector.spec, detail=detail)
