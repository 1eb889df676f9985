"""A global cluster's topology: asked for over HTTPS, read, and followed to the primary.

What is known of the service that tells it is what pymilvus 3.0.2 does, in
`client/global_topology.py`: the URL, the header, the fields of the answer, when it asks again.

A failure is a `StageError` of the room of diagnosis, with the class that stands for the cause; what
it saw is masked, and on one line.
"""

from __future__ import annotations

from zconfig._topology.fetch import REFRESH_S, TopologyCache, fetch_topology
from zconfig._topology.model import Member, Topology, parse_topology

__all__ = [
    "REFRESH_S",
    "Member",
    "Topology",
    "TopologyCache",
    "fetch_topology",
    "parse_topology",
]
