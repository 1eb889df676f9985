"""The configuration as an immutable value: settings, their origins, and problems."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path

from zconfig._endpoint import EndpointError, parse_uri, split_userinfo
from zconfig._origin import Origin, printable
from zconfig._redaction import Secret
from zconfig._settings.fields import ConnectionSettings
from zconfig._settings.names import DEFAULT_ALIAS, variable_name
from zconfig._settings.options import LoaderOptions
from zconfig._settings.precedence import FieldKey, Setting
from zconfig._sources.base import Entry, FileStatus, SourceResult, oddities, plain
from zconfig._sources.environment import is_milvus
from zconfig._value import Value, value
from zconfig.errors import Problem

EMPTY = "is set but empty, which counts as unset"

# The part before the field in a variable of the default alias.
_OF_DEFAULT = "ZILLIZ"

UNLESS_OTHERS = ", unless another tool reads it"
"""The end of the remedy of a warning about variables that may belong to another program."""


@value
class Note(Value):
    """An explanation of an entry that is not used, although it is valid.

    Args:
        origin: The origin of the entry.
        message: The reason that it is not used.
        slot: The alias and field that it concerns, if any.
    """

    origin: Origin
    message: str
    slot: FieldKey | None = None


@value
class Configuration(Value):
    """The whole configuration.

    Args:
        aliases: The settings of the aliases that can be connected.
        problems: The problems of all aliases and layers.
        provenance: The setting that each value comes from, by alias and field.
        files: The files that were looked for, highest precedence first.
        notes: Entries that are not used, with the reasons.
        options: The loader's own options.
        optional: The aliases that are declared as not required, valid or not.
        secrets: Every secret that was read, including those of invalid aliases, and those that are
            not used.
        passed_over: The settings of lower layers for fields whose value is invalid.
        elapsed_ms: Duration of the load in milliseconds.
        directory: The directory that relative paths start from.
        unread: Variables that name a server's address, and that are not read.
        remote: The results of the sources that may use the network.
    """

    aliases: Mapping[str, ConnectionSettings] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    provenance: Mapping[FieldKey, Setting] = field(default_factory=dict)
    files: tuple[FileStatus, ...] = ()
    notes: tuple[Note, ...] = ()
    options: LoaderOptions = field(default_factory=LoaderOptions)
    optional: frozenset[str] = frozenset()
    secrets: tuple[Secret, ...] = ()
    passed_over: Mapping[FieldKey, Sequence[Setting]] = field(default_factory=dict)
    elapsed_ms: float = 0.0
    directory: Path = Path()
    unread: tuple[Entry, ...] = ()
    remote: tuple[SourceResult, ...] = field(default=(), repr=False)

    def __deepcopy__(self, memo: object) -> Configuration:
        return self

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that prevent an alias from connecting."""
        return tuple(each for each in self.problems if each.severity == "error")

    @property
    def errors_required(self) -> tuple[Problem, ...]:
        """The errors of required aliases, and those that concern no single alias."""
        return tuple(each for each in self.errors if each.alias not in self.optional)

    def errors_of(self, alias: str) -> tuple[Problem, ...]:
        """The errors of one alias."""
        return tuple(each for each in self.errors if each.alias == alias)

    def why_not(self, alias: str) -> tuple[Problem, ...]:
        """The reasons that an alias cannot be connected: its errors, or else its warnings."""
        if alias in self.aliases:
            return self.errors_of(alias)
        warnings = (each for each in self.problems if each.alias == alias)
        return self.errors_of(alias) or tuple(map(_as_error, warnings))


def _as_error(warning: Problem) -> Problem:
    """Return a warning as an error, for an alias that the application uses."""
    remedy = warning.remedy.removesuffix(UNLESS_OTHERS)
    if warning.code == "missing_uri" and warning.alias:
        remedy = f"set {variable_name(warning.alias, 'uri')}"
    return replace(warning, severity="error", remedy=remedy)


def nothing_configured(configuration: Configuration, alias: str = DEFAULT_ALIAS) -> Problem:
    """Return the problem of an empty configuration.

    Args:
        configuration: The configuration.
        alias: The alias that the application wants.
    """
    has_pair = any(is_milvus(note.origin.key) and not note.slot for note in configuration.notes)
    is_pair = has_pair and alias == DEFAULT_ALIAS  # such credentials are for no other endpoint
    variable = "MILVUS_URI" if is_pair else variable_name(alias, "uri")
    return Problem(
        "nothing_configured",
        f"no connection is configured{_empty(configuration)}",
        f"set {variable} {_where_to_set(configuration)}"
        f"{_unread(configuration, variable)}{_passed_over(configuration)}",
    )


