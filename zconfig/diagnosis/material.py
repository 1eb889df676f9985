"""The TLS files of a connection: whether they can be used, and a context made of them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from zconfig.diagnosis.verdict import StageError, Verdict
from zconfig.errors import TLSMaterialError
from zconfig.redaction import evidence

if TYPE_CHECKING:
    from zconfig.diagnosis.target import ProbeTarget

_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


def check_material(target: ProbeTarget) -> Verdict | None:
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
        return Verdict(failed.error, evidence(failed.detail), field=failed.field)
    return None


def client_context(target: ProbeTarget) -> ssl.SSLContext:
    """Return a context that verifies what gRPC verifies.

    Raises:
        StageError: If a file cannot be used.
    """
    context = _context()
    if target.ca is None:
        context.load_default_certs()
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    return context


def _load_files(context: ssl.SSLContext, target: ProbeTarget) -> None:
    if target.ca is not None:
        _load_certificates(context, _File("tls_ca", target.ca_from, target.ca))
    if target.cert is not None:
        cert = _File("tls_cert", "TLS_CERT", target.cert)
        _load_certificates(_context(), cert)
        if target.key is not None:
            _load_pair(context, cert, _File("tls_key", "TLS_KEY", target.key))


class _File(NamedTuple):
    """A file, the setting that it belongs to, and the name that its path was given by."""

    field: str
    name: str
    path: str

    def unusable(self, seen: str) -> StageError:
        return StageError(TLSMaterialError, f"{self.name} {self.path}: {seen}", self.field)

    def check_readable(self) -> None:
        try:
            Path(self.path).read_bytes()
        except OSError as error:
            raise self.unusable(error.strerror or "cannot be read") from None


def _load_certificates(context: ssl.SSLContext, file: _File) -> None:
    file.check_readable()
    try:
        context.load_verify_locations(file.path)
    except ssl.SSLError:
        raise file.unusable("not certificates in PEM form") from None


def _load_pair(context: ssl.SSLContext, cert: _File, key: _File) -> None:
    def refuse() -> NoReturn:
        raise key.unusable("encrypted, and gRPC takes no passphrase")

    key.check_readable()
    try:
        # Without a callback, OpenSSL would ask for the passphrase on the terminal.
        context.load_cert_chain(cert.path, key.path, password=refuse)
    except ssl.SSLError as error:
        seen = "not a private key in PEM form"
        if error.reason in _MISMATCHES:
            seen = f"does not belong to the certificate in {cert.name}"
        raise key.unusable(seen) from None
