"""The members of a global cluster, and which of them takes writes."""

from __future__ import annotations

from dataclasses import dataclass

from zconfig.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Member:
    """One cluster of a global cluster.

    Args:
        cluster_id: Its identifier.
        endpoint: Where it is reached; always with TLS.
        readable: Whether it takes reads.
        writable: Whether it takes writes, as the primary alone does.
    """

    cluster_id: str
    endpoint: Endpoint
    readable: bool
    writable: bool


@dataclass(frozen=True, slots=True)
class Topology:
    """The members of a global cluster at one time.

    Args:
        version: Grows with each change.
        members: Exactly one of them is writable.
    """

    version: int
    members: tuple[Member, ...]

    @property
    def primary(self) -> Member:
        """The member that takes writes."""
        return next(member for member in self.members if member.writable)
