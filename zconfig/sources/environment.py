"""The process environment, handed in as a mapping."""

from __future__ import annotations

from collections.abc import Mapping

from zconfig.errors import Problem
from zconfig.origin import Origin, printable
from zconfig.redaction import Hidden, Secret
from zconfig.sources.entry import Entry, Reading, is_text
from zconfig.sources.names import MILVUS, is_setting, is_variable

_QUOTES = "\"'"


def read_environment(environ: Mapping[str, str]) -> Reading:
    """Read the variables that begin with `ZILLIZ_` or `ZCONFIG_`, in any case, and pymilvus'.

    Args:
        environ: The environment.

    Returns:
        Values as they are. One in quotes is handed on with them, and with a warning: a shell
        takes quotes away, `docker --env-file` does not.

    Example:
        >>> read_environment({"ZILLIZ_URI": "./x.db", "HOME": "/root"}).entries[0].key
        'ZILLIZ_URI'
    """
    entries, problems = [], []
    for variable in (name for name in environ if is_variable(name) or name in MILVUS):
        value = Hidden(environ[variable])
        origin = Origin("environment", printable(variable))
        problem = _check(value, origin)
        if problem is not None:
            problems.append(problem)
        if problem is None or problem.severity == "warning":
            entries.append(Entry(origin.key, Secret(value), origin))
    return Reading("environment", tuple(entries), tuple(problems))


def _check(value: Hidden, origin: Origin) -> Problem | None:
    if not is_text(value):
        return Problem(
            "not_text", "the value is not UTF-8 text", "set it again as UTF-8", origin=origin
        )
    if len(value) > 1 and value[0] in _QUOTES and value[0] == value[-1]:
        return Problem(
            "quoted_value",
            "the value begins and ends with a quote, which is part of it",
            "write it without quotes (docker --env-file keeps them)",
            origin=origin,
            severity="warning",
        )
    return None


def fingerprint(environ: Mapping[str, str]) -> int:
    """Return a number that changes when a variable that says something of a connection does.

    Args:
        environ: The environment; of its values nothing is kept but the number.

    Example:
        >>> before = fingerprint({"ZILLIZ_URI": "./x.db", "HOME": "/root"})
        >>> before == fingerprint({"ZILLIZ_URI": "./x.db"})
        True
        >>> before == fingerprint({"ZILLIZ_URI": "./y.db"})
        False
    """
    return hash(frozenset((name, environ.get(name)) for name in environ if is_setting(name)))
