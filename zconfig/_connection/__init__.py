"""The connection of one alias: connect, monitor, refresh credentials, close."""

from zconfig._connection.connection import Connection
from zconfig._connection.connector import ConnectIntent
from zconfig._connection.credentials import ConnectionServices, Refreshable
from zconfig._connection.managed import ManagedConnection, State
from zconfig._connection.transport import CHANNELS

__all__ = [
    "CHANNELS",
    "ConnectIntent",
    "Connection",
    "ConnectionServices",
    "ManagedConnection",
    "Refreshable",
    "State",
]
