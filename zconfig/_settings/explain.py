"""A configuration → where each value came from, what it shadows, and what was passed over."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from zconfig._origin import Origin, printable
from zconfig._redaction import MASK, redact_uri
from zconfig._settings.configuration import Configuration, Note, nothing_configured
from zconfig._settings.fields import (
    CREDENTIALS,
    DEFAULT_DATABASE,
    ConnectionSettings,
    Variable,
    default_keepalive_s,
    endpoint_of,
)
from zconfig._settings.names import variable_name
from zconfig._settings.precedence import Setting
from zconfig._sources.base import FileState, FileStatus
from zconfig._sources.environment import process_environment
from zconfig._sources.pem import default_authorities
from zconfig.errors import Problem

_ROUNDS = 100_000
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells two secrets apart without showing either.

    Args:
        digest: Eight hexadecimal digits of a slow, salted hash: equal secrets of the same field
            of the same endpoint have the same, on every machine.
        length: How many characters the secret has.
        had_line_end: Whether its file ended in a line end, which is not part of it.
    """

    digest: str
    length: int
    had_line_end: bool = False


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A value that is set and does not count.

    Args:
        origin: Where it stands.
        reason: Why it does not count.
        value: The value as it may be shown; `None` if it is not valid, or in a file that was
            named and not opened.
        fingerprint: Of a secret.
    """

    origin: Origin
    reason: str
    value: str | None = None
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class FieldExplanation:
    """One field of one alias.

    Args:
        field: Its name.
        variable: The variable that sets it.
        value: Its value as it may be shown; `None` if it has none, or is not valid.
        origin: Where the value stood; `None` for a default.
        layer: The layer it stood in.
        part: The part of a URI that it stood in: `path` or `userinfo`; `None` for a value of its
            own.
        shadowed: What is set for it elsewhere, and does not count.
        empty: Where it is set but empty, which counts as unset.
        fingerprint: Of a secret.
    """

    field: str
    variable: str
    value: str | None = None
    origin: Origin | None = None
    layer: str | None = None
    part: str | None = None
    shadowed: tuple[Shadowed, ...] = ()
    empty: tuple[Origin, ...] = ()
    fingerprint: Fingerprint | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything sets it, rather than a default."""
        return self.origin is not None


