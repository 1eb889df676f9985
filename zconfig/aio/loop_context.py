"""What connections of an event loop stand on: what they need of its home, and of the registry."""

from __future__ import annotations

from typing import Protocol

from zconfig import events
from zconfig._connection.transport import Transport
from zconfig._spec import ConnectionSpec
from zconfig.aio.channels import AsyncChannelPool


class LoopContext(Protocol):
    """Has the channels of an event loop, takes events, and knows what is configured."""

    @property
    def channel_pool(self) -> AsyncChannelPool:
        """The channels of the event loop."""

    @property
    def is_here(self) -> bool:
        """Whether the event loop that runs now is its own."""

    def publish(self, event: events.Event) -> None:
        """Take a lifecycle event."""

    def attend(self) -> None:
        """Have connections looked after from now on."""

    def release(self, transport: Transport) -> None:
        """Give a link back, and not wait for that."""

    async def settle(self) -> None:
        """Wait until what was given back is gone."""

    def configured(self, alias: str) -> ConnectionSpec | None:
        """Return what an alias is configured with now, if with anything."""

    def note_round_trip(self, alias: str, round_trip_ms: float) -> None:
        """Take note of what a ping took, in milliseconds."""

    async def newer(self, spec: ConnectionSpec) -> ConnectionSpec | None:
        """Read the sources again; return a specification with newer credentials."""

    async def reread(self, spec: ConnectionSpec) -> bool:
        """Read the sources again, have newer credentials count; tell whether there were any."""

    def keep(self, spec: ConnectionSpec) -> None:
        """Have this configured for its alias."""
