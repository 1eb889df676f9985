"""A program that forks often, and tells what went wrong in its children and in itself.

    python -m tests.support.forks STATE COUNT

Its connection is configured in the environment: `ZILLIZ_URI`, and for the state `connecting`
`ZILLIZ_SILENT_URI`, where a server accepts and never answers.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

from tests.support.processes import REPOSITORY, run
from zconfig import connections
from zconfig._connection import Connection
from zconfig.errors import ConnectError

ALARM_S = 20
"""Seconds after which a child counts as stuck."""

_GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
_CALL_S = 10.0
_SILENCE_S = 0.2
_CALLERS = 4
_AT_ONCE = 3
_ORDERLY = 5  # every fifth child ends in good order

_counting = threading.Lock()


class State(StrEnum):
    """What the parent does while it forks."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LOAD = "load"


@dataclass
class Tally:
    """What became of the children, and of the parent's own calls.

    Args:
        forks: How many children there were.
        hung: How many were stuck.
        crashed: How many were killed by another signal than their alarm.
        failed: How many saw a call fail.
        calls: How many calls the parent made meanwhile.
        failed_calls: How many of them failed.
        longest_call_ms: The longest of them.
        longest_fork_ms: The longest that the parent was held up by a fork.
        forking_ms: How long it was held up by all of them.
        reasons: What was said of failures.
    """

    forks: int = 0
    hung: int = 0
    crashed: int = 0
    failed: int = 0
    calls: int = 0
    failed_calls: int = 0
    longest_call_ms: float = 0.0
    longest_fork_ms: float = 0.0
    forking_ms: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def harm(self) -> int:
        """How much went wrong."""
        return self.hung + self.crashed + self.failed + self.failed_calls


def count_harm(state: State, forks: int, environ: Mapping[str, str], timeout_s: float) -> Tally:
    """Run the program, and return its tally.

    Args:
        state: What the parent does meanwhile.
        forks: How many children it has.
        environ: What configures its connection.
        timeout_s: Seconds for all of it.
    """
    program = [sys.executable, "-m", "tests.support.forks", state, str(forks)]
    # gRPC would say of each fork during a call that it does not handle it.
    quiet = {"GRPC_VERBOSITY": "ERROR", **environ}
    done = run(program, environ=quiet, directory=REPOSITORY, timeout_s=timeout_s)
    if done.returncode:
        raise RuntimeError(f"the parent ended with {done.returncode}: {done.stderr}")
    sys.stderr.write(done.stderr)  # the stacks of children that were stuck
    return Tally(**json.loads(done.stdout))


def main(state: State, forks: int) -> None:
    """Fork, and print a tally as JSON."""
    tally = Tally()
    connection = connections.default
    uses = list(_uses(connection))
    go_on = threading.Event()
    go_on.set()
    callers = _start_callers(state, uses, tally, go_on)
    children: deque[int] = deque()
    for number in range(forks):
        if len(children) == _AT_ONCE:
            _reap(children.popleft(), tally)
        children.append(_fork(state, uses, number, tally))
    while children:
        _reap(children.popleft(), tally)
    go_on.clear()
    for caller in callers:
        caller.join()
    for use in uses:
        _call(use, tally)
    sys.stdout.write(json.dumps(asdict(tally)))


def _uses(connection: Connection) -> tuple[Callable[[], Any], ...]:
    """Return what is done with a connection; its stub is made now, before any fork."""
    stub: Any = connection.channel.unary_unary(_GET_VERSION)
    return (
        connection.ping,
        lambda: stub(b"", timeout=_CALL_S),
        lambda: stub.future(b"", timeout=_CALL_S).result(),
        lambda: connections["default"].ping(),  # noqa: PLW0108 - it is to be looked up at each call
    )


# --- the parent ----------------------------------------------------------------------------


def _start_callers(
    state: State, uses: list[Callable[[], Any]], tally: Tally, go_on: threading.Event
) -> list[threading.Thread]:
    """Start what goes on while the parent forks, and wait until it does."""
    work: list[Callable[[], None]] = []
    if state is State.LOAD:
        work = [lambda use=use: _call(use, tally) for use in uses[:_CALLERS]]  # type: ignore[misc]
    elif state is State.CONNECTING:
        work = [_dial_in_vain]
    threads = [threading.Thread(target=_repeat, args=(each, go_on), daemon=True) for each in work]
    for thread in threads:
        thread.start()
    return threads


def _repeat(do: Callable[[], None], go_on: threading.Event) -> None:
    while go_on.is_set():
        do()


def _dial_in_vain() -> None:
    try:
        connections.connect("silent")
    except ConnectError:
        return
    raise AssertionError("a silent server has answered")


def _call(use: Callable[[], Any], tally: Tally) -> None:
    reasons, begun = [], time.monotonic()
    try:
        use()
    except Exception as error:  # noqa: BLE001 - whatever it is, it counts
        reasons.append(f"parent: {error!r}")
    with _counting:
        tally.calls += 1
        tally.longest_call_ms = max(tally.longest_call_ms, (time.monotonic() - begun) * 1e3)
        tally.failed_calls += len(reasons)
        tally.reasons += reasons


def _fork(state: State, uses: list[Callable[[], Any]], number: int, tally: Tally) -> int:
    """Fork a child, and return its number."""
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _live(state, uses, number)
    tally.forks += 1
    took_ms = (time.monotonic() - begun) * 1e3
    tally.longest_fork_ms = max(tally.longest_fork_ms, took_ms)
    tally.forking_ms += took_ms
    return pid


def _reap(pid: int, tally: Tally) -> None:
    """Wait for a child's end, and count it."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        tally.hung += name == "SIGALRM"
        tally.crashed += name != "SIGALRM"
        tally.reasons.append(f"child: {name}")
    elif status:
        tally.failed += 1
        tally.reasons.append(f"child: exit code {os.WEXITSTATUS(status)}")


# --- a child -------------------------------------------------------------------------------


def _live(state: State, uses: list[Callable[[], Any]], number: int) -> NoReturn:
    """Use what was inherited; each child begins with something else than the one before it.

    Some end as programs do, with everything that the interpreter does then; it takes long.
    """
    signal.alarm(ALARM_S)
    faulthandler.dump_traceback_later(ALARM_S - 1)
    first = number % len(uses)
    for use in (*uses[first:], *uses[:first]):
        use()
    if state is State.CONNECTING:
        _time_out()
    if number % _ORDERLY == 0:
        sys.exit(0)
    os._exit(0)


def _time_out() -> None:
    """Wait in vain for the silent server, and not much longer than was wanted."""
    begun = time.monotonic()
    (outcome,) = connections.attempt("silent", timeout=_SILENCE_S).values()
    assert isinstance(outcome, ConnectError), outcome
    assert time.monotonic() - begun < _CALL_S / 2


if __name__ == "__main__":
    main(State(sys.argv[1]), int(sys.argv[2]))
