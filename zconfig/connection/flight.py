"""A connect that is under way, and those who wait for it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from zconfig.channel.unbroken import Caller, by_oneself
from zconfig.connection.opening import Opening
from zconfig.errors import ConnectError, ServerSilentError
from zconfig.patience import Patience


class Passenger:
    """One who wants a connect.

    Attributes:
        has_left: Whether they were interrupted, and want it no more.
        flight: The connect under way that they make themselves.
        caller: Does what is for their own thread to do.
    """

    def __init__(self) -> None:
        self.caller: Caller = by_oneself
        self.has_left = False
        self.flight: Flight | None = None


@dataclass(frozen=True, slots=True)
class Flight:
    """A connect that is under way: one thread flies it, the others wait for its outcome.

    Args:
        opening: The connect.
        caller: Does what is for the thread that wants it, such as to call hooks.
        outcome: How it went.
    """

    opening: Opening
    caller: Caller
    outcome: Future[None] = field(default_factory=Future)

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
        spec = self.opening.spec
        raise ServerSilentError(
            spec.alias,
            endpoint=str(spec.endpoint),
            origin=str(spec.origin()),
            detail="another thread is still connecting",
        )
