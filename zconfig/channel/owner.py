"""Who has the channels that calls go over, and hears of the calls that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import grpc

from zconfig.channel.line import Line

_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_DEMOTED = "STREAMING_CODE_REPLICATE_VIOLATION"
_DEMOTED_IN_REPLY = _DEMOTED.encode()
_LONGEST_FAILURE = 64 << 10  # bytes; what is larger than that is no status alone


class LineOwner(Protocol):
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

    def doubt(self, line: Line, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one to ask any more.

        Args:
            line: What the call went over that failed.
            at_once: Whether that is looked into at once, or within half a second.

        Returns:
            Why the server is lost, if that is known already.
        """


class Owner(LineOwner, Protocol):
    """Has the channels of threads."""

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


def report_failure(owner: LineOwner, line: Line, code: grpc.StatusCode, details: str | None) -> str:
    """Tell an owner of a call that has ended; return why its server is lost, if that is known."""
    if code in _LOST:
        return owner.doubt(line)
    if _DEMOTED in (details or ""):
        owner.doubt(line, at_once=False)
    return ""


def heeding(owner: LineOwner, deserialize: Callable[[bytes], Any] | None) -> Any:
    """Return a deserializer that tells the owner where a server is the primary no longer.

    Milvus says so in the status inside of a reply. Where there is one server only, it is the same
    deserializer.
    """
    if not (owner.line and owner.line.follows):
        return deserialize

    def deserialized(reply: bytes) -> Any:
        if len(reply) < _LONGEST_FAILURE and _DEMOTED_IN_REPLY in reply and (line := owner.line):
            owner.doubt(line, at_once=False)
        return deserialize(reply) if deserialize else reply

    return deserialized
