"""Read service bindings: one directory per service, as in the Service Binding Specification.

See https://servicebinding.io/spec/core/1.1.0/, "Well-known Secret Entries" and "Workload
Projection".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from zconfig._origin import Origin, printable
from zconfig._redaction import Hidden, Secret
from zconfig._sources.base import (
    PREFIX,
    Entry,
    SourceResult,
    joined,
    normalize_key,
    refused,
    spellings,
)
from zconfig._sources.files import MAX_PEM_BYTES, FileError, FileKind, read_secret, read_text
from zconfig._sources.secrets_dir import (
    list_names,
    read_directory,
    read_generation,
    read_secret_file,
)
from zconfig._value import Value, value
from zconfig.errors import Problem

_SOURCE = "service binding"
_TYPES = ("milvus", "zilliz")
_ADDRESS_FIELDS = frozenset({"URI", "ENDPOINT"})
_FIELDS = _ADDRESS_FIELDS | {
    "API_KEY",
    "DATABASE",
    "DB_NAME",
    "PASSWORD",
    "TOKEN",
    "USER",
    "USERNAME",
}
_HOST_IS_URI = Problem("bad_host", "the host is a URI", "use the key uri instead of host and port")
_AUTHORITIES = ("ca.crt", "certificates")
_CLIENT_PAIR = {"TLS_CERT": "tls.crt", "TLS_KEY": "tls.key"}
_ENTRIES = (
    *("type", "host", "port", *_AUTHORITIES, *_CLIENT_PAIR.values()),
    *(each for field in sorted(_FIELDS) for each in spellings(field.lower())),
)


def read_service_bindings(
    root: Path | str, *, aliases: Collection[str] = (), shown: str | None = None
) -> SourceResult:
    """Read the bindings whose `type` is `milvus` or `zilliz`; the binding's name is the alias.

    Certificates become paths, in the fields `TLS_CA` (`ca.crt` or `certificates`), and `TLS_CERT`
    and `TLS_KEY` (`tls.crt` and `tls.key`, if both exist). Without a `uri`, the URI is built from
    `host` and `port`. Each binding is read as one generation of its volume.

    Args:
        root: The directory that `SERVICE_BINDING_ROOT` names.
        aliases: Aliases known from other sources; if the directory can be entered but not listed,
            their bindings are tried by name.
        shown: The path as the user would write it; by default `root`.

    Returns:
        Entries with keys in the form of variables. An unusable file is one problem, and the others
        are read; a directory that does not exist is not a problem.
    """
    directory, name = Path(root), shown or str(root)

    def read(current: Path) -> SourceResult:
        names = list_names(current, [each for alias in aliases for each in spellings(alias)])
        bindings = [_Binding(directory, current / entry, name) for entry in names]
        return joined(name, [binding.read() for binding in bindings])

    return read_directory(directory, read, shown=name, source=_SOURCE)


@value
class _Binding(Value):
    """One binding.

    Args:
        root: The directory that must contain its files.
        path: Its current directory.
        root_shown: `root` as the user would write it.
    """

    root: Path
    path: Path
    root_shown: str

    @property
    def name(self) -> str:
        """The binding's name, which is the alias."""
        return self.path.name

    def read(self) -> SourceResult:
        """Read it; the result is empty if it is not a binding of Milvus or Zilliz."""
        try:
            return read_generation(self.path, self._generation)
        except FileError as error:
            return self._unread(error)

    def _unread(self, error: FileError) -> SourceResult:
        if error.reason.code in {"not_directory", "missing"}:
            return SourceResult(self.name)
        problem = error.problem(Origin(_SOURCE, self._shown("")))
        if error.reason.code != "changing":  # it may be another service's
            problem = replace(problem, severity="warning")
        return refused(self._shown(""), problem)

    def _generation(self, current: Path) -> SourceResult:
        names = list_names(current, _ENTRIES)
        if "type" not in names:
            return SourceResult(self.name)
        try:
            service = read_secret(current / "type", directory=self.root).value.strip().lower()
        except FileError as error:
            problem = error.problem(Origin(_SOURCE, self._shown("type")))
            return SourceResult(self.name, problems=(replace(problem, severity="warning"),))
        return (
            self._fields(current, names, service) if service in _TYPES else SourceResult(self.name)
        )

    def _fields(self, current: Path, names: list[str], service: str) -> SourceResult:
        fields = [
            self._file(current / name, normalize_key(name))
            for name in names
            if normalize_key(name) in _FIELDS
        ]
        certificates = tuple(self._certificates(current, names))
        scheme = "https" if certificates or service == "zilliz" else "http"
        return joined(self.name, [*fields, *certificates, self._address(current, names, scheme)])

    def _certificates(self, current: Path, names: list[str]) -> Iterator[SourceResult]:
        authority = next((name for name in _AUTHORITIES if name in names), None)
        if authority:
            yield self._pem("TLS_CA", current / authority)
        if set(_CLIENT_PAIR.values()) <= set(names):
            yield from (self._pem(field, current / name) for field, name in _CLIENT_PAIR.items())

    def _address(self, current: Path, names: list[str], scheme: str) -> SourceResult:
        if "host" not in names or not _ADDRESS_FIELDS.isdisjoint(map(normalize_key, names)):
            return SourceResult(self.name)
        wanted = [name for name in ("host", "port") if name in names]
        parts = joined(self.name, [self._file(current / name, "URI") for name in wanted])
        if len(parts.entries) < len(wanted):
            return parts._replace(entries=())
        host, *port = (Hidden(entry.value.reveal().strip()) for entry in parts.entries)
        if "://" in host:
            is_uri = replace(_HOST_IS_URI, origin=parts.entries[0].origin)
            return parts._replace(entries=(), problems=(*parts.problems, is_uri))
        if host.count(":") > 1 and not host.startswith("["):
            host = Hidden(f"[{host}]")  # an IPv6 address
        uri = replace(parts.entries[0], value=Secret(f"{scheme}://{':'.join((host, *port))}"))
        return parts._replace(entries=(uri,))

    def _file(self, path: Path, field: str) -> SourceResult:
        origin = self._origin(field, path)
        return read_secret_file(origin.key, path, origin, directory=self.root)

    def _pem(self, field: str, path: Path) -> SourceResult:
        origin = self._origin(field, path)
        kind: FileKind = "key" if field == "TLS_KEY" else "certificates"
        try:
            read_text(path, limit_bytes=MAX_PEM_BYTES, kind=kind, directory=self.root)
        except FileError as error:
            return SourceResult(self.name, problems=(error.problem(origin),))
        # The path that remains valid after a rotation, not the current generation's.
        stable = Path(self.root, self.name, path.name)
        return SourceResult(self.name, (Entry(origin.key, Secret(stable), origin),))

    def _origin(self, field: str, path: Path) -> Origin:
        key = printable(f"{PREFIX}{normalize_key(self.name)}_{field}")
        return Origin(_SOURCE, key, self._shown(path.name))

    def _shown(self, name: str) -> str:
        return printable(str(Path(self.root_shown, self.name, name)))
