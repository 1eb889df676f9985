"""Explain a configuration: the origin of each value, and the values that are not used."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from zconfig._origin import Origin, printable
from zconfig._redaction import MASK, Hidden, redact_uri
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
from zconfig._value import Value, value
from zconfig.errors import Problem

_ROUNDS = 100_000
_DIGITS = 8


@value
class Fingerprint(Value):
    """A fingerprint to compare secrets without showing them.

    Args:
        digest: Eight hexadecimal digits of a slow, salted hash. Equal secrets of the same field
            of the same endpoint have the same digest, on every machine.
        length: Number of characters of the secret.
        had_line_end: Whether a line end at the end of its file was removed.
    """

    digest: str
    length: int
    had_line_end: bool = False


@value
class Shadowed(Value):
    """A value that is set and not used.

    Args:
        origin: The origin of the value.
        reason: The reason that it is not used.
        value: The value for display; `None` if it is invalid, or in a file that was not opened.
        fingerprint: The fingerprint of a secret.
    """

    origin: Origin
    reason: str
    value: str | None = None
    fingerprint: Fingerprint | None = None


@value
class FieldExplanation(Value):
    """One field of one alias.

    Args:
        field: The name of the field.
        variable: The variable that sets it.
        value: The value for display; `None` if it has none, or is invalid.
        origin: The origin of the value; `None` for a default.
        layer: The layer of the value.
        part: The part of a URI that contains the value: `path` or `userinfo`; otherwise `None`.
        shadowed: Values of other sources that are not used.
        empty: The origins of empty values, which count as unset.
        fingerprint: The fingerprint of a secret.
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
        """Whether a source sets it; otherwise it has its default."""
        return self.origin is not None


@value
class AliasExplanation(Value):
    """One alias.

    Args:
        alias: The name of the alias.
        fields: Every field, in the order of declaration.
        problems: The problems of the alias.
    """

    alias: str
    fields: tuple[FieldExplanation, ...]
    problems: tuple[Problem, ...] = ()


@value
class Explanation(Value):
    """The origins of a configuration.

    Args:
        aliases: The explained aliases.
        files: The files that were looked for, highest precedence first.
        notes: Entries that are not used, with the reasons.
        problems: The problems that concern no single alias.
    """

    aliases: tuple[AliasExplanation, ...]
    files: tuple[FileStatus, ...]
    notes: tuple[Note, ...]
    problems: tuple[Problem, ...]


def explanation_of(configuration: Configuration, alias: str | None = None) -> Explanation:
    """Explain one alias, or all of them.

    Args:
        configuration: The configuration.
        alias: The alias in its folded form; `None` for all, including invalid ones. An alias that
            no setting names is left out.
    """
    wrong = (problem.alias for problem in configuration.problems if problem.alias)
    empty = (note.slot[0] for note in configuration.notes if note.slot)
    known = dict.fromkeys((*configuration.aliases, *wrong, *empty))
    wanted = [each for each in known if alias in {None, each}]
    nothing = () if known else (nothing_configured(configuration),)
    return Explanation(
        aliases=tuple(_alias(configuration, each) for each in wanted),
        files=(*configuration.files, *_named_files(configuration)),
        notes=tuple(note for note in configuration.notes if note.slot is None),
        problems=(*(each for each in configuration.problems if each.alias is None), *nothing),
    )


def _named_files(configuration: Configuration) -> Iterator[FileStatus]:
    """Yield the files that `_FILE` variables name."""
    known = {each.path for each in configuration.files}  # an error may name one of an option
    read = (each.origin.via for each in configuration.provenance.values())
    refused = (each.origin.via for each in configuration.errors if each.origin)
    states: dict[str, FileState] = {path: "refused" for path in refused if path}
    states |= {path: "read" for path in read if path}
    yield from (FileStatus(path, state) for path, state in states.items() if path not in known)


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
    """Return the default of a field that is not set, if it depends on the endpoint."""
    if settings is None or getattr(settings, field) is not None:
        return None
    endpoint = endpoint_of(settings)
    defaults = {
        "db_name": endpoint.db_name or DEFAULT_DATABASE,
        "keepalive": f"{default_keepalive_s(endpoint):g}",
        "tls_server_name": endpoint.host if endpoint.secure else None,
        "tls_ca": str(default_authorities(process_environment())) if endpoint.secure else None,
        "proxy": "from the environment, as read by gRPC" if endpoint.host else None,
    }
    return defaults.get(field)


def _empty(configuration: Configuration, alias: str) -> Mapping[str, list[Origin]]:
    """Return the origins of empty values, by field of an alias."""
    origins: dict[str, list[Origin]] = defaultdict(list)
    for note in configuration.notes:
        if note.slot and note.slot[0] == alias:
            origins[note.slot[1]].append(note.origin)
    return origins


def _shadowed(
    configuration: Configuration, alias: str, settings: ConnectionSettings | None
) -> Mapping[str, list[Shadowed]]:
    """Return the values that are not used, by field: a user may shadow a token."""
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
        reason = "the value that takes precedence is invalid, and is not replaced"
    else:
        reason = f"{printable(layer)} takes precedence"
        if field != by:
            reason = f"{reason}, and sets {by.upper()}: credentials come from one source"
    if field == "uri" and "@" in entry.value.reveal():
        reason = f"{reason}; the credentials in the URI are not used either"
    value = None if declared.word.is_file else _validated(field, entry.value.reveal())
    shown = None if value is None else _shown(field, value, is_set=True)
    if shown and field == "uri":
        shown = redact_uri(entry.value.reveal())  # shows credentials in it as masked
    mark = _fingerprint(settings, field, value, had_line_end=entry.had_line_end)
    return Shadowed(declared.origin, reason, shown, mark)


def _alone(declared: Setting | None) -> Any:
    """Return a value of an invalid alias, if the value itself is valid."""
    return _validated(declared.word.field, declared.entry.value.reveal()) if declared else None


def _validated(field: str, text: str) -> Any:
    """Validate a single value; `None` if it is invalid, since it may be a secret."""
    with suppress(ValidationError):
        return _adapter(field).validate_python(text)
    return None


@cache
def _adapter(field: str) -> TypeAdapter[Any]:
    info = ConnectionSettings.model_fields[field]
    annotated: Any = Annotated[info.annotation, *info.metadata]
    return TypeAdapter(annotated)


def _shown(field: str, value: Any, *, is_set: bool) -> str | None:
    """Return a value for display: a secret is masked, even if it could not be read."""
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
    secret = Hidden(value.get_secret_value())
    salt = f"zconfig fingerprint {field} {settings.uri}".encode()
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, _ROUNDS).hex()[:_DIGITS]
    return Fingerprint(digest, len(secret), had_line_end)
