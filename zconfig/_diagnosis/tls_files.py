"""Check the TLS files of a connection, and load them into a context."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from zconfig._diagnosis.model import Diagnosis, StageError
from zconfig._redaction import evidence
from zconfig._sources.environment import process_environment
from zconfig._sources.files import FileError
from zconfig._sources.pem import default_authorities, read_pem
from zconfig.errors import TLSMaterialError

if TYPE_CHECKING:
    from zconfig._diagnosis.model import ProbeTarget

_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_WEAK = ("TOO_SMALL", "TOO_WEAK")


def check_material(target: ProbeTarget) -> Diagnosis | None:
    """Check whether the TLS files of a connection can be used, without connecting.

    gRPC reports an invalid file only as a missing security handshaker.

    Args:
        target: The connection; only `ca`, `cert` and `key` are used.

    Returns:
        The cause, with the field and its path, or `None`.
    """
    try:
        _load_files(_context(), target)
    except StageError as failed:
        detail = evidence(failed.detail)
        return Diagnosis(failed.error, detail, remedy=failed.remedy, field=failed.field)
    return None


def client_context(target: ProbeTarget, *, as_grpc: bool = True) -> ssl.SSLContext:
    """Return a context that trusts the authorities that the channel trusts.

    Args:
        target: The connection.
        as_grpc: Accept weak keys and signatures as gRPC does; otherwise reject them as Python does.

    Raises:
        StageError: A file cannot be used.
    """
    context = _context() if as_grpc else _strict_context()
    if target.ca is None:
        authorities = default_authorities(process_environment())
        if content := authorities.read():
            _load_certificates(context, _File("tls_ca", str(authorities)), content)
    _load_files(context, target)
    return context


def unverified_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate, to detect whether a server uses TLS."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context() -> ssl.SSLContext:
    """Return an empty context, as lenient as gRPC's own TLS library.

    gRPC accepts short keys, which OpenSSL rejects above security level 0, and trusts any
    certificate in the file, where OpenSSL requires a chain to a self-signed one.
    """
    context = _strict_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    return context


def _strict_context() -> ssl.SSLContext:
    """Return an empty context with Python's rules that trusts any authority it is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _load_files(context: ssl.SSLContext, target: ProbeTarget) -> None:
    if target.ca is not None:
        ca = _File("tls_ca", "TLS_CA", target.ca)
        _load_certificates(context, ca, ca.read("certificates"))
    if target.cert is not None:
        cert = _File("tls_cert", "TLS_CERT", target.cert)
        _load_certificates(_context(), cert, cert.read("certificates"))
        if target.key is not None:
            _load_pair(context, cert, _File("tls_key", "TLS_KEY", target.key))


class _File(NamedTuple):
    """A file, its setting, and the variable that names it."""

    field: str
    name: str
    path: str = ""

    def unusable(self, seen: str, remedy: str = "") -> StageError:
        what = f"{self.name} {self.path}".rstrip()
        return StageError(TLSMaterialError, f"{what}: {seen}", self.field, remedy)

    def read(self, kind: Literal["certificates", "key"]) -> bytes:
        try:
            return read_pem(self.path, kind)
        except FileError as error:
            failure = self.unusable(error.reason.message, error.reason.remedy)
        raise failure


def _load_certificates(context: ssl.SSLContext, file: _File, content: bytes) -> None:
    try:
        # Comments may be in any encoding, and OpenSSL accepts only ASCII text.
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):  # `ValueError` for an empty text
        raise file.unusable("not certificates in PEM form") from None


def _load_pair(context: ssl.SSLContext, cert: _File, key: _File) -> None:
    def refuse() -> NoReturn:
        raise key.unusable("encrypted, and gRPC does not support a passphrase")

    key.read("key")
    try:
        # Without a callback, OpenSSL would prompt for the passphrase on the terminal.
        context.load_cert_chain(cert.path, key.path, password=refuse)
    except ssl.SSLError as error:
        reason = error.reason or ""
        seen = "not a private key in PEM form"
        if reason in _MISMATCHES:
            seen = f"does not belong to the certificate in {cert.name}"
        elif reason.endswith(_WEAK):
            raise cert.unusable(reason.replace("_", " ").lower()) from None
        raise key.unusable(seen) from None
