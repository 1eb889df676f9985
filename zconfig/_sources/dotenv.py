"""Read one dotenv file: lines as in python-dotenv, with `${NAME}` expanded.

Unlike python-dotenv, a quote that is not closed affects only its own line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import parse_stream

from zconfig._origin import Origin
from zconfig._redaction import Hidden, Secret
from zconfig._sources.base import (
    Entry,
    FileStatus,
    SourceResult,
    is_read,
    is_text,
    oddities,
    plain,
    plain_text,
)
from zconfig._sources.environment import is_unread_place
from zconfig._sources.expansion import (
    MAX_EXPANDED_IN_SUM,
    Expanded,
    expand,
    referenced_in,
    too_long,
)
from zconfig._sources.files import MAX_DOTENV_BYTES, FileError, located, read_text, unread
from zconfig._value import Value, value
from zconfig.errors import Problem

_SOURCE = "dotenv"


def read_dotenv(
    path: Path | str,
    environ: Mapping[str, str],
    *,
    shown: str | None = None,
    named: bool = True,
) -> SourceResult:
    """Read the keys `ZILLIZ_*` and `ZCONFIG_*` of a dotenv file, and those of `MILVUS`.

    Other keys are used only where a value refers to them. If a key is set twice, the last value
    takes precedence.

    Args:
        path: The file.
        environ: The variables that `${NAME}` is looked up in first; keys above it in the file come
            second.
        shown: The path as the user would write it; by default `path`.
        named: Whether an option names the file.

    Returns:
        Keys as written, values unquoted and expanded. A file that does not exist is not a problem.
    """
    shown = shown or str(path)
    try:
        text = read_text(path, limit_bytes=MAX_DOTENV_BYTES, kind="dotenv", named=named)
    except FileError as error:
        return unread(error, Origin(_SOURCE, shown))
    contents = _Contents(environ, shown, referenced_in(text.value))
    for assignment in parse_lines(text.value):
        contents.add(assignment)
    return contents.result(located(text.warnings, Origin(_SOURCE, shown)))


class _Contents:
    """The values and problems of the lines that were read so far."""

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
        self._foreign: list[Origin] = []
        self._places: list[Entry] = []

    def add(self, assignment: Assignment) -> None:
        """Add the next assignment."""
        origin = Origin(_SOURCE, assignment.key, self._shown, assignment.line)
        if assignment.fault and assignment.fault is not UNBALANCED_QUOTE:
            self._misread.append(_filled(assignment.fault, origin))
        elif is_read(assignment.key):
            self._keep(origin, self._take(assignment, origin))
        else:
            self._pass_over(assignment, origin)

    def result(self, warnings: Iterable[Problem]) -> SourceResult:
        """Return the usable values, and the problems in the order of their lines."""
        faults = [
            _at(origin, fault) for origin, value in self._ours.values() for fault in value.faults
        ]
        problems = sorted([*self._warnings, *map(self._judged, self._misread), *faults], key=_line)
        return SourceResult(
            self._shown,
            tuple(Entry(o.key, Secret(v.text), o) for o, v in self._ours.values() if not v.faults),
            (*warnings, *problems),
            (FileStatus(self._shown, "read"),),
            tuple(self._foreign),
            tuple(self._places),
        )

    def _judged(self, misread: Problem) -> Problem:
        """Reduce a misread line to a warning if another line sets the same key."""
        is_set = misread.origin is not None and misread.origin.key in self._ours
        return replace(misread, severity="warning") if is_set else misread

    def _pass_over(self, assignment: Assignment, origin: Origin) -> None:
        """Record a key of another program; its value is kept only if a setting may refer to it."""
        self._foreign.append(origin)
        if assignment.fault is UNBALANCED_QUOTE:
            self._warnings.append(replace(UNBALANCED_QUOTE, origin=origin, severity="warning"))
        is_place = is_unread_place(assignment.key)
        if is_place or assignment.key in self._referenced:
            value = self._take(assignment, origin)
            if is_place and not value.faults:
                self._places.append(Entry(origin.key, Secret(value.text), origin))

    def _take(self, assignment: Assignment, origin: Origin) -> Expanded:
        value = self._value(assignment, origin)
        self._values[assignment.key] = value
        return value

    def _value(self, assignment: Assignment, origin: Origin) -> Expanded:
        value = assignment.read()
        if isinstance(value, Problem):
            fault = _filled(value, origin) if value is BAD_LINE else replace(value, origin=origin)
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


def _filled(fault: Problem, origin: Origin) -> Problem:
    return replace(fault, remedy=fault.remedy.format(key=origin.key), origin=origin)


def _at(origin: Origin, fault: Problem) -> Problem:
    """Return a fault as a problem of the line that it affects."""
    through = "" if fault.origin == origin else f" (through {fault.origin})"
    return replace(fault, message=f"{fault.message}{through}", origin=origin)


def _line(problem: Problem) -> int:
    return (problem.origin.line if problem.origin else None) or 0


def _duplicate(earlier: Origin, last: Origin) -> Problem:
    return Problem(
        "duplicate_key",
        f"the key is already set on line {earlier.line}; line {last.line} takes precedence",
        "remove one of the two lines",
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


# --- its lines -----------------------------------------------------------------------------

_LINE_END = re.compile(r"\r\n|\n|\r")
_BYTE_ORDER_MARK = "\ufeff"
_START = re.compile(
    r"\s*(?:export\s+)?+(?P<mark>'?)(?P<key>[^=#\s']*)(?P=mark)\s*"
    r"(?P<equals>=\s*(?P<quote>['\"])?)?",
)
_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_CLOSING = {quote: re.compile(rf"(?:\\.|[^{quote}\\])*{quote}") for quote in ("'", '"')}
_REST = re.compile(r"\s*(?:#.*)?")
_COMMENT = re.compile(r"\s#")
# Other spellings are ambiguous, and text after a lower-case name may be part of a secret.
_NAMED = re.compile(r"(?<![A-Za-z0-9_$])(?<!\$\{)(?:ZILLIZ|ZCONFIG|MILVUS)_[A-Z0-9_]+")
_UPPER = re.compile(r"[A-Z_][A-Z0-9_]*")

UNBALANCED_QUOTE = Problem(
    "unbalanced_quote",
    "the quote that opens on this line is not closed",
    "close it, and write a backslash before a quote inside the value",
)
BAD_LINE = Problem(
    "bad_line",
    "the line is not of the form KEY=value",
    "write {key}=… without other characters before or in the name",
)
NO_EQUALS = Problem("missing_equals", "the line has no `=`", "write {key}=…")


@value
class Assignment(Value):
    """One statement of a dotenv file.

    Args:
        key: The key as written; for a line that is not an assignment, the setting that it names.
        text: The value as written, with its quotes and the text after them.
        line: The first line, from 1.
        quote: The quote that the value begins with.
        fault: The reason that there is no value; its origin is not set.
    """

    key: str
    text: Hidden
    line: int
    quote: str | None = None
    fault: Problem | None = None

    @property
    def literal(self) -> bool:
        """Whether the value is in single quotes."""
        return self.quote == "'"

    def read(self) -> Hidden | Problem:
        """Return the value, unquoted and not expanded, or the reason that there is none."""
        if self.fault is not None:
            return self.fault
        if self.quote is None:
            return self.text
        value = next(parse_stream(io.StringIO(f"KEY={self.text}"))).value
        return BAD_LINE if value is None else Hidden(value)


class _Start(NamedTuple):
    """The start of a line; not a match object, whose `repr` would show the line.

    Args:
        key: The text in the place of a key.
        equals: Whether `=` follows it.
        quote: The quote after the `=`.
        end: The index after the last character of all these.
    """

    key: Hidden
    equals: bool
    quote: str | None
    end: int


def parse_lines(text: Hidden) -> Iterator[Assignment]:
    """Yield the assignments in a dotenv file, and the malformed lines that name a setting.

    python-dotenv continues an unclosed quote up to the next quote in the file. Here a quoted value
    spans lines only if nothing but a comment follows its end, and no setting begins in between;
    otherwise only its first line is reported.
    """
    # Concatenated files have a byte order mark at each of their beginnings.
    lines = [Hidden(line.removeprefix(_BYTE_ORDER_MARK)) for line in _LINE_END.split(text)]
    next_statement = 0
    for index, line in enumerate(lines):
        if index < next_statement:
            continue
        start = _start(line)
        if not start.equals or _NAME.fullmatch(start.key) is None:
            yield from _misread(line, index + 1)
        elif start.quote is None:
            yield Assignment(str(start.key), _unquoted(line, start.end), index + 1)
        else:
            last = _last_line(lines, index, start)
            yield _quoted(lines[index : last + 1], index + 1, start)
            next_statement = max(last, index) + 1


def _start(line: Hidden) -> _Start:
    found = next(_START.finditer(line))
    return _Start(Hidden(found["key"]), found["equals"] is not None, found["quote"], found.end())


def _misread(line: Hidden, number: int) -> Iterator[Assignment]:
    """Yield the setting that a line names which is not an assignment."""
    readable = Hidden(plain_text(line))
    start = _start(readable)
    is_name = _NAME.fullmatch(start.key) is not None
    if start.equals and is_name and is_read(start.key):
        odd = "".join(char for char in line.partition("=")[0] if not char.isascii())
        has = f"the name contains {oddities(odd)}"
        fault = replace(BAD_LINE, message=has)
        yield Assignment(str(start.key), Hidden(""), number, fault=fault)
        return
    ends = not start.equals and _REST.fullmatch(readable, start.end) is not None
    if ends and not start.key:
        return
    alone = ends and is_name
    # The whole line, or the text after a name as in `ZILLIZ_TOKEN:secret`, may be a secret.
    name = (_UPPER if alone else _NAME).match(start.key)
    if name is None or not is_read(name[0]):
        name = _NAMED.search(readable)
    if name is not None and is_read(name[0]):
        yield Assignment(name[0], Hidden(""), number, fault=NO_EQUALS if alone else BAD_LINE)


def _last_line(lines: list[Hidden], first: int, start: _Start) -> int:
    """Return the index of the line that a quoted value ends on, -1 if its quote is not closed."""
    closing = _CLOSING[start.quote or ""]
    if closing.match(lines[first], start.end):
        return first
    for index in range(first + 1, len(lines)):
        if _is_ours(lines[index]):
            return -1
        if end := closing.match(lines[index]):
            return index if _REST.fullmatch(lines[index], end.end()) else -1
    return -1


def _is_ours(line: Hidden) -> bool:
    start = _start(line)
    return start.equals and is_read(plain(start.key))


def _quoted(statement: list[Hidden], number: int, start: _Start) -> Assignment:
    if not statement:
        return Assignment(str(start.key), Hidden(""), number, fault=UNBALANCED_QUOTE)
    text = Hidden("\n".join(statement)[start.end - 1 :])
    return Assignment(str(start.key), text, number, start.quote)


def _unquoted(line: Hidden, begin: int) -> Hidden:
    """Return the value that begins at an index, up to a comment: a `#` after white space."""
    comment = _COMMENT.search(line, begin - 1)
    return Hidden(line[begin : comment.start() if comment else None].rstrip())
