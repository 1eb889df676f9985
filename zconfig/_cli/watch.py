"""`zconfig check --watch`: the same check again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import count

from rich.console import Console, Group
from rich.live import Live

from zconfig._cli.exit import catch_sigint, tell
from zconfig._cli.options import Session
from zconfig._cli.progress import is_wanted
from zconfig._cli.render import Format, render_json, render_watch, watch_parts
from zconfig._cli.report import Report
from zconfig._registry import Connections


def rounds(
    connections: Connections, check: Callable[[], Report], pause_s: float, iterations: int | None
) -> Iterator[Report]:
    """Check again and again, and yield each report with what has happened to each alias so far.

    Args:
        connections: The registry.
        check: Checks once.
        pause_s: Seconds from the end of one check to the next.
        iterations: How many checks; by default without end. One if there is nothing to connect.
    """
    for number in count(1):
        report = check()
        stats = connections.stats()
        rows = (replace(row, stats=stats.get(row.alias)) for row in report.aliases)
        yield replace(report, aliases=tuple(rows))
        if number == iterations or not any(row.endpoint for row in report.aliases):
            return
        time.sleep(pause_s)


def watch(session: Session, reports: Iterable[Report], first: Report, format_: Format) -> Report:
    """Show reports until Ctrl-C or the last of them, and return the last that there was.

    Args:
        session: What was chosen.
        reports: Those after the first.
        first: The first report.
        format_: How they are written.
    """

    def write(report: Report) -> None:
        one_line = render_json(report, indent=None)
        tell(session, report, one_line if format_ == "json" else render_watch(report))

    is_live = format_ == "table" and is_wanted(session, Console())
    last = first
    with _drawn() if is_live else nullcontext(write) as show, catch_sigint():
        show(first)
        for last in reports:
            show(last)
    if is_live:
        write(last)
    return last


@contextmanager
def _drawn() -> Iterator[Callable[[Report], None]]:
    """For the time of a `with` block, draw reports on a screen of its own."""
    live = Live(
        console=Console(highlight=False),
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live:
        yield lambda report: live.update(
            Group(*watch_parts(report, "; Ctrl-C ends it")), refresh=True
        )
