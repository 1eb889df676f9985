"""The room of the registry: alias → connection."""

from zconfig.registry.connections import Connections
from zconfig.registry.reload import Changes

__all__ = ["Changes", "Connections"]
