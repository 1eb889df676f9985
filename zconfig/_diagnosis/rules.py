"""The rules, in order: what the server or a gateway said, then the probe, then gRPC's words."""

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
# With what a busy machine adds, a connect goes a quarter of a second over its deadline at most.
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
# Whoever intercepts the connection can refuse TLS, too: http:// would send them the credentials.
_TLS_REMEDY = "let the server serve TLS, or correct the host and port in {uri}"

_Cause = type[ConnectError]
_Rules = tuple[tuple[str, _Cause], ...]

# Said by the far end of a connection that works; the first that fits counts. A gateway's 429 and
# 502 to 504 pass, and gRPC calls them UNAVAILABLE. An answer of 200 without gRPC is a stream with a
# data frame at its end; up to 1.74 the same words stand for a connection that broke. Zilliz Cloud
# puts a stopped cluster into an UNAUTHENTICATED or an UNKNOWN: milvus-io/milvus#31910.
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

# Any other status came over a connection that works: there is nothing for a probe to find.
# A server that goes away in the middle of a call may leave it cancelled.
_PROBED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)

_RAN_OUT_OF_TIME = frozenset({NameTimeoutError, ConnectTimeoutError, ServerSilentError})

# gRPC's own words, from 1.60 to 1.85, the most specific first.
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

# What gRPC says before what it has to say, which would be cut short otherwise.
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
    """Find the cause of a failed call of `Connect`, or of `GetVersion` after it.

    Blocks for a second at most, and ends a quarter of one after the deadline at the latest.

    Args:
        code: The status of the call.
        details: The status' text.
        target: Where it went.
        deadline: The monotonic instant the connect has to be done at.
        host_environment: What the process runs in, for the hint.
    """
    error, seen = _from_status(code, details, target) or _probed(code, details, target, deadline)
    seen_by_us = _hint(error, details, target, host_environment)
    return Diagnosis(error, evidence(seen), seen_by_us, remedy_for(error, seen, target))


def remedy_for(error: type[ConnectError], seen: str, target: ProbeTarget) -> str:
    """Return what to do about an error of this target, where it is another than the error's own.

    Args:
        error: The cause found.
        seen: What was seen of it.
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
        reason: Its text.
        target: Where the call went.
        host_environment: What the process runs in, for the hint.

    Example:
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
    """Return what the far end itself said was wrong, or `None` if it was not reached."""
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
    """Return what a probe finds, or else what gRPC's words mean."""
    last = stages(target, min(time.monotonic() + _BUDGET_S, deadline + _GRACE_S))[-1]
    timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED
    if last.error is None and timed_out:
        return ServerSilentError, f"{last.detail}, the call got no answer"
    words = _first(_WORDS, details)
    # That the probe ran out of time says little about a call that failed before its own end.
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
        return "they were sent: something between may drop the authorization header"
    return hint(error, target, host_environment)
