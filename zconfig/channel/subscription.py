"""Who is told of a channel's connectivity.

gRPC's own subscription keeps a thread waiting inside gRPC, and most children of a fork meanwhile
crash. Here a thread looks now and then, and waits outside.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from grpc import ChannelConnectivity

_BETWEEN_LOOKS_S = 0.1


class Subscription:
    """Has a callback called with the connectivity: at once, and whenever it has changed.

    Args:
        callback: Called in a thread of its own; an exception of its is logged.
        look: Returns the connectivity.
    """

    def __init__(
        self,
        callback: Callable[[ChannelConnectivity], None],
        look: Callable[[], ChannelConnectivity],
    ) -> None:
        self.callback = callback
        self._look = look
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to tell."""
        threading.Thread(target=self._follow, name="zconfig-subscription", daemon=True).start()

    def end(self) -> None:
        """Tell no more; the callback itself may call this."""
        self._ended.set()

    def _follow(self) -> None:
        told = None
        while told is not ChannelConnectivity.SHUTDOWN and not self._ended.is_set():
            now = self._look()
            if now is not told:
                self._tell(now)
                told = now
            self._ended.wait(_BETWEEN_LOOKS_S)

    def _tell(self, connectivity: ChannelConnectivity) -> None:
        try:
            self.callback(connectivity)
        except Exception:  # it is the application's, and may raise anything
            logging.getLogger("zconfig").exception("a callback failed on %s", connectivity)
