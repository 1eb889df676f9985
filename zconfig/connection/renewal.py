"""Credentials that a server refuses, replaced by newer ones where there are any."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from zconfig.channel.line import Line
from zconfig.connection.home import Home
from zconfig.errors import ConnectError, ZConfigError

if TYPE_CHECKING:
    from zconfig.connection.lifecycle import Lifecycle

BETWEEN_RENEWALS_S = 1.0
"""Where nothing new was found, the sources are not read again sooner."""

PAUSES_S = (0.1, 0.2)
"""Before new credentials that were refused are read and tried again, while a call waits for them.

A server may take a moment to know what it was told, and another rotation may follow closely.
"""


def is_transient(failure: ZConfigError | None) -> bool:
    """Tell whether a failure says nothing of the credentials, but that nobody could judge them."""
    return isinstance(failure, ConnectError) and not failure.permanent


class Renewal:
    """Renews the credentials of one connection, in one thread for all that were refused.

    Args:
        lifecycle: The connection.
        home: Where it belongs.
    """

    def __init__(self, lifecycle: Lifecycle, home: Home) -> None:
        self._lifecycle = lifecycle
        self._home = home
        self._renewed_at = float("-inf")
        self._is_unsettled = False
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Begin anew, in a child process: who renews is a thread of the parent."""
        self._lock = threading.Lock()

    def renew(self, line: Line) -> Line | None:
        """Return a line to make a call on again whose credentials were refused on this one.

        It has newer credentials. Where there are such, but the server went away before it could
        say what it thinks of them, it is the same line: the call itself will tell.

        The sources are read again, by one thread for all; where nothing new was found, not again
        at once.
        """
        refused_at = time.monotonic()
        with self._lock:
            if not self._differs(line) and self._is_due(refused_at):
                self._is_unsettled = is_transient(self._take_up_newer())
                self._renewed_at = time.monotonic()
            current = line if self._is_unsettled else None
            if self._differs(line):
                current = self._lifecycle.line
                self._renewed_at = float("-inf")
        self._home.deliver(self._lifecycle.alias)
        return current

    def _take_up_newer(self) -> ZConfigError | None:
        """Take them up; return why that was not possible."""
        for pause_s in PAUSES_S:
            failure = self._home.renew(self._lifecycle, is_last=False)
            if failure is None or is_transient(failure):
                return failure
            time.sleep(pause_s)
        return self._home.renew(self._lifecycle)

    def _differs(self, line: Line) -> bool:
        current = self._lifecycle.line
        return current is not None and current.authorization != line.authorization

    def _is_due(self, refused_at: float) -> bool:
        if self._is_unsettled:
            return self._renewed_at < refused_at
        return time.monotonic() - self._renewed_at > BETWEEN_RENEWALS_S
