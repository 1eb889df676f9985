"""`zconfig check`, once or repeatedly, and `zconfig wait`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import count

import click
from rich.console import Console, Group
from rich.live import Live

from zconfig import events
from zconfig._channel.interruptible import run_concurrently
from zconfig._cli.exit import catch_sigint, finish, write_result
from zconfig._cli.options import (
    Format,
    Seconds,
    Session,
    epilog,
    output,
    pass_session,
    which_aliases,
    with_timeout,
)
from zconfig._cli.progress import is_wanted, show_progress
from zconfig._cli.render import draw, render, render_json, watch_parts
from zconfig._cli.report import Outcome, Outcomes, Report, check_aliases, report_on
from zconfig._registry import Connections, registry_of
from zconfig.errors import ConnectError, ZConfigError

_USUAL_S = 60.0
_SHORTEST_S = 0.1


def budget_s(connections: Connections, timeout: float | None) -> float:
    """Return the seconds to wait in total: the timeout, or else `ZCONFIG_WAIT`, or a minute."""
    options = connections.configuration.options
    configured = options.wait if "wait" in options.model_fields_set else _USUAL_S
    return configured if timeout is None else timeout


def wait_for_aliases(connections: Connections, aliases: Collection[str], total_s: float) -> Report:
    """Wait until aliases, by default all, are connected, and report.

    A permanent failure of a required alias ends the wait at once: invalid configuration before any
    alias is dialed, rejected credentials as soon as the server rejects them. An optional alias gets
    one connection attempt.

    Args:
        connections: The registry.
        aliases: The aliases; those that are named count as required.
        total_s: Seconds to wait in total; with 0, one attempt each.
    """
    errors = connections.configuration.errors
    is_doomed = not aliases and any(problem.alias is None for problem in errors)

    def attempt(names: Sequence[str], optional: Collection[str]) -> Outcomes:
        required = set(names).difference(optional)
        # For aliases that are unknown or have errors, this returns the error and does not dial.
        wrong = connections.attempt(*(name for name in names if name not in connections))
        outcomes = {**dict.fromkeys(names), **wrong}
        if is_doomed or wrong.keys() & required:
            return outcomes
        known = [name for name in names if name in connections]
        return {**outcomes, **_connected(connections, known, required, total_s)}

    return report_on(connections, aliases, attempt)


def _connected(
    connections: Connections, names: Collection[str], required: Collection[str], total_s: float
) -> Outcomes:
    """Connect aliases in parallel, until a required one fails permanently."""
    cancel = registry_of(connections).pool.cancel
    is_hopeless = threading.Event()

    def attempt(alias: str) -> Outcome:
        longest_s = connections.spec(alias).timeout_s
        timeout = min(longest_s, total_s) if total_s else longest_s
        wait = total_s if alias in required else 0.0
        outcome = connections.attempt(alias, wait=wait, timeout=timeout)[alias]
        if alias in required and _is_final(outcome):
            is_hopeless.set()
            for each in names:
                cancel(each)
        return outcome

    def give_up(event: events.ConnectionConnecting) -> None:
        if is_hopeless.is_set():
            cancel(event.alias)

    unsubscribe = connections.subscribe(give_up, events.ConnectionConnecting)
    try:
        return run_concurrently(attempt, names, cancel)
    finally:
        unsubscribe()


def _is_final(outcome: Outcome) -> bool:
    if isinstance(outcome, ConnectError):
        return outcome.permanent
    return isinstance(outcome, ZConfigError)


@click.command(
    epilog=epilog(
        "zconfig check",
        "zconfig check prod --wait 60",
        "zconfig check --quiet --timeout 3",
        "zconfig check --format json",
        "zconfig check --watch 5",
    )
)
@which_aliases
@with_timeout
@click.option(
    "--wait",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Time to retry transient failures; by default ZCONFIG_WAIT.",
)
@click.option(
    "--watch",
    type=Seconds(min=_SHORTEST_S),
    metavar="SECONDS",
    help="Repeat the check at this interval until Ctrl-C.",
)
@click.option(
    "--iterations",
    "-n",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="With --watch, the number of checks.",
)
@output("table", "json", "github", "junit")
@pass_session
def check(  # noqa: PLR0913, PLR0917 - one parameter an option
    session: Session,
    aliases: tuple[str, ...],
    timeout: float | None,
    wait: float | None,
    watch: float | None,
    iterations: int | None,
    format_: Format,
) -> None:
    """Connect aliases and report the result.

    Connects ALIASES, by default all. Use it as a container's HEALTHCHECK or before a deployment.

    With --watch the connections stay open, and each check pings them: a live table on a terminal,
    otherwise one table for each check, or with --format json one object per line. The exit code is
    that of the last check.
    """
    _check_watch(watch, iterations, format_)
    once = partial(check_aliases, session.connections, aliases, wait=wait, timeout=timeout)
    reports = repeat_checks(session.connections, once, watch or 0, iterations)
    with show_progress(session, aliases):
        report = once() if watch is None else next(reports)
    if watch is None:
        finish(session, report, render(report, format_, "check"))
    sys.exit(show_each(session, reports, report, format_).exit_code)


def _check_watch(watch: float | None, iterations: int | None, format_: Format) -> None:
    """Reject options that cannot be combined."""
    if watch is None:
        if iterations is not None:
            raise click.UsageError("--iterations requires --watch")
        return
    if format_ not in {"table", "json"}:
        raise click.UsageError(f"`check --watch` does not support {format_}; use table or json")


def repeat_checks(
    connections: Connections, check: Callable[[], Report], pause_s: float, iterations: int | None
) -> Iterator[Report]:
    """Check repeatedly, and yield each report with the statistics of each alias.

    Args:
        connections: The registry.
        check: Checks once.
        pause_s: Seconds from the end of one check to the next.
        iterations: The number of checks; unlimited by default. One if no alias can be connected.
    """
    for number in count(1):
        report = check()
        stats = connections.stats()
        rows = (replace(row, stats=stats.get(row.alias)) for row in report.aliases)
        yield replace(report, aliases=tuple(rows))
        if number == iterations or not any(row.endpoint for row in report.aliases):
            return
        time.sleep(pause_s)


def show_each(
    session: Session, reports: Iterable[Report], first: Report, format_: Format
) -> Report:
    """Show reports until Ctrl-C or the end, and return the last one.

    Args:
        session: The global options.
        reports: The reports after the first.
        first: The first report.
        format_: The format of the result.
    """

    def write(report: Report) -> None:
        one_line = render_json(report, indent=None)
        text = one_line if format_ == "json" else f"{draw(watch_parts(report))}\n"
        write_result(session, report, text)

    is_live = format_ == "table" and is_wanted(session, Console())
    last = first
    with _full_screen() if is_live else nullcontext(write) as show, catch_sigint():
        show(first)
        for last in reports:
            show(last)
    if is_live:
        write(last)
    return last


@contextmanager
def _full_screen() -> Iterator[Callable[[Report], None]]:
    """During a `with` block, draw reports on the terminal's alternate screen."""
    live = Live(
        console=Console(highlight=False),
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live:
        yield lambda report: live.update(
            Group(*watch_parts(report, "; press Ctrl-C to end")), refresh=True
        )


@click.command(
    epilog=epilog(
        "zconfig wait", "zconfig wait prod --timeout 300", "zconfig wait --quiet && exec my-service"
    )
)
@which_aliases
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Time to wait for all aliases together; by default ZCONFIG_WAIT, or 60.",
)
@output("table", "json", "github", "junit")
@pass_session
def wait(
    session: Session,
    aliases: tuple[str, ...],
    timeout: float | None,
    format_: Format,
) -> None:
    """Wait until aliases are connected, then report the result.

    Waits for ALIASES, by default all. Use it in an init container. Transient failures are retried,
    such as a server that has not started, or a host name that does not exist yet. Permanent
    failures, such as invalid configuration or rejected credentials, end the wait at once. An alias
    with REQUIRED=false gets one connection attempt.
    """
    total_s = budget_s(session.connections, timeout)
    with show_progress(session, aliases, total_s=total_s):
        report = wait_for_aliases(session.connections, aliases, total_s)
    finish(session, report, render(report, format_, "wait"))
