"""`zconfig top`: how it goes with connections, while they are pinged."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import click
from rich.console import Console
from rich.live import Live

from zconfig._cli.exit import catch_sigint, write
from zconfig._cli.options import Session, epilog, output, pass_session, which_aliases, with_quiet
from zconfig._cli.render import Format
from zconfig._cli.snapshot import Pulse, Sampler, Snapshot
from zconfig._cli.top_view import WatchView, look_json, look_table
from zconfig._settings.arguments import check_seconds

_A_SECOND = 4
_LOOK_S = 0.1
_SHORTEST_S = 0.1

Looking = Callable[[], Snapshot]
Telling = Callable[[Snapshot], object]


@click.command(
    epilog=epilog(
        "zconfig top",
        "zconfig top prod --interval 5",
        "zconfig top --iterations 10 --format json",
    )
)
@which_aliases
@click.option(
    "--interval",
    type=click.FloatRange(min=_SHORTEST_S),
    default=1.0,
    show_default=True,
    help="Seconds between pings.",
)
@click.option(
    "--iterations", "-n", type=click.IntRange(min=1), help="End by itself after so many looks."
)
@output("table", "json")
@with_quiet
@pass_session
def top(  # noqa: PLR0913, PLR0917 - one parameter an option
    session: Session,
    aliases: tuple[str, ...],
    more: tuple[str, ...],
    interval: float,
    iterations: int | None,
    format_: Format,
) -> None:
    """Connect ALIASES, by default all, keep pinging them, and show how it goes.

    State, round trips, failures by cause, reconnects and rotations, until Ctrl-C. Where standard
    output is no terminal, a table every interval, or with --format json a line. The exit code says
    how it was at the end.
    """
    check_seconds(None, interval=interval)
    observer = Sampler(session.connections, (*aliases, *more))
    tell = _told(session, format_)
    if not observer.aliases:
        end(session, observer.look(), tell)
    with Pulse(session.connections, observer.aliases, interval) as pulse:
        look = partial(observer.look, pulse)
        if format_ == "table" and _is_drawn(session):
            with _drawn(look, "; Ctrl-C ends it"):
                last = watched(look, interval, iterations, lambda _: None)
            tell(last)
        else:
            last = watched(look, interval, iterations, tell)
    end(session, last)


def watched(look: Looking, interval_s: float, iterations: int | None, tell: Telling) -> Snapshot:
    """Look again and again, and return the last look.

    Args:
        look: Looks.
        interval_s: Seconds from one look to the next.
        iterations: How many; by default until Ctrl-C. The last waits for first answers.
        tell: Takes each look.
    """
    started = time.monotonic()
    with catch_sigint():
        for number in count(1):
            time.sleep(max(started + number * interval_s - time.monotonic(), 0))
            is_last = number == iterations
            while is_last and not look().is_settled:
                time.sleep(_LOOK_S)
            seen = look()
            tell(seen)
            if is_last:
                return seen
    return look()


def end(session: Session, last: Snapshot, tell: Telling | None = None) -> None:
    """End the command with what the last look calls for.

    Args:
        session: What was chosen.
        last: The last look.
        tell: Takes it, if it was not told yet.
    """
    if tell:
        tell(last)
    if session.is_quiet and (summary := last.report.summary()):
        click.echo(summary, err=True)
    sys.exit(last.exit_code)


def _told(session: Session, format_: Format) -> Telling:
    if session.is_quiet:
        return lambda _: None
    if format_ == "json":
        return lambda look: write(look_json(look))
    return lambda look: write(f"{look_table(look)}\n")


def _is_drawn(session: Session) -> bool:
    """Tell whether there is a terminal to draw on, and nobody else writes on it."""
    console = Console()
    is_terminal = sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal
    if not is_terminal or session.is_quiet:
        return False
    has_log = session.connections.configuration.options.log_format not in {None, "none"}
    return not (sys.stderr.isatty() and (has_log or session.is_verbose))


@contextmanager
def _drawn(look: Looking, note: str) -> Iterator[None]:
    """For the time of a `with` block, draw on a screen of its own what is looked at."""
    live = Live(
        WatchView(look, note),
        console=Console(highlight=False),
        screen=True,
        refresh_per_second=_A_SECOND,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live:
        yield
