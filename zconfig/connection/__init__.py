"""The room of connections: each owns the channels of one alias."""

from zconfig.connection.connection import Connection, State
from zconfig.connection.link import CORES

__all__ = ["CORES", "Connection", "State"]
