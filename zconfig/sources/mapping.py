"""Variables that come as a mapping, whose values may each cost a request."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zconfig.errors import Problem
from zconfig.origin import Origin, printable
from zconfig.redaction import Hidden, Secret
from zconfig.sources.entry import Entry, Reading, is_text
from zconfig.sources.files import located
from zconfig.sources.names import as_key, fold, is_key, plain
from zconfig.sources.secret_files import joined

_LINE_END = re.compile(r"\r?\n\Z")
_NOT_TEXT = Problem("not_text", "the value is not text", "store it as a string")


def read_mapping(
    variables: Mapping[str, object], *, source: str, path: str | None = None
) -> Reading:
    r"""Read the variables that are zconfig's own; the values of others are not asked for.

    One trailing line end is not part of a value, as in a file that holds a secret: what was piped
    into a secret manager often has one.

    Args:
        variables: Values by name; `-` and `.` separate the parts of a name as `_` does.
        source: The kind of source, which names the layer too.
        path: What the variables stand in there; `None` if that has no name.

    Returns:
        Entries with keys in the form of variables. A value that cannot be had is one problem, and
        the others are read.

    Example:
        >>> [entry] = read_mapping({"zilliz-uri": "./x.db\n", "HOME": "/"}, source="x").entries
        >>> entry.key, str(entry.value.reveal()), str(entry.origin)
        ('ZILLIZ_URI', './x.db', 'zilliz-uri (x)')
    """
    ours = {
        name: Origin(source, printable(name), path) for name in variables if is_key(plain(name))
    }
    return joined(source, [_read(variables, name, origin) for name, origin in ours.items()])


def _read(variables: Mapping[str, object], name: str, origin: Origin) -> Reading:
    value = _value(variables, name)
    if isinstance(value, Problem):
        return Reading(origin.source, problems=located((value,), origin))
    return Reading(origin.source, (Entry(as_key(fold(name)), Secret(value), origin),))


def _value(variables: Mapping[str, object], name: str) -> Hidden | Problem:
    try:
        value = variables[name]
    except Exception as error:  # noqa: BLE001 - the SDK behind it raises what it likes
        return _unreadable(type(error).__name__)
    if value is None:
        # How pydantic-settings hands on a secret that it was not allowed to read.
        return _unreadable("no value")
    if isinstance(value, str) and is_text(value):
        return Hidden(_LINE_END.sub("", value))
    return _NOT_TEXT


def _unreadable(cause: str) -> Problem:
    return Problem(
        "unreadable", f"the value cannot be read ({cause})", "enable it, or grant access to it"
    )
