"""What one connection holds: the embedded server if there is one, and its share of channels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zconfig.channel.core import CorePool, Loan, Material, read_material
from zconfig.channel.line import Line, Metadata
from zconfig.channel.lite import Lease, LiteError, acquire
from zconfig.channel.milvus import Server
from zconfig.connection.seam import Attempt, probe_target
from zconfig.diagnosis import Verdict, check_material
from zconfig.endpoint import Transport
from zconfig.errors import EmbeddedServerError, TLSMaterialError
from zconfig.spec import DEFAULT_DATABASE, ConnectionSpec

CORES = CorePool()
"""The core channels of this process."""


@dataclass(frozen=True, slots=True)
class Link:
    """The resources of one open connection, released together.

    Args:
        target: What gRPC dials.
        loan: The borrowed channels.
        lease: The borrowed embedded server; `None` for any other.
    """

    target: str
    loan: Loan
    lease: Lease | None

    @property
    def embedded(self) -> str | None:
        """Where the embedded server listens; `None` for any other."""
        return self.lease.address if self.lease else None

    def line(self, spec: ConnectionSpec, server: Server | None = None) -> Line:
        """Return what calls go over.

        Args:
            spec: Who speaks.
            server: What accepted us; `None` before one has.
        """
        identifier = server.identifier if server else None
        return Line(spec.alias, self.loan.core, metadata_of(spec, identifier))

    def release(self) -> None:
        """Give everything back."""
        self.loan.release()
        if self.lease:
            self.lease.release()


def make_link(attempt: Attempt) -> Link:
    """Take what a connection needs; no server is spoken to yet, but an embedded one started.

    Raises:
        ConnectError: A TLS file cannot be used, or the embedded server does not start.
        MissingExtraError: Milvus Lite is wanted and not installed.
    """
    spec = attempt.spec
    material = _material(attempt)
    lease = _lease(attempt)
    target = lease.address if lease else spec.endpoint.target
    return Link(target, CORES.acquire(target, spec, material), lease)


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
        pairs.append(("authorization", spec.credentials.authorization))
    if spec.db_name != DEFAULT_DATABASE:
        pairs.append(("dbname", spec.db_name))
    if identifier:
        pairs.append(("identifier", str(identifier)))
    return tuple(pairs)


def _material(attempt: Attempt) -> Material | None:
    """Read the TLS files. gRPC would say no more of a broken one than that no handshake works."""
    spec = attempt.spec
    if not spec.endpoint.secure:
        return None
    verdict = check_material(probe_target(spec))
    if verdict is None:
        try:
            return read_material(spec.tls)
        except OSError as error:  # it was readable a moment ago
            verdict = Verdict(TLSMaterialError, error.strerror or "cannot be read")
    raise attempt.error(verdict)


def _lease(attempt: Attempt) -> Lease | None:
    endpoint = attempt.spec.endpoint
    if endpoint.transport is not Transport.LITE:
        return None
    try:
        return acquire(Path(endpoint.path or ""))
    except LiteError as error:
        verdict = Verdict(EmbeddedServerError, error.reason, remedy=error.remedy)
    raise attempt.error(verdict)
