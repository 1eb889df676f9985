"""The room of one alias' connection."""

from zconfig._connection.connection import Connection
from zconfig._connection.managed import ManagedConnection, Sign, State
from zconfig._connection.transport import CHANNELS

__all__ = ["CHANNELS", "Connection", "ManagedConnection", "Sign", "State"]
