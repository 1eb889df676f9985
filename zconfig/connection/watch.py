"""Whether the files that credentials came from have been rewritten."""

from __future__ import annotations

from pathlib import Path

from zconfig.spec import ConnectionSpec

Stamp = tuple[tuple[int, int, int] | None, ...]
"""For each file its inode, modification time and size; `None` for one that is not there."""


def credentials_stamp(spec: ConnectionSpec) -> Stamp:
    """Return what changes when a file is rewritten that the credentials came from.

    Links are followed, so that Kubernetes' swap of a whole directory shows.
    """
    origins = [spec.origins[name] for name in ("token", "user", "password") if name in spec.origins]
    paths = {path for origin in origins for path in (origin.path, origin.via) if path}
    return tuple(_stamp(path) for path in sorted(paths))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
