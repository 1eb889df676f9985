"""The lines of a dotenv file: python-dotenv reads each, and a stray quote swallows none."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dotenv.parser import parse_stream

from zconfig.errors import Problem
from zconfig.redaction import Hidden
from zconfig.sources.names import is_key

_LINE_END = re.compile(r"\r\n|\n|\r")
_BLANK = re.compile(r"\s*(?:#|$)")
# Where python-dotenv has nothing to decide; it takes ten times as long to say so. (Up to 1.2.1 it
# took a comment after an empty value for the value.)
_PLAIN = re.compile(r"(?P<key>(?!export\s)[A-Za-z0-9_.-]+)\s*=(?P<value>[^\s'\"#]*)(?:\s+#.*)?")
_START = re.compile(
    r"\s*(?:export\s+)?'?(?P<key>[^=#\s']*)'?\s*(?P<equals>=\s*(?P<quote>['\"])?)?",
)
_NAME = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
_CLOSING = {quote: re.compile(rf"(?:\\.|[^{quote}\\])*{quote}") for quote in ("'", '"')}
_AFTER_QUOTE = re.compile(r"\s*(?:#.*)?")
_BLANKS = re.compile(r"\s+")
_COMMENT = re.compile(r"\s#")

UNBALANCED_QUOTE = Problem(
    "unbalanced_quote",
    "the quote that opens on this line is not closed",
    "close it; a quote inside the value is written with a backslash before it",
)
_BAD_LINE = Problem("bad_line", "the line is not of the form KEY=value", "correct it")
_UPPER = re.compile(r"[A-Z_][A-Z0-9_]*")
_NO_EQUALS = Problem("missing_equals", "the line has no `=`", "write KEY=value")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One statement of a dotenv file.

    Args:
        key: The key as written; only its beginning where that is no possible name.
        value: The value, unquoted, not expanded.
        line: Where it begins, from 1.
        literal: Whether it was in single quotes.
        fault: Why there is no value; its origin is not set.
    """

    key: str
    value: Hidden
    line: int
    literal: bool = False
    fault: Problem | None = None


def parse_lines(text: Hidden) -> Iterator[Assignment]:
    """Parse a dotenv file.

    python-dotenv lets a quote that is not closed run on to the next one, wherever that is. Here
    a quoted value goes on over further lines only if its end is followed by nothing but a
    comment, and if no setting of ours begins in between; otherwise the line is at fault alone.

    Args:
        text: All of the file.
    """
    lines = [Hidden(line) for line in _LINE_END.split(text)]
    next_statement = 0
    for index, line in enumerate(lines):
        if index < next_statement:
            continue
        if plain := _PLAIN.fullmatch(line):
            yield Assignment(plain["key"], Hidden(plain["value"]), index + 1)
        elif not _BLANK.match(line):
            last = _last_line(lines, index)
            if last is None:
                yield _faulty(line, index + 1, UNBALANCED_QUOTE)
            else:
                yield _parse(Hidden("\n".join(lines[index : last + 1])), index + 1)
                next_statement = last + 1


def _last_line(lines: list[Hidden], first: int) -> int | None:
    """Return the index of the line that a statement ends on, `None` if its quote is not closed."""
    start = _START.match(lines[first])
    if start is None or start["quote"] is None:
        return first
    closing = _CLOSING[start["quote"]]
    if closing.match(lines[first], start.end()):
        return first
    for index in range(first + 1, len(lines)):
        if _is_ours(lines[index]):
            return None
        if end := closing.match(lines[index]):
            return index if _AFTER_QUOTE.fullmatch(lines[index], end.end()) else None
    return None


def _is_ours(line: Hidden) -> bool:
    start = _START.match(line)
    return start is not None and start["equals"] is not None and is_key(start["key"])


def _parse(statement: Hidden, line: int) -> Assignment:
    start = _START.match(statement)
    quote = start["quote"] if start else None
    # For a row of blanks python-dotenv takes the square of its length, except within quotes.
    text = statement if quote else Hidden(_BLANKS.sub(" ", statement))
    binding = next(parse_stream(io.StringIO(text)))
    if binding.error or binding.key is None or _NAME.fullmatch(binding.key) is None:
        return _faulty(statement, line, _BAD_LINE)
    if binding.value is None:
        # All of it may be a secret that was pasted there; variables are upper case by custom.
        name = _UPPER.match(binding.key)
        return Assignment(name[0] if name else "", Hidden(""), line, fault=_NO_EQUALS)
    value = binding.value if quote or not start else _unquoted(statement, start.end())
    return Assignment(binding.key, Hidden(value), line, literal=quote == "'")


def _unquoted(statement: Hidden, begin: int) -> Hidden:
    """Return the value that begins somewhere, up to a comment: a `#` after white space."""
    comment = _COMMENT.search(statement, begin - 1)
    return Hidden(statement[begin : comment.start() if comment else None].rstrip())


def _faulty(statement: Hidden, line: int, fault: Problem) -> Assignment:
    # What follows the name may be a secret, as in `ZILLIZ_TOKEN:secret`.
    start = _START.match(statement)
    name = _NAME.match(start["key"]) if start else None
    return Assignment(name[0] if name else "", Hidden(""), line, fault=fault)
