"""The room of one alias' connection."""

from zconfig.connection.connection import Connection
from zconfig.connection.lifecycle import Lifecycle
from zconfig.connection.link import CORES
from zconfig.connection.sign import Sign
from zconfig.connection.state import State

__all__ = ["CORES", "Connection", "Lifecycle", "Sign", "State"]
