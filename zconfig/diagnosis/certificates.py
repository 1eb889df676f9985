"""How long certificates are valid: `ssl` tells it only of a peer's that it has verified."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# DER: a tag, a length in bytes or the number of bytes that the length takes, the content.
_LONG_FORM = 0x80
_VERSION = 0xA0
_UTC_TIME = 0x17
_BEFORE_VALIDITY = 3  # serial number, algorithm, issuer: RFC 5280, 4.1

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


def validity(certificate: bytes) -> Validity:
    """Return the time in which a certificate is valid.

    Args:
        certificate: In DER form.

    Raises:
        ValueError: It is none.
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
    except IndexError:
        raise ValueError("not a certificate") from None
    return Validity(_instant(start, start_text), _instant(end, end_text))


def validities(path: str) -> tuple[Validity, ...]:
    """Return the validity of each certificate in a PEM file; of what cannot be read, none.

    Args:
        path: A file; in one with a chain the first certificate is its owner's.
    """
    try:
        blocks = _PEM.findall(Path(path).read_text(encoding="ascii", errors="replace"))
        return tuple(validity(ssl.PEM_cert_to_DER_cert(block)) for block in blocks)
    except (OSError, ValueError):
        return ()


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
