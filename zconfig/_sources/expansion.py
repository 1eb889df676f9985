"""Expand `${NAME}` in the values of a dotenv file, with the operators of Compose."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from zconfig._origin import Origin
from zconfig._redaction import Hidden
from zconfig._value import Value, value
from zconfig.errors import Problem

MAX_EXPANDED = 64 * 1024
MAX_EXPANDED_IN_SUM = 1024 * 1024
"""In characters. Without a limit, a few lines that refer to each other could exhaust memory."""

_CUSTOMARY = re.compile(r"[A-Z_][A-Z0-9_]*")
_TOKEN = re.compile(
    r"(?P<escaped>\$\$\{)"
    r"|(?P<open>\$\{)(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-?+]|(?=\})))?"
    r"|(?P<close>\})"
)


@value
class Expanded(Value):
    """A value after expansion.

    Args:
        text: The value; meaningless if there are faults.
        faults: The reasons that it has no value; each with the origin of the line at fault.
    """

    text: Hidden
    faults: tuple[Problem, ...] = ()


Lookup = Callable[[str], Expanded | None]


@dataclass(slots=True)
class _Level:
    """One `${` that is still open, or the value itself."""

    name: str = ""
    operator: str = ""
    parts: list[Expanded] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.parts.append(Expanded(Hidden(text)))

    def joined(self, origin: Origin) -> Expanded:
        faults = tuple(dict.fromkeys(fault for part in self.parts for fault in part.faults))
        if sum(len(part.text) for part in self.parts) > MAX_EXPANDED:
            return too_long("the value is", MAX_EXPANDED, origin, *faults)
        return Expanded(Hidden("".join(part.text for part in self.parts)), faults)


def referenced_in(text: Hidden) -> frozenset[Hidden]:
    """Return the names of the variables that a text may refer to."""
    return frozenset(map(Hidden, re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)", text)))


def expand(text: Hidden, lookup: Lookup, origin: Origin) -> Expanded:
    """Replace every `${NAME}` of a value.

    As in Compose, `${NAME:-default}` and `${NAME-default}` yield the default if the variable is
    unset (with the colon: or empty), `${NAME:+other}` and `${NAME+other}` yield the other text if
    it is set, `${NAME:?text}` and `${NAME?text}` require it, the text after the operator is
    expanded too, and `$${` is a literal `${`. Unlike in Compose, a `$` without a brace is literal,
    and an unset variable is a fault instead of an empty text.

    Args:
        text: The value as written.
        lookup: Returns the value of a variable, or `None` if it is unset.
        origin: The place the value is set.

    Examples:
        >>> origin = Origin("dotenv", "ZILLIZ_URI", ".env", 1)
        >>> expanded = expand(Hidden("https://${HOST:-localhost}"), lambda name: None, origin)
        >>> str(expanded.text)
        'https://localhost'
    """
    levels = [_Level()]
    end = 0
    for token in _TOKEN.finditer(text):
        levels[-1].add(text[end : token.start()])
        end = token.end()
        if token["escaped"]:
            levels[-1].add("${")
        elif token["open"]:
            if token["name"] is None:
                return _malformed(origin)
            levels.append(_Level(token["name"], token["operator"]))
        elif len(levels) == 1:
            levels[-1].add("}")
        else:
            level = levels.pop()
            levels[-1].parts.append(_substitute(level, lookup, origin))
    if len(levels) > 1:
        return _malformed(origin)
    levels[-1].add(text[end:])
    return levels[-1].joined(origin)


def _substitute(level: _Level, lookup: Lookup, origin: Origin) -> Expanded:
    found = lookup(level.name)
    if found is None or found.faults or (level.operator.startswith(":") and not found.text):
        return _substitute_absent(level, found, origin)
    return level.joined(origin) if level.operator.endswith("+") else found


def _substitute_absent(level: _Level, found: Expanded | None, origin: Origin) -> Expanded:
    if level.operator.endswith("-"):
        return level.joined(origin)
    if level.operator.endswith("+"):
        return Expanded(Hidden(""))
    if found is None or not found.faults:
        return _undefined(level, origin)
    # One is enough: passed on from key to key, their number could grow without bound.
    return Expanded(found.text, found.faults[:1])


def _undefined(level: _Level, origin: Origin) -> Expanded:
    empty = " or is empty" if level.operator == ":?" else ""
    # Another name may be part of a secret that contains a `$`.
    name = level.name if _CUSTOMARY.fullmatch(level.name) else "a variable"
    default = level.name if name == level.name else "NAME"
    problem = Problem(
        "undefined_variable",
        f"{name} is not defined{empty}",
        f"set {'it' if name != level.name else name}, write ${{{default}:-default}}, "
        "or enclose the value in single quotes to keep it literal",
        origin=origin,
    )
    return Expanded(Hidden(""), (problem,))


def _malformed(origin: Origin) -> Expanded:
    problem = Problem(
        "bad_expansion",
        "a `${` is not followed by a name and a closing brace",
        "enclose the value in single quotes to keep it literal",
        origin=origin,
    )
    return Expanded(Hidden(""), (problem,))


def too_long(what: str, limit: int, origin: Origin, *others: Problem) -> Expanded:
    """Return the fault of a text with more characters than a limit, after other faults."""
    problem = Problem(
        "too_large",
        f"{what} longer than {limit} characters when expanded",
        "write it without ${NAME}",
        origin=origin,
    )
    return Expanded(Hidden(""), (*others, problem))
