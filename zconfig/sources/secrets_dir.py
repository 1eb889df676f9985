"""A directory of secrets: /run/secrets, a Kubernetes volume, or one made by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from zconfig.origin import Origin, printable
from zconfig.sources.entry import FileSeen, Reading
from zconfig.sources.files import FileError
from zconfig.sources.generation import list_names, read_generation
from zconfig.sources.names import PREFIX, as_key, fold, plain, spellings
from zconfig.sources.secret_files import SecretFile, joined, read_directory, read_secret_file

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
) -> Reading:
    """Read the files whose names begin with `zilliz`, and the aliases' directories.

    A file `zilliz_prod_token`, `ZILLIZ_PROD_TOKEN` or `zilliz-prod-token` is a field of the alias
    `prod`, and so is a file `token` in a directory `prod`. Everything else belongs to others and
    is not opened; what may be misnamed is `foreign`. Of a Kubernetes volume one generation is read,
    never parts of two.

    Args:
        path: The directory.
        field_names: Names of fields, in lower case, which a file in an alias' directory may have.
        aliases: Aliases that are known; where the directory may be entered, though not listed,
            their files are tried by name.
        named: Whether somebody named the directory. Where nobody did, as /run/secrets, other
            applications' secrets are there, too: directories are left alone.
        shown: The path as the user would write it; by default `path`.

    Returns:
        Entries with keys in the form of variables. A bad file is one problem, and the others are
        read; a directory that does not exist is no problem.
    """
    tree = _Tree(Path(path), shown or str(path), field_names, aliases, named)
    return read_directory(tree.root, tree.read, shown=tree.shown, source=_SOURCE, named=named)


@dataclass(frozen=True, slots=True)
class _Tree:
    root: Path
    shown: str
    field_names: frozenset[str]
    aliases: Collection[str]
    named: bool

    def read(self, current: Path) -> Reading:
        """Read the generation of the directory that is at `current`."""
        names = list_names(current, self._wanted())
        return joined(self.shown, [self._entry(current / name) for name in names])

    def _wanted(self) -> Iterator[str]:
        for stem in ("", *(f"{alias}_" for alias in self.aliases)):
            for field in self.field_names:
                yield from spellings(f"{PREFIX}{stem}{field}".lower())
        for alias in self.aliases:
            yield from (*spellings(alias), *spellings(f"{PREFIX}{alias}".lower()))

    def _entry(self, path: Path) -> Reading:
        # pathlib's test raises where the directory may not be searched.
        is_directory = self.named and os.path.isdir(path)  # noqa: PTH112 - see above
        reading = self._alias(path) if is_directory else Reading(path.name)
        nothing_found = not (reading.files or reading.problems)
        if nothing_found and fold(plain(path.name)).startswith(PREFIX):
            return self._file(path, fold(path.name), path.name)
        if nothing_found and _MAYBE_OURS.fullmatch(plain(path.name)) and os.path.isfile(path):  # noqa: PTH113 - see above
            return Reading(path.name, foreign=(self._foreign(path.name),))
        return reading

    def _foreign(self, name: str) -> Origin:
        return Origin(_SOURCE, printable(name), self._shown(name))

    def _alias(self, path: Path) -> Reading:
        try:
            return read_generation(path, lambda current: self._fields(current, path.name))
        except FileError as error:
            shown = self._shown(path.name)
            # A directory that cannot be listed is somebody else's, as far as can be told.
            ours = error.code == "changing" or fold(path.name).startswith(PREFIX)
            problems = (error.problem(Origin(_SOURCE, shown)),) if ours else ()
            return Reading(path.name, problems=problems, files=(FileSeen(shown, "refused"),))

    def _fields(self, current: Path, name: str) -> Reading:
        prefix = f"{PREFIX}{fold(name).removeprefix(PREFIX)}_"
        wanted = [each for field in self.field_names for each in spellings(field)]
        names = list_names(current, wanted)
        fields = [field for field in names if fold(field).lower() in self.field_names]
        files = [self._file(current / f, prefix + fold(f), f"{name}/{f}") for f in fields]
        return joined(name, files)

    def _file(self, path: Path, key: str, name: str) -> Reading:
        file = SecretFile(as_key(key), path, self._shown(name), self.named)
        return read_secret_file(file, directory=self.root, source=_SOURCE)

    def _shown(self, name: str) -> str:
        return printable(str(Path(self.shown, name)))
