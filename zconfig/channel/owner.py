"""Who has the channels that calls go over."""

from __future__ import annotations

from typing import Protocol

from zconfig.channel.line import Line


class Owner(Protocol):
    """Has the channels that views look at, and hears how their calls go."""

    @property
    def alias(self) -> str:
        """For whom calls are made."""

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""

    @property
    def line(self) -> Line | None:
        """What calls go over just now; `None` where it is closed, or has yet to dial."""

    def wake(self, timeout_s: float | None) -> Line:
        """Return the line, after dialing if need be.

        Raises:
            ClosedError: It is closed for good.
            ConnectError: The server cannot be reached.
        """

    def renew(self, line: Line, timeout_s: float | None) -> Line | None:
        """Return a line to make a call on again whose credentials were refused on this one.

        Raises:
            ClosedError: It was closed for good meanwhile.
            ConnectError: It was closed meanwhile, and cannot be opened anew.
        """

    def doubt(self, line: Line) -> str:
        """Hear that a call got no answer; return at once why, if that is known, or nothing."""
