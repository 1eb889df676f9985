"""Registries of their own for tests, of a configuration that is given to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zconfig._registry import Connections
from zconfig._settings.load import load


@contextmanager
def registry(**environ: str) -> Iterator[Connections]:
    """Return a registry that finds these variables in the environment, and nothing else.

    Args:
        **environ: E.g. `ZILLIZ_URI`.
    """
    directory = Path.cwd()
    nowhere = str(directory / "no secrets")
    connections = Connections(lambda: load(environ, directory, system_secrets=nowhere))
    try:
        yield connections
    finally:
        connections.close()
