"""Where an open connection is found with no more than a look into a dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from zconfig.connection.connection import Connection


class Sign(NamedTuple):
    """Shows a connection to those who look it up, while it is open.

    Args:
        ready: What is open, by alias.
        alias: The connection's name.
        connection: What is handed out.
    """

    ready: dict[str, Connection]
    alias: str
    connection: Connection

    def show(self) -> None:
        """Show that it is open."""
        self.ready[self.alias] = self.connection

    def hide(self) -> None:
        """Show that it is not, unless another one has taken its place."""
        if self.ready.get(self.alias) is self.connection:
            del self.ready[self.alias]
