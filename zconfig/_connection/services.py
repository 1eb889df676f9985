"""What connections need of the registry: where events go, and where credentials come from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._spec import ConnectionSpec
from zconfig.errors import ZConfigError


class EventPublisher(Protocol):
    """Hands events to hooks."""

    def enqueue(self, event: events.Event) -> object:
        """Take an event that is to be delivered; no hook is called."""

    def flush(self, *aliases: str) -> None:
        """Call hooks with the events that were enqueued for aliases; called outside all locks."""


class Refreshable(Protocol):
    """A connection whose credentials can be replaced."""

    @property
    def alias(self) -> str:
        """Its name."""

    @property
    def spec(self) -> ConnectionSpec:
        """What it is configured with."""

    @property
    def bound(self) -> BoundChannel | None:
        """What calls go over; `None` where it is not open."""

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""

    @property
    def rotating(self) -> threading.Lock:
        """Held by the thread that has it apply another specification."""

    def apply(self, spec: ConnectionSpec) -> None:
        """Use other credentials from now on, once the server has accepted them."""


class CredentialSource(Protocol):
    """Reads the source of credentials again."""

    def reread(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Return a specification with other credentials than those that were refused."""

    def renew_if(self, is_due: Callable[[], bool], connection: Refreshable) -> None:
        """Do what `renew` does, if that is due once no reload is under way."""

    def renew(self, connection: Refreshable, *, is_last: bool = ...) -> ZConfigError | None:
        """Read the credentials of a connection again, and rotate if they are new.

        Args:
            connection: The connection.
            is_last: Whether a refusal is reported: it is not tried again at once.

        Returns:
            Why there are new ones that were not applied.
        """


class ConnectionServices(NamedTuple):
    """What a connection needs of the registry.

    Args:
        publisher: Takes its events.
        credentials: Reads its credentials again.
        monitor_soon: Has connections monitored in the background; at once where it is true.
        note_round_trip: Takes what a ping of an alias took, in milliseconds.
        configured: Returns what an alias is configured with now, if anything configures it.
    """

    publisher: EventPublisher
    credentials: CredentialSource
    monitor_soon: Callable[[bool], object]
    note_round_trip: Callable[[str, float], object]
    configured: Callable[[str], ConnectionSpec | None]
