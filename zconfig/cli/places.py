"""Where a value stood → the file and line that a CI shows."""

from __future__ import annotations

import os
from pathlib import Path

from zconfig.origin import Origin, printable
from zconfig.sources.process import process_environment

# Of the other sources the path is no file's.
_FILES = frozenset({"dotenv", "secrets directory", "service binding"})


def place(origin: Origin | None) -> tuple[str | None, int | None]:
    """Return the file, and the line in it, that a value stood in; none if it stood elsewhere.

    Example:
        >>> place(Origin("dotenv", "ZILLIZ_URI", ".env", 3))
        ('.env', 3)
        >>> place(Origin("AWS Secrets Manager", "ZILLIZ_URI", "prod/zilliz"))
        (None, None)
    """
    if origin is None or origin.source not in _FILES:
        return None, None
    return origin.path and printable(origin.path), origin.line


def in_workspace(file: str) -> str:
    """Return a path as a job of GitHub Actions knows it: its steps may run in another directory.

    Args:
        file: As it was named, from the working directory.
    """
    workspace = process_environment().get("GITHUB_WORKSPACE")
    path = Path(os.path.abspath(file))  # noqa: PTH100 - pathlib's does not take `..` away
    if workspace and path.is_relative_to(workspace):
        return str(path.relative_to(workspace))
    return file
