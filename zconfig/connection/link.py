"""What one connection holds: the embedded server if there is one, and its share of channels."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zconfig.channel.core import CorePool, Loan, Material, read_material
from zconfig.channel.gate import GATE
from zconfig.channel.line import Line, Metadata
from zconfig.channel.lite import Lease, LiteError, acquire
from zconfig.channel.milvus import Server
from zconfig.connection.seam import Attempt
from zconfig.endpoint import Endpoint, Family, Transport
from zconfig.settings.fields import DEFAULT_DATABASE
from zconfig.sources.files import FileError
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.topology import Follower

CORES = CorePool()
"""The core channels of this process."""


@dataclass(frozen=True, slots=True)
class Link:
    """The resources of one open connection, released together.

    Args:
        target: What gRPC dials.
        loan: The borrowed channels.
        lease: The borrowed embedded server; `None` for any other.
        primary: The member of a global cluster that is dialed; `None` for any other.
        follower: Knows which member is the primary; `None` where there is one server only.
    """

    target: str
    loan: Loan
    lease: Lease | None
    primary: Endpoint | None = None
    follower: Follower | None = None

    @property
    def follows(self) -> bool:
        """Whether another server may become the one to dial."""
        return self.follower is not None

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to ask which server is the one to dial."""
        return self.follower is not None and now >= self.follower.due

    def has_moved(self, attempt: Attempt, *, at_once: bool) -> bool:
        """Tell whether another server is the one to dial; what cannot be told has not changed.

        Args:
            attempt: What it is asked for.
            at_once: Ask also before it is time.
        """
        if self.follower is None:
            return False
        from zconfig.diagnosis.verdict import StageError

        if at_once or self.is_due(time.monotonic()):
            with suppress(StageError):
                self.follower.refresh(attempt.deadline)
        topology = self.follower.topology
        return topology is not None and topology.primary.endpoint != self.primary

    def aim(self, attempt: Attempt) -> Attempt:
        """Return an attempt that knows where this link really leads."""
        embedded = self.lease.address if self.lease else None
        return replace(attempt, embedded=embedded, dialed=self.primary)

    def line(self, spec: ConnectionSpec, server: Server | None = None) -> Line:
        """Return what calls go over.

        Args:
            spec: Who speaks.
            server: What accepted us; `None` before one has.
        """
        identifier = server.identifier if server else None
        return Line(spec.alias, self.loan.core, metadata_of(spec, identifier), self.follows)

    def release(self) -> None:
        """Give everything back."""
        self.loan.release()
        if self.lease:
            self.lease.release()


def make_link(attempt: Attempt, follower: Follower | None = None, cores: CorePool = CORES) -> Link:
    """Take what a connection needs.

    No server is spoken to yet, but an embedded one is started, and a global cluster is asked
    which member is its primary.

    Args:
        attempt: What it is for.
        follower: What knows the members already; for a global cluster a new one by default.
        cores: Whose channels to share.

    Raises:
        ConnectError: A TLS file cannot be used, or the embedded server does not start.
        MissingExtraError: Milvus Lite is wanted and not installed.
    """
    spec = attempt.spec
    material = _material(attempt)
    lease = _lease(attempt)
    if spec.endpoint.family is Family.GLOBAL_CLUSTER:
        follower = follower or _follower(spec)
    primary = attempt.primary(follower) if follower else None
    target = lease.address if lease else (primary or spec.endpoint).target
    return Link(target, cores.acquire(target, spec, material), lease, primary, follower)


def metadata_of(spec: ConnectionSpec, identifier: int | None = None) -> Metadata:
    """Return what is sent along with each call of a connection.

    Args:
        spec: The connection's specification.
        identifier: The session's, from the server's answer to Connect.

    Example:
        >>> from zconfig.endpoint import parse
        >>> metadata_of(ConnectionSpec("prod", parse("http://db"), db_name="sales"), 7)
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


def _follower(spec: ConnectionSpec) -> Follower:
    with GATE:  # as in `seam`
        from zconfig.connection.judging import probe_target
        from zconfig.topology import Follower, fetch_topology
    return Follower(lambda deadline: fetch_topology(spec, probe_target(spec), deadline))


def _material(attempt: Attempt) -> Material | None:
    """Read the TLS files. gRPC would say no more of a broken one than that no handshake works."""
    spec = attempt.spec
    if not spec.endpoint.secure:
        return None
    attempt.check_material()
    try:
        return read_material(spec.tls)
    except FileError as error:  # it was readable a moment ago
        failure = attempt.explain(error)
    raise failure


def _lease(attempt: Attempt) -> Lease | None:
    endpoint = attempt.spec.endpoint
    if endpoint.transport is not Transport.LITE:
        return None
    try:
        return acquire(Path(endpoint.path or ""))
    except LiteError as error:
        failure = attempt.explain(error)
    raise failure
