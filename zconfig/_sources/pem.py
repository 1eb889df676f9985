"""Read PEM files with the checks of `files`, and find the authorities trusted by default."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from zconfig._sources.files import MAX_PEM_BYTES, FileError, read_text

ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
"""gRPC's variable for the authorities trusted by default, before those of Python's `ssl`."""

_VARIABLES = (ROOTS_VARIABLE, "SSL_CERT_FILE", "SSL_CERT_DIR")
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # the only files that OpenSSL reads in a directory
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def read_pem(path: str, kind: Literal["certificates", "key"]) -> bytes:
    """Return the content of a PEM file, without a byte order mark.

    Args:
        path: The file.
        kind: The kind of its content; a key needs the permissions of a secret.

    Raises:
        FileError: As `read_text` does; the largest size is 8 MiB.
    """
    text = read_text(path, limit_bytes=MAX_PEM_BYTES, kind=kind)
    return text.value.encode("utf-8", "surrogateescape")


def is_as_read(path: str, kind: Literal["certificates", "key"]) -> bool:
    """Return whether a PEM file has no byte order mark, so that `read_pem` returns all of it."""
    return read_pem(path, kind) == Path(path).read_bytes()


class Authorities(NamedTuple):
    """The authorities that are trusted if `TLS_CA` is not set.

    Args:
        name: The provider of the list.
        file: A file of authorities, or `None`.
        directories: Directories of authorities, with the file names that OpenSSL looks for.
    """

    name: str
    file: str | None = None
    directories: tuple[str, ...] = ()

    def __str__(self) -> str:
        paths = ", ".join([*filter(None, [self.file]), *self.directories])
        return f"{self.name} {paths}".rstrip()

    @property
    def bundle(self) -> str | None:
        """A file of exactly these, for a program that takes one file, or `None`.

        Debian keeps such a file in the directory.
        """
        in_directories = (str(Path(each, "ca-certificates.crt")) for each in self.directories)
        files = filter(None, (self.file, *in_directories))
        return next((path for path in files if self._are_all_in(path)), None)

    def _are_all_in(self, path: str) -> bool:
        with suppress(FileError):
            content = read_pem(path, "certificates")
            return is_as_read(path, "certificates") and _blocks(content) == _blocks(self.read())
        return False

    def read(self) -> bytes:
        """Return all of them, without duplicates; unreadable files are skipped, as in OpenSSL."""
        found = list(_certificates([self.file] if self.file else []))
        if not self.directories:
            return b"".join(found)
        for each in self.directories:
            with suppress(OSError):
                found.append(_read_directory(each, Path(each).stat().st_mtime_ns))
        return "\n".join(dict.fromkeys(certificates_in(b"\n".join(found)))).encode()


def certificates_in(content: bytes) -> list[str]:
    """Return the certificates in a PEM text, each with its BEGIN and END line."""
    return _CERTIFICATE.findall(content.decode("ascii", "ignore"))


def _blocks(content: bytes) -> frozenset[str]:
    """Return the certificates in a PEM text, independent of line ends."""
    return frozenset("".join(each.split()) for each in certificates_in(content))


@lru_cache(maxsize=8)
def _read_directory(directory: str, changed_at: int) -> bytes:
    """Read a directory, cached until it changes: it may have 150 files, and each alias needs it."""
    del changed_at
    paths = sorted(path for path in Path(directory).iterdir() if _HASHED.fullmatch(path.name))
    return b"\n".join(_certificates(map(str, paths)))


def _certificates(paths: Iterable[str]) -> Iterator[bytes]:
    for path in paths:
        with suppress(FileError):
            yield read_pem(path, "certificates")


def default_authorities(environ: Mapping[str, str]) -> Authorities:
    """Return the authorities that are trusted if `TLS_CA` is not set.

    The file in gRPC's variable comes first; then the authorities of Python's `ssl`, which include
    those that a company installs; then, if the system has none, those shipped with gRPC.
    """
    told = str(environ.get(ROOTS_VARIABLE, ""))  # a path, and no secret
    if told and _is_readable(told):
        return Authorities(ROOTS_VARIABLE, told)
    paths = ssl.get_default_verify_paths()
    file = paths.cafile if paths.cafile and _is_readable(paths.cafile) else None
    named = environ.get("SSL_CERT_DIR") or ("" if file else paths.openssl_capath)
    directories = tuple(filter(os.path.isdir, named.split(os.pathsep)))
    if file or directories:
        return Authorities("the system's authorities", file, directories)
    return Authorities("gRPC's own authorities", _roots_of_grpc())


def passed_over(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence per variable whose authorities cannot be read, and are skipped."""
    for name in _VARIABLES:
        for path in filter(None, environ.get(name, "").split(os.pathsep)):
            if not _is_readable(path):
                why = "cannot be read" if os.path.lexists(path) else "does not exist"
                yield f"{name} names {path}, which {why}"


def _is_readable(path: str) -> bool:
    return os.access(path, os.R_OK)


def _roots_of_grpc() -> str | None:
    spec = find_spec("grpc")
    if spec is None or spec.origin is None:
        return None
    roots = str(Path(spec.origin).with_name("_cython") / "_credentials" / "roots.pem")
    return roots if _is_readable(roots) else None
