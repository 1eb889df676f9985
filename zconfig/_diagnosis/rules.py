"""Rules for the cause: messages of the server or a gateway, then the probe, then gRPC's text."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import grpc

from zconfig._diagnosis.hints import HostEnvironment, hint
from zconfig._diagnosis.model import Diagnosis
from zconfig._diagnosis.probe import stages
from zconfig._diagnosis.tls import NAMELESS
from zconfig._redaction import evidence
from zconfig.errors import (
    ClientCertificateError,
    ClosedByPeerError,
    ClusterStoppedError,
    ConnectError,
    ConnectTimeoutError,
    DatabaseMissingError,
    ExpiredCertificateError,
    HostnameMismatchError,
    HostUnreachableError,
    MissingCredentialsError,
    NameNotFoundError,
    NameServerError,
    NameTimeoutError,
    NotGRPCError,
    NotHTTP2Error,
    NotPermittedError,
    OtherServiceError,
    PlaintextServerError,
    ProxyAuthenticationError,
    ProxyError,
    RefusedError,
    RejectedCredentialsError,
    ServerNotReadyError,
    ServerSilentError,
    TLSMaterialError,
    UnexplainedError,
    UntrustedCertificateError,
)

if TYPE_CHECKING:
    from zconfig._diagnosis.model import ProbeTarget

_BUDGET_S = 1.0
# On a busy machine, a connect then exceeds its deadline by a quarter of a second at most.
_GRACE_S = 0.2
_NO_SURROUNDINGS = HostEnvironment()
_SOCKET_REMEDY = "start the server, or correct the path in {uri}"
_CA_REMEDY = (
    "add to {tls_ca} the authority that signed it, or the intermediate certificate "
    "that the server does not send"
)
_WEAK_REMEDY = "renew it on the server, signed with SHA-256 and with a key of 2048 bits or more"
_NAMELESS_REMEDY = "renew it on the server, with the name of the host in its subjectAltName"
_NAME_REMEDY = "set {tls_server_name} to a name of the certificate"
# An attacker in the middle can reject TLS, too: with http:// they would receive the credentials.
_TLS_REMEDY = "enable TLS on the server, or correct the host and port in {uri}"

_Cause = type[ConnectError]
_Rules = tuple[tuple[str, _Cause], ...]

# Messages received over a working connection; the first match is used. A gateway's 429 and 502 to
# 504 are transient, and gRPC reports them as UNAVAILABLE. A response of 200 without gRPC is a
# stream that ends in a data frame; up to 1.74 the same text means a broken connection. Zilliz Cloud
# reports a stopped cluster as UNAUTHENTICATED or UNKNOWN: milvus-io/milvus#31910.
_SERVER_MESSAGES: _Rules = (
    (r"Received http2 header with status: (429|50[234])", ServerNotReadyError),
    (r"Received http2 header with status", NotGRPCError),
    (r"Stream removed \(Data frame", NotGRPCError),
    (r"^Stream removed$", ClosedByPeerError),
    (r"HTTP proxy returned response code 407", ProxyAuthenticationError),
    (r"HTTP proxy returned response code", ProxyError),
    (r"under current cluster status STOPPED", ClusterStoppedError),
    (r"under current cluster status", ServerNotReadyError),
    (r"(?i)not ready|not healthy|service unavailable", ServerNotReadyError),
)

_BY_CODE: dict[grpc.StatusCode, _Cause] = {
    grpc.StatusCode.PERMISSION_DENIED: NotPermittedError,
    grpc.StatusCode.UNIMPLEMENTED: OtherServiceError,
}

# Any other status was received over a working connection, so that a probe would find nothing.
# A server that stops during a call may leave it cancelled.
_PROBED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)

_RAN_OUT_OF_TIME = frozenset({NameTimeoutError, ConnectTimeoutError, ServerSilentError})

# Texts of gRPC 1.60 to 1.85, the most specific first.
_WORDS: _Rules = (
    (r"CERTIFICATE_VERIFY_FAILED.*(expired|not yet valid)", ExpiredCertificateError),
    (r"CERTIFICATE_VERIFY_FAILED", UntrustedCertificateError),
    (r"Hostname Verification|not in peer certificate", HostnameMismatchError),
    (r"WRONG_VERSION_NUMBER", PlaintextServerError),
    (r"missing selected ALPN", NotHTTP2Error),
    (r"security handshaker|empty address list", TLSMaterialError),
    (
        r"Unwrap failed|Secure read failed|CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA",
        ClientCertificateError,
    ),
    (r"Domain name not found", NameNotFoundError),
    (r"DNS resolution failed|errors resolving|lookup failed", NameServerError),
    (r"Connection refused", RefusedError),
    (r"Failed parsing HTTP/2|http2 preface", NotHTTP2Error),
    (r"No route to host|Network is unreachable", HostUnreachableError),
    (r"Connection reset|Socket closed|Broken pipe|EOF", ClosedByPeerError),
)

# gRPC's introduction, without which more of its actual message fits into the evidence.
_PREAMBLE = re.compile(r"failed to connect to all addresses; last error: (?:[A-Z_]+: )?")

# Milvus' `merr` codes, from 2.3 on: pkg/util/merr/errors.go.
_STATUS_CODES: dict[int, _Cause] = {
    1: ServerNotReadyError,
    2: ServerNotReadyError,
    800: DatabaseMissingError,
    1401: NotPermittedError,
}
_NOT_AUTHENTICATED = 1400


def diagnose(
    code: grpc.StatusCode,
    details: str,
    target: ProbeTarget,
    *,
    deadline: float,
    host_environment: HostEnvironment = _NO_SURROUNDINGS,
) -> Diagnosis:
    """Find the cause of a failed `Connect` call, or of the `GetVersion` call after it.

    Blocks for one second at most, and returns at most a quarter of a second after the deadline.

    Args:
        code: The status of the call.
        details: The details of the status.
        target: The target of the call.
        deadline: The deadline of the connect, in monotonic seconds.
        host_environment: The environment that the process runs in, for the hint.
    """
    error, seen = _from_status(code, details, target) or _probed(code, details, target, deadline)
    seen_by_us = _hint(error, details, target, host_environment)
    return Diagnosis(error, evidence(seen), seen_by_us, remedy_for(error, seen, target))


def remedy_for(error: type[ConnectError], seen: str, target: ProbeTarget) -> str:
    """Return the remedy of an error for this target; empty if the error class' own applies.

    Args:
        error: The error class of the cause.
        seen: The evidence.
        target: The connection that failed.
    """
    if error is UntrustedCertificateError:
        weak = re.search("MD5|too weak", seen)
        return _WEAK_REMEDY if weak else _CA_REMEDY if target.ca else ""
    if error is HostnameMismatchError:
        nameless = seen.endswith(f"for {NAMELESS}")
        return _NAMELESS_REMEDY if nameless else _NAME_REMEDY if target.server_name else ""
    if error is RefusedError and target.unix_path:
        return _SOCKET_REMEDY
    is_exposed = target.has_credentials and not target.is_loopback
    return _TLS_REMEDY if error is PlaintextServerError and is_exposed else ""


def status_verdict(
    status_code: int,
    reason: str,
    target: ProbeTarget,
    *,
    host_environment: HostEnvironment = _NO_SURROUNDINGS,
) -> Diagnosis:
    """Find the cause of a failure that Milvus reports in the status of a response.

    Args:
        status_code: The `code` of the status, not the older `error_code`.
        reason: The `reason` of the status.
        target: The target of the call.
        host_environment: The environment that the process runs in, for the hint.

    Examples:
        >>> from zconfig._diagnosis.model import ProbeTarget
        >>> verdict = status_verdict(800, "database not found", ProbeTarget("db", 19530))
        >>> verdict.error.__name__, verdict.detail
        ('DatabaseMissingError', '800: database not found')
    """
    if status_code == _NOT_AUTHENTICATED:
        error: _Cause = _credentials_error(target)
    else:
        error = (
            _STATUS_CODES.get(status_code) or _first(_SERVER_MESSAGES, reason) or UnexplainedError
        )
    seen = evidence(f"{status_code}: {reason}")
    return Diagnosis(error, seen, _hint(error, reason, target, host_environment))


def _from_status(
    code: grpc.StatusCode, details: str, target: ProbeTarget
) -> tuple[_Cause, str] | None:
    """Return the cause that the server itself reported, or `None` if it was not reached."""
    said = f"{code.name}: {details}"
    if cause := _first(_SERVER_MESSAGES, details):
        return cause, said
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return _credentials_error(target), said
    if code in _PROBED:
        return None
    return _BY_CODE.get(code, UnexplainedError), said


def _probed(
    code: grpc.StatusCode, details: str, target: ProbeTarget, deadline: float
) -> tuple[_Cause, str]:
    """Return the cause that a probe finds, or else the one that gRPC's text indicates."""
    last = stages(target, min(time.monotonic() + _BUDGET_S, deadline + _GRACE_S))[-1]
    timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED
    if last.error is None and timed_out:
        return ServerSilentError, f"{last.detail}, but the call received no answer"
    words = _first(_WORDS, details)
    # A timeout of the probe does not explain a call that failed before its own timeout.
    if last.error is None or (words and not timed_out and last.error in _RAN_OUT_OF_TIME):
        return words or UnexplainedError, f"{code.name}: {_PREAMBLE.sub('', details)}"
    return last.error, last.detail


def _first(rules: _Rules, text: str) -> _Cause | None:
    causes = (cause for pattern, cause in rules if re.search(pattern, text, re.DOTALL))
    return next(causes, None)


def _credentials_error(target: ProbeTarget) -> _Cause:
    return RejectedCredentialsError if target.has_credentials else MissingCredentialsError


def _hint(
    error: _Cause, details: str, target: ProbeTarget, host_environment: HostEnvironment
) -> str:
    if error is RejectedCredentialsError and "missing authorization" in details:
        return "credentials were sent: a proxy or gateway may have removed the authorization header"
    return hint(error, target, host_environment)
