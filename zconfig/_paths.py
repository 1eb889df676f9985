"""Paths that lead to the same file wherever the process changes its directory to."""

from __future__ import annotations

import os
from pathlib import Path


def working_directory() -> Path:
    """Return the working directory; a relative path that leads nowhere if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


def anchored(path: str, directory: Path) -> str:
    """Return a path as it is from a directory, whatever the working directory becomes.

    Args:
        path: As the user wrote it; a `~` in front is somebody's home.
        directory: Where a relative path starts.

    Example:
        >>> anchored("./tls/ca.pem", Path("/srv/app"))
        '/srv/app/tls/ca.pem'
    """
    # pathlib's own raises where there is no such user, and then `~name` is a directory's name.
    return str(Path(directory, os.path.expanduser(path)))  # noqa: PTH111 - see above
