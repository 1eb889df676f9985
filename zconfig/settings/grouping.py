"""The entries of one source → fields by alias. No precedence yet, and nothing validated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from zconfig.errors import Problem, Severity
from zconfig.origin import Origin
from zconfig.settings.names import Misnomer, Name, Word, fold, is_ours, parse_name
from zconfig.sources.entry import Entry, Reading, questionable

# Their parsers take white space, or refuse what is no value; other fields and options are texts.
_PARSED = {"uri", "timeout", "required", "keepalive", "pool_size"}
_PARSED |= {"strict", "wait", "log_format", "log_level", "profile", "default_alias"}

SERVICE_LINK = "is what Kubernetes sets for a service; it declares nothing"
FOREIGN = "is no field of a connection; it is left to the application"


class Declared(NamedTuple):
    """One entry whose name was understood; if its value counts, the provenance of its field.

    Args:
        word: The field, as it is spelt.
        entry: What was read.
        layer: The name of its layer.
        shadowed: What it takes precedence over.
    """

    word: Word
    entry: Entry
    layer: str
    shadowed: tuple[Declared, ...] = ()

    @property
    def origin(self) -> Origin:
        """Where the value stood."""
        return self.entry.origin

    @property
    def had_line_end(self) -> bool:
        """Whether its file ended in a line end, which is not part of it."""
        return self.entry.had_line_end


class Layer(NamedTuple):
    """The entries of one source.

    Args:
        name: The source's name, e.g. `environment` or `.env`.
        aliases: What is declared of each alias, in the order it stood.
        faults: What is wrong with one field of one alias, e.g. a file that cannot be read.
        passed_over: `ZILLIZ_*` names that are nobody's mistake, and why they declare nothing.
    """

    name: str
    aliases: Mapping[str, Sequence[Declared]]
    faults: tuple[Problem, ...] = ()
    passed_over: tuple[tuple[Origin, str], ...] = ()


def group(reading: Reading, *, strict: bool) -> tuple[Layer, tuple[Problem, ...]]:
    """Sort a reading's entries by alias and field.

    Args:
        reading: What one source said.
        strict: Whether an unknown name is an error rather than a warning.

    Returns:
        The layer, and the problems that concern no field of an alias: of the source as a whole,
        and of each name that was not understood and looks like a typo.
    """
    aliases: dict[str, list[Declared]] = defaultdict(list)
    located = [_locate(problem) for problem in reading.problems]
    faults = [problem for problem in located if problem.alias]
    problems = [problem for problem in located if not problem.alias]
    passed_over: list[tuple[Origin, str]] = []
    for entry in reading.entries:
        name = parse_name(entry.key)
        if isinstance(name, Name):
            aliases[name.alias].append(Declared(name.word, entry, reading.name))
            faults += _questionable(name, entry)
        elif isinstance(name, Misnomer) and not _is_foreign(name):
            problems.append(_misnamed(name, entry.origin, strict=strict))
        elif is_ours(entry.key):
            passed_over.append((entry.origin, FOREIGN if name else SERVICE_LINK))
        elif fold(entry.key).removeprefix("zconfig_") not in _PARSED:
            problems += questionable(entry.value.reveal(), entry.origin)
    return Layer(reading.name, dict(aliases), tuple(faults), tuple(passed_over)), tuple(problems)


def _questionable(name: Name, entry: Entry) -> Iterator[Problem]:
    if name.word.is_file or name.word.field not in _PARSED:
        for each in questionable(entry.value.reveal(), entry.origin):
            yield replace(each, alias=name.alias, field=name.word.field)


def _locate(problem: Problem) -> Problem:
    """Say which alias and field a source's problem concerns, if its key tells."""
    origin = problem.origin
    name = parse_name(origin.key) if origin else None
    if isinstance(name, Name):
        return replace(problem, alias=name.alias, field=name.word.field)
    is_variable = origin and (origin.source == "environment" or origin.line is not None)
    # A variable of an application's own may be what it likes.
    return replace(problem, severity="warning") if name and is_variable else problem


def _is_foreign(name: Misnomer) -> bool:
    """Tell whether an unknown name resembles nothing, and so is the application's own."""
    return name.code == "unknown_name" and name.suggestion is None


def _misnamed(name: Misnomer, origin: Origin, *, strict: bool) -> Problem:
    unknown = name.code == "unknown_name"
    meant = name.suggestion
    remedy = f"did you mean {meant}?" if meant else "choose another alias"
    severity: Severity = "error" if strict or not unknown else "warning"
    return Problem(name.code, name.message, remedy, name.alias or None, None, origin, severity)
