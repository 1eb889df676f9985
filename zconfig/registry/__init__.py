"""The room of the registry: alias → connection."""

from zconfig.registry.connections import Connections

__all__ = ["Connections"]
