"""Read a directory whose files may be replaced during the read.

A Kubernetes volume keeps each generation of its files in a directory, and `..data` is a symlink to
the current one. A rotation writes a new directory, points `..data` to it atomically, and then
deletes the old one. If `..data` points to the same directory before and after a read, the files
that were read are complete and of one generation.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from zconfig._origin import Origin, printable
from zconfig._redaction import Secret
from zconfig._sources.base import (
    PREFIX,
    Entry,
    FileStatus,
    SourceResult,
    joined,
    normalize_key,
    plain,
    refused,
    spellings,
)
from zconfig._sources.files import FileError, file_error, located, read_secret, unread
from zconfig._value import Value, value
from zconfig.errors import Problem

_CHANGING = Problem("changing", "the directory changed each time it was read", "try again later")
_NOT_DIRECTORY = Problem("not_directory", "this is not a directory", "use a directory")

ATTEMPTS = 50
"""Volumes change about once a minute, so a second attempt is rare; the others are a reserve."""


def read_generation(directory: Path, read: Callable[[Path], SourceResult]) -> SourceResult:
    """Read one generation of a directory.

    Args:
        directory: The directory, with or without a `..data` link.
        read: Reads below the path it is given. If the generation changes during the call, its
            result or exception is discarded, and it is called again.

    Raises:
        FileError: Raised by `read`; `changing` if the directory changed during every attempt.
    """
    for _ in range(ATTEMPTS):
        current = _current(directory)
        try:
            result = read(current)
        except FileError:
            if _current(directory) == current:
                raise
        else:
            if _current(directory) == current:
                return result
    raise FileError(_CHANGING)


def _current(directory: Path) -> Path:
    try:
        return directory / (directory / "..data").readlink()
    except (OSError, ValueError):  # usually there is no link
        return directory


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
        error = FileError(_NOT_DIRECTORY)
    except OSError as reason:
        if wanted and isinstance(reason, PermissionError) and _may_enter(directory):
            return [name for name in wanted if os.path.lexists(directory / name)]
        error = file_error(reason)
    except ValueError:  # a NUL byte, or a character that the file system cannot encode
        error = file_error(FileNotFoundError(errno.ENOENT, ""))
    else:
        return sorted(name for name in names if not name.startswith("."))
    raise error


def may_list(directory: Path) -> bool:
    """Return whether a directory can be listed."""
    try:
        list_names(directory)
    except FileError:
        return False
    return True


def _may_enter(directory: Path) -> bool:
    return os.path.exists(os.path.join(directory, os.curdir))  # noqa: PTH110, PTH118 - pathlib drops the dot


_UNLISTED = Problem(
    "not_listed",
    "the directory cannot be listed: only files of aliases known from other sources are read",
    "allow this user to list it",
    severity="warning",
)


def read_secret_file(
    key: str, path: Path, origin: Origin, *, directory: Path, named: bool = True
) -> SourceResult:
    """Read one file; an unusable file is one problem.

    Args:
        key: The key of its value.
        path: The current path.
        origin: The origin, with the path as the user would write it.
        directory: The directory that must contain the file.
        named: Whether an option names that directory.
    """
    shown = str(origin.path)
    try:
        secret = read_secret(path, directory=directory, named=named)
    except FileError as error:
        return refused(shown, error.problem(origin))
    return SourceResult(
        shown,
        (Entry(key, Secret(secret.value), origin, secret.had_line_end),),
        located(secret.warnings, origin),
        (FileStatus(shown, "read"),),
    )


def read_directory(
    path: Path, read: Callable[[Path], SourceResult], *, shown: str, source: str, named: bool = True
) -> SourceResult:
    """Read one generation of the directory that is a layer.

    Args:
        path: The directory.
        read: Reads below the path it is given; see `read_generation`.
        shown: The directory's path as the user would write it.
        source: The kind of source, for the origin of a problem.
        named: Whether an option names the directory.

    Returns:
        The result of `read`. A directory that does not exist is not a problem.
    """
    try:
        result = read_generation(path, read)
    except FileError as error:
        return unread(error, Origin(source, shown))
    seen = FileStatus(shown, "read" if may_list(path) else "tried by name")
    unlisted = named and seen.state != "read"
    problems = located((_UNLISTED,), Origin(source, shown)) if unlisted else ()
    return joined(shown, (SourceResult(shown, problems=problems, files=(seen,)), result))


_SOURCE = "secrets directory"
_MAYBE_OURS = re.compile(
    r".*(?:milvus|zilliz).*|api[-_.]key|password|token|user|username", re.IGNORECASE
)


def read_secrets_dir(
    path: Path | str,
    *,
    field_names: frozenset[str],
    aliases: Collection[str] = (),
    named: bool = True,
    shown: str | None = None,
) -> SourceResult:
    """Read the files whose names begin with `zilliz`, and the aliases' directories.

    A file `zilliz_prod_token`, `ZILLIZ_PROD_TOKEN` or `zilliz-prod-token` is a field of the alias
    `prod`, and so is a file `token` in a directory `prod`. Other files are not opened; a name that
    may be misspelt is `foreign`. A Kubernetes volume is read as one generation.

    Args:
        path: The directory.
        field_names: Names of fields, in lower case, for the files in an alias' directory.
        aliases: Aliases known from other sources; if the directory can be entered but not listed,
            their files are tried by name.
        named: Whether an option names the directory. The default, /run/secrets, also holds the
            secrets of other applications: its subdirectories are not read.
        shown: The path as the user would write it; by default `path`.

    Returns:
        Entries with keys in the form of variables. An unusable file is one problem, and the others
        are read; a directory that does not exist is not a problem.
    """
    tree = _Tree(Path(path), shown or str(path), field_names, aliases, named)
    return read_directory(tree.root, tree.read, shown=tree.shown, source=_SOURCE, named=named)


@value
class _Tree(Value):
    root: Path
    shown: str
    field_names: frozenset[str]
    aliases: Collection[str]
    named: bool

    def read(self, current: Path) -> SourceResult:
        """Read the generation of the directory at `current`."""
        names = list_names(current, self._wanted())
        return joined(self.shown, [self._entry(current / name) for name in names])

    def _wanted(self) -> Iterator[str]:
        for stem in ("", *(f"{alias}_" for alias in self.aliases)):
            for field in self.field_names:
                yield from spellings(f"{PREFIX}{stem}{field}".lower())
        for alias in self.aliases:
            yield from (*spellings(alias), *spellings(f"{PREFIX}{alias}".lower()))

    def _entry(self, path: Path) -> SourceResult:
        # pathlib's test raises if the directory cannot be searched.
        is_directory = self.named and os.path.isdir(path)  # noqa: PTH112 - see above
        result = self._alias(path) if is_directory else SourceResult(path.name)
        nothing_found = not (result.files or result.problems)
        if nothing_found and normalize_key(plain(path.name)).startswith(PREFIX):
            return self._file(path, normalize_key(path.name), path.name)
        if nothing_found and _MAYBE_OURS.fullmatch(plain(path.name)) and os.path.isfile(path):  # noqa: PTH113 - see above
            return SourceResult(path.name, foreign=(self._foreign(path.name),))
        return result

    def _foreign(self, name: str) -> Origin:
        return Origin(_SOURCE, printable(name), self._shown(name))

    def _alias(self, path: Path) -> SourceResult:
        try:
            return read_generation(path, lambda current: self._fields(current, path.name))
        except FileError as error:
            shown = self._shown(path.name)
            # A directory that cannot be listed is presumed to belong to another application.
            ours = error.reason.code == "changing" or normalize_key(path.name).startswith(PREFIX)
            return refused(shown, *(error.problem(Origin(_SOURCE, shown)),) if ours else ())

    def _fields(self, current: Path, name: str) -> SourceResult:
        prefix = f"{PREFIX}{normalize_key(name).removeprefix(PREFIX)}_"
        wanted = [each for field in self.field_names for each in spellings(field)]
        names = list_names(current, wanted)
        fields = [field for field in names if normalize_key(field).lower() in self.field_names]
        files = [self._file(current / f, prefix + normalize_key(f), f"{name}/{f}") for f in fields]
        return joined(name, files)

    def _file(self, path: Path, key: str, name: str) -> SourceResult:
        origin = Origin(_SOURCE, printable(key), self._shown(name))
        return read_secret_file(key, path, origin, directory=self.root, named=self.named)

    def _shown(self, name: str) -> str:
        return printable(str(Path(self.shown, name)))
