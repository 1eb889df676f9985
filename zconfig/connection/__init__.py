"""The room of one alias' connection."""

from zconfig.connection.connection import Connection
from zconfig.connection.lifecycle import Lifecycle, State
from zconfig.connection.link import CORES

__all__ = ["CORES", "Connection", "Lifecycle", "State"]
