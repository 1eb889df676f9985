"""TLS within a time, and what an OpenSSL error says about the peer."""

from __future__ import annotations

import contextlib
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from zconfig.diagnosis.verdict import StageError
from zconfig.errors import (
    ClientCertificateError,
    ConnectError,
    ExpiredCertificateError,
    HostnameMismatchError,
    NotHTTP2Error,
    PlaintextServerError,
    TLSError,
    UntrustedCertificateError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zconfig.diagnosis.network import Stream

T = TypeVar("T")

_CHUNK = 65536

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_CERTIFICATE_FAULTS: dict[int, type[ConnectError]] = {
    9: ExpiredCertificateError,  # not yet valid
    10: ExpiredCertificateError,
    62: HostnameMismatchError,
    64: HostnameMismatchError,  # an IP address
}

_REASONS: tuple[tuple[str, type[ConnectError]], ...] = (
    (
        "WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL|RECORD_LAYER_FAILURE",
        PlaintextServerError,
    ),
    ("NO_APPLICATION_PROTOCOL", NotHTTP2Error),
    ("UNRECOGNIZED_NAME", HostnameMismatchError),
    ("ALERT.*(CERTIFICATE|UNKNOWN_CA|DECRYPT|ACCESS_DENIED)", ClientCertificateError),
)


def tls_failure(error: ssl.SSLError) -> StageError:
    """Return what a failed handshake, or the alert after it, means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _CERTIFICATE_FAULTS.get(error.verify_code, UntrustedCertificateError)
        return StageError(cause, error.verify_message)
    reason = error.reason or str(error)
    causes = (cause for pattern, cause in _REASONS if re.search(pattern, reason))
    return StageError(next(causes, TLSError), reason.replace("_", " ").lower())


class TLSStream:
    """TLS over a stream, so that each of its reads ends in time, and an alert is seen.

    Args:
        stream: The connection underneath.
        context: What to verify.
        server_name: Whose certificate to expect.
    """

    def __init__(self, stream: Stream, context: ssl.SSLContext, server_name: str) -> None:
        self._stream = stream
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=server_name)

    def shake_hands(self) -> None:
        """Shake hands, and verify the certificate.

        Raises:
            OSError: `ssl.SSLError` if the handshake fails; as the stream does.
        """
        self._run(self._tls.do_handshake)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._run(lambda: self._tls.write(data))

    def receive(self, size: int) -> bytes:
        """Return up to so many bytes, none if the peer closed.

        Raises:
            OSError: `ssl.SSLError` for an alert; as the stream does.
        """
        try:
            return self._run(lambda: self._tls.read(size))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    @property
    def version(self) -> str:
        """The version of TLS spoken."""
        return self._tls.version() or "no TLS"

    @property
    def speaks_http2(self) -> bool:
        """Whether the peer agreed to HTTP/2."""
        return self._tls.selected_alpn_protocol() == "h2"

    @property
    def expiry(self) -> str:
        """The day on which the peer's certificate expires, in UTC."""
        seconds = ssl.cert_time_to_seconds(str(self._certificate()["notAfter"]))
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"

    @property
    def names(self) -> str:
        """The names that the peer's certificate is for."""
        return ", ".join(str(name[1]) for name in self._certificate().get("subjectAltName", ()))

    def _certificate(self) -> dict[str, Any]:
        return dict(self._tls.getpeercert() or {})

    def _run(self, step: Callable[[], T]) -> T:
        """Take a step of the protocol, carrying bytes until it is done."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                # The peer is owed an alert, but our error is what counts.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if self._to_send.pending:
            self._stream.send(self._to_send.read())

    def _feed(self) -> None:
        chunk = self._stream.receive(_CHUNK)
        if chunk:
            self._received.write(chunk)
        else:
            self._received.write_eof()
