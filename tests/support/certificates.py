"""Certificates for the tests: an authority's good and faulty ones, and another authority's."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """How a server speaks TLS.

    Args:
        mode: 1 shows the server's certificate, 2 demands one of the client as well.
        cert: The server's certificate, for a name in `LOOPBACK`.
        key: Its private key.
        ca: The authority that signed `cert`, and in mode 2 must have signed the client's.
    """

    mode: Literal[1, 2]
    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, each a PEM file."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files that differ in one respect each; every pair serves servers and clients.

    Args:
        ca: The authority's certificate.
        server: For `LOOPBACK`, signed by `ca`.
        client: For `client.test`, signed by `ca`.
        expired: As `server`, valid until an hour ago.
        not_yet_valid: As `server`, valid from tomorrow.
        other_host: Signed by `ca`, for `other.test`.
        other_ca: Another authority's certificate.
        other_authority: As `server`, signed by `other_ca`.
    """

    ca: Path
    server: KeyPair
    client: KeyPair
    expired: KeyPair
    not_yet_valid: KeyPair
    other_host: KeyPair
    other_ca: Path
    other_authority: KeyPair

    def server_tls(self, mode: Literal[1, 2]) -> ServerTLS:
        """Return the settings of a server with the good certificate."""
        return ServerTLS(mode, self.server.cert, self.server.key, self.ca)


def trusting(ca: Path, client: KeyPair | None = None) -> grpc.ChannelCredentials:
    """Return the credentials of a client that trusts an authority.

    Args:
        ca: The authority's certificate.
        client: The pair it shows to the server, if any.
    """
    pair = (client.key.read_bytes(), client.cert.read_bytes()) if client else (None, None)
    return grpc.ssl_channel_credentials(ca.read_bytes(), *pair)


def write_certificates(directory: Path) -> Certificates:
    """Make all certificates and write them into a directory.

    Args:
        directory: An existing directory; takes two files a pair, one an authority.

    Returns:
        The paths of the files.
    """
    ca, other_ca = trustme.CA(), trustme.CA()
    now = datetime.now(UTC)
    hour, day = timedelta(hours=1), timedelta(days=1)

    def pair(
        name: str,
        *,
        authority: trustme.CA = ca,
        hosts: tuple[str, ...] = LOOPBACK,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> KeyPair:
        issued = authority.issue_cert(*hosts, not_before=start, not_after=end)
        return _write_pair(issued, directory, name)

    return Certificates(
        ca=_write_authority(ca, directory / "ca.pem"),
        server=pair("server"),
        client=pair("client", hosts=("client.test",)),
        expired=pair("expired", start=now - day, end=now - hour),
        not_yet_valid=pair("not_yet_valid", start=now + day, end=now + 2 * day),
        other_host=pair("other_host", hosts=("other.test",)),
        other_ca=_write_authority(other_ca, directory / "other_ca.pem"),
        other_authority=pair("other_authority", authority=other_ca),
    )


def named(directory: Path, common_name: str | None, uri: str | None = None) -> KeyPair:
    """Write a self-signed pair without a host name or address in `subjectAltName`.

    Args:
        directory: An existing directory.
        common_name: The name in its subject.
        uri: What stands in `subjectAltName`, if there is one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    common = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"), *common])
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), now - day, now + day
    )
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    pair = KeyPair(directory / "named.pem", directory / "named.key")
    pair.cert.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    unencrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair.key.write_bytes(unencrypted)
    return pair


def signed_with_md5(directory: Path) -> tuple[Path, KeyPair]:
    """Write an authority, and a pair for localhost that it signed with MD5.

    No library signs with MD5 any more: the signature is made by hand (RFC 8017, 8.2).

    Args:
        directory: An existing directory.
    """
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    issued = authority.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    sha256, md5 = (bytes.fromhex(f"2a864886f70d0101{number}") for number in ("0b", "04"))
    der = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    content = der.tbs_certificate_bytes.replace(sha256, md5)
    prefix = bytes.fromhex("3020300c06082a864886f70d020505000410")
    digest = prefix + hashlib.md5(content).digest()  # noqa: S324 - the point is that it is weak
    numbers = authority._private_key.private_numbers()  # type: ignore[union-attr]  # RSA
    size = numbers.public_numbers.n.bit_length() // 8
    padded = b"\0\1".ljust(size - len(digest) - 1, b"\xff") + b"\0" + digest
    power = pow(int.from_bytes(padded, "big"), numbers.d, numbers.public_numbers.n)
    whole = der.public_bytes(Encoding.DER)
    forged = whole.replace(der.tbs_certificate_bytes, content).replace(sha256, md5)
    forged = forged.replace(der.signature, power.to_bytes(size, "big"))
    pair = KeyPair(directory / "md5.pem", directory / "md5.key")
    pair.cert.write_text(ssl.DER_cert_to_PEM_cert(forged))
    issued.private_key_pem.write_to_path(pair.key)
    _write_authority(authority, directory / "authority.pem")
    return directory / "authority.pem", pair


def _write_authority(authority: trustme.CA, path: Path) -> Path:
    authority.cert_pem.write_to_path(path)
    return path


def _write_pair(issued: trustme.LeafCert, directory: Path, name: str) -> KeyPair:
    pair = KeyPair(directory / f"{name}.pem", directory / f"{name}.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(pair.cert, append=True)
    issued.private_key_pem.write_to_path(pair.key)
    return pair
