"""A configuration → where each value came from, what it shadows, and what was passed over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from zconfig.errors import Problem
from zconfig.origin import Origin
from zconfig.redaction import MASK, redact_uri
from zconfig.settings.configuration import Configuration, Note
from zconfig.settings.fields import ConnectionSettings, Variable
from zconfig.settings.names import variable_name
from zconfig.sources.entry import FileSeen

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
class FieldExplanation:
    """One field of one alias.

    Args:
        field: Its name.
        variable: The variable that sets it.
        value: Its value as it may be shown; `None` if it has none, or is not valid.
        origin: Where the value stood; `None` for a default.
        layer: The layer it stood in.
        shadowed: Where other values stood that it takes precedence over.
        empty: Where it is set but empty, which counts as unset.
        fingerprint: Of a secret.
    """

    field: str
    variable: str
    value: str | None = None
    origin: Origin | None = None
    layer: str | None = None
    shadowed: tuple[Origin, ...] = ()
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
    files: tuple[FileSeen, ...]
    notes: tuple[Note, ...]
    problems: tuple[Problem, ...]


def explain(configuration: Configuration, alias: str | None = None) -> Explanation:
    """Explain one alias, or all of them.

    Args:
        configuration: What was read.
        alias: The alias in its folded form; `None` for all, also those that are wrong. One that
            nothing mentions is left out.
    """
    wrong = (problem.alias for problem in configuration.problems if problem.alias)
    empty = (note.slot[0] for note in configuration.notes if note.slot)
    known = dict.fromkeys((*configuration.aliases, *wrong, *empty))
    wanted = [each for each in known if alias in {None, each}]
    return Explanation(
        aliases=tuple(_alias(configuration, each) for each in wanted),
        files=configuration.files,
        notes=tuple(note for note in configuration.notes if note.slot is None),
        problems=tuple(each for each in configuration.problems if each.alias is None),
    )


def _alias(configuration: Configuration, alias: str) -> AliasExplanation:
    settings = configuration.aliases.get(alias)
    problems = tuple(each for each in configuration.problems if each.alias == alias)
    return AliasExplanation(alias, tuple(_fields(configuration, alias, settings)), problems)


def _fields(
    configuration: Configuration, alias: str, settings: ConnectionSettings | None
) -> Iterator[FieldExplanation]:
    empty: Mapping[str, list[Origin]] = {}
    for note in configuration.notes:
        if note.slot and note.slot[0] == alias:
            empty = {**empty, note.slot[1]: [*empty.get(note.slot[1], []), note.origin]}
    for field in ConnectionSettings.model_fields:
        provenance = configuration.provenance.get((alias, field))
        value = getattr(settings, field) if settings else None
        yield FieldExplanation(
            field,
            variable_name(alias, field),
            value=_shown(field, value, is_set=provenance is not None),
            origin=provenance.origin if provenance else None,
            layer=provenance.layer if provenance else None,
            shadowed=provenance.shadowed if provenance else (),
            empty=tuple(empty.get(field, ())),
            fingerprint=_fingerprint(settings, field, value, provenance),
        )


def _shown(field: str, value: Any, *, is_set: bool) -> str | None:
    """Return a value as it may be shown: a secret is masked, even where it could not be read."""
    if Variable.of(ConnectionSettings, field).secret:
        return MASK if is_set else None
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return redact_uri(str(value)) if field in {"uri", "proxy"} else str(value)


def _fingerprint(
    settings: ConnectionSettings | None, field: str, value: Any, provenance: Any
) -> Fingerprint | None:
    if settings is None or not isinstance(value, SecretStr):
        return None
    secret = value.get_secret_value()
    salt = f"zconfig fingerprint {field} {settings.uri}".encode()
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, _ROUNDS).hex()[:_DIGITS]
    return Fingerprint(digest, len(secret), provenance.had_line_end if provenance else False)
