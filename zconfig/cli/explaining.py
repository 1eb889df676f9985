"""An explanation → a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from zconfig.cli.drawing import Part, draw, new_table
from zconfig.origin import Origin
from zconfig.settings.explain import AliasExplanation, Explanation, FieldExplanation


def explanation_table(explanation: Explanation) -> str:
    """Return a table for each alias, then the files, notes and problems."""
    return draw(_parts(explanation))


def explanation_json(explanation: Explanation) -> str:
    """Return one JSON object; its keys are documented, and only ever added to."""
    return json.dumps(_plain(asdict(explanation)), indent=2)


def _parts(explanation: Explanation) -> Iterator[Part]:
    for alias in explanation.aliases:
        yield Text(alias.alias, style="bold")
        yield _table(alias)
        yield from (Text(f"{each.severity}: {each}") for each in alias.problems)
        yield Text("")
    yield from (Text(f"{note.origin} {note.message}") for note in explanation.notes)
    yield from (Text(f"{each.severity}: {each}") for each in explanation.problems)
    if explanation.files:
        yield Text("looked for, highest precedence first:")
    yield from (Text(f"  {seen.path}: {seen.state}") for seen in explanation.files)


def _table(alias: AliasExplanation) -> Table:
    table = new_table("field", "value", "from", "instead of", wraps={"value", "from", "instead of"})
    for field in alias.fields:
        if field.is_set or field.value is not None or field.empty:
            table.add_row(Text(field.field), _value(field), _origin(field), Text(_instead(field)))
    return table


def _value(field: FieldExplanation) -> Text:
    mark = field.fingerprint
    if mark is None:
        return Text(field.value or "", style="" if field.is_set else "dim")
    line_end = ", its file ends in a line end" if mark.had_line_end else ""
    return Text(f"{field.value} ({mark.length} characters, fingerprint {mark.digest}{line_end})")


def _origin(field: FieldExplanation) -> Text:
    if field.origin is None:
        return Text("default" if field.value is not None else "", style="dim")
    return Text(str(field.origin))


def _instead(field: FieldExplanation) -> str:
    """Return what the value takes precedence over, and what is set but empty."""
    empty = [f"{origin}, which is empty" for origin in field.empty]
    return "\n".join([*map(str, field.shadowed), *empty])


def _plain(value: Any) -> Any:
    """Return a value in JSON's own types, an origin also as the text that people read."""
    if isinstance(value, dict):
        plain = {key: _plain(each) for key, each in value.items()}
        if plain.keys() == {"source", "key", "path", "line", "via"}:
            plain["text"] = str(Origin(**value))
        return plain
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
