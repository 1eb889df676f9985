"""The registry: alias → connection."""

from zconfig._registry.connections import Connections, registry_of

__all__ = ["Connections", "registry_of"]
