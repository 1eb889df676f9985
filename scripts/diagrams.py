"""The diagrams of the documentation: from a value's sources to a connection, and its states."""

from __future__ import annotations

from itertools import pairwise

from drawing import Box, arrow, label, line, picture, text

from zconfig import events
from zconfig._connection import State

# --- the way of a value -----------------------------------------------------------------------

SOURCES = (
    ("arguments in code", "connections.connect(…)"),
    ("the environment", "and _FILE variables"),
    ("dotenv files", ".env.local, .env"),
    ("secret directories", "/run/secrets"),
    ("service bindings", "Kubernetes"),
    ("secret managers", "and third-party sources"),
    ("MILVUS_* variables", "for the alias default"),
)


_QUEUE = [
    Box(24, 57 + 54 * rank, 196, 46, name, note, "quiet")
    for rank, (name, note) in enumerate(SOURCES)
]
_SETTINGS = Box(296, 52, 190, 56, "settings", "the highest source wins")
_SPECIFICATION = Box(296, 152, 190, 56, "specification", "one per alias, immutable")
_CHANNEL = Box(296, 252, 190, 56, "channel", "shared by target and TLS")
_CONNECTION = Box(296, 352, 190, 56, "connection", "ready once it is verified", "good")
_STEPS = (_SETTINGS, _SPECIFICATION, _CHANNEL, _CONNECTION)

_EXPLAIN = Box(562, 52, 176, 56, "zconfig explain", "origin of each value", "quiet")
_WRONG = Box(562, 152, 176, 56, "ConfigurationError", "all problems at once", "bad")
_FAILED = Box(562, 252, 176, 56, "ConnectError", "cause, stage, remedy", "bad")
_CALLS = Box(562, 352, 176, 56, "your calls", "client(), stubs, ping()", "good")


def flow() -> str:
    """Return the diagram from the sources of a value to the calls of an application."""
    boxes = (*_QUEUE, *_STEPS, _EXPLAIN, _WRONG, _FAILED, _CALLS)
    parts = [
        text(122, 34, "sources, highest first", "head"),
        text(391, 34, "inside zconfig", "head"),
        text(650, 34, "results", "head"),
        *(box.drawn() for box in boxes),
        *_gathered(258),
        *(arrow(f"M{a.middle},{a.bottom} V{b.y - 2}") for a, b in pairwise(_STEPS)),
        label(399, 136, ["with its origin"], "start"),
        label(399, 336, ["with credentials"], "start"),
        across(_SETTINGS, _EXPLAIN),
        across(_SETTINGS, _WRONG, 14),
        across(_CONNECTION, _FAILED, -14),
        across(_CONNECTION, _CALLS),
    ]
    return picture(762, 446, "Where a value comes from, and inside zconfig", parts)


def _gathered(rail: int) -> list[str]:
    """Return the lines from every source to a vertical one, and from there to the settings."""
    return [
        *(line(f"M{each.right},{each.centre} H{rail}") for each in _QUEUE),
        line(f"M{rail},{_QUEUE[0].centre} V{_QUEUE[-1].centre}"),
        arrow(f"M{rail},{_SETTINGS.centre} H{_SETTINGS.x - 2}"),
    ]


def across(left: Box, right: Box, below: int = 0) -> str:
    """Return an arrow from a box to one on its right; it leaves some way below the middle."""
    half = (left.right + right.x) // 2
    return arrow(f"M{left.right},{left.centre + below} H{half} V{right.centre} H{right.x - 2}")


# --- the states of a connection ---------------------------------------------------------------

STATES = {
    State.IDLE: Box(36, 136, 140, 56, "idle", "the next use opens it", "quiet"),
    State.CONNECTING: Box(300, 136, 150, 56, "connecting", "under one deadline"),
    State.READY: Box(580, 136, 150, 56, "ready", "verified by the server", "good"),
    State.LOST: Box(580, 286, 150, 56, "lost", "calls fail, gRPC dials", "bad"),
    State.CLOSED: Box(300, 286, 150, 56, "closed", "for good", "end"),
}

# Of a connection's events, those that happen to an alias without one.
OF_AN_ALIAS = (events.ConnectionConfigured, events.ConnectionRemoved)


def states() -> str:
    """Return the states of a connection, and the events that lead from one to another."""
    parts = [
        *(box.drawn() for box in STATES.values()),
        *_opening(),
        *_staying(),
        *_losing(),
        *_back_to_idle(),
        *_closing(),
    ]
    return picture(762, 366, "The states of a connection, and the events between them", parts)


def _opening() -> list[str]:
    idle, connecting, ready = STATES[State.IDLE], STATES[State.CONNECTING], STATES[State.READY]
    return [
        arrow(f"M{idle.right},{idle.centre - 8} H{connecting.x - 2}"),
        label(238, idle.centre - 16, [short(events.ConnectionConnecting)]),
        arrow(f"M{connecting.x},{idle.centre + 12} H{idle.right + 2}"),
        label(238, idle.centre + 30, [short(events.ConnectionFailed)]),
        arrow(f"M{connecting.right},{connecting.centre} H{ready.x - 2}"),
        label(515, connecting.centre - 8, [short(events.ConnectionConnected)]),
    ]


def _staying() -> list[str]:
    connecting, ready = STATES[State.CONNECTING], STATES[State.READY]
    stays = f"{short(events.ConnectionRotated)}, {short(events.ConnectionMoved)}"
    return [
        arrow(_loop(connecting)),
        label(connecting.middle + 12, 92, [short(events.ConnectionRetrying)]),
        arrow(_loop(ready)),
        label(ready.middle + 12, 92, [stays]),
    ]


def _losing() -> list[str]:
    ready, lost = STATES[State.READY], STATES[State.LOST]
    down, up = ready.middle - 30, ready.middle + 10
    return [
        arrow(f"M{down},{ready.bottom} V{lost.y - 2}"),
        label(down - 8, 244, [short(events.ConnectionLost)], "end"),
        arrow(f"M{up},{lost.y} V{ready.bottom + 2}"),
        label(up + 8, 244, [short(events.ConnectionRecovered)], "start"),
    ]


def _back_to_idle() -> list[str]:
    idle, ready = STATES[State.IDLE], STATES[State.READY]
    reloaded = f"{short(events.ConnectionClosed)}, by a reload with another endpoint"
    in_a_child = f"{short(events.ProcessForked)}, in a child"
    return [
        arrow(f"M{ready.x + 14},{ready.y} V46 H{idle.middle} V{idle.y - 2}"),
        label((idle.middle + ready.x) / 2, 38, [f"{reloaded} · {in_a_child}"]),
    ]


def _closing() -> list[str]:
    idle, closed = STATES[State.IDLE], STATES[State.CLOSED]
    how = ["close(), disconnect(),", "from every state:"]
    return [
        arrow(f"M{idle.middle},{closed.centre} H{closed.x - 2}"),
        label(idle.middle, closed.centre - 24, how, "start"),
        label(idle.middle, closed.centre + 18, [short(events.ConnectionClosed)], "start"),
    ]


def short(event: type[events.Event]) -> str:
    """Return the last part of an event's name."""
    return event.name.rpartition(".")[2]


def _loop(box: Box) -> str:
    left, right = box.middle - 14, box.middle + 38
    return f"M{left},{box.y} C{left},{box.y - 44} {right},{box.y - 44} {right},{box.y - 2}"
