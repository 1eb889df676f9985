"""What every source hands on: keys and values as written, and where they stood."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from zconfig.errors import Problem
from zconfig.origin import Origin
from zconfig.redaction import Hidden, Secret

FileState = Literal["read", "tried by name", "absent", "refused"]

_SURROUNDING_SPACE = Problem(
    "surrounding_space",
    "the value has white space around it, which is kept",
    "remove it, unless it belongs to the value",
    severity="warning",
)
_QUOTED = Problem(
    "quoted_value",
    "the value begins and ends with a quote, which is part of it",
    "write it without quotes (docker --env-file keeps them)",
    severity="warning",
)
_COMMENT = Problem(
    "comment_in_value",
    "the value has a # after white space, which begins no comment there",
    "remove it and what follows, unless it belongs to the value",
    severity="warning",
)
_PLACEHOLDER = Problem(
    "placeholder",
    "the value is a placeholder that nothing replaced",
    "write the value itself (docker --env-file and systemd replace none)",
    severity="warning",
)

_NOT_TEXT = "[\x00\ud800-\udfff]"  # compiled when there is a value to look at


@dataclass(frozen=True, slots=True)
class Entry:
    """One key and its value, as written; nothing validated.

    Args:
        key: The name in the form of a variable, e.g. `ZILLIZ_PROD_TOKEN`.
        value: The text; an empty one means unset.
        origin: Where it stood.
        had_line_end: Whether it is a file's text, and the file ended in a line end, which is not
            part of the value.
    """

    key: str
    value: Secret
    origin: Origin
    had_line_end: bool = False


@dataclass(frozen=True, slots=True)
class FileSeen:
    """A file or directory that a source looked for.

    Args:
        path: As the user would write it.
        state: Whether it was read, was not there, or was refused. A directory that may be entered,
            though not listed, is tried by name.
    """

    path: str
    state: FileState


class Reading(NamedTuple):
    """All that one source had to say: one layer of the configuration.

    Args:
        name: The layer's name, e.g. `environment` or `.env`.
        entries: Keys and values, in the order they stood.
        problems: What could not be read.
        files: The files looked for.
        foreign: Where keys stand that are not ours, or whose prefix is misspelt.
        places: Variables of a file that say where a server is, and that are not read.
        named: Whether somebody named the file or directory. One that is merely customary, as
            `.env` and `/run/secrets`, may be somebody else's.
    """

    name: str
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    files: tuple[FileSeen, ...] = ()
    foreign: tuple[Origin, ...] = ()
    places: tuple[Entry, ...] = ()
    named: bool = True


def guarded(
    read: Callable[[], Reading],
    failed: Callable[[str], Reading],
    *,
    catch: type[BaseException] = Exception,
) -> Reading:
    """Read a source; whatever it raises is one problem of this source, and the others are read.

    Args:
        read: Reads the source.
        failed: Makes a reading of the kind of a failure. Its text is not told: it may quote what
            was read.
        catch: What is taken for a failure. Not Ctrl-C and `SystemExit`, in the thread that gets
            them.
    """
    try:
        return read()
    except catch as error:
        kind = _kind(error)
    return failed(kind)


def _kind(error: BaseException) -> str:
    response, status = getattr(error, "response", None), getattr(error, "status_code", None)
    # boto3 and the Azure SDK have one class for many causes.
    if isinstance(response, dict) and isinstance(details := response.get("Error"), dict):
        return str(details.get("Code"))
    return f"HTTP {status}" if isinstance(status, int) else type(error).__name__


def failed_at(origin: Origin, kind: str) -> Reading:
    """Return the reading of a source that failed by a fault of zconfig's."""
    problem = Problem(
        "source_failed",
        f"could not be read ({kind})",
        "report it as a fault of zconfig, with what is written there",
        origin=origin,
    )
    return Reading(origin.key, problems=(problem,), files=(FileSeen(origin.key, "refused"),))


def absent(path: str) -> Reading:
    """Return the reading of a file or directory that does not exist, which is no problem."""
    return Reading(path, files=(FileSeen(path, "absent"),))


def is_text(value: str) -> bool:
    """Return whether a value is text: no NUL, and nothing that could not be decoded."""
    return re.search(_NOT_TEXT, value) is None


def questionable(value: Hidden, origin: Origin) -> tuple[Problem, ...]:
    """Return what in a value most probably was not meant to be part of it, which it is.

    Args:
        value: The value, of whatever source.
        origin: Where it stood.

    Example:
        >>> origin = Origin("environment", "ZILLIZ_TOKEN")
        >>> [problem.code for problem in questionable(Hidden(" ${{ secrets.TOKEN }}"), origin)]
        ['surrounding_space', 'placeholder']
    """
    bare = Hidden(value.strip())
    spaced = any(end.isspace() and end not in "\r\n" for end in (value[:1], value[-1:]))
    quoted = len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]
    found = {
        _SURROUNDING_SPACE: spaced,
        _QUOTED: quoted,
        _COMMENT: " #" in value or "\t#" in value,
        _PLACEHOLDER: bare.startswith(("${", "$(")) and bare.endswith(("}", ")")),
    }
    return tuple(replace(problem, origin=origin) for problem, is_so in found.items() if is_so)
