"""What `ssl` does not tell of certificates: how long one is valid that it has not verified."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

from zconfig.sources.files import FileError
from zconfig.sources.pem import read_pem

# DER: a tag, a length in bytes or the number of bytes that the length takes, the content.
_LONG_FORM = 0x80
_VERSION = 0xA0
_UTC_TIME = 0x17
_BEFORE_VALIDITY = 3  # serial number, algorithm, issuer: RFC 5280, 4.1
_MD5_WITH_RSA = bytes.fromhex("2a864886f70d010104")  # 1.2.840.113549.1.1.4

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Validity:
    """The time in which a certificate is valid.

    Args:
        start: Its first second.
        end: Its last second.
    """

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"valid from {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


def validity(certificate: bytes) -> Validity | None:
    """Return the time in which a certificate is valid; `None` if that cannot be told.

    Args:
        certificate: In DER form; whoever wrote it may have written anything.
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
    """Tell whether a certificate, in DER form, is signed with MD5."""
    try:
        _, content, _ = _element(certificate)
        _, _, rest = _element(content)
        _, algorithm, _ = _element(rest)
        return _element(algorithm)[1] == _MD5_WITH_RSA
    except IndexError:
        return False


def validities(path: str) -> tuple[Validity, ...]:
    """Return the validity of each certificate in a PEM file; of what cannot be read, none.

    Args:
        path: A file; in one with a chain the first certificate is its owner's.
    """
    try:
        blocks = _PEM.findall(read_pem(path, "certificates").decode("ascii", "ignore"))
        found = [validity(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]
    except (FileError, ValueError):
        return ()
    return tuple(each for each in found if each)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and what follows it."""
    size, at = data[1], 2
    if size & _LONG_FORM:
        at += size & ~_LONG_FORM
        size = int.from_bytes(data[2:at], "big")
    return data[0], data[at : at + size], data[at + size :]


def _instant(tag: int, text: bytes) -> datetime:
    """Read a time; one of two digits for the year is of 1950 to 2049 (RFC 5280, 4.1.2.5.1)."""
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = f"{'19' if digits >= '5' else '20'}{digits}"
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
