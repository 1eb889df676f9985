"""Where connections belong: what they need of the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from zconfig import events
from zconfig.errors import ZConfigError
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection.lifecycle import Lifecycle


class Home(Protocol):
    """Takes events, has connections looked after, and reads credentials again."""

    def put(self, event: events.Event) -> None:
        """Take an event that is to be delivered; no hook is called."""

    def deliver(self, alias: str) -> None:
        """Have hooks told of what was put. It is called outside all locks."""

    def attend(self, *, at_once: bool) -> None:
        """Have connections looked after, in another thread; return at once.

        Args:
            at_once: Whether there is something to do now.
        """

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused."""

    def renew_if(self, is_due: Callable[[], bool], lifecycle: Lifecycle) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""

    def renew(self, lifecycle: Lifecycle, *, is_last: bool = ...) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Args:
            lifecycle: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not taken up.
        """
