"""The TLS files of a connection: whether they can be used, and a context made of them."""

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
    """Look whether the TLS files of a connection can be used; nothing is dialed.

    gRPC says no more of a broken file than that there is no security handshaker.

    Args:
        target: The connection; only `ca`, `cert` and `key` are looked at.

    Returns:
        What is wrong, with the field and its path, or `None`.
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
        as_grpc: Take weak keys and signatures as gRPC does; otherwise refuse them as Python does.

    Raises:
        StageError: If a file cannot be used.
    """
    context = _context() if as_grpc else _strict_context()
    if target.ca is None:
        authorities = default_authorities(process_environment())
        if content := authorities.read():
            _load_certificates(context, _File("tls_ca", str(authorities)), content)
    _load_files(context, target)
    return context


def unverified_context() -> ssl.SSLContext:
    """Return a context that takes any certificate, to find out whether TLS is spoken at all."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context() -> ssl.SSLContext:
    """Return an empty context, as lenient as gRPC's own TLS library.

    That one takes short keys, which OpenSSL refuses above security level 0, and trusts any
    certificate it is given, where OpenSSL demands a chain to a self-signed one.
    """
    context = _strict_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    return context


def _strict_context() -> ssl.SSLContext:
    """Return an empty context that takes what Python takes, from any authority it is given."""
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
    """A file, the setting that it belongs to, and the name that its path was given by."""

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
        # Comments may be in any encoding, and OpenSSL takes text of ASCII alone.
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):  # the latter for no text at all
        raise file.unusable("not certificates in PEM form") from None


def _load_pair(context: ssl.SSLContext, cert: _File, key: _File) -> None:
    def refuse() -> NoReturn:
        raise key.unusable("encrypted, and gRPC takes no passphrase")

    key.read("key")
    try:
        # Without a callback, OpenSSL would ask for the passphrase on the terminal.
        context.load_cert_chain(cert.path, key.path, password=refuse)
    except ssl.SSLError as error:
        reason = error.reason or ""
        seen = "not a private key in PEM form"
        if reason in _MISMATCHES:
            seen = f"does not belong to the certificate in {cert.name}"
        elif reason.endswith(_WEAK):
            raise cert.unusable(reason.replace("_", " ").lower()) from None
        raise key.unusable(seen) from None
