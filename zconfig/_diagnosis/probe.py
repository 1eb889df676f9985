"""The first words of HTTP/2, and what comes back instead."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
from zconfig._redaction import evidence
from zconfig._sources.environment import process_environment
from zconfig._sources.pem import default_authorities
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
    """How a peer left that said nothing."""

    CLOSED = "closed"
    RESET = "reset"


def exchange_preface(stream: Stream | TLSStream) -> Ending | None:
    """Send the preface; a server of HTTP/2 answers it with its SETTINGS.

    Args:
        stream: A connection, with or without TLS.

    Returns:
        `None` if it does, or how the peer left without a word.

    Raises:
        StageError: If it is silent, or answers with anything else.
    """
    answer, ending = _exchange(stream)
    if answer.startswith(_TLS_ALERT):
        raise StageError(TLSServerError, "a TLS alert came back")
    if len(answer) == _FRAME_HEADER and answer[3] == _SETTINGS:
        return None
    if answer:
        seen = "HTTP/1" if answer.startswith(b"HTTP/1") else "bytes of another protocol"
        raise StageError(NotHTTP2Error, f"the server answered with {seen}")
    return ending


def _exchange(stream: Stream | TLSStream) -> tuple[bytes, Ending]:
    """Send the preface; return the first frame's header, or what came instead, and the end."""
    # Whoever hangs up before we have written may have said why: read in any case.
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


# What comes of a handshake with a peer that speaks TLS, and does not like ours.
_TLS_SPOKEN = frozenset({ClientCertificateError, HostnameMismatchError, NotHTTP2Error, TLSError})


class Seen(NamedTuple):
    """What a step saw when it went well."""

    detail: str
    certificate: Validity | None = None


Step = Callable[[], Seen]
"""Goes one step of the way; raises `StageError` where it ends."""


class Probe:
    """One way to one target; each step uses what the one before has found.

    Args:
        target: Where to.
        end: The monotonic instant to stop at.
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
        """Close every connection that it opened."""
        self._opened.close()

    def steps(self) -> Iterator[tuple[Stage, Step]]:
        """Yield the stages that this target has."""
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
        """Find the addresses of the host, or of the proxy."""
        self._addresses = resolve_target(self._target, self._end)
        whose = "" if self._target.via_proxy is None else "the proxy's: "
        return Seen(whose + ", ".join(map(str, self._addresses)))

    def connect(self) -> Seen:
        """Open a connection, through the proxy if there is one."""
        if self._target.unix_path is not None:
            self._addresses = (unix_address(self._target.unix_path),)
        address, self._stream = self._dial()
        self._line = self._stream
        if self._target.via_proxy is None:
            return Seen(str(address))
        return Seen(f"{address}, a proxy's tunnel to {self._target.authority}")

    def shake_hands(self) -> Seen:
        """Shake hands over TLS, and verify the certificate."""
        try:
            tls = start_tls(self._stream, self._context, self._target.certified_name)
        except StageError as failed:
            raise self._refined(failed) from None
        self._line = tls
        if not tls.speaks_http2:
            raise StageError(NotHTTP2Error, "the server does not offer h2 in the TLS handshake")
        if is_signed_with_md5(tls.certificate):
            raise StageError(UntrustedCertificateError, "signed with MD5, which gRPC refuses")
        valid = validity(tls.certificate)
        until = f"until {valid.end:%Y-%m-%d} " if valid else ""
        return Seen(f"{tls.version}, certificate {until}for {tls.names}", valid)

    def exchange_preface(self) -> Seen:
        """Exchange the first words of HTTP/2."""
        ending = exchange_preface(self._line)
        if ending is None:
            return Seen("the server speaks HTTP/2")
        if self._target.secure:
            seen = f"{ending} after the TLS handshake, as if it wanted a client certificate"
            raise StageError(ClosedByPeerError, seen)
        if self._takes_tls():
            raise StageError(TLSServerError, f"{ending}, but took a TLS handshake")
        raise StageError(ClosedByPeerError, f"{ending} after the TCP handshake")

    def _dial(self) -> tuple[Address, Stream]:
        return open_stream(self._target, self._addresses, self._end, self._opened)

    def _refined(self, failed: StageError) -> StageError:
        """Return the failure of a handshake with what a second connection tells about it."""
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
            # An alert is TLS, too.
            return failed.error in _TLS_SPOKEN
        return True

    def _takes_plaintext(self) -> bool:
        try:
            _, stream = self._dial()
            return exchange_preface(stream) is None
        except StageError:
            return False

    def _certified_names(self) -> str:
        """Return the names on the certificate, which OpenSSL shows only once it is accepted."""
        context = client_context(self._target)
        context.check_hostname = False
        return self._again(context).names

    def _again(self, context: ssl.SSLContext) -> TLSStream:
        """Return TLS over a connection more."""
        _, stream = self._dial()
        return start_tls(stream, context, self._target.certified_name)


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage of the probe came to.

    Args:
        stage: Which stage.
        elapsed_ms: Milliseconds it took.
        detail: What was seen, redacted.
        error: The class that stands for what went wrong; `None` if nothing did.
        certificate: When the server's certificate is valid, where one was seen.
    """

    stage: Stage
    elapsed_ms: float
    detail: str
    error: type[ConnectError] | None = None
    certificate: Validity | None = None

    @property
    def ok(self) -> bool:
        """Whether the stage was passed."""
        return self.error is None


def stages(target: ProbeTarget, deadline: float) -> tuple[StageResult, ...]:
    """Go through the stages of a connection until one fails; credentials are not sent.

    Args:
        target: Where to.
        deadline: The monotonic instant to stop at.

    Returns:
        The stages gone through, in order; all but the last are passed.
    """
    results: list[StageResult] = []
    with contextlib.closing(Probe(target, deadline)) as probe:
        for stage, step in probe.steps():
            results.append(_take(stage, step))
            if not results[-1].ok:
                break
    return _with_late_alert(*results)


def _take(stage: Stage, step: Step) -> StageResult:
    began = time.monotonic()
    error = None
    try:
        seen = step()
    except StageError as failed:
        error, seen = failed.error, Seen(failed.detail)
    elapsed_ms = (time.monotonic() - began) * 1e3
    return StageResult(stage, elapsed_ms, evidence(seen.detail), error, seen.certificate)


def _with_late_alert(*results: StageResult) -> tuple[StageResult, ...]:
    """Count an alert that came on the first read after the TLS handshake for that stage.

    With TLS 1.3 the client has done its part before the server looks at its certificate.
    """
    *before, last = results
    is_late = before and before[-1].stage is Stage.TLS
    if not (is_late and last.error and last.error.stage is Stage.TLS):
        return results
    shaken = before.pop()
    elapsed_ms = shaken.elapsed_ms + last.elapsed_ms
    failed = replace(shaken, error=last.error, detail=last.detail, elapsed_ms=elapsed_ms)
    return (*before, failed)
