"""The origin of a value: variable, file and line; and the directory of relative paths."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from zconfig._redaction import without_commands
from zconfig._value import Value, value

# Sources whose path is shown without the name of the source.
_TOLD_BY_PATH = frozenset({"code", "dotenv", "secrets directory", "service binding"})

# Sources whose key is a variable, so that its name is enough to find the value.
_VARIABLES = frozenset({"environment", "dotenv"})


@value
class Origin(Value):
    """The place where a value is set, precise enough to find and change it.

    Args:
        source: Kind of source: `environment`, `dotenv`, `secrets directory`,
            `service binding`, `code`, `command line`; or the name of a secret manager or a plugin.
        key: The name as written there, e.g. `ZILLIZ_PROD_TOKEN`.
        path: The file, as the user named it, or the secret, vault or project of a secret manager;
            `None` for the environment.
        line: The line in that file, from 1; `None` if the file is the value.
        via: The file that a `_FILE` variable names; `None` otherwise.

    Attributes:
        text: The whole origin in one line.

    Examples:
        >>> str(Origin("dotenv", "ZILLIZ_PROD_URI", ".env", 3))
        'ZILLIZ_PROD_URI (.env:3)'
        >>> str(Origin("environment", "ZILLIZ_PROD_URI"))
        'ZILLIZ_PROD_URI (environment)'
        >>> str(Origin("AWS Secrets Manager", "ZILLIZ_PROD_TOKEN", "prod/zilliz"))
        'ZILLIZ_PROD_TOKEN (AWS Secrets Manager prod/zilliz)'
    """

    source: str
    key: str
    path: str | None = None
    line: int | None = None
    via: str | None = None

    @property
    def text(self) -> str:
        """The whole origin in one line."""
        return str(self)

    @property
    def name(self) -> str:
        """The variable or parameter to change; with its place, if the name is not enough.

        Examples:
            >>> Origin("dotenv", "ZILLIZ_URI", ".env", 3).name
            'ZILLIZ_URI'
            >>> Origin("code", "uri", "connections.connect").name
            'the parameter uri'
        """
        if self.source == "code":
            several = "s" if " and " in self.key else ""
            return f"the parameter{several} {self.key}"
        return self.key if self.source in _VARIABLES and self.via is None else str(self)

    def __str__(self) -> str:
        place = self.source if self.path is None else self.path
        if self.path is not None and self.source not in _TOLD_BY_PATH:
            place = f"{self.source} {self.path}"
        if self.line is not None:
            place = f"{place}:{self.line}"
        if self.via is not None:
            place = f"{place}, file {self.via}"
        # A path may contain any character: escape line ends and terminal sequences.
        return printable(f"{self.key} ({place})")


def printable(name: str) -> str:
    r"""Return a name for display, with unprintable characters escaped.

    A CI runner does not interpret any part of it as a command.

    Examples:
        >>> printable("ZILLIZ_URI"), printable("two\nlines")
        ('ZILLIZ_URI', 'two\\nlines')
    """
    text = str.__str__(name)  # the value of a member of an enumeration
    return without_commands(text if text.isprintable() else repr(text)[1:-1])


def working_directory() -> Path:
    """Return the working directory, or an empty relative path if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


def anchored(path: str, directory: Path) -> str:
    """Return a path relative to a directory, independent of later changes of directory.

    Args:
        path: The path as the user wrote it; a leading `~` is a home directory.
        directory: The directory that a relative path starts from.

    Examples:
        >>> anchored("./tls/ca.pem", Path("/srv/app"))
        '/srv/app/tls/ca.pem'
    """
    # `Path.expanduser` raises for an unknown user, but `~name` may also be a directory.
    with suppress(ValueError):  # a NUL byte, or a character that no user's name can have
        path = os.path.expanduser(path)  # noqa: PTH111 - see above
    return str(Path(directory, path))
