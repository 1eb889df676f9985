"""The one place where the environment of this process is taken from `os`."""

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
    """An environment, read-only, of which no representation shows a value.

    Tracebacks with locals show `os.environ` whole. Some take the `repr` of a local, and some that
    of each value of a mapping: neither shows anything here.

    Args:
        variables: The environment, live.

    Example:
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
    """Return the environment of this process, live."""
    return EnvironmentView(os.environ)


_NOT_TEXT = Problem("not_text", "the value is not UTF-8 text", "set it again as UTF-8")


def read_environment(environ: Mapping[str, str]) -> SourceResult:
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
            entries.append(Entry(variable, Secret(value), origin))
        else:
            problems.append(replace(_NOT_TEXT, origin=origin))
    return SourceResult("environment", tuple(entries), tuple(problems))


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


_PAIR = ("ZILLIZ_USER", "ZILLIZ_PASSWORD")
_PLACE = (
    r"MILVUS_(?:URI|URI_FILE|HOST|PORT|URL|ENDPOINT|ADDRESS|SECURE)|ZILLIZ_(?:HOST|PORT|ADDRESS)"
)


def is_milvus(key: str) -> bool:
    """Tell whether a value came from a `MILVUS_*` variable.

    Example:
        >>> is_milvus("MILVUS_TOKEN"), is_milvus("ZILLIZ_MILVUS_TOKEN")
        (True, False)
    """
    return key.lower().startswith("milvus_")


def split_milvus(result: SourceResult) -> tuple[SourceResult, SourceResult]:
    """Part what a source says by `MILVUS_*` variables from the rest: it is a layer of its own.

    Args:
        result: What the source said.

    Returns:
        The rest, and a reading with the keys of the alias `default`, whose origins name the
        variables that were read.

    Example:
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
    """Leave out a user and a password that the token repeats, as `zconfig exec` sets them."""
    values = {entry.key: entry.value.reveal() for entry in entries}
    pair = [values.get(key, "") for key in _PAIR]
    repeated = all(pair) and ":".join(pair) == values.get("ZILLIZ_TOKEN")
    return tuple(entry for entry in entries if not (repeated and entry.key in _PAIR))


def _located(problem: Problem) -> Problem:
    """Say which field of the alias `default` a problem concerns: its own name does not tell."""
    key = MILVUS[problem.origin.key] if problem.origin else ""
    return replace(problem, alias="default", field=key.removeprefix(PREFIX).lower())


def is_unread_place(key: str, value: str = "") -> bool:
    """Tell whether a variable that zconfig does not read says where a server is.

    Args:
        key: The variable.
        value: What Kubernetes sets for a service called `milvus` is somebody else's.

    Example:
        >>> is_unread_place("MILVUS_HOST"), is_unread_place("MILVUS_PORT", "tcp://10.0.0.1:19530")
        (True, False)
        >>> is_unread_place("milvus_uri"), is_unread_place("MILVUS_URI")
        (True, False)
    """
    found = re.fullmatch(_PLACE, plain(key), re.IGNORECASE) if key not in MILVUS else None
    is_of_kubernetes = value.startswith("tcp://") and key.upper().endswith("PORT")
    return found is not None and not is_of_kubernetes
