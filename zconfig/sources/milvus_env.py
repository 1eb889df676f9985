"""What applications on pymilvus have in the environment and in `.env`, for alias `default`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from zconfig.errors import Problem
from zconfig.sources.entry import Entry, Reading
from zconfig.sources.names import MILVUS, PREFIX

_PAIR = ("ZILLIZ_USER", "ZILLIZ_PASSWORD")
_PLACE = r"MILVUS_(?:HOST|PORT|URL|ENDPOINT|ADDRESS|SECURE)|ZILLIZ_(?:HOST|PORT|ADDRESS)"


def is_milvus(key: str) -> bool:
    """Tell whether a value came from a `MILVUS_*` variable.

    Example:
        >>> is_milvus("MILVUS_TOKEN"), is_milvus("ZILLIZ_MILVUS_TOKEN")
        (True, False)
    """
    return key.lower().startswith("milvus_")


def split_milvus(reading: Reading) -> tuple[Reading, Reading]:
    """Part what a source says by `MILVUS_*` variables from the rest: it is a layer of its own.

    Args:
        reading: What the source said.

    Returns:
        The rest, and a reading with the keys of the alias `default`, whose origins name the
        variables that were read.

    Example:
        >>> from zconfig.sources.environment import read_environment
        >>> rest, milvus = split_milvus(read_environment({"MILVUS_USER": "root"}))
        >>> [(entry.key, str(entry.origin)) for entry in milvus.entries]
        [('ZILLIZ_USER', 'MILVUS_USER (environment)')]
    """
    entries = [replace(e, key=MILVUS[e.key]) for e in reading.entries if e.key in MILVUS]
    problems = [_located(p) for p in reading.problems if p.origin and p.origin.key in MILVUS]
    rest = reading._replace(
        entries=tuple(e for e in reading.entries if e.key not in MILVUS),
        problems=tuple(p for p in reading.problems if not (p.origin and p.origin.key in MILVUS)),
    )
    where = "" if reading.name == "environment" else f" in {reading.name}"
    name = f"MILVUS_* variables{where}"
    return rest, Reading(name, _once(entries), tuple(problems))


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
    """
    return re.fullmatch(_PLACE, key, re.IGNORECASE) is not None and not value.startswith("tcp://")
