"""Steps that Ctrl-C does not come between.

Python raises KeyboardInterrupt between any two steps of the main thread. In the middle of starting
a call that leaves gRPC with one whose end nobody will notice, and whoever closes the channel then
waits for that end for ever. https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
"""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType


class Uninterrupted:
    """A `with` block in the main thread, at whose end Ctrl-C counts that came meanwhile.

    For what takes no time: the handler of SIGINT, whatever it does, waits as long.

    Example:
        >>> with Uninterrupted():
        ...     pass
    """

    def __init__(self) -> None:
        self._came: FrameType | None = None
        self._has_come = self._defers = False

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._handler = signal.getsignal(signal.SIGINT)
        if callable(self._handler):
            with suppress(ValueError):  # as in an interpreter within another, which gets no signal
                signal.signal(signal.SIGINT, self._note)
                self._defers = True

    def _note(self, _: int, frame: FrameType | None) -> None:
        self._has_come, self._came = True, frame

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._defers:
            return
        signal.signal(signal.SIGINT, self._handler)
        frame, self._came = self._came, None
        if self._has_come and callable(self._handler):
            self._handler(signal.SIGINT, frame)
