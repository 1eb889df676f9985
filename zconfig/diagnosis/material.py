"""The TLS files of a connection: whether they can be used, and a context made of them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from zconfig.diagnosis.verdict import StageError, Verdict, evidence
from zconfig.errors import TLSMaterialError

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
        return Verdict(failed.error, evidence(failed.detail))
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
        _load_certificates(context, "TLS_CA", target.ca)
    if target.cert is not None:
        _load_certificates(_context(), "TLS_CERT", target.cert)
    if target.cert is not None and target.key is not None:
        _load_pair(context, target.cert, target.key)


def _load_certificates(context: ssl.SSLContext, field: str, path: str) -> None:
    _read(field, path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise _unusable(field, path, "not certificates in PEM form") from None


def _load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    def refuse() -> NoReturn:
        raise _unusable("TLS_KEY", key, "encrypted, and gRPC takes no passphrase")

    _read("TLS_KEY", key)
    try:
        # Without a callback, OpenSSL would ask for the passphrase on the terminal.
        context.load_cert_chain(cert, key, password=refuse)
    except ssl.SSLError as error:
        seen = "not a private key in PEM form"
        if error.reason in _MISMATCHES:
            seen = "does not belong to the certificate in TLS_CERT"
        raise _unusable("TLS_KEY", key, seen) from None


def _read(field: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise _unusable(field, path, error.strerror or "cannot be read") from None


def _unusable(field: str, path: str, seen: str) -> StageError:
    return StageError(TLSMaterialError, f"{field} {path}: {seen}")
