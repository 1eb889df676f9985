"""Probe a connection in stages: TLS files, DNS, TCP, TLS, HTTP/2."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from zconfig._diagnosis.model import StageError
from zconfig._diagnosis.network import Address, Stream, open_stream, resolve_target, unix_address
from zconfig._diagnosis.tls import (
    TLSStream,
    Validity,
    is_signed_with_md5,
    start_tls,
    tls_failure,
    validity,
)
from zconfig._diagnosis.tls_files import client_context, unverified_context
from zconfig._redaction import Secret, evidence
from zconfig._sources.environment import process_environment
from zconfig._sources.pem import default_authorities
from zconfig._value import Value, value
from zconfig.errors import (
    ClientCertificateError,
    ClosedByPeerError,
    ConnectError,
    ExpiredCertificateError,
    HostnameMismatchError,
    NotHTTP2Error,
    PlaintextServerError,
    ServerSilentError,
    Stage,
    TLSError,
    TLSServerError,
    UntrustedCertificateError,
)

if TYPE_CHECKING:
    from zconfig._diagnosis.model import ProbeTarget


# RFC 9113: the client's preface is this text and a SETTINGS frame, here an empty one; a frame
# starts with three bytes of length and one of type.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_FRAME_HEADER = 9
_SETTINGS = 4
_TLS_ALERT = b"\x15"


class Ending(StrEnum):
    """How a peer ended a connection on which it sent nothing."""

    CLOSED = "closed"
    RESET = "reset"


def exchange_preface(stream: Stream | TLSStream) -> Ending | None:
    """Send the HTTP/2 preface, and read the SETTINGS of the server.

    Args:
        stream: A connection, with or without TLS.

    Returns:
        `None` if the server sent SETTINGS, or how it ended the connection without an answer.

    Raises:
        StageError: The server did not answer, or answered with another protocol.
    """
    answer, ending = _exchange(stream)
    if answer.startswith(_TLS_ALERT):
        raise StageError(TLSServerError, "the server answered with a TLS alert")
    if len(answer) == _FRAME_HEADER and answer[3] == _SETTINGS:
        return None
    if answer:
        seen = "HTTP/1" if answer.startswith(b"HTTP/1") else "bytes of another protocol"
        raise StageError(NotHTTP2Error, f"the server answered with {seen}")
    return ending


def _exchange(stream: Stream | TLSStream) -> tuple[bytes, Ending]:
    """Send the preface; return the header of the first frame, or the bytes sent instead."""
    # A server that closes before the preface is sent may have sent a reason: read it.
    with contextlib.suppress(OSError):
        stream.send(_PREFACE)
    answer = b""
    try:
        while len(answer) < _FRAME_HEADER and (more := stream.receive(_FRAME_HEADER - len(answer))):
            answer += more
    except TimeoutError:
        if not answer:
            raise StageError(ServerSilentError, "no answer to the HTTP/2 preface") from None
    except ssl.SSLError as error:
        raise tls_failure(error) from None
    except ConnectionError:
        return answer, Ending.RESET
    return answer, Ending.CLOSED


# The errors of a handshake with a server that uses TLS, but rejects this client.
_TLS_SPOKEN = frozenset({ClientCertificateError, HostnameMismatchError, NotHTTP2Error, TLSError})


class Seen(NamedTuple):
    """The evidence of a step that succeeded."""

    detail: str
    certificate: Validity | None = None


Step = Callable[[], Seen]
"""Takes one step of the probe; raises `StageError` if it fails."""


class Probe:
    """The steps to one target; each step uses the results of the previous one.

    Args:
        target: The target.
        end: The deadline, in monotonic seconds.
    """

    _addresses: tuple[Address, ...]
    _context: ssl.SSLContext
    _stream: Stream
    _line: Stream | TLSStream

    def __init__(self, target: ProbeTarget, end: float) -> None:
        self._target = target
        self._end = end
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        """Close every connection of the probe."""
        self._opened.close()

    def steps(self) -> Iterator[tuple[Stage, Step]]:
        """Yield the stages that apply to this target."""
        if self._target.secure:
            yield Stage.MATERIAL, self.load
        if self._target.unix_path is None:
            yield Stage.DNS, self.resolve_host
        yield Stage.TCP, self.connect
        if self._target.secure:
            yield Stage.TLS, self.shake_hands
        yield Stage.HTTP2, self.exchange_preface

    def load(self) -> Seen:
        """Load the TLS files."""
        self._context = client_context(self._target)
        target = self._target
        files = (("TLS_CA", target.ca), ("TLS_CERT", target.cert), ("TLS_KEY", target.key))
        given = [f"{name} {path}" for name, path in files if path]
        default = [] if target.ca else [str(default_authorities(process_environment()))]
        return Seen(", ".join([*default, *given]))

    def resolve_host(self) -> Seen:
        """Resolve the addresses of the host, or of the proxy."""
        self._addresses = resolve_target(self._target, self._end)
        whose = "" if self._target.via_proxy is None else "the proxy's: "
        return Seen(whose + ", ".join(map(str, self._addresses)))

    def connect(self) -> Seen:
        """Open a connection, through the proxy if one is used."""
        if self._target.unix_path is not None:
            self._addresses = (unix_address(self._target.unix_path),)
        address, self._stream = self._dial()
        self._line = self._stream
        if self._target.via_proxy is None:
            return Seen(str(address))
        return Seen(f"{address}, a proxy tunnel to {self._target.authority}")

    def shake_hands(self) -> Seen:
        """Do the TLS handshake, and verify the certificate."""
        try:
            tls = start_tls(self._stream, self._context, self._target.certified_name)
        except StageError as failed:
            raise self._refined(failed) from None
        self._line = tls
        if not tls.speaks_http2:
            raise StageError(NotHTTP2Error, "the server does not offer h2 in the TLS handshake")
        if is_signed_with_md5(tls.certificate):
            raise StageError(UntrustedCertificateError, "signed with MD5, which gRPC rejects")
        valid = validity(tls.certificate)
        until = f"until {valid.end:%Y-%m-%d} " if valid else ""
        return Seen(f"{tls.version}, certificate {until}for {tls.names}", valid)

    def exchange_preface(self) -> Seen:
        """Exchange the HTTP/2 preface."""
        ending = exchange_preface(self._line)
        if ending is None:
            return Seen("the server speaks HTTP/2")
        if self._target.secure:
            seen = f"{ending} after the TLS handshake: the server may require a client certificate"
            raise StageError(ClosedByPeerError, seen)
        if self._takes_tls():
            raise StageError(TLSServerError, f"{ending}, but accepted a TLS handshake")
        raise StageError(ClosedByPeerError, f"{ending} after the TCP handshake")

    def _dial(self) -> tuple[Address, Stream]:
        return open_stream(self._target, self._addresses, self._end, self._opened)

    def _refined(self, failed: StageError) -> StageError:
        """Refine the failure of a handshake by means of a second connection."""
        if failed.error is ClosedByPeerError and self._takes_plaintext():
            return StageError(PlaintextServerError, "closed, but answered HTTP/2 without TLS")
        with contextlib.suppress(StageError):
            if failed.error is HostnameMismatchError:
                return StageError(failed.error, f"the certificate is for {self._certified_names()}")
            if failed.error is ExpiredCertificateError:
                valid = validity(self._again(unverified_context()).certificate)
                seen = f"{failed.detail}: the server's is {valid}" if valid else failed.detail
                return StageError(failed.error, seen)
        return failed

    def _takes_tls(self) -> bool:
        try:
            self._again(unverified_context())
        except StageError as failed:
            # An alert also shows that the server uses TLS.
            return failed.error in _TLS_SPOKEN
        return True

    def _takes_plaintext(self) -> bool:
        try:
            _, stream = self._dial()
            return exchange_preface(stream) is None
        except StageError:
            return False

    def _certified_names(self) -> str:
        """Return the names on the certificate, which OpenSSL shows only after verifying it."""
        context = client_context(self._target)
        context.check_hostname = False
        return self._again(context).names

    def _again(self, context: ssl.SSLContext) -> TLSStream:
        """Return TLS over another connection."""
        _, stream = self._dial()
        return start_tls(stream, context, self._target.certified_name)


@value
class StageResult(Value):
    """The result of one stage of the probe.

    Args:
        stage: The stage.
        elapsed_ms: Duration in milliseconds.
        detail: The evidence, redacted.
        error: The error class of the failure, or `None`.
        certificate: The validity of the server's certificate, if one was received.
    """

    stage: Stage
    elapsed_ms: float
    detail: str
    error: type[ConnectError] | None = None
    certificate: Validity | None = None

    @property
    def ok(self) -> bool:
        """Whether the stage succeeded."""
        return self.error is None


def stages(target: ProbeTarget, deadline: float) -> tuple[StageResult, ...]:
    """Probe the stages of a connection until one fails; credentials are not sent.

    Args:
        target: The target.
        deadline: The deadline, in monotonic seconds.

    Returns:
        The results in order; all but the last one succeeded.
    """
    results: list[StageResult] = []
    with contextlib.closing(Probe(target, deadline)) as probe:
        for stage, step in probe.steps():
            results.append(_take(stage, step, target.secrets))
            if not results[-1].ok:
                break
    return _with_late_alert(*results)


def _take(stage: Stage, step: Step, secrets: Iterable[Secret]) -> StageResult:
    began = time.monotonic()
    error = None
    try:
        seen = step()
    except StageError as failed:
        error, seen = failed.error, Seen(failed.detail)
    elapsed_ms = (time.monotonic() - began) * 1e3
    return StageResult(stage, elapsed_ms, evidence(seen.detail, secrets), error, seen.certificate)


def _with_late_alert(*results: StageResult) -> tuple[StageResult, ...]:
    """Attribute an alert on the first read after the TLS handshake to the TLS stage.

    With TLS 1.3 the client completes the handshake before the server checks its certificate.
    """
    *before, last = results
    is_late = before and before[-1].stage is Stage.TLS
    if not (is_late and last.error and last.error.stage is Stage.TLS):
        return results
    shaken = before.pop()
    elapsed_ms = shaken.elapsed_ms + last.elapsed_ms
    failed = replace(shaken, error=last.error, detail=last.detail, elapsed_ms=elapsed_ms)
    return (*before, failed)
