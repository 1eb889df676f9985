"""TLS over a stream, and the validity of certificates that `ssl` has not verified."""

from __future__ import annotations

import contextlib
import re
import ssl
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from zconfig._diagnosis.model import StageError
from zconfig._sources.files import FileError
from zconfig._sources.pem import certificates_in, read_pem
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
    TLSError,
    UntrustedCertificateError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zconfig._diagnosis.network import Stream


# DER: a tag, a length in bytes or the number of bytes that the length takes, the content.
_LONG_FORM = 0x80
_VERSION = 0xA0
_UTC_TIME = 0x17
_BEFORE_VALIDITY = 3  # serial number, algorithm, issuer: RFC 5280, 4.1
_MD5_WITH_RSA = bytes.fromhex("2a864886f70d010104")  # 1.2.840.113549.1.1.4


@value
class Validity(Value):
    """The period in which a certificate is valid.

    Args:
        start: The first second.
        end: The last second.
    """

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"valid from {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


def validity(certificate: bytes) -> Validity | None:
    """Return the period in which a certificate is valid; `None` if it cannot be parsed.

    Args:
        certificate: Untrusted bytes, in DER form.
    """
    try:
        _, body, _ = _element(certificate)
        _, rest, _ = _element(body)
        if rest[0] == _VERSION:
            _, _, rest = _element(rest)
        for _ in range(_BEFORE_VALIDITY):
            _, _, rest = _element(rest)
        _, times, _ = _element(rest)
        start, start_text, times = _element(times)
        end, end_text, _ = _element(times)
        return Validity(_instant(start, start_text), _instant(end, end_text))
    except (IndexError, ValueError):
        return None


def is_signed_with_md5(certificate: bytes) -> bool:
    """Return whether a certificate, in DER form, is signed with MD5."""
    try:
        _, content, _ = _element(certificate)
        _, _, rest = _element(content)
        _, algorithm, _ = _element(rest)
        return _element(algorithm)[1] == _MD5_WITH_RSA
    except IndexError:
        return False


def validities(path: str) -> tuple[Validity, ...]:
    """Return the validity of each certificate in a PEM file; empty if it cannot be read.

    Args:
        path: The file; in a chain, the first certificate is its owner's.
    """
    try:
        blocks = certificates_in(read_pem(path, "certificates"))
        found = [validity(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]
    except (FileError, ValueError):
        return ()
    return tuple(each for each in found if each)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and the bytes after it."""
    size, at = data[1], 2
    if size & _LONG_FORM:
        at += size & ~_LONG_FORM
        size = int.from_bytes(data[2:at], "big")
    return data[0], data[at : at + size], data[at + size :]


def _instant(tag: int, text: bytes) -> datetime:
    """Parse a time; a year of two digits means 1950 to 2049 (RFC 5280, 4.1.2.5.1)."""
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = f"{'19' if digits >= '5' else '20'}{digits}"
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


T = TypeVar("T")

NAMELESS = "no name"
"""The text for the names of a certificate without names."""

_CHUNK = 65536
_HOSTS = frozenset({"DNS", "IP Address"})

# RFC 5246: a record has a header of five bytes, a handshake message in it one of four. The message
# that requests a client certificate is encrypted in TLS 1.3, and in plaintext in TLS 1.2.
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
_HANDSHAKE, _CERTIFICATE_REQUEST = 22, 13

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
    """Return the cause of a failed handshake, or of the alert after it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _CERTIFICATE_FAULTS.get(error.verify_code, UntrustedCertificateError)
        return StageError(cause, error.verify_message)
    reason = error.reason or str(error)
    causes = (cause for pattern, cause in _REASONS if re.search(pattern, reason))
    return StageError(next(causes, TLSError), reason.replace("_", " ").lower())


class TLSStream:
    """TLS over a stream with a deadline, which also makes alerts visible.

    Args:
        stream: The underlying connection.
        context: The TLS context.
        server_name: The name to find in the certificate.
    """

    def __init__(self, stream: Stream, context: ssl.SSLContext, server_name: str) -> None:
        self._stream = stream
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._heard = b""
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=server_name)

    def shake_hands(self) -> None:
        """Do the handshake, and verify the certificate.

        Raises:
            StageError: The handshake failed.
            OSError: As the stream does; `ssl.SSLEOFError` if the peer closed the connection.
        """
        try:
            self._run(self._tls.do_handshake)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # depends on the version of Python
            raise
        except ssl.SSLError as error:
            failure = tls_failure(error)
        else:
            return
        # OpenSSL's alert has no reason; a server without a common cipher sends the same alert, but
        # does not request a certificate before.
        if failure.error is TLSError and _asks_for_certificate(self._heard):
            seen = f"asked for a client certificate, then {failure.detail}"
            failure = StageError(ClientCertificateError, seen)
        raise failure

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        self._run(lambda: self._tls.write(data))

    def receive(self, size: int) -> bytes:
        """Return at most `size` bytes, none if the peer closed the connection.

        Raises:
            OSError: `ssl.SSLError` for an alert; as the stream does.
        """
        try:
            return self._run(lambda: self._tls.read(size))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    @property
    def version(self) -> str:
        """The negotiated version of TLS."""
        return self._tls.version() or "no TLS"

    @property
    def speaks_http2(self) -> bool:
        """Whether the peer agreed to HTTP/2."""
        return self._tls.selected_alpn_protocol() == "h2"

    @property
    def certificate(self) -> bytes:
        """The peer's certificate in DER form, whether or not it was verified."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def names(self) -> str:
        """The names in the peer's certificate, if it was verified.

        Without a `subjectAltName`, gRPC and OpenSSL use the common name.
        """
        certificate: Any = self._tls.getpeercert() or {}
        hosts = [name for kind, name in certificate.get("subjectAltName", ()) if kind in _HOSTS]
        subject = chain.from_iterable(certificate.get("subject", ()))
        names = hosts or [name for kind, name in subject if kind == "commonName"]
        return ", ".join(names) or NAMELESS

    def _run(self, step: Callable[[], T]) -> T:
        """Run a step of the protocol, transferring bytes until it completes."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                # Send the alert to the peer, but raise the original error.
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
            self._heard += chunk
            self._received.write(chunk)
        else:
            self._received.write_eof()


def start_tls(stream: Stream, context: ssl.SSLContext, server_name: str) -> TLSStream:
    """Do the TLS handshake over a stream.

    Args:
        stream: The underlying connection.
        context: The TLS context.
        server_name: The name to find in the certificate.

    Raises:
        StageError: The handshake failed.
    """
    try:
        tls = TLSStream(stream, context, server_name)
        tls.shake_hands()
    except TimeoutError:
        raise StageError(ServerSilentError, "no answer to the TLS handshake") from None
    except ssl.SSLError:
        raise StageError(ClosedByPeerError, "closed in the TLS handshake") from None
    except OSError:
        raise StageError(ClosedByPeerError, "reset in the TLS handshake") from None
    except ValueError:
        raise StageError(HostnameMismatchError, f"no certificate is for {server_name}") from None
    return tls


def _asks_for_certificate(records: bytes) -> bool:
    """Return whether plaintext records of a server request a client certificate."""
    messages = b""
    while records[:1] == bytes([_HANDSHAKE]):
        end = _RECORD_HEADER + int.from_bytes(records[3:_RECORD_HEADER], "big")
        messages, records = messages + records[_RECORD_HEADER:end], records[end:]
    while messages:
        if messages[0] == _CERTIFICATE_REQUEST:
            return True
        messages = messages[_MESSAGE_HEADER + int.from_bytes(messages[1:_MESSAGE_HEADER], "big") :]
    return False
