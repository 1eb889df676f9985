"""Read the environment; no other module reads the process environment from `os`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from zconfig._origin import Origin, printable
from zconfig._redaction import Hidden, Secret
from zconfig._sources.base import (
    MILVUS,
    PREFIX,
    Entry,
    SourceResult,
    is_setting,
    is_text,
    is_variable,
    plain,
)
from zconfig.errors import Problem


class EnvironmentView(Mapping[str, str]):
    """A read-only view of an environment whose representation hides the values.

    Tracebacks with locals show all of `os.environ`: some call `repr` on a local, and some on each
    value of a mapping. Both are hidden here.

    Args:
        variables: The environment; later changes to it are visible.

    Examples:
        >>> environ = EnvironmentView({"ZILLIZ_TOKEN": "s3cret"})
        >>> environ, dict(environ), environ["ZILLIZ_TOKEN"] == "s3cret"
        (<environment>, {'ZILLIZ_TOKEN': <hidden>}, True)
    """

    __slots__ = ("_variables",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> Hidden:
        return Hidden(self._variables[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return "<environment>"


def process_environment() -> EnvironmentView:
    """Return a view of the environment of this process."""
    return EnvironmentView(os.environ)


_NOT_TEXT = Problem("not_text", "the value is not UTF-8 text", "set it again as UTF-8")


def read_environment(environ: Mapping[str, str]) -> SourceResult:
    """Read the variables `ZILLIZ_*` and `ZCONFIG_*`, in any case, and those of `MILVUS`.

    Returns:
        Unmodified values: a shell removes quotes, `docker --env-file` does not.

    Examples:
        >>> read_environment({"ZILLIZ_URI": "./x.db", "HOME": "/root"}).entries[0].key
        'ZILLIZ_URI'
    """
    entries, problems = [], []
    for variable in (name for name in environ if is_variable(plain(name)) or name in MILVUS):
        value = Hidden(environ[variable])
        origin = Origin("environment", printable(variable))
        if is_text(value):
            entries.append(Entry(variable, Secret(value), origin))
        else:
            problems.append(replace(_NOT_TEXT, origin=origin))
    return SourceResult("environment", tuple(entries), tuple(problems))


def fingerprint(environ: Mapping[str, str]) -> int:
    """Return a hash of the variables that may configure a connection.

    Args:
        environ: The environment; its values are not kept.

    Examples:
        >>> before = fingerprint({"ZILLIZ_URI": "./x.db", "HOME": "/root"})
        >>> before == fingerprint({"ZILLIZ_URI": "./x.db"})
        True
        >>> before == fingerprint({"ZILLIZ_URI": "./y.db"})
        False
    """
    return hash(frozenset((name, environ.get(name)) for name in environ if is_setting(name)))


_PAIR = ("ZILLIZ_USER", "ZILLIZ_PASSWORD")
_PLACE = (
    r"MILVUS_(?:URI|URI_FILE|HOST|PORT|URL|ENDPOINT|ADDRESS|SECURE)|"
    r"ZILLIZ_(?:(?!\w*SERVICE_)\w+_)?(?:HOST|PORT|ADDRESS)"
)


def is_milvus(key: str) -> bool:
    """Return whether a key is a `MILVUS_*` variable.

    Examples:
        >>> is_milvus("MILVUS_TOKEN"), is_milvus("ZILLIZ_MILVUS_TOKEN")
        (True, False)
    """
    return key.lower().startswith("milvus_")


def split_milvus(result: SourceResult) -> tuple[SourceResult, SourceResult]:
    """Split the `MILVUS_*` variables of a source off as a layer of their own.

    Returns:
        The rest, and a layer with the keys of the alias `default`, whose origins name the
        `MILVUS_*` variables.

    Examples:
        >>> from zconfig._sources.environment import read_environment
        >>> rest, milvus = split_milvus(read_environment({"MILVUS_USER": "root"}))
        >>> [(entry.key, str(entry.origin)) for entry in milvus.entries]
        [('ZILLIZ_USER', 'MILVUS_USER (environment)')]
    """
    entries = [replace(e, key=MILVUS[e.key]) for e in result.entries if e.key in MILVUS]
    problems = [_located(p) for p in result.problems if p.origin and p.origin.key in MILVUS]
    rest = result._replace(
        entries=tuple(e for e in result.entries if e.key not in MILVUS),
        problems=tuple(p for p in result.problems if not (p.origin and p.origin.key in MILVUS)),
    )
    where = "" if result.name == "environment" else f" in {result.name}"
    name = f"MILVUS_* variables{where}"
    return rest, SourceResult(name, _once(entries), tuple(problems))


def _once(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Drop a user and password that repeat the token, as `zconfig exec` sets them."""
    values = {entry.key: entry.value.reveal() for entry in entries}
    pair = [values.get(key, "") for key in _PAIR]
    repeated = all(pair) and ":".join(pair) == values.get("ZILLIZ_TOKEN")
    return tuple(entry for entry in entries if not (repeated and entry.key in _PAIR))


def _located(problem: Problem) -> Problem:
    """Set the alias and field of a problem, which a `MILVUS_*` name does not contain."""
    key = MILVUS[problem.origin.key] if problem.origin else ""
    return replace(problem, alias="default", field=key.removeprefix(PREFIX).lower())


def is_unread_place(key: str, value: str = "") -> bool:
    """Return whether a variable that zconfig does not read names a server's address.

    Args:
        key: The variable.
        value: Its value. A value that Kubernetes sets for a service called `milvus` does not count.

    Examples:
        >>> is_unread_place("MILVUS_HOST"), is_unread_place("MILVUS_PORT", "tcp://10.0.0.1:19530")
        (True, False)
        >>> is_unread_place("milvus_uri"), is_unread_place("MILVUS_URI")
        (True, False)
        >>> is_unread_place("ZILLIZ_PROD_HOST"), is_unread_place("ZILLIZ_PROD_SERVICE_HOST")
        (True, False)
    """
    found = re.fullmatch(_PLACE, plain(key), re.IGNORECASE) if key not in MILVUS else None
    is_of_kubernetes = value.startswith("tcp://") and key.upper().endswith("PORT")
    return found is not None and not is_of_kubernetes
