"""The one seam where a failed call becomes an error of ours: cause, origin and remedy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import grpc

from zconfig.channel.messages import Status
from zconfig.channel.milvus import StatusError
from zconfig.channel.wire import WireError
from zconfig.diagnosis import (
    PROXY_VARIABLES,
    ProbeTarget,
    Surroundings,
    Verdict,
    diagnose,
    hint,
    proxy_in_force,
    status_verdict,
)
from zconfig.diagnosis.verdict import StageError
from zconfig.endpoint import Endpoint, Transport
from zconfig.errors import ConnectError, OtherServiceError
from zconfig.origin import Origin
from zconfig.redaction import Masker
from zconfig.sources.process import process_environment
from zconfig.spec import ConnectionSpec
from zconfig.topology import Follower

T = TypeVar("T")
Failure = grpc.RpcError | StatusError | WireError

FAILURES = (grpc.RpcError, StatusError, WireError)
"""What a call fails of."""

_ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"

# What gRPC reads itself where a field is not set.
_STAND_INS = {"proxy": PROXY_VARIABLES, "tls_ca": (_ROOTS_VARIABLE,)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at something, with a deadline.

    Args:
        spec: The connection it is for.
        started: The monotonic instant at which the whole undertaking began.
        deadline: The monotonic instant at which this try must have ended.
        number: Which try it is, from 1.
        embedded: Where the embedded server listens, once it runs; `None` for any other.
        dialed: The member of a global cluster that is dialed; `None` for any other.
    """

    spec: ConnectionSpec
    started: float
    deadline: float
    number: int = 1
    embedded: str | None = None
    dialed: Endpoint | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; never quite nothing, which gRPC refuses."""
        return max(self.deadline - time.monotonic(), 0.001)

    def primary(self, follower: Follower) -> Endpoint:
        """Return the endpoint of a global cluster's primary.

        Raises:
            ConnectError: It cannot be told.
        """
        try:
            return follower.primary(self.deadline)
        except StageError as failed:
            error, detail, field = failed.error, failed.detail, failed.field
        seen = hint(error, probe_target(self.spec), self._surroundings())
        raise self.error(Verdict(error, detail, hint=seen, field=field))

    def run(self, call: Callable[[float], T]) -> T:
        """Make a call.

        Args:
            call: Makes it within the seconds it is given; raises `grpc.RpcError`,
                `StatusError` or `WireError` when it fails.

        Raises:
            ConnectError: Its class names the cause.
        """
        try:
            return call(self.left_s)
        except FAILURES as error:
            failure = self.explain(error)
        # Outside the `except`: a chained gRPC error would repeat in its own words, at length,
        # what the verdict says.
        raise failure

    def explain(self, failure: Failure) -> ConnectError:
        """Return the error of what a call failed of; a probe may take until the deadline."""
        if isinstance(failure, StatusError):
            return self.error(self._judge(failure.status))
        if isinstance(failure, WireError):
            return self.error(Verdict(OtherServiceError, str(failure)))
        return self.error(self._diagnose(failure.code(), self._mask(failure.details() or "")))

    def error(self, verdict: Verdict) -> ConnectError:
        """Return the error of a verdict, with all that is known of this attempt."""
        return verdict.error(
            self.spec.alias,
            endpoint=str(self.spec.endpoint),
            origin=str(_origin(self.spec, verdict)),
            detail=verdict.detail,
            elapsed_ms=(time.monotonic() - self.started) * 1e3,
            attempts=self.number,
            hint=verdict.hint,
            remedy=verdict.remedy,
        )

    def _mask(self, text: str) -> str:
        """Take our credentials out of what a server or a proxy says: it may repeat them.

        As it comes in: what is cut short later could not be recognised any more.
        """
        return Masker(lambda: self.spec.secrets).mask(text)

    def _diagnose(self, code: grpc.StatusCode, details: str) -> Verdict:
        target, surroundings = self._target(), self._surroundings()
        return diagnose(code, details, target, deadline=self.deadline, surroundings=surroundings)

    def _judge(self, status: Status) -> Verdict:
        target, surroundings = self._target(), self._surroundings()
        return status_verdict(
            status.code, self._mask(status.reason), target, surroundings=surroundings
        )

    def _target(self) -> ProbeTarget:
        endpoint = self.dialed or self.spec.endpoint
        return probe_target(replace(self.spec, endpoint=endpoint), self.embedded)

    def _surroundings(self) -> Surroundings:
        environ = process_environment()
        # An embedded server is on loopback wherever it runs; in a container too, that is right.
        return Surroundings(environ) if self.embedded else Surroundings.detect(environ)


def probe_target(spec: ConnectionSpec, embedded: str | None = None) -> ProbeTarget:
    """Return what a diagnosis has to know of a connection.

    Args:
        spec: The connection's specification.
        embedded: Where its embedded server listens, e.g. `127.0.0.1:41083`.
    """
    endpoint, tls = spec.endpoint, spec.tls
    host, port = endpoint.host or "", endpoint.port or 0
    roots = None if tls.ca or not endpoint.secure else _roots_of_grpc()
    if embedded:
        host, _, digits = embedded.rpartition(":")
        port = int(digits)
    return ProbeTarget(
        host=host,
        port=port,
        secure=endpoint.secure,
        ca=tls.ca or roots,
        ca_from=_ROOTS_VARIABLE if roots else "TLS_CA",
        cert=tls.cert,
        key=tls.key,
        server_name=tls.server_name,
        unix_path=endpoint.path if endpoint.transport is Transport.UNIX else None,
        has_credentials=spec.credentials is not None,
        via_proxy=None if embedded else proxy_in_force(host, process_environment(), spec.proxy),
    )


def _roots_of_grpc() -> str | None:
    """Return the file of authorities that gRPC was told of; it passes over one that is missing."""
    path = process_environment().get(_ROOTS_VARIABLE)
    return path if path and os.access(path, os.R_OK) else None


def _origin(spec: ConnectionSpec, verdict: Verdict) -> Origin:
    """Return where the value at fault was set, by us or in a variable of gRPC's own."""
    fields = (verdict.field,) if verdict.field else verdict.error.at_fault
    unset = (name for name in fields if name not in spec.origins)
    stand_ins = (variable for name in unset for variable in _STAND_INS.get(name, ()))
    found = next(filter(process_environment().get, stand_ins), None)
    return Origin("environment", found) if found else spec.origin(*fields)
