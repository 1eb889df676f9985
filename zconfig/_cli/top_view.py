"""How it goes with aliases → a table that is drawn again and again, blocks of text, or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from zconfig._cli.console import Part, as_json, draw, new_table
from zconfig._cli.render import report_values, rounded, unreported
from zconfig._cli.report import Failure, Row
from zconfig._cli.snapshot import AliasSnapshot, Snapshot
from zconfig._registry.stats import AliasStats

_ROOM = 130  # columns of a terminal, for everything
_COLUMNS = {  # and the narrowest terminal on which each is shown
    "alias": 0,
    "endpoint": 72,
    "state": 0,
    "since": 48,
    "last": 0,
    "p50": 60,
    "p99": 60,
    "connects": _ROOM,
    "failures": _ROOM,
    "reconnects": _ROOM,
    "rotations": _ROOM,
}
_BESIDES_ROWS = 6  # lines: the heading, the table's, and one of what is wrong
_SLOW_S = 1.0
_MANY_MS = 1000.0  # of which a tenth tells nothing

_Told = Callable[[str, Failure], str]


class WatchView:
    """What a terminal shows, made anew from a look each time it is drawn.

    Args:
        look: Looks.
        note: What the heading ends with.
    """

    def __init__(self, look: Callable[[], Snapshot], note: str) -> None:
        self._look = look
        self._note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = max(console.height - _BESIDES_ROWS, 1)
        yield from _parts(self._look(), _brief, options.max_width, rows, self._note)


def look_table(look: Snapshot) -> str:
    """Return a look as text: for a terminal there is, or a row a line for a log."""
    terminal = Console(stderr=False)
    return draw(_parts(look, _whole, terminal.width if terminal.is_terminal else _ROOM))


def look_json(look: Snapshot) -> str:
    """Return one JSON object on one line; its keys are documented, and only ever added to."""
    values = report_values(look.report)
    values |= {"ok": look.exit_code == 0, "exit_code": int(look.exit_code)}
    values["aliases"] = [
        {**row, **_values(each)}
        for row, each in zip(values["aliases"], look.standings, strict=True)
    ]
    return as_json({"at": _instant(look.at), **values}, indent=None)


def _values(standing: AliasSnapshot) -> dict[str, Any]:
    stats = standing.stats
    round_trips = asdict(stats.round_trips) if stats.round_trips else None
    return {
        "since": _instant(stats.since),
        "connects": stats.connects,
        "failures": dict(stats.failures),
        "losses": stats.losses,
        "reconnects": stats.reconnects,
        "rotations": stats.rotations,
        "round_trips": round_trips and {name: rounded(each) for name, each in round_trips.items()},
        "waiting_ms": None if standing.waiting_s is None else rounded(standing.waiting_s * 1e3),
    }


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parts(
    look: Snapshot, told: _Told, width: int, rows: int | None = None, note: str = ""
) -> Iterator[Part]:
    """Yield what is drawn.

    Args:
        look: What was seen.
        told: Says what is wrong with an alias.
        width: How many columns there are; lines below the table have what has no room in it.
        rows: How many aliases there is room for; those that are not well come first then.
        note: What the heading ends with.
    """
    connected = sum(each.row.state == "connected" for each in look.standings)
    heading = f"{look.at:%Y-%m-%d %H:%M:%S}Z  {connected} of {len(look.standings)} connected"
    yield _cut(f"{heading}, round trips in ms{note}", "bold")
    fitting = _fitting(look.standings, rows)
    if fitting:
        yield _table(fitting, look.at, width)
    if len(fitting) < len(look.standings):
        yield Text(f"and {len(look.standings) - len(fitting)} more, for which there is no room")
    yield from map(Text, _below(look, told, width))


def _fitting(standings: Sequence[AliasSnapshot], rows: int | None) -> Sequence[AliasSnapshot]:
    if rows is None or len(standings) <= rows:
        return standings
    worst_first = sorted(standings, key=lambda each: not each.row.failure)
    return worst_first[: rows - 1]


def _table(standings: Sequence[AliasSnapshot], at: datetime, width: int) -> Table:
    headers = [header for header, least in _COLUMNS.items() if width >= least]
    table = new_table(*headers, wraps={"alias", "endpoint", "failures"})
    for each in standings:
        cells = _cells(each, at)
        table.add_row(*(cells[header] for header in headers))
    return table


def _cells(standing: AliasSnapshot, at: datetime) -> dict[str, Text]:
    """Return what stands in each column."""
    row, stats, trips = standing.row, standing.stats, standing.stats.round_trips
    return {
        "alias": _cut(row.alias, "bold"),
        "endpoint": _cut(row.endpoint or ""),
        "state": Text(row.state, _style(row)),
        "since": Text(_ago((at - stats.since).total_seconds())),
        "last": _last(standing),
        "p50": Text(_ms(trips.p50_ms) if trips else ""),
        "p99": Text(_ms(trips.p99_ms) if trips else ""),
        "connects": Text(str(stats.connects)),
        "failures": Text(_failures(stats)),
        "reconnects": Text(str(stats.reconnects)),
        "rotations": Text(str(stats.rotations)),
    }


def _style(row: Row) -> str:
    if row.failure:
        return "red"
    return "green" if row.state == "connected" else "yellow"


def _last(standing: AliasSnapshot) -> Text:
    """Return the last round trip, or for how long the one under way lasts if it is slow."""
    if standing.waiting_s is not None and standing.waiting_s >= _SLOW_S:
        return Text(f"> {standing.waiting_s:.0f} s", "yellow")
    last_ms = standing.row.round_trip_ms
    return Text("" if last_ms is None else _ms(last_ms))


def _below(look: Snapshot, told: _Told, width: int) -> Iterator[str]:
    """Yield what stands below the table: what has no room in it, and what is wrong."""
    if width < _ROOM:
        for each in look.standings:
            if history := _history(each.stats):
                yield f"{each.row.alias}: {history}"
    for each in look.standings:
        if failure := each.row.failure:
            yield f"{'' if each.row.required else 'optional: '}{told(each.row.alias, failure)}"
    yield from unreported(look.report)


def _whole(_: str, failure: Failure) -> str:
    return failure.message


def _brief(alias: str, failure: Failure) -> str:
    """Return what is wrong without what was seen, of which the end tells, and the log."""
    if failure.stage is None:  # it is in the configuration
        return failure.message
    return f"{alias}: {failure.problem}, set by {failure.origin}; {failure.remedy}"


def _history(stats: AliasStats) -> str:
    """Return what happened besides one connect, or nothing."""
    counts = (("connects", stats.connects), ("reconnects", stats.reconnects))
    told = [f"{name} {count}" for name, count in (*counts, ("rotations", stats.rotations)) if count]
    told += [f"failures {_failures(stats)}"] if stats.failures else []
    return "" if told == ["connects 1"] else ", ".join(told)


def _failures(stats: AliasStats) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in stats.failures.items())


def _cut(text: str, style: str = "") -> Text:
    """Return a text that is cut short, rather than wrapped, where the terminal is narrow."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < _MANY_MS else f"{milliseconds:.0f}"


def _ago(seconds: float) -> str:
    """Return how long something lasts, in the largest unit that it fills.

    Example:
        >>> _ago(59.9), _ago(150), _ago(100_000)
        ('59 s', '2 min', '1 d')
    """
    units = ((86_400, "d"), (3_600, "h"), (60, "min"))
    size, unit = next((each for each in units if seconds >= each[0]), (1, "s"))
    return f"{max(seconds, 0) // size:.0f} {unit}"
