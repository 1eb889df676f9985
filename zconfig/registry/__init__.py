"""The room of the registry: alias → connection."""

from zconfig.registry.connections import Connections
from zconfig.registry.reload import Changes
from zconfig.registry.stats import AliasStats, RoundTrips

__all__ = ["AliasStats", "Changes", "Connections", "RoundTrips"]