@dataclass(frozen=True, slots=True)
class AliasExplanation:
    """One alias.

    Args:
        alias: Its name.
        fields: Every field, in the order they are declared.
        problems: What is wrong with it.
    """

    alias: str
    fields: tuple[FieldExplanation, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a configuration came from.

    Args:
        aliases: The aliases asked for.
        files: The files that were looked for, highest precedence first.
        notes: What was passed over, and why.
        problems: What is wrong, and concerns no alias in particular.
    """

    aliases: tuple[AliasExplanation, ...]
    files: tuple[FileStatus, ...]
    notes: tuple[Note, ...]
    problems: tuple[Problem, ...]


def explanation_of(configuration: Configuration, alias: str | None = None) -> Explanation:
    """Explain one alias, or all of them.

    Args:
        configuration: What was read.
        alias: The alias in its folded form; `None` for all, also those that are wrong. One that
            nothing mentions is left out.
    """
    wrong = (problem.alias for problem in configuration.problems if problem.alias)
    empty = (note.field_key[0] for note in configuration.notes if note.field_key)
    known = dict.fromkeys((*configuration.aliases, *wrong, *empty))
    wanted = [each for each in known if alias in {None, each}]
    nothing = () if known else (nothing_configured(configuration),)
    return Explanation(
        aliases=tuple(_alias(configuration, each) for each in wanted),
        files=(*configuration.files, *_named_files(configuration)),
        notes=tuple(note for note in configuration.notes if note.field_key is None),
        problems=(*(each for each in configuration.problems if each.alias is None), *nothing),
    )


def _named_files(configuration: Configuration) -> Iterator[FileStatus]:
    """Yield the files that `_FILE` variables name."""
    read = (each.origin.via for each in configuration.provenance.values())
    refused = (each.origin.via for each in configuration.errors if each.origin)
    states: dict[str, FileState] = {path: "refused" for path in refused if path}
    states |= {path: "read" for path in read if path}
    yield from (FileStatus(path, state) for path, state in states.items())


def _alias(configuration: Configuration, alias: str) -> AliasExplanation:
    settings = configuration.aliases.get(alias)
    problems = tuple(each for each in configuration.problems if each.alias == alias)
    return AliasExplanation(alias, tuple(_fields(configuration, alias, settings)), problems)


def _fields(
    configuration: Configuration, alias: str, settings: ConnectionSettings | None
) -> Iterator[FieldExplanation]:
    empty = _empty(configuration, alias)
    shadowed = _shadowed(configuration, alias, settings)
    uri = configuration.provenance.get((alias, "uri"))
    for field in ConnectionSettings.model_fields:
        declared = configuration.provenance.get((alias, field))
        is_part = field in CREDENTIALS and declared and uri and declared.origin == uri.origin
        part = "userinfo" if is_part else None
        if field == "db_name" and declared is None and settings and endpoint_of(settings).db_name:
            declared, part = uri, "path"
        value = getattr(settings, field) if settings else _alone(declared)
        line_end = declared.entry.had_line_end if declared else False
        yield FieldExplanation(
            field,
            variable_name(alias, field),
            value=_shown(field, value, is_set=declared is not None) or _default(field, settings),
            origin=declared.origin if declared else None,
            layer=declared.layer if declared else None,
            part=part,
            shadowed=tuple(shadowed[field]),
            empty=tuple(empty[field]),
            fingerprint=_fingerprint(settings, field, value, had_line_end=line_end),
        )


def _default(field: str, settings: ConnectionSettings | None) -> str | None:
    """Return what counts where a field is not set, and depends on the endpoint."""
    if settings is None or getattr(settings, field) is not None:
        return None
    endpoint = endpoint_of(settings)
    defaults = {
        "db_name": endpoint.db_name or DEFAULT_DATABASE,
        "keepalive": f"{default_keepalive_s(endpoint):g}",
        "tls_server_name": endpoint.host if endpoint.secure else None,
        "tls_ca": str(default_authorities(process_environment())) if endpoint.secure else None,
        "proxy": "as gRPC reads the environment" if endpoint.host else None,
    }
    return defaults.get(field)


def _empty(configuration: Configuration, alias: str) -> Mapping[str, list[Origin]]:
    """Return where fields of an alias are set but empty."""
    origins: dict[str, list[Origin]] = defaultdict(list)
    for note in configuration.notes:
        if note.field_key and note.field_key[0] == alias:
            origins[note.field_key[1]].append(note.origin)
    return origins


def _shadowed(
    configuration: Configuration, alias: str, settings: ConnectionSettings | None
) -> Mapping[str, list[Shadowed]]:
    """Return what does not count, by field: a token may well be shadowed by a user."""
    found: dict[str, list[Shadowed]] = defaultdict(list)
    for by in ConnectionSettings.model_fields:
        winner = configuration.provenance.get((alias, by))
        if winner:
            for each in winner.shadowed:
                found[each.word.field].append(_beaten(each, by, winner.layer, settings))
    for (owner, by), beaten in configuration.passed_over.items():
        for each in beaten if owner == alias else ():
            found[each.word.field].append(_beaten(each, by, None, settings))
    return found


def _beaten(
    declared: Setting, by: str, layer: str | None, settings: ConnectionSettings | None
) -> Shadowed:
    field, entry = declared.word.field, declared.entry
    if layer is None:
        reason = "what ranks higher is wrong, and nothing stands in for it"
    else:
        reason = f"{printable(layer)} ranks higher"
        if field != by:
            reason = f"{reason}, and has {by.upper()}: credentials are taken from one place"
    if field == "uri" and "@" in entry.value.reveal():
        reason = f"{reason}; the credentials in it go with it"
    value = None if declared.word.is_file else _validated(field, entry.value.reveal())
    shown = None if value is None else _shown(field, value, is_set=True)
    if shown and field == "uri":
        shown = redact_uri(entry.value.reveal())  # so that credentials in it show as masked
    mark = _fingerprint(settings, field, value, had_line_end=entry.had_line_end)
    return Shadowed(declared.origin, reason, shown, mark)


def _alone(declared: Setting | None) -> Any:
    """Return a value of an alias that is wrong, if this one is not."""
    return _validated(declared.word.field, declared.entry.value.reveal()) if declared else None


def _validated(field: str, text: str) -> Any:
    """Return a value by itself; `None` if it is not valid, since then it may be anything."""
    with suppress(ValidationError):
        return _adapter(field).validate_python(text)
    return None


@cache
def _adapter(field: str) -> TypeAdapter[Any]:
    info = ConnectionSettings.model_fields[field]
    annotated: Any = Annotated[info.annotation, *info.metadata]
    return TypeAdapter(annotated)


def _shown(field: str, value: Any, *, is_set: bool) -> str | None:
    """Return a value as it may be shown: a secret is masked, even where it could not be read."""
    if Variable.of(ConnectionSettings, field).secret:
        return MASK if is_set else None
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, SecretStr):  # a proxy's URL
        return redact_uri(value.get_secret_value())
    return redact_uri(str(value)) if field == "uri" else printable(str(value))


def _fingerprint(
    settings: ConnectionSettings | None, field: str, value: Any, *, had_line_end: bool
) -> Fingerprint | None:
    if settings is None or value is None or not Variable.of(ConnectionSettings, field).secret:
        return None
    secret = value.get_secret_value()
    salt = f"zconfig fingerprint {field} {settings.uri}".encode()
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, _ROUNDS).hex()[:_DIGITS]
    return Fingerprint(digest, len(secret), had_line_end)
