"""Tables and lines → text: with colour on a terminal, plain and a row a line in a log; and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zconfig._origin import Origin, printable
from zconfig._redaction import without_commands
from zconfig._sources.environment import process_environment

Part = Table | Text

# Wide enough for a row to be a line: a log is searched by lines.
_LOG_WIDTH = 1000


def new_table(*headers: str, wraps: Collection[str]) -> Table:
    """Return an empty table.

    Args:
        *headers: Its columns.
        wraps: The columns that give way where the terminal is narrow.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header not in wraps)
    return table


def as_json(value: Any, indent: int | None = 2) -> str:
    r"""Return a value as JSON, in which no runner of a pipeline finds a command: it looks for `##`.

    Example:
        >>> print(as_json("##[error]forged"))
        "\u0023\u0023[error]forged"
    """
    return json.dumps(value, indent=indent).replace("##", r"\u0023\u0023")


def draw(parts: Iterable[Part]) -> str:
    """Draw for the terminal there is, and without colour or wrapping for none."""
    terminal = Console(stderr=False)
    stream = StringIO()
    console = Console(
        file=stream,
        force_terminal=terminal.is_terminal,
        no_color=terminal.no_color,
        width=terminal.width if terminal.is_terminal else _LOG_WIDTH,
        highlight=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
    drawn = click.unstyle(stream.getvalue()) if terminal.no_color else stream.getvalue()
    drawn = without_commands(drawn)
    return "\n".join(line.rstrip() for line in drawn.splitlines()).strip("\n")


# Of the other sources the path is no file's.
_FILES = frozenset({"dotenv", "secrets directory", "service binding"})


def place(origin: Origin | None) -> tuple[str | None, int | None]:
    """Return the file, and the line in it, that a value stood in; none if it stood elsewhere.

    Example:
        >>> place(Origin("dotenv", "ZILLIZ_URI", ".env", 3))
        ('.env', 3)
        >>> place(Origin("AWS Secrets Manager", "ZILLIZ_URI", "prod/zilliz"))
        (None, None)
    """
    if origin is None or origin.source not in _FILES:
        return None, None
    return origin.path and printable(origin.path), origin.line


def in_workspace(file: str) -> str:
    """Return a path as a job of GitHub Actions knows it: its steps may run in another directory.

    Args:
        file: As it was named, from the working directory.
    """
    workspace = process_environment().get("GITHUB_WORKSPACE")
    path = Path(os.path.abspath(file))  # noqa: PTH100 - pathlib's does not take `..` away
    if workspace and path.is_relative_to(workspace):
        return str(path.relative_to(workspace))
    return file
