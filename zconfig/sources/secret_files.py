"""Files that hold one secret each, and directories of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from zconfig.errors import Problem
from zconfig.origin import Origin, printable
from zconfig.redaction import Secret
from zconfig.sources.entry import Entry, FileSeen, Reading, absent
from zconfig.sources.files import FileError, located, read_secret
from zconfig.sources.generation import may_list, read_generation

_UNLISTED = Problem(
    "not_listed",
    "it cannot be listed: only files of aliases that are known otherwise are found in it",
    "let this user list it",
    severity="warning",
)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that is wanted.

    Args:
        key: The key whose value it holds.
        path: Where it is at present.
        shown: Its path as the user would write it.
        named: Whether somebody named its directory.
    """

    key: str
    path: Path
    shown: str
    named: bool = True


def read_secret_file(file: SecretFile, *, directory: Path, source: str) -> Reading:
    """Read one file; a bad one is one problem.

    Args:
        file: The file.
        directory: The directory it must not lead out of.
        source: The kind of source, for the origin.
    """
    origin = Origin(source, printable(file.key), file.shown)
    try:
        secret = read_secret(file.path, directory=directory, named=file.named)
    except FileError as error:
        refused = FileSeen(file.shown, "refused")
        return Reading(file.shown, problems=(error.problem(origin),), files=(refused,))
    return Reading(
        file.shown,
        (Entry(file.key, Secret(secret.value), origin, secret.had_line_end),),
        located(secret.warnings, origin),
        (FileSeen(file.shown, "read"),),
    )


def read_directory(
    path: Path, read: Callable[[Path], Reading], *, shown: str, source: str, named: bool = True
) -> Reading:
    """Read one generation of the directory that is a layer.

    Args:
        path: The directory.
        read: Reads below the path it is given; see `read_generation`.
        shown: The directory's path as the user would write it.
        source: The kind of source, for the origin of a problem.
        named: Whether somebody named the directory.

    Returns:
        What `read` returned. A directory that does not exist is no problem.
    """
    try:
        reading = read_generation(path, read)
    except FileError as error:
        return _unread(error, shown, source)
    seen = FileSeen(shown, "read" if may_list(path) else "tried by name")
    unlisted = named and seen.state != "read"
    problems = located((_UNLISTED,), Origin(source, shown)) if unlisted else ()
    return joined(shown, (Reading(shown, problems=problems, files=(seen,)), reading))


def _unread(error: FileError, shown: str, source: str) -> Reading:
    if error.code == "missing":
        return absent(shown)
    problem = error.problem(Origin(source, shown))
    return Reading(shown, problems=(problem,), files=(FileSeen(shown, "refused"),))


def joined(name: str, readings: Iterable[Reading]) -> Reading:
    """Return several readings as one."""
    parts = tuple(readings)
    return Reading(
        name,
        tuple(entry for part in parts for entry in part.entries),
        tuple(problem for part in parts for problem in part.problems),
        tuple(file for part in parts for file in part.files),
        tuple(origin for part in parts for origin in part.foreign),
    )
