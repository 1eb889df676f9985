"""Credentials that a server refuses, replaced by newer ones where there are any."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from zconfig.channel.line import Line
from zconfig.connection.home import Home

if TYPE_CHECKING:
    from zconfig.connection.lifecycle import Lifecycle

BETWEEN_RENEWALS_S = 1.0
"""Where nothing new was found, the sources are not read again sooner."""

PAUSES_S = (0.1, 0.2)
"""Before new credentials that were refused are read and tried again, while a call waits for them.

A server may take a moment to know what it was told, and another rotation may follow closely.
"""


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
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Begin anew, in a child process: who renews is a thread of the parent."""
        self._lock = threading.Lock()

    def renew(self, line: Line) -> Line | None:
        """Return a line with newer credentials than one whose credentials were refused.

        The sources are read again, by one thread for all; where nothing new was found, not again
        at once.
        """
        with self._lock:
            if not self._differs(line) and self._is_due():
                self._take_up_newer()
                self._renewed_at = time.monotonic()
            current = self._lifecycle.line if self._differs(line) else None
            if current:
                self._renewed_at = float("-inf")
        self._home.deliver(self._lifecycle.alias)
        return current

    def _take_up_newer(self) -> None:
        for pause_s in PAUSES_S:
            if not self._home.renew(self._lifecycle, is_last=False):
                return
            time.sleep(pause_s)
        self._home.renew(self._lifecycle)

    def _differs(self, line: Line) -> bool:
        current = self._lifecycle.line
        return current is not None and current.authorization != line.authorization

    def _is_due(self) -> bool:
        return time.monotonic() - self._renewed_at > BETWEEN_RENEWALS_S
