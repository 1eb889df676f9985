"""Tables and lines → text: with colour on a terminal, plain and a row a line in a log."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from io import StringIO

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    return "\n".join(line.rstrip() for line in drawn.splitlines()).strip("\n")
