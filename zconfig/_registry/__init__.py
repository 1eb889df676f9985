"""The room of the registry: alias → connection."""

from zconfig._registry.connections import Connections

__all__ = ["Connections"]
