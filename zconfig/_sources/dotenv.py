"""One dotenv file, with the variables in its values expanded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zconfig._origin import Origin
from zconfig._redaction import Hidden, Secret
from zconfig._sources.base import Entry, FileStatus, SourceResult, absent, is_read, is_text
from zconfig._sources.dotenv_parser import (
    BAD_LINE,
    UNBALANCED_QUOTE,
    Assignment,
    parse_lines,
)
from zconfig._sources.environment import is_unread_place
from zconfig._sources.expansion import (
    MAX_EXPANDED_IN_SUM,
    Expanded,
    expand,
    referenced_in,
    too_long,
)
from zconfig._sources.files import MAX_DOTENV_BYTES, FileError, located, read_text
from zconfig.errors import Problem

_SOURCE = "dotenv"


def read_dotenv(
    path: Path | str,
    environ: Mapping[str, str],
    *,
    shown: str | None = None,
    named: bool = True,
) -> SourceResult:
    """Read the keys of a dotenv file that begin with `ZILLIZ_` or `ZCONFIG_`, and pymilvus'.

    Other keys matter only where one of ours refers to them. Of a key that stands there twice the
    last one counts.

    Args:
        path: The file.
        environ: Where `${NAME}` is looked up first; the keys above it in the file come second.
        shown: The path as the user would write it; by default `path`.
        named: Whether somebody named the file.

    Returns:
        Keys as written, values unquoted and expanded. A file that does not exist is no problem.
    """
    shown = shown or str(path)
    try:
        text = read_text(path, limit_bytes=MAX_DOTENV_BYTES, kind="dotenv", named=named)
    except FileError as error:
        return _unread(error, shown)
    problems = located(text.warnings, Origin(_SOURCE, shown))
    contents = _Contents(environ, shown, referenced_in(text.value))
    for assignment in parse_lines(text.value):
        contents.add(assignment)
    return SourceResult(
        shown,
        contents.entries(),
        (*problems, *contents.problems()),
        (FileStatus(shown, "read"),),
        tuple(contents.foreign),
        tuple(contents.places),
    )


def _unread(error: FileError, shown: str) -> SourceResult:
    if error.code == "missing":
        return absent(shown)
    problem = error.problem(Origin(_SOURCE, shown))
    return SourceResult(shown, problems=(problem,), files=(FileStatus(shown, "refused"),))


class _Contents:
    """What the lines read so far amount to."""

    def __init__(
        self, environ: Mapping[str, str], shown: str, referenced: frozenset[Hidden]
    ) -> None:
        self._environ = environ
        self._shown = shown
        self._referenced = referenced
        self._values: dict[str, Expanded] = {}
        self._ours: dict[str, tuple[Origin, Expanded]] = {}
        self._misread: list[Problem] = []
        self._warnings: list[Problem] = []
        self._expanded = 0
        self.foreign: list[Origin] = []
        self.places: list[Entry] = []

    def add(self, assignment: Assignment) -> None:
        """Take in the next assignment."""
        origin = Origin(_SOURCE, assignment.key, self._shown, assignment.line)
        if assignment.fault and assignment.fault is not UNBALANCED_QUOTE:
            self._misread.append(_misread(assignment.fault, origin))
        elif is_read(assignment.key):
            self._keep(origin, self._take(assignment, origin))
        else:
            self._pass_over(assignment, origin)

    def entries(self) -> tuple[Entry, ...]:
        """Return the values that are sound, in the order of their lines."""
        return tuple(
            Entry(origin.key, Secret(value.text), origin)
            for origin, value in self._ours.values()
            if not value.faults
        )

    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong, in the order of the lines."""
        faults = [
            _at(origin, fault) for origin, value in self._ours.values() for fault in value.faults
        ]
        return tuple(
            sorted([*self._warnings, *map(self._judged, self._misread), *faults], key=_line)
        )

    def _judged(self, misread: Problem) -> Problem:
        """Let a line that is no assignment spoil no setting that another line makes."""
        is_set = misread.origin is not None and misread.origin.key in self._ours
        return replace(misread, severity="warning") if is_set else misread

    def _pass_over(self, assignment: Assignment, origin: Origin) -> None:
        """Take in what is not ours: its value matters only where one of ours may refer to it."""
        self.foreign.append(origin)
        if assignment.fault is UNBALANCED_QUOTE:
            self._warnings.append(replace(UNBALANCED_QUOTE, origin=origin, severity="warning"))
        is_place = is_unread_place(assignment.key)
        if is_place or assignment.key in self._referenced:
            value = self._take(assignment, origin)
            if is_place and not value.faults:
                self.places.append(Entry(origin.key, Secret(value.text), origin))

    def _take(self, assignment: Assignment, origin: Origin) -> Expanded:
        value = self._value(assignment, origin)
        self._values[assignment.key] = value
        return value

    def _value(self, assignment: Assignment, origin: Origin) -> Expanded:
        value = assignment.read()
        if isinstance(value, Problem):
            fault = _misread(value, origin) if value is BAD_LINE else replace(value, origin=origin)
            return Expanded(Hidden(""), (fault,))
        if assignment.literal or "${" not in value:
            return Expanded(value)
        expanded = expand(value, self._look_up, origin)
        self._expanded += len(expanded.text)
        if self._expanded > MAX_EXPANDED_IN_SUM:
            return too_long("the values of this file are", MAX_EXPANDED_IN_SUM, origin)
        return expanded

    def _look_up(self, name: str) -> Expanded | None:
        if name not in self._environ:
            return self._values.get(name)
        value = Hidden(self._environ[name])
        return Expanded(value) if is_text(value) else Expanded(value, (_not_text(name),))

    def _keep(self, origin: Origin, value: Expanded) -> None:
        earlier = self._ours.pop(origin.key, None)
        if earlier is not None:
            self._warnings.append(_duplicate(earlier[0], origin))
        self._ours[origin.key] = origin, value


def _misread(fault: Problem, origin: Origin) -> Problem:
    return replace(fault, remedy=fault.remedy.format(key=origin.key), origin=origin)


def _at(origin: Origin, fault: Problem) -> Problem:
    """Return a fault as a problem of the line that suffers from it."""
    through = "" if fault.origin == origin else f" (through {fault.origin})"
    return replace(fault, message=f"{fault.message}{through}", origin=origin)


def _line(problem: Problem) -> int:
    return (problem.origin.line if problem.origin else None) or 0


def _duplicate(earlier: Origin, last: Origin) -> Problem:
    return Problem(
        "duplicate_key",
        f"the key stands on line {earlier.line} already; line {last.line} counts",
        "remove one of the two",
        origin=last,
        severity="warning",
    )


def _not_text(name: str) -> Problem:
    return Problem(
        "not_text",
        f"{name} is not UTF-8 text",
        "set it again as UTF-8",
        origin=Origin("environment", name),
    )
