"""Aliases that could not be connected, and are tried in the background until they can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zconfig.errors import ConnectError, ZConfigError
from zconfig.patience import backoff_s

if TYPE_CHECKING:
    from zconfig import events

_LONGEST_PAUSE_S = 30.0


class Retry:
    """When an alias is tried again, and why it has to be.

    Attributes:
        trouble: Why it could not be connected; empty if it was not tried yet.
        since: Seconds since the epoch, at which it was first wanted.

    Args:
        alias: The connection's name.
        again: Tries once more.
    """

    def __init__(self, alias: str, again: Callable[[Retry], Any]) -> None:
        self.alias = alias
        self.trouble = ""
        self.since = time.time()
        self._again = again
        self._attempts = 0
        self._next_at = 0.0

    def is_due(self) -> bool:
        """Tell whether it is time to try once more."""
        return time.monotonic() >= self._next_at

    def look(self) -> object:
        """Try once more."""
        return self._again(self)

    def put_off(self, error: ZConfigError) -> events.ConnectionRetrying | None:
        """Try again later; return the event that says so, where a server is the trouble.

        What does not pass by itself may be mended by somebody: it is tried again too, less often.

        Args:
            error: Why it failed.
        """
        self._attempts += 1
        self.trouble = str(error)
        may_pass = isinstance(error, ConnectError) and not error.permanent
        pause_s = backoff_s(self._attempts, _LONGEST_PAUSE_S) if may_pass else _LONGEST_PAUSE_S
        self._next_at = time.monotonic() + pause_s
        if not isinstance(error, ConnectError):
            return None
        # It needs grpc, which importing us must not.
        from zconfig.connection.reports import retrying

        return replace(retrying(error, pause_s), attempt=self._attempts)


R = TypeVar("R", bound=Retry)


class Retries(Generic[R]):
    """The aliases that are tried again.

    Args:
        make: Makes a retry of an alias.
    """

    def __init__(self, make: Callable[[str], R]) -> None:
        self._make = make
        self._by_alias: dict[str, R] = {}

    def begin(self, alias: str, error: ZConfigError | None = None) -> None:
        """Have an alias tried again from now on.

        Args:
            alias: The connection's name.
            error: Why it could not be opened just now, if it was tried.
        """
        retry = self._by_alias.setdefault(alias, self._make(alias))
        if error:
            retry.put_off(error)

    def end(self, alias: str) -> R | None:
        """Have an alias tried no longer; return how it went, if it was."""
        return self._by_alias.pop(alias, None)

    def aliases(self) -> Sequence[str]:
        """Return what is tried again."""
        return tuple(self._by_alias)

    def find(self, alias: str) -> R | None:
        """Return how it goes with an alias, if it is tried again."""
        return self._by_alias.get(alias)

    def outstanding(self, is_open: Callable[[str], object]) -> Sequence[R]:
        """Return what is still to be connected; what somebody else has connected is done."""
        for alias in self.aliases():
            if is_open(alias):
                self.end(alias)
        return tuple(self._by_alias.values())
