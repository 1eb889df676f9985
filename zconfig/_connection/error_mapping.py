"""A failed call → the error that names its cause, its origin and a remedy."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import grpc

from zconfig._channel.lite import LiteError, LiteLockedError
from zconfig._channel.messages import ResponseStatus, WireError
from zconfig._channel.milvus import StatusError
from zconfig._diagnosis import (
    Diagnosis,
    HostEnvironment,
    ProbeTarget,
    check_material,
    diagnose,
    hint,
    remedy_for,
    status_verdict,
)
from zconfig._diagnosis.model import StageError
from zconfig._endpoint import PROXY_VARIABLES, Endpoint, TransportType, proxy_in_force
from zconfig._origin import Origin
from zconfig._redaction import Masker
from zconfig._settings.validation import tls_remedy
from zconfig._sources.environment import process_environment
from zconfig._sources.files import FileError
from zconfig._sources.pem import ROOTS_VARIABLE
from zconfig._spec import ConnectionSpec
from zconfig.errors import (
    ConnectError,
    EmbeddedServerError,
    EmbeddedServerLockedError,
    HostnameMismatchError,
    OtherServiceError,
    PlaintextServerError,
    ServerSilentError,
    TLSMaterialError,
    TLSServerError,
    with_names,
)

if TYPE_CHECKING:
    from zconfig._topology import TopologyCache

Failure = grpc.RpcError | StatusError | WireError | LiteError | FileError


def error_of(  # noqa: PLR0913 - an error has many attributes
    kind: type[ConnectError],
    spec: ConnectionSpec,
    *,
    detail: str = "",
    elapsed_ms: float = 0.0,
    attempts: int = 1,
    origin: Origin | None = None,
    hint: str = "",
    remedy: str = "",
) -> ConnectError:
    """Return an error of a connection; its remedy and hint name the settings of the alias.

    Args:
        kind: The class of the error.
        spec: The connection's specification.
        detail: The observed failure, redacted.
        elapsed_ms: Milliseconds since the start of the connect.
        attempts: The number of attempts.
        origin: The origin of the value at fault; by default of the settings in `kind.at_fault`.
        hint: An observation. `{field}` in it and in the remedy is replaced by the name of a
            setting. The configuration's warnings about the settings in `kind.at_fault` are added.
        remedy: One action; by default the remedy of the class.
    """
    hints = spec.hints_about(*kind.at_fault)
    return kind(
        spec.alias,
        endpoint=str(spec.endpoint),
        origin=str(origin or spec.origin(*kind.at_fault)),
        detail=detail,
        elapsed_ms=elapsed_ms,
        attempts=attempts,
        hint="; ".join(filter(None, (with_names(hint, spec.name_of), *hints))),
        remedy=with_names(remedy or _remedy_in_code(kind, spec) or kind.remedy, spec.name_of),
    )


def _remedy_in_code(kind: type[ConnectError], spec: ConnectionSpec) -> str:
    """Return the remedy for an endpoint that was passed in code, where `secure` sets TLS."""
    origin = spec.origins.get("uri")
    if origin is None or origin.source != "code" or origin.key == "settings.uri":
        return ""
    by_uri = origin.key == "uri"
    if kind is PlaintextServerError:
        return f"{kind.remedy}, and leave out secure" if by_uri else "leave out secure"
    if kind is TLSServerError:
        return tls_remedy(origin)
    if kind is HostnameMismatchError and origin.key in {"host and port", "port"}:
        return kind.remedy.replace("{uri}", "the parameter host")
    return ""


# Variables that gRPC reads itself if a field is unset.
_STAND_INS = {"proxy": PROXY_VARIABLES, "tls_ca": (ROOTS_VARIABLE,)}


class ErrorMapper(NamedTuple):
    """Diagnoses a failed attempt; its fields are those of `Attempt`."""

    spec: ConnectionSpec
    started: float
    deadline: float
    number: int
    embedded: str | None
    dialed: Endpoint | None

    def primary(self, topology_cache: TopologyCache) -> Endpoint:
        """Return the endpoint of a global cluster's primary.

        Raises:
            ConnectError: The topology is unavailable.
        """
        try:
            return topology_cache.primary(self.deadline)
        except StageError as failed:
            cause = failed
        target, kind = probe_target(self.spec), cause.error
        seen = hint(kind, target, self._host_environment())
        remedy = cause.remedy or remedy_for(kind, cause.detail, target)
        raise self.error(Diagnosis(kind, cause.detail, seen, remedy, cause.field))

    def timed_out(self, detail: str) -> ConnectError:
        """Return the error of a caller whose deadline passed while another one connected."""
        return self.error(Diagnosis(ServerSilentError, detail))

    def explain(self, failure: Failure) -> ConnectError:
        """Return the error of a failed call; a probe may take until the deadline."""
        if isinstance(failure, StatusError):
            return self.error(self._judge_status(failure.status))
        if isinstance(failure, WireError):
            return self.error(Diagnosis(OtherServiceError, str(failure)))
        if isinstance(failure, LiteLockedError):
            return self.error(Diagnosis(EmbeddedServerLockedError))
        if isinstance(failure, LiteError):
            return self.error(Diagnosis(EmbeddedServerError, failure.reason, remedy=failure.remedy))
        if isinstance(failure, FileError):  # a TLS file that was readable before
            reason = failure.reason
            return self.error(Diagnosis(TLSMaterialError, reason.message, remedy=reason.remedy))
        return self.error(self._diagnose(failure.code(), self._mask(failure.details() or "")))

    def error(self, diagnosis: Diagnosis) -> ConnectError:
        """Return the error of a diagnosis, with the facts of this attempt."""
        return error_of(
            diagnosis.error,
            self.spec,
            detail=diagnosis.detail,
            elapsed_ms=(time.monotonic() - self.started) * 1e3,
            attempts=self.number,
            origin=_origin(self.spec, diagnosis),
            hint=diagnosis.hint,
            remedy=diagnosis.remedy,
        )

    def check_material(self) -> None:
        """Check the TLS files.

        Raises:
            ConnectError: A file cannot be used.
        """
        if diagnosis := check_material(probe_target(self.spec)):
            raise self.error(diagnosis)

    def _mask(self, text: str) -> str:
        """Mask the credentials in a text of a server or proxy, which may contain them.

        The text must not be truncated before: a part of a secret would not be recognized.
        """
        return Masker(lambda: self.spec.secrets).mask(text)

    def _diagnose(self, code: grpc.StatusCode, details: str) -> Diagnosis:
        target, host_environment = self._target(), self._host_environment()
        return diagnose(
            code,
            details,
            target,
            deadline=self.deadline,
            host_environment=host_environment,
        )

    def _judge_status(self, status: ResponseStatus) -> Diagnosis:
        target, host_environment = self._target(), self._host_environment()
        return status_verdict(
            status.code, self._mask(status.reason), target, host_environment=host_environment
        )

    def _target(self) -> ProbeTarget:
        endpoint = self.dialed or self.spec.endpoint
        return probe_target(replace(self.spec, endpoint=endpoint), self.embedded)

    def _host_environment(self) -> HostEnvironment:
        environ = process_environment()
        # An embedded server is on loopback, so hints about containers and localhost do not apply.
        return HostEnvironment(environ) if self.embedded else HostEnvironment.detect(environ)


def probe_target(spec: ConnectionSpec, embedded: str | None = None) -> ProbeTarget:
    """Return the target of a diagnosis.

    Args:
        spec: The connection's specification.
        embedded: The address of the embedded server, e.g. `127.0.0.1:41083`.
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
        unix_path=endpoint.path if endpoint.transport is TransportType.UNIX else None,
        has_credentials=spec.credentials is not None,
        secrets=spec.secrets,
        proxy=configured,
        via_proxy=None if embedded else proxy_in_force(host, process_environment(), configured),
    )


def _origin(spec: ConnectionSpec, diagnosis: Diagnosis) -> Origin:
    """Return the origin of the value at fault: a setting, or a variable that gRPC reads."""
    fields = (diagnosis.field,) if diagnosis.field else diagnosis.error.at_fault
    unset = (name for name in fields if name not in spec.origins)
    stand_ins = (variable for name in unset for variable in _STAND_INS.get(name, ()))
    found = next(filter(process_environment().get, stand_ins), None)
    return Origin("environment", found) if found else spec.origin(*fields)
