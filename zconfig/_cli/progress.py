"""The progress of connects, drawn on a terminal only, and never written to a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from zconfig import events
from zconfig._cli.options import Session
from zconfig._value import Value, value

_REFRESHES_PER_SECOND = 8
_MARKS = {"connected": "+", "failed": "x"}
_STYLES = {"connected": "green", "failed": "red", "retrying": "yellow"}


@value
class ConnectProgress(Value):
    """The progress of the connect of one alias.

    Args:
        endpoint: The endpoint, without credentials.
        state: `waiting`, `connecting`, `retrying`, `connected` or `failed`.
        attempt: The number of the current attempt, from 1.
        cause: The cause of the last failure.
        started: The monotonic time at which the connect began.
        elapsed_s: The duration in seconds; `None` while it is in progress.
    """

    endpoint: str
    state: str = "waiting"
    attempt: int = 1
    cause: str = ""
    started: float | None = None
    elapsed_s: float | None = None


class ProgressView:
    """A table of the connects, created from their current progress each time it is drawn.

    Args:
        connects: The progress by alias.
        total_s: Seconds until the wait ends; `None` for no limit.
    """

    def __init__(
        self, connects: Iterable[tuple[str, ConnectProgress]], total_s: float | None = None
    ) -> None:
        self._connects = dict(connects)
        self._total_s = total_s
        self._started = time.monotonic()
        self._spinner = Spinner("line")

    def on_event(self, event: events.Event) -> None:
        """Record a lifecycle event; those of an alias arrive from one thread at a time."""
        alias = getattr(event, "alias", None)
        if alias in self._connects:
            self._connects[alias] = _after(self._connects[alias], event)

    def __rich__(self) -> RenderableType:
        connects = dict(self._connects)
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for name in ("mark", "alias", "state", "attempt", "time", "cause", "endpoint"):
            table.add_column(name, no_wrap=name not in {"alias", "cause", "endpoint"})
        for alias, connect in connects.items():
            table.add_row(*self._cells(alias, connect))
        connected = sum(connect.state == "connected" for connect in connects.values())
        elapsed_s = int(time.monotonic() - self._started)
        of = f" of {self._total_s:g} s" if self._total_s else " s"
        summary = f"{connected} of {len(connects)} connected, {elapsed_s}{of}"
        return Group(table, Text(summary, no_wrap=True, overflow="ellipsis"))

    def _cells(self, alias: str, connect: ConnectProgress) -> Iterator[RenderableType]:
        style = _STYLES.get(connect.state, "")
        mark = _MARKS.get(connect.state)
        yield Text(mark, style) if mark else self._spinner
        yield _cut(alias)
        yield Text(connect.state, style)
        yield Text(f"attempt {connect.attempt}" if connect.attempt > 1 else "")
        yield Text(_seconds(connect))
        yield _cut(connect.cause.replace("_", " "))
        yield _cut(connect.endpoint)


def _after(connect: ConnectProgress, event: events.Event) -> ConnectProgress:
    """Return the progress of a connect after an event."""
    match event:
        case events.ConnectionConnecting():
            return replace(connect, state="connecting", started=time.monotonic(), elapsed_s=None)
        case events.ConnectionRetrying():
            return replace(connect, state="retrying", attempt=event.attempt + 1, cause=event.cause)
        case events.ConnectionConnected():
            elapsed_s = event.elapsed_ms / 1e3
            return replace(connect, state="connected", cause="", elapsed_s=elapsed_s)
        case events.ConnectionFailed():
            elapsed_s = event.elapsed_ms / 1e3
            return replace(connect, state="failed", cause=event.cause, elapsed_s=elapsed_s)
    return connect


def _cut(text: str) -> Text:
    """Return a text that a narrow terminal truncates instead of wrapping."""
    return Text(text, no_wrap=True)


def _seconds(connect: ConnectProgress) -> str:
    if connect.started is None:
        return ""
    running_s = time.monotonic() - connect.started
    return f"{running_s if connect.elapsed_s is None else connect.elapsed_s:.1f} s"


@contextmanager
def show_progress(
    session: Session, aliases: Iterable[str] = (), *, total_s: float | None = None
) -> Iterator[None]:
    """During a `with` block, show the progress of connects, if standard error is a terminal.

    Args:
        session: The global options.
        aliases: The aliases to show; all by default.
        total_s: Seconds until the wait ends; `None` for no limit.
    """
    console = Console(stderr=True, highlight=False)
    if not is_wanted(session, console):
        yield
        return
    connections = session.connections
    known = [alias for alias in dict.fromkeys(aliases) or connections if alias in connections]
    specs = map(connections.spec, known)
    view = ProgressView(
        ((spec.alias, ConnectProgress(str(spec.endpoint))) for spec in specs), total_s
    )
    unsubscribe = connections.subscribe(view.on_event)
    live = Live(
        view,
        console=console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    try:
        with live:
            yield
    finally:
        unsubscribe()


def is_wanted(session: Session, console: Console) -> bool:
    """Return whether a console is a terminal, and the log is not written to it.

    rich treats the logs of some CI systems as a terminal.
    """
    stream = sys.stderr if console.stderr else sys.stdout
    is_terminal = stream.isatty() and console.is_terminal and not console.is_dumb_terminal
    if not is_terminal or session.is_quiet:
        return False
    return not (sys.stderr.isatty() and (session.is_verbose or _has_log(session)))


def _has_log(session: Session) -> bool:
    return session.connections.configuration.options.log_format not in {None, "none"}
