"""What applications on pymilvus have in their environment, for the alias `default`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.sources.entry import Reading
from zconfig.sources.environment import read_variables
from zconfig.sources.names import PREFIX

# pymilvus itself reads MILVUS_URI (`pymilvus/settings.py`); the others are what its users add.
_KEYS = {
    "MILVUS_URI": "ZILLIZ_URI",
    "MILVUS_TOKEN": "ZILLIZ_TOKEN",
    "MILVUS_DB_NAME": "ZILLIZ_DB_NAME",
}

_PLACE = r"MILVUS_(?:HOST|PORT|URL|ENDPOINT|ADDRESS)|ZILLIZ_(?:HOST|PORT|ADDRESS)"


def is_milvus(key: str) -> bool:
    """Tell whether a value came from a `MILVUS_*` variable.

    Example:
        >>> is_milvus("MILVUS_TOKEN"), is_milvus("ZILLIZ_MILVUS_TOKEN")
        (True, False)
    """
    return key.lower().startswith("milvus_")


def variable_in_place_of(key: str) -> str | None:
    """Return the variable that says in a file what a `MILVUS_*` one says in the environment.

    Example:
        >>> variable_in_place_of("MILVUS_URI"), variable_in_place_of("MILVUS_HOST")
        ('ZILLIZ_URI', None)
    """
    return _KEYS.get(key)


def read_milvus_fallback(environ: Mapping[str, str]) -> Reading:
    """Read `MILVUS_URI`, `MILVUS_TOKEN` and `MILVUS_DB_NAME`.

    Args:
        environ: The environment.

    Returns:
        Entries with the keys of the alias `default`; their origins name the variables read.

    Example:
        >>> [entry] = read_milvus_fallback({"MILVUS_URI": "http://localhost:19530"}).entries
        >>> entry.key, str(entry.origin)
        ('ZILLIZ_URI', 'MILVUS_URI (environment)')
    """
    reading = read_variables("MILVUS_* variables", environ, _KEYS)
    return reading._replace(problems=tuple(_located(each) for each in reading.problems))


def _located(problem: Problem) -> Problem:
    """Say which field of the alias `default` a problem concerns: its own name does not tell."""
    key = _KEYS[problem.origin.key] if problem.origin else ""
    return replace(problem, alias="default", field=key.removeprefix(PREFIX).lower())


def is_unread_place(key: str, value: str = "") -> bool:
    """Tell whether a variable that zconfig does not read says where a server is.

    Args:
        key: The variable.
        value: What Kubernetes sets for a service called `milvus` is somebody else's.

    Example:
        >>> is_unread_place("MILVUS_HOST"), is_unread_place("MILVUS_PORT", "tcp://10.0.0.1:19530")
        (True, False)
    """
    return re.fullmatch(_PLACE, key, re.IGNORECASE) is not None and not value.startswith("tcp://")
