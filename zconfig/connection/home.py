"""Where connections belong: what they need of the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from zconfig import events
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection.lifecycle import Lifecycle


class Home(Protocol):
    """Takes events, has connections looked after, and reads credentials again."""

    def emit(self, event: events.Event) -> None:
        """Take a lifecycle event."""

    def attend(self) -> None:
        """Have connections looked after soon, in another thread; return at once."""

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused."""

    def renew(
        self, lifecycle: Lifecycle, is_due: Callable[[], bool] = ...
    ) -> Sequence[events.Event]:
        """Read the credentials of a connection again, rotate if they are new, and say so.

        Args:
            lifecycle: The connection.
            is_due: Whether it is still wanted, asked once no other thread reads.
        """
