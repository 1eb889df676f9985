"""The declarations of the fields → `.env.example`, a table for the docs, and a JSON Schema."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from zconfig._settings.fields import ConnectionSettings, Variable
from zconfig._settings.names import DEFAULT_ALIAS, variable_name
from zconfig._settings.options import PREFIX, LoaderOptions

_HEADER = """\
# Connections to Zilliz Cloud and Milvus, and how they are read. Copy this file to .env, which
# holds secrets and is not to be committed. Made by: zconfig env-example
#
# ZILLIZ_<FIELD> is a field of the connection `default`, ZILLIZ_<ALIAS>_<FIELD> of another one:
# ZILLIZ_ANALYTICS_URI is where the connection `analytics` leads.
"""
_OPTIONS_HEADER = """\
# How the configuration is read, and what is reported.
"""


@dataclass(frozen=True, slots=True)
class ReferenceEntry:
    """One variable of the reference.

    Args:
        name: As it is written for the alias `default`.
        also: Its other names.
        variable: Its declaration.
        default: The value where it is not set; `None` if there is none.
        required: Whether it must be set.
    """

    name: str
    also: tuple[str, ...]
    variable: Variable
    default: Any
    required: bool


def connection_entries() -> Iterator[ReferenceEntry]:
    """Yield the variables of a connection, in the order they are declared."""
    for field, info in ConnectionSettings.model_fields.items():
        variable = Variable.of(ConnectionSettings, field)
        name = variable_name(DEFAULT_ALIAS, field)
        also = [variable_name(DEFAULT_ALIAS, synonym) for synonym in variable.synonyms]
        also += [f"{name}_FILE"] if variable.file_form else []
        yield ReferenceEntry(
            name, tuple(also), variable, _default(info.default), info.is_required()
        )


def option_entries() -> Iterator[ReferenceEntry]:
    """Yield the loader's options, in the order they are declared."""
    for field, info in LoaderOptions.model_fields.items():
        variable = Variable.of(LoaderOptions, field)
        name = f"{PREFIX}{field.upper()}"
        yield ReferenceEntry(name, (), variable, _default(info.default), required=False)


def env_example() -> str:
    """Return a `.env` with every variable explained; only the URI is set."""
    parts = [_HEADER, *(_lines(entry) for entry in connection_entries())]
    parts += [_OPTIONS_HEADER, *(_lines(entry) for entry in option_entries())]
    return "\n".join(parts)


def markdown_sections(entries: Iterator[ReferenceEntry]) -> str:
    """Return a section for each variable, for the documentation."""
    return "\n".join(map(_section, entries))


def _section(entry: ReferenceEntry) -> str:
    variable = entry.variable
    facts = [_sentence(variable.meaning)]
    if entry.required:
        facts.append("Required.")
    elif entry.default is not None:
        facts.append(f"Default: {_shown(entry.default)}.")
    if entry.also:
        facts.append(f"Also: {', '.join(f'`{name}`' for name in entry.also)}.")
    if variable.example and not variable.secret:
        facts.append(f"Example: `{entry.name}={variable.example}`.")
    return f"### `{entry.name}`\n\n{' '.join(facts)}\n"


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema of the variables, as an object of strings."""
    entries = [*connection_entries(), *option_entries()]
    properties = {
        name: _property(entry, alias=name != entry.name)
        for entry in entries
        for name in (entry.name, *entry.also)
    }
    named = "|".join(e.name.removeprefix("ZILLIZ_") for e in connection_entries())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Connections to Zilliz Cloud and Milvus, as environment variables",
        "type": "object",
        "properties": properties,
        "patternProperties": {
            f"^ZILLIZ_[A-Z0-9]+(_[A-Z0-9]+)*_({named})$": {
                "type": "string",
                "description": "the same field of the connection whose alias stands between",
            }
        },
    }


def _property(entry: ReferenceEntry, *, alias: bool) -> dict[str, Any]:
    variable = entry.variable
    described: dict[str, Any] = {"type": "string", "description": variable.meaning}
    if alias:
        described["description"] = f"in place of {entry.name}: {variable.meaning}"
    elif entry.default is not None:
        described["default"] = str(entry.default)
    if variable.secret:
        described["writeOnly"] = True
    else:
        described["examples"] = [variable.example]
    return described


def _lines(entry: ReferenceEntry) -> str:
    variable = entry.variable
    also = f" Also {', '.join(entry.also)}." if entry.also else ""
    default = "" if entry.default is None else f" Default: {_text(entry.default)}."
    meaning = f"{_sentence(variable.meaning)}{default}{also}"
    comment = textwrap.fill(meaning, 98, initial_indent="# ", subsequent_indent="# ")
    mark = "" if entry.required else "# "
    example = "" if variable.secret else variable.example
    return f"{comment}\n{mark}{entry.name}={example}\n"


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}."


def _default(value: Any) -> Any:
    return None if value is PydanticUndefined or value == () else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    return "" if value is None else f"`{_text(value)}`"
