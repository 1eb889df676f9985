"""Reading a directory whose files may be replaced meanwhile.

A Kubernetes volume keeps its files in a directory of their own, a new one for each generation, and
`..data` is a symlink to the current one. A rotation writes the new directory, points `..data` to it
in one step, and then deletes the old one. So what was read below the directory that `..data` still
points to afterwards is complete, and belongs together.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from zconfig.sources.entry import Reading
from zconfig.sources.files import FileError, explain

ATTEMPTS = 50
"""Volumes change about once a minute, so a second attempt is rare; the rest is for safety."""


def read_generation(directory: Path, read: Callable[[Path], Reading]) -> Reading:
    """Read one generation of a directory.

    Args:
        directory: The directory, with or without a `..data` link.
        read: Reads below the path it is given. What it returns or raises is thrown away if the
            generation changed meanwhile, and it is called again.

    Raises:
        FileError: What `read` raises; `changing` if the directory changed during every attempt.
    """
    for _ in range(ATTEMPTS):
        current = _current(directory)
        outcome = _attempt(read, current)
        if _current(directory) != current:
            continue
        if isinstance(outcome, FileError):
            raise outcome
        return outcome
    raise FileError("changing", "the directory changed each time it was read", "try again later")


def _current(directory: Path) -> Path:
    try:
        return directory / (directory / "..data").readlink()
    except (OSError, ValueError):  # mostly there is no such link
        return directory


def _attempt(read: Callable[[Path], Reading], current: Path) -> Reading | FileError:
    try:
        return read(current)
    except FileError as error:
        return error


def list_names(directory: Path, wanted: Iterable[str] = ()) -> list[str]:
    """Return the names in a directory in order, without the hidden ones.

    Args:
        directory: The directory.
        wanted: Where it may be entered, though not listed, those of these that are there.

    Raises:
        FileError: `missing`, `not_directory`, `unreadable`.
    """
    try:
        names = [path.name for path in directory.iterdir()]
    except NotADirectoryError:
        error = FileError("not_directory", "this is not a directory", "give a directory")
    except OSError as reason:
        if wanted and isinstance(reason, PermissionError) and _may_enter(directory):
            return [name for name in wanted if os.path.lexists(directory / name)]
        error = explain(reason)
    except ValueError:  # a NUL byte, or what the file system's encoding cannot say
        error = explain(FileNotFoundError(errno.ENOENT, ""))
    else:
        return sorted(name for name in names if not name.startswith("."))
    raise error


def may_list(directory: Path) -> bool:
    """Return whether a directory may be listed."""
    try:
        list_names(directory)
    except FileError:
        return False
    return True


def _may_enter(directory: Path) -> bool:
    return os.path.exists(os.path.join(directory, os.curdir))  # noqa: PTH110, PTH118 - pathlib drops the dot
