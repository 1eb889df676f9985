"""A connect that is under way, and those who wait for it."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from zconfig.connection.opening import Opening
from zconfig.connection.seam import error_of
from zconfig.errors import ConnectError, ServerSilentError, ZConfigError
from zconfig.patience import Patience


class Passenger:
    """One who wants a connect.

    Attributes:
        flight: The connect under way that they make themselves.
        has_left: Whether they want it no longer.
    """

    def __init__(self) -> None:
        self.flight: Flight | None = None
        self.has_left = False


@dataclass(frozen=True, slots=True)
class Flight:
    """A connect that is under way: one thread flies it, the others wait for its outcome."""

    opening: Opening
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

    def join(self, patience: Patience) -> None:
        """Wait for the outcome; return also if it is worth trying oneself.

        Raises:
            ConnectError: It failed, or takes too long.
        """
        try:
            self.outcome.result(patience.left_s)
        except TimeoutError:
            pass
        except ConnectError as error:
            if error.permanent or not patience.outlasts(0.0):
                raise
            return
        else:
            return
        detail = "another thread is still connecting"
        raise error_of(ServerSilentError, self.opening.spec, detail=detail)