def _passed_over(configuration: Configuration) -> str:
    """Name the default dotenv file if it exists, and an option excludes it."""
    options, directory = configuration.options, configuration.directory
    is_read = options.env_file is None or ".env" in options.dotenv_files
    is_there = not is_read and os.path.lexists(directory / ".env")
    return "; .env is not read because ZCONFIG_ENV_FILE is set" if is_there else ""


def _empty(configuration: Configuration) -> str:
    """Name a URI that is set but empty, and its origin."""
    notes = configuration.notes
    empty = [n.origin for n in notes if n.message == EMPTY and n.slot and n.slot[1] == "uri"]
    return "".join(f": {origin} {EMPTY}" for origin in empty[:1])


def _unread(configuration: Configuration, variable: str) -> str:
    """Name variables that are set and not read, and the URI that they make up."""
    variable, unread = _concerning(variable, configuration.unread)
    values = {e.key: e.value.reveal().strip() for e in reversed(unread)}
    are = "is" if len(values) == 1 else "are"
    keys = " and ".join(map(_named, dict.fromkeys(entry.key for entry in unread)))
    return f" ({keys} {are} not read{_instead(values, variable)})" if keys else ""


def _concerning(variable: str, unread: Iterable[Entry]) -> tuple[str, Sequence[Entry]]:
    """Return the variables of one alias, preferably of the one wanted, and its URI's variable."""
    by_alias: dict[str, list[Entry]] = {}
    for each in unread:
        key = plain(each.key).upper()
        before = _OF_DEFAULT if is_milvus(key) else key.rpartition("_")[0]
        by_alias.setdefault(before, []).append(each)
    for before in (variable.removesuffix("_URI"), _OF_DEFAULT):
        if before in by_alias:
            return variable, by_alias[before]
    before = next(iter(by_alias), "")
    return f"{before}_URI", by_alias.get(before, ())


def _named(key: str) -> str:
    odd = oddities(key)
    return f"{printable(key)}, whose name contains {odd}," if odd else key


def _instead(values: Mapping[str, str], variable: str) -> str:
    """Return the setting that replaces variables which are not read, without credentials."""
    parts = {plain(key).lower().rpartition("_")[2]: value for key, value in values.items()}
    uri = _uri(parts)
    userinfo = split_userinfo(uri)
    if "@" in uri and (whole := next((k for k, v in values.items() if v == uri), None)):
        return f": set {variable} to the value of {printable(whole)}"
    if uri:
        fields = ("user", "password") if userinfo.password else ("token",) if userinfo.user else ()
        besides = " and ".join(variable.removesuffix("URI") + each.upper() for each in fields)
        return f": write {variable}={userinfo.uri}" + f", and set {besides}" * bool(fields)
    if [*parts] != ["file"]:
        return ""
    is_milvus_uri = is_milvus(variable)  # has no `_FILE` form
    return (
        f": set {variable} to the content of the file"
        if is_milvus_uri
        else f": set {variable}_FILE to its value"
    )


def _uri(values: Mapping[str, str]) -> str:
    """Return the URI that a host, a port and similar values make up; empty if it is invalid."""
    return next(filter(_is_uri, (values.get("uri", ""), _composed(values))), "")


def _is_uri(text: str) -> bool:
    with suppress(EndpointError):
        split_userinfo(text)
        parse_uri(text)
        return True
    return False


def _composed(values: Mapping[str, str]) -> str:
    host = values.get("host")
    written = host or values.get("address") or values.get("url") or values.get("endpoint") or ""
    scheme, _, address = written.rpartition("://")
    if address.count(":") > 1 and "[" not in address and "@" not in address:
        address = f"[{address}]"
    port = values.get("port") or ("" if scheme else "19530")
    if host and port and "/" not in address and not re.search(r"(?<!:):\d+$", address):
        address = f"{address}:{port}"
    is_secure = values.get("secure", "").lower() in {"1", "true", "yes", "on"}
    return f"{scheme or ('https' if is_secure else 'http')}://{address}"


def _where_to_set(configuration: Configuration) -> str:
    options, directory = configuration.options, configuration.directory
    if options.dotenv_is_off:
        return "in the environment"
    place = f"a .env file in {directory}" if directory.is_absolute() else "a .env file"
    devices = {e.origin.key for e in configuration.problems if e.code == "not_regular" and e.origin}
    places = [each for each in options.env_file or (place,) if each not in devices]
    files = f" or in {' or '.join(places)}" if places else ""
    return printable(f"in the environment{files}")
