"""The versions of zconfig and of what it works with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from zconfig._version import __version__

_DISTRIBUTIONS = {"grpcio": "grpcio", "pymilvus": "pymilvus", "milvus_lite": "milvus-lite"}


def versions() -> dict[str, str | None]:
    """Return each version; `None` of what is not installed. Nothing is imported for it."""
    found = {name: _installed(each) for name, each in _DISTRIBUTIONS.items()}
    return {"zconfig": __version__, "python": platform.python_version(), **found}


def versions_table(found: Mapping[str, str | None]) -> str:
    """Return a line for each that is there."""
    return "\n".join(f"{name:<12}{each}" for name, each in found.items() if each)


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
