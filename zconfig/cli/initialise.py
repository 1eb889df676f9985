"""A first `.env`: its lines, where they are written, and that git leaves it alone."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zconfig.settings.names import variable_name

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=~-]+")
_IGNORES = frozenset({".env", "/.env", ".env*", "/.env*", "*.env", ".env**"})
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


def append_privately(path: Path, lines: list[str]) -> None:
    """Add lines to a file that only its owner can read, in one step.

    Args:
        path: The file; what it holds stays, and it is made if it is not there.
        lines: What to add.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    # A temporary file is its owner's alone from the start, and the rename leaves no half file.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        os.fchmod(descriptor, _OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(before + "".join(f"{line}\n" for line in lines))
        Path(name).replace(path)
    except BaseException:  # Ctrl-C too must not leave half a file with a secret behind
        Path(name).unlink(missing_ok=True)
        raise


def ignore_in_git(directory: Path) -> bool:
    """Add `.env` to the directory's `.gitignore`, if git is used there; tell whether it did."""
    ignore = directory / ".gitignore"
    if not ignore.exists() and not (directory / ".git").exists():
        return False
    text = ignore.read_text(encoding="utf-8") if ignore.exists() else ""
    if _IGNORES & {line.strip() for line in text.splitlines()}:
        return False
    separator = "" if not text or text.endswith("\n") else "\n"
    ignore.write_text(f"{text}{separator}.env\n", encoding="utf-8")
    return True
