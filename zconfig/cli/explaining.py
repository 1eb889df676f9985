"""An explanation → a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from zconfig.cli.drawing import Part, as_json, draw
from zconfig.origin import Origin, printable
from zconfig.redaction import MASK
from zconfig.settings.explain import (
    AliasExplanation,
    Explanation,
    FieldExplanation,
    Shadowed,
)


def explanation_table(explanation: Explanation) -> str:
    """Return what each alias is made of, then the notes, problems and files."""
    return draw(_parts(explanation))


def explanation_json(explanation: Explanation) -> str:
    """Return one JSON object; its keys are documented, and only ever added to."""
    return as_json(_plain(asdict(explanation)))


def _parts(explanation: Explanation) -> Iterator[Part]:
    for alias in explanation.aliases:
        yield Text(alias.alias, style="bold")
        yield _fields(alias)
        yield from (Text(f"{each.severity}: {each}") for each in alias.problems)
        yield Text("")
    yield from (Text(f"{note.origin} {note.message}") for note in explanation.notes)
    yield from (Text(f"{each.severity}: {each}") for each in explanation.problems)
    yield from (Text(printable(line)) for line in _files(explanation))


def _fields(alias: AliasExplanation) -> Table:
    """Return what there is to say of each field: its value, and below it where that is from."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for header in ("indent", "field", "told"):
        table.add_column(header, overflow="fold", no_wrap=header != "told")
    for field in alias.fields:
        for number, told in enumerate(_told(field)):
            table.add_row("", Text("" if number else field.field, style="bold"), told)
    return table


def _told(field: FieldExplanation) -> list[Text]:
    part = f"the {field.part} of " if field.part else ""
    lines = [Text(f"from {part}{field.origin}")] if field.origin else []
    lines += [Text(f"not {_beaten(each, field)}", style="dim") for each in field.shadowed]
    lines += [Text(f"not {origin}: it is empty", style="dim") for origin in field.empty]
    if field.origin is None and field.value is None:
        return [Text("not set", style="dim"), *lines] if lines else []
    return [_value(field), *lines]


def _value(field: FieldExplanation) -> Text:
    mark = field.fingerprint
    if mark:
        line_end = ", its file ends in a line end" if mark.had_line_end else ""
        marked = f"{field.value} ({mark.length} characters, fingerprint {mark.digest}{line_end})"
        return Text(marked)
    if field.is_set:
        return Text(field.value or "not valid")
    return Text(f"{field.value} (not set)", style="dim")


def _beaten(other: Shadowed, field: FieldExplanation) -> str:
    """Return where a value stands that does not count, what it is, and why."""
    value = other.value
    if field.fingerprint and other.fingerprint:
        same = field.fingerprint.digest == other.fingerprint.digest
        value = "the same value" if same else "another value"
    told = f", {value}" if value and value != MASK else ""
    return f"{other.origin}{told}: {other.reason}"


def _files(explanation: Explanation) -> Iterator[str]:
    """Yield what was looked for, and the dotenv files that no profile and no option names."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        here = Path("a directory that is gone")
    yield f"looked for in {here}, the highest rank first:"
    yield "  environment"
    yield from (f"  {seen.path}: {seen.state}" for seen in explanation.files)
    known = {here / ".env.example", *(here / seen.path for seen in explanation.files)}
    left = sorted(path.name for path in here.glob(".env*") if path not in known)
    yield from (f"  {name}: not looked for" for name in left)


def _plain(value: Any) -> Any:
    """Return a value in JSON's own types, an origin also as the text that people read."""
    if isinstance(value, dict):
        plain = {key: _plain(each) for key, each in value.items()}
        if plain.keys() == {"source", "key", "path", "line", "via"}:
            plain["text"] = str(Origin(**value))
        return plain
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
