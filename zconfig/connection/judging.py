"""What an attempt failed of → an error of ours: cause, origin and remedy."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc

from zconfig.channel.lite import LiteError, LiteLockedError
from zconfig.channel.messages import Status
from zconfig.channel.milvus import StatusError
from zconfig.channel.wire import WireError
from zconfig.connection.seam import error_of
from zconfig.diagnosis import (
    ProbeTarget,
    Surroundings,
    Verdict,
    check_material,
    diagnose,
    hint,
    remedy_for,
    status_verdict,
)
from zconfig.diagnosis.verdict import StageError
from zconfig.endpoint import PROXY_VARIABLES, Endpoint, Transport, proxy_in_force
from zconfig.errors import (
    ConnectError,
    EmbeddedServerError,
    EmbeddedServerLockedError,
    OtherServiceError,
    TLSMaterialError,
)
from zconfig.origin import Origin
from zconfig.redaction import Masker
from zconfig.sources.files import FileError
from zconfig.sources.pem import ROOTS_VARIABLE
from zconfig.sources.process import process_environment
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection.seam import Attempt, Failure
    from zconfig.topology import Follower

# What counts where a field is not set.
_STAND_INS = {"proxy": PROXY_VARIABLES, "tls_ca": (ROOTS_VARIABLE,)}


class Judge:
    """Finds the cause of what an attempt failed of.

    Args:
        attempt: What failed.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def primary(self, follower: Follower) -> Endpoint:
        """Return the endpoint of a global cluster's primary.

        Raises:
            ConnectError: It cannot be told.
        """
        try:
            return follower.primary(self._attempt.deadline)
        except StageError as failed:
            cause = failed
        target, kind = probe_target(self._attempt.spec), cause.error
        seen = hint(kind, target, self._surroundings())
        remedy = cause.remedy or remedy_for(kind, cause.detail, target)
        raise self.error(Verdict(kind, cause.detail, seen, remedy, cause.field))

    def explain(self, failure: Failure) -> ConnectError:
        """Return the error of what a call failed of; a probe may take until the deadline."""
        if isinstance(failure, StatusError):
            return self.error(self._judge_status(failure.status))
        if isinstance(failure, WireError):
            return self.error(Verdict(OtherServiceError, str(failure)))
        if isinstance(failure, LiteLockedError):
            return self.error(Verdict(EmbeddedServerLockedError))
        if isinstance(failure, LiteError):
            return self.error(Verdict(EmbeddedServerError, failure.reason, remedy=failure.remedy))
        if isinstance(failure, FileError):  # a TLS file that was readable a moment ago
            return self.error(Verdict(TLSMaterialError, failure.message, remedy=failure.remedy))
        return self.error(self._diagnose(failure.code(), self._mask(failure.details() or "")))

    def error(self, verdict: Verdict) -> ConnectError:
        """Return the error of a verdict, with all that is known of this attempt."""
        return error_of(
            verdict.error,
            self._attempt.spec,
            detail=verdict.detail,
            elapsed_ms=(time.monotonic() - self._attempt.started) * 1e3,
            attempts=self._attempt.number,
            origin=_origin(self._attempt.spec, verdict),
            hint=verdict.hint,
            remedy=verdict.remedy,
        )

    def check_material(self) -> None:
        """Make sure that the TLS files can be used.

        Raises:
            ConnectError: One cannot.
        """
        if verdict := check_material(probe_target(self._attempt.spec)):
            raise self.error(verdict)

    def _mask(self, text: str) -> str:
        """Take our credentials out of what a server or a proxy says: it may repeat them.

        As it comes in: what is cut short later could not be recognised any more.
        """
        return Masker(lambda: self._attempt.spec.secrets).mask(text)

    def _diagnose(self, code: grpc.StatusCode, details: str) -> Verdict:
        target, surroundings = self._target(), self._surroundings()
        return diagnose(
            code, details, target, deadline=self._attempt.deadline, surroundings=surroundings
        )

    def _judge_status(self, status: Status) -> Verdict:
        target, surroundings = self._target(), self._surroundings()
        return status_verdict(
            status.code, self._mask(status.reason), target, surroundings=surroundings
        )

    def _target(self) -> ProbeTarget:
        endpoint = self._attempt.dialed or self._attempt.spec.endpoint
        return probe_target(replace(self._attempt.spec, endpoint=endpoint), self._attempt.embedded)

    def _surroundings(self) -> Surroundings:
        environ = process_environment()
        # An embedded server is on loopback wherever it runs; in a container too, that is right.
        return Surroundings(environ) if self._attempt.embedded else Surroundings.detect(environ)


def probe_target(spec: ConnectionSpec, embedded: str | None = None) -> ProbeTarget:
    """Return what a diagnosis has to know of a connection.

    Args:
        spec: The connection's specification.
        embedded: Where its embedded server listens, e.g. `127.0.0.1:41083`.
    """
    endpoint, tls = spec.endpoint, spec.tls
    host, port = endpoint.host or "", endpoint.port or 0
    configured = spec.proxy.reveal() if spec.proxy else None
    if embedded:
        host, _, digits = embedded.rpartition(":")
        port = int(digits)
    return ProbeTarget(
        host=host,
        port=port,
        secure=endpoint.secure,
        ca=tls.ca,
        cert=tls.cert,
        key=tls.key,
        server_name=tls.server_name,
        unix_path=endpoint.path if endpoint.transport is Transport.UNIX else None,
        has_credentials=spec.credentials is not None,
        proxy=configured,
        via_proxy=None if embedded else proxy_in_force(host, process_environment(), configured),
    )


def _origin(spec: ConnectionSpec, verdict: Verdict) -> Origin:
    """Return where the value at fault was set, by us or in a variable of gRPC's own."""
    fields = (verdict.field,) if verdict.field else verdict.error.at_fault
    unset = (name for name in fields if name not in spec.origins)
    stand_ins = (variable for name in unset for variable in _STAND_INS.get(name, ()))
    found = next(filter(process_environment().get, stand_ins), None)
    return Origin("environment", found) if found else spec.origin(*fields)
