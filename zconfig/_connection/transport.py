"""The resources of one connection: channels, and the lease on an embedded server."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from zconfig._channel.bound_channel import BoundChannel, Metadata
from zconfig._channel.channels import ChannelPool, ChannelRef, TLSMaterial, read_material
from zconfig._channel.fork_gate import GATE
from zconfig._channel.lite import Lease, LiteError, acquire
from zconfig._channel.milvus import Server
from zconfig._connection.attempt import Attempt
from zconfig._endpoint import Endpoint, Family, TransportType
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig._sources.files import FileError
from zconfig._spec import ConnectionSpec
from zconfig._value import Value, value

if TYPE_CHECKING:
    from zconfig._topology import TopologyCache

CHANNELS = ChannelPool()
"""The shared channels of this process."""


@value
class Transport(Value):
    """The resources of one open connection, released together.

    Args:
        target: The gRPC target.
        channel_ref: The reference to the channels.
        lease: The lease on an embedded server; `None` for other servers.
        primary: The member of a global cluster that is dialed; `None` for other servers.
        topology_cache: The topology of a global cluster; `None` for other servers.
    """

    target: str
    channel_ref: ChannelRef
    lease: Lease | None
    primary: Endpoint | None = None
    topology_cache: TopologyCache | None = None

    @property
    def follows(self) -> bool:
        """Whether the server is the primary of a global cluster, which may change."""
        return self.topology_cache is not None

    def is_due(self, now: float) -> bool:
        """Return whether it is time to refresh the topology."""
        return self.topology_cache is not None and now >= self.topology_cache.due

    def has_moved(self, attempt: Attempt, *, at_once: bool) -> bool:
        """Return whether another member is the primary; false if the topology is unavailable.

        Args:
            attempt: The attempt, whose deadline limits the refresh.
            at_once: Whether to refresh the topology before it is due.
        """
        if self.topology_cache is None:
            return False
        if at_once or self.is_due(time.monotonic()):
            self.topology_cache.try_refresh(attempt.deadline)
        topology = self.topology_cache.topology
        return topology is not None and topology.primary != self.primary

    def resolve_target(self, attempt: Attempt) -> Attempt:
        """Return the attempt with the address that this transport dials."""
        embedded = self.lease.address if self.lease else None
        return attempt._replace(embedded=embedded, dialed=self.primary)

    def bound(self, spec: ConnectionSpec, server: Server | None = None) -> BoundChannel:
        """Return the channels with the metadata of a specification.

        Args:
            spec: The specification.
            server: The server of the session; `None` before the handshake.
        """
        identifier = server.identifier if server else None
        return BoundChannel(
            spec.alias, self.channel_ref.shared, metadata_of(spec, identifier), self.follows
        )

    def release(self) -> None:
        """Release the channels and the lease."""
        self.channel_ref.release()
        if self.lease:
            self.lease.release()


def acquire_transport(
    attempt: Attempt,
    topology_cache: TopologyCache | None = None,
) -> Transport:
    """Acquire the resources of a connection.

    This starts an embedded server, and asks a global cluster for its primary, but does not call
    the server itself.

    Args:
        attempt: The attempt that needs them.
        topology_cache: The topology, if known; by default a new one for a global cluster.

    Raises:
        ConnectError: A TLS file cannot be used, the embedded server does not start, or the
            topology is unavailable.
        MissingExtraError: The alias needs Milvus Lite, which is not installed.
    """
    spec = attempt.spec
    material = _material(attempt)
    lease = _lease(attempt)
    if spec.endpoint.family is Family.GLOBAL_CLUSTER:
        topology_cache = topology_cache or _topology_cache(spec)
    primary = attempt.primary(topology_cache) if topology_cache else None
    target = lease.address if lease else (primary or spec.endpoint).target
    with ExitStack() as on_failure:
        if lease:
            on_failure.callback(lease.release)
        channel_ref = CHANNELS.acquire(target, spec, material)
        on_failure.pop_all()
    return Transport(target, channel_ref, lease, primary, topology_cache)


def metadata_of(spec: ConnectionSpec, identifier: int | None = None) -> Metadata:
    """Return the metadata of each call of a connection.

    Args:
        spec: The connection's specification.
        identifier: The number of the session, from the response to Connect.

    Examples:
        >>> from zconfig._endpoint import parse_uri
        >>> metadata_of(ConnectionSpec("prod", parse_uri("http://db"), db_name="sales"), 7)
        (('dbname', 'sales'), ('identifier', '7'))
    """
    pairs: list[tuple[str, str]] = []
    if spec.credentials:
        pairs.append(("authorization", spec.credentials.authorization.reveal()))
    if spec.db_name != DEFAULT_DATABASE:
        pairs.append(("dbname", spec.db_name))
    if identifier:
        pairs.append(("identifier", str(identifier)))
    return tuple(pairs)


def _topology_cache(spec: ConnectionSpec) -> TopologyCache:
    with GATE:  # as in `Attempt._mapper`
        from zconfig._connection.error_mapping import probe_target
        from zconfig._topology import TopologyCache, fetch_topology
    return TopologyCache(lambda deadline: fetch_topology(spec, probe_target(spec), deadline))


def _material(attempt: Attempt) -> TLSMaterial | None:
    """Read and check the TLS files: gRPC reports a broken one only as a failed handshake."""
    spec = attempt.spec
    if not spec.endpoint.secure:
        return None
    attempt.check_material()
    try:
        return read_material(spec.tls)
    except FileError as error:  # it was readable during the check
        failure = attempt.explain(error)
    raise failure


def _lease(attempt: Attempt) -> Lease | None:
    endpoint = attempt.spec.endpoint
    if endpoint.transport is not TransportType.LITE:
        return None
    try:
        return acquire(Path(endpoint.path or ""))
    except LiteError as error:
        failure = attempt.explain(error)
    raise failure
