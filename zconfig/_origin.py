"""Where a value was set: the variable, the file and the line; and where its paths start."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from zconfig._redaction import without_commands

# Where a path stands in one of these, it needs no word about what it is.
_TOLD_BY_PATH = frozenset({"code", "dotenv", "secrets directory", "service binding"})

# Where a key is a variable, whose name tells what to change.
_VARIABLES = frozenset({"environment", "dotenv"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The place a value was written, precise enough to go and change it.

    Args:
        source: Kind of source: `environment`, `dotenv`, `secrets directory`,
            `service binding`, `code`; or the name of a secret manager or a plugin.
        key: The name as written there, e.g. `ZILLIZ_PROD_TOKEN`.
        path: The file it stood in, as the user named it, or the secret, vault or project of a
            secret manager; `None` for the environment.
        line: Line in that file, from 1; `None` where the file is the value.
        via: The file that a `_FILE` variable pointed to; `None` otherwise.

    Attributes:
        text: All of that in one line.

    Example:
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
        """All of that in one line."""
        return str(self)

    @property
    def name(self) -> str:
        """The variable or parameter to change; with the place, where the name alone is not enough.

        Example:
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
        # A path may have anything in it; a terminal gets no line end and no escape of it.
        return printable(f"{self.key} ({place})")


def printable(name: str) -> str:
    r"""Return a name that can be shown: what no terminal or encoder should get is escaped.

    No runner of a pipeline takes a part of it for a command.

    Example:
        >>> printable("ZILLIZ_URI"), printable("two\nlines")
        ('ZILLIZ_URI', 'two\\nlines')
    """
    return without_commands(str(name) if name.isprintable() else repr(str(name))[1:-1])


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
