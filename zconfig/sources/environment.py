"""The process environment, handed in as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.origin import Origin, printable
from zconfig.redaction import Hidden, Secret
from zconfig.sources.entry import Entry, Reading, is_text
from zconfig.sources.names import MILVUS, as_key, is_setting, is_variable, plain

_NOT_TEXT = Problem("not_text", "the value is not UTF-8 text", "set it again as UTF-8")


def read_environment(environ: Mapping[str, str]) -> Reading:
    """Read the variables that begin with `ZILLIZ_` or `ZCONFIG_`, in any case, and pymilvus'.

    Args:
        environ: The environment.

    Returns:
        Values as they are: a shell takes quotes away, `docker --env-file` does not.

    Example:
        >>> read_environment({"ZILLIZ_URI": "./x.db", "HOME": "/root"}).entries[0].key
        'ZILLIZ_URI'
    """
    entries, problems = [], []
    for variable in (name for name in environ if is_variable(plain(name)) or name in MILVUS):
        value = Hidden(environ[variable])
        origin = Origin("environment", printable(variable))
        if is_text(value):
            entries.append(Entry(as_key(variable), Secret(value), origin))
        else:
            problems.append(replace(_NOT_TEXT, origin=origin))
    return Reading("environment", tuple(entries), tuple(problems))


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
