"""A first `.env`: its lines, where they are written, and that git leaves it alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from zconfig.errors import ConfigurationError, Problem
from zconfig.origin import Origin, printable
from zconfig.paths import anchored
from zconfig.settings.configuration import Configuration
from zconfig.settings.fields import CREDENTIALS
from zconfig.settings.names import Name, parse_name, variable_name
from zconfig.sources.dotenv import read_dotenv

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=~-]+")
_OWNER_ONLY = 0o600


def dotenv_line(variable: str, value: str) -> str:
    r"""Return a line that sets a variable, quoted where the value would not survive bare.

    Single quotes keep `$` and `#` as they are; inside them only `\` and `'` are escaped.

    Example:
        >>> dotenv_line("ZILLIZ_URI", "./x.db")
        'ZILLIZ_URI=./x.db'
        >>> print(dotenv_line("ZILLIZ_TOKEN", "a b$c"))
        ZILLIZ_TOKEN='a b$c'
    """
    if _BARE.fullmatch(value):
        return f"{variable}={value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{variable}='{escaped}'"


def dotenv_lines(alias: str, fields: Mapping[str, str | None]) -> list[str]:
    """Return the lines that declare an alias.

    Args:
        alias: The alias in its folded form.
        fields: Values by field; those without one are left out.
    """
    return [dotenv_line(variable_name(alias, f), v) for f, v in fields.items() if v]


def check_file(alias: str, path: Path) -> None:
    """Make sure that a file can be added to, and does not declare an alias already.

    Args:
        alias: The alias in its folded form.
        path: The file; it need not be there.

    Raises:
        ConfigurationError: It cannot be read, declares the alias, or is another user's.
    """
    _check_owner(path)
    reading = read_dotenv(path, {})
    if any(seen.state == "refused" for seen in reading.files):
        raise ConfigurationError(reading.problems)
    set_there = [entry.origin for entry in reading.entries if entry.value]
    at_fault = [each.origin for each in reading.problems if each.origin]
    for origin in (*set_there, *at_fault):
        name = parse_name(origin.key)
        if isinstance(name, Name) and name.alias == alias:
            remedy = "edit the file, or choose another alias"
            what = "declares it already"
            raise ConfigurationError(
                [Problem("already_declared", what, remedy, alias, None, origin)]
            )


def _check_owner(path: Path) -> None:
    """Refuse a file to whose owner a token must not be handed."""
    if _is_foreign(path):
        remedy = "choose a file in a directory of your own with --file"
        origin = Origin("dotenv", printable(str(path)))
        what = "another user owns the file, or the link to it"
        raise ConfigurationError([Problem("foreign_owner", what, remedy, origin=origin)])


def _is_foreign(path: Path) -> bool:
    """Tell whether a file, or the link to it, is neither this user's nor of its directory's owner.

    Somebody else may have put it there, as anybody can in /tmp.
    """
    try:
        owners = {path.lstat().st_uid}
        with suppress(FileNotFoundError):  # a link to nothing yet
            owners.add(path.stat().st_uid)
        return not (owners <= {os.geteuid()} or owners == {path.parent.stat().st_uid})
    except OSError:  # there is none, or it cannot be read, which is said elsewhere
        return False


def append_privately(path: Path, lines: list[str]) -> None:
    """Add lines to a file that only its owner can read, in one step.

    Args:
        path: The file; what it holds stays, and it is made if it is not there. A symbolic link
            stays one.
        lines: What to add.

    Raises:
        ConfigurationError: It cannot be written, or is another user's.
    """
    _check_owner(path)
    target = Path(os.path.realpath(path))
    try:
        before = target.read_bytes() if target.exists() else b""
        separator = b"" if not before or before.endswith(b"\n") else b"\n"
        added = "".join(f"{line}\n" for line in lines).encode()
        _replace_privately(target, before + separator + added)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
    else:
        return
    remedy = "correct the path, or let this user write there"
    origin = Origin("dotenv", printable(str(path)))
    what = f"cannot be written ({reason})"
    raise ConfigurationError([Problem("not_writable", what, remedy, origin=origin)])


def _replace_privately(path: Path, content: bytes) -> None:
    # A temporary file is its owner's alone from the start, and the rename leaves no half file.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _OWNER_ONLY)
            if path.exists():  # root, say, must not take it away from the application's user
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(content)
        Path(name).replace(path)
    except BaseException:  # Ctrl-C too must not leave half a file with a secret behind
        Path(name).unlink(missing_ok=True)
        raise


def names_read(configuration: Configuration, path: str) -> frozenset[str]:
    """Return the names under which a file was read; none if it was not.

    Args:
        configuration: What was read.
        path: The file.
    """
    names = (seen.path for seen in configuration.files if seen.state == "read")
    wanted = os.path.realpath(anchored(path, configuration.directory))
    return frozenset(
        n for n in names if os.path.realpath(anchored(n, configuration.directory)) == wanted
    )


def outranking(
    alias: str, fields: Mapping[str, str], names: Collection[str], configuration: Configuration
) -> tuple[Origin, ...]:
    """Return where values are set that take precedence over what a file declares.

    Args:
        alias: The alias in its folded form.
        fields: Values by field that the file declares of it.
        names: The names under which the file was read.
        configuration: What was read, the file included.
    """
    declared = {*fields, *CREDENTIALS} if fields.get("token") else {"uri"}
    sources = configuration.provenance.items()
    found = [
        each.origin for (owner, field), each in sources if owner == alias and field in declared
    ]
    found += [p.origin for p in configuration.errors_of(alias) if p.field in declared and p.origin]
    return tuple(dict.fromkeys(origin for origin in found if origin.path not in names))


def ignore_in_git(path: Path) -> bool:
    """Add a file to the `.gitignore` beside it, where git is used and would not ignore it.

    Args:
        path: The file.

    Returns:
        Whether it was added.
    """
    ignore = path.parent / ".gitignore"
    if ignore.exists() and (_is_foreign(ignore) or not ignore.is_file()):
        return False  # git would wait for a pipe, as we would
    if not (ignore.exists() or _in_repository(path.parent)) or _is_ignored(path, ignore):
        return False
    before = ignore.read_bytes() if ignore.exists() else b""
    separator = "" if not before or before.endswith(b"\n") else "\n"
    with ignore.open("a", encoding="utf-8") as file:
        file.write(f"{separator}{path.name}\n")
    return True


def _in_repository(directory: Path) -> bool:
    here = directory.absolute()
    return any((each / ".git").exists() for each in (here, *here.parents))


def _is_ignored(path: Path, ignore: Path) -> bool:
    """Ask git, which knows every form of a pattern and every place of one.

    Without git, or outside a repository, look for the name in the file alone.
    """
    git = shutil.which("git")
    if git:
        command = [git, "check-ignore", "--quiet", "--no-index", "--", path.name]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)  # noqa: S603 - no shell, and a name of the user's own
        if done.returncode in {0, 1}:
            return done.returncode == 0
    names = ignore.read_bytes().split() if ignore.exists() else []
    return path.name.encode() in names
