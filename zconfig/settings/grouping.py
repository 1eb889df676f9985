"""The entries of one source → fields by alias. No precedence yet, and nothing validated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from zconfig.errors import Problem, Severity
from zconfig.origin import Origin
from zconfig.settings.names import Misnomer, Name, Word, parse_name
from zconfig.sources.entry import Entry, Reading


@dataclass(frozen=True, slots=True)
class Declared:
    """One entry whose name was understood."""

    word: Word
    entry: Entry


Fields = Mapping[str, tuple[Declared, ...]]
"""The fields of one alias in one layer; two spellings of a field stand side by side."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The entries of one source.

    Args:
        name: The source's name, e.g. `environment` or `.env`.
        aliases: Fields by alias.
        faults: What is wrong with one field of one alias, e.g. a file that cannot be read.
    """

    name: str
    aliases: Mapping[str, Fields]
    faults: tuple[Problem, ...] = ()


def group(reading: Reading, *, strict: bool) -> tuple[Layer, tuple[Problem, ...]]:
    """Sort a reading's entries by alias and field.

    Args:
        reading: What one source said.
        strict: Whether an unknown name is an error rather than a warning.

    Returns:
        The layer, and the problems that concern no alias in particular: of the source as a
        whole, and of each name that was not understood and looks like a typo.
    """
    aliases: dict[str, dict[str, tuple[Declared, ...]]] = defaultdict(dict)
    located = [_locate(problem) for problem in reading.problems]
    faults = tuple(problem for problem in located if problem.alias)
    problems = [problem for problem in located if not problem.alias]
    for entry in reading.entries:
        name = parse_name(entry.key)
        if isinstance(name, Misnomer):
            problems += _misnamed(name, entry.origin, strict=strict)
        elif name:
            fields = aliases[name.alias]
            declared = Declared(name.word, entry)
            fields[name.word.field] = (*fields.get(name.word.field, ()), declared)
    return Layer(reading.name, dict(aliases), faults), tuple(problems)


def _locate(problem: Problem) -> Problem:
    """Say which alias and field a source's problem concerns, if its key tells."""
    name = parse_name(problem.origin.key) if problem.origin else None
    if isinstance(name, Name):
        return replace(problem, alias=name.alias, field=name.word.field)
    return problem


def _misnamed(name: Misnomer, origin: Origin, *, strict: bool) -> Iterable[Problem]:
    """An unknown name that resembles nothing is the application's own, and left alone."""
    unknown = name.code == "unknown_name"
    if unknown and name.suggestion is None:
        return
    remedy = f"did you mean {name.suggestion}?" if unknown else "choose another alias"
    severity: Severity = "error" if strict or not unknown else "warning"
    yield Problem(name.code, name.message, remedy, origin=origin, severity=severity)
