"""One deadline for names, probes and retries; what passes is tried again, what lasts is not.

Nothing here measures what a busy machine makes longer. Where the time is the point, it is not the
machine's: in `SlowWorld` whatever blocks takes all the time that it is given, and the clock shows
where that ends. `benchmarks/deadline_overshoot.py` measures the real thing.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Self

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import PATIENCE_S, faults
from tests.support.matrix import CELLS, HANGS_S, Cell
from tests.support.registries import registry
from zconfig import errors, events
from zconfig._deadline import ConnectBudget, backoff_s
from zconfig._diagnosis import ProbeTarget, StageResult, diagnose, stages
from zconfig._diagnosis.network import Address
from zconfig.errors import ClosedError, ConnectError, NotHTTP2Error, RefusedError, Stage
from zconfig.testing import fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.certificates import Certificates
    from zconfig._registry import Connections

BUDGET_S, GRACE_S = 1.0, 0.2
# No read, write or dial is given less than this, lest it become one that does not block at all.
SHORTEST_S = 0.01


# --- a world in which everything takes as long as it may -----------------------------------


class SlowWorld:
    """A clock, and a network on which whatever blocks takes all the time that it is given.

    Args:
        names: How many addresses a name has; 0 for a resolver that does not answer.
        accepts: Whether a dial succeeds, after half of its time.
        says: What comes of each read after a tenth of a second; nothing ever, if it is empty.
    """

    def __init__(self, names: int = 1, *, accepts: bool = False, says: bytes = b"") -> None:
        self.now = 1_000.0
        self.names = names
        self.accepts = accepts
        self.says = says

    def monotonic(self) -> float:
        return self.now

    @contextmanager
    def entered(self) -> Iterator[Self]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", self.monotonic)
            patch.setattr("zconfig._deadline.Future", lambda: SlowAnswer(self))
            patch.setattr("zconfig._deadline.threading.Thread", Idle)
            patch.setattr("zconfig._diagnosis.network.socket.socket", lambda *_: SlowSocket(self))
            yield self


class Idle:
    """A thread that does nothing."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        pass


class SlowAnswer:
    def __init__(self, world: SlowWorld) -> None:
        self._world = world

    def result(self, timeout: float) -> tuple[Any, ...]:
        if not self._world.names:
            self._world.now += timeout
            raise TimeoutError
        address = Address(socket.AF_INET, ("127.0.0.1", 1))
        return (address,) * self._world.names


class SlowSocket:
    def __init__(self, world: SlowWorld) -> None:
        self._world = world
        self._timeout = float("inf")

    def settimeout(self, timeout: float) -> None:
        self._timeout = timeout

    def connect(self, _: object) -> None:
        if not self._world.accepts:
            self._world.now += self._timeout
            raise TimeoutError
        self._world.now += self._timeout / 2

    def sendall(self, _: bytes) -> None:
        pass

    def recv(self, size: int) -> bytes:
        self._world.now += min(self._timeout, 0.1) if self._world.says else self._timeout
        if not self._world.says:
            raise TimeoutError
        return self._world.says[:size]

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


WORLDS: dict[str, Callable[[], SlowWorld]] = {
    "a silent resolver": lambda: SlowWorld(0),
    "one address that drops SYNs": SlowWorld,
    "twenty addresses that drop SYNs": lambda: SlowWorld(20),
    "a silent peer": lambda: SlowWorld(accepts=True),
    "a peer that dribbles": lambda: SlowWorld(accepts=True, says=b"-"),
}
TARGETS: dict[str, dict[str, Any]] = {
    "plaintext": {},
    "TLS": {"secure": True},
    "a proxy": {"via_proxy": "http://proxy.test:3128"},
    "TLS over a proxy": {"secure": True, "via_proxy": "http://proxy.test:3128"},
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("dialed", TARGETS)
@pytest.mark.parametrize("left_s", [0.05, 0.5, 30.0])
def test_no_stage_outruns_the_deadline_of_the_probe(world: str, dialed: str, left_s: float) -> None:
    target = ProbeTarget("db.test", 19530, **TARGETS[dialed])
    with WORLDS[world]().entered() as slow:
        deadline = slow.now + left_s
        results = stages(target, deadline)
        assert not results[-1].ok
        assert slow.now <= deadline + 25 * SHORTEST_S


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("dialed", TARGETS)
@pytest.mark.parametrize("left_s", [-0.01, 0.0, 0.05, 0.5, 30.0])
def test_a_diagnosis_takes_a_second_at_most_and_a_fifth_over_the_deadline(
    world: str, dialed: str, left_s: float
) -> None:
    target = ProbeTarget("db.test", 19530, **TARGETS[dialed])
    with WORLDS[world]().entered() as slow:
        began, deadline = slow.now, slow.now + left_s
        diagnose(grpc.StatusCode.DEADLINE_EXCEEDED, "", target, deadline=deadline)
        assert slow.now <= min(began + BUDGET_S, deadline + GRACE_S) + 25 * SHORTEST_S


@given(st.floats(-5, 5))
def test_the_probe_s_deadline_is_the_earlier_of_its_budget_and_the_connect_s(left_s: float) -> None:
    given_to_probe = []

    def note(_: ProbeTarget, deadline: float) -> tuple[StageResult, ...]:
        given_to_probe.append(deadline)
        return (StageResult(Stage.TCP, 0.0, "refused", RefusedError),)

    with SlowWorld().entered() as slow, pytest.MonkeyPatch.context() as patch:
        patch.setattr("zconfig._diagnosis.rules.stages", note)
        target = ProbeTarget("db.test", 19530)
        diagnose(grpc.StatusCode.UNAVAILABLE, "", target, deadline=slow.now + left_s)
        assert given_to_probe == [min(slow.now + BUDGET_S, slow.now + left_s + GRACE_S)]


def test_the_time_is_spent_in_the_stage_that_is_silent() -> None:
    with SlowWorld(accepts=True).entered() as slow:
        results = stages(ProbeTarget("db.test", 19530), slow.now + 1.0)
    took_ms = [(result.stage, result.elapsed_ms) for result in results]
    assert took_ms == [
        (Stage.DNS, 0.0),
        (Stage.TCP, pytest.approx(500)),
        (Stage.HTTP2, pytest.approx(500)),
    ]


# --- one deadline for a connect, however it hangs ------------------------------------------

HANGING = [cell for cell in CELLS if cell.timeout_s == HANGS_S]


def attempted(
    environ: Mapping[str, str], hook: events.Hook | None = None, **patience: float
) -> Any:
    with registry(**environ) as connections:
        if hook:
            connections.subscribe(hook)
        return connections.attempt("prod", **patience)["prod"]


@pytest.mark.parametrize("cell", HANGING, ids=lambda cell: cell.name)
def test_what_hangs_ends_with_its_timeout_however_long_it_would_be_retried(
    cell: Cell, certificates: Certificates
) -> None:
    with cell.environ(certificates, timeout_s=0.2) as environ:
        error = attempted(environ, wait=0.4)
    assert type(error) is cell.error, error
    # Twenty times what is promised: who waits for a default, of 10 or 20 s, is found anyway.
    assert error.elapsed_ms < 9_000


def test_the_timeout_that_grpc_is_given_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def late(_: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        if len(left) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not ready")
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who is it?")
        return b""

    # gRPC rounds a timeout up, by as much as a tenth.
    monkeypatch.setattr("zconfig._connection.connector.backoff_s", lambda _: 1.0)
    with faults.grpc_server({"Connect": late}) as port:
        environ = {"ZILLIZ_PROD_URI": f"http://127.0.0.1:{port}", "ZILLIZ_PROD_TIMEOUT": "9"}
        error = attempted(environ, wait=9.0)
    assert isinstance(error, errors.AuthenticationError)
    assert error.attempts == len(left) == 3
    assert left == sorted(left, reverse=True)
    assert left[0] <= 9.0


def test_many_that_hang_share_one_deadline() -> None:
    with faults.listening(faults.swallow) as port:
        environ = {f"ZILLIZ_A{n}_URI": f"http://127.0.0.1:{port}" for n in range(8)}
        with registry(**environ) as connections:
            outcomes = connections.attempt(*connections, wait=0, timeout=0.3)
    assert len(outcomes) == 8
    for outcome in outcomes.values():
        assert type(outcome) is errors.ServerSilentError
        assert outcome.elapsed_ms < 9_000


# --- patience and pauses -------------------------------------------------------------------

SECONDS = st.floats(0, 1_000)


@given(timeout_s=SECONDS, wait_s=SECONDS, passed_s=SECONDS, pause_s=SECONDS)
def test_patience_never_reaches_beyond_the_longer_of_timeout_and_wait(
    timeout_s: float, wait_s: float, passed_s: float, pause_s: float
) -> None:
    with SlowWorld().entered() as slow:
        began = slow.now
        patience = ConnectBudget.from_now(timeout_s, wait_s)
        slow.now += passed_s
        assert patience.deadline == began + max(timeout_s, wait_s)
        assert patience.left_s == max(patience.deadline - slow.now, 0.0)
        limited_s = patience.pause_s(pause_s)
        if limited_s is not None:
            assert 0 <= limited_s <= pause_s
            assert slow.now + limited_s < began + wait_s
        else:
            assert slow.now + pause_s >= began + wait_s
            assert slow.now > began + wait_s - 0.501


def test_without_a_wait_nothing_is_tried_again() -> None:
    assert ConnectBudget.from_now(10.0).pause_s(0.0) is None


def test_a_pause_beyond_the_wait_is_shortened_for_a_last_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zconfig._connection.connector.backoff_s", lambda _: 60.0)
    with faults.refused() as port:
        error = attempted(environ_of(f"http://127.0.0.1:{port}"), wait=1.5)
    assert isinstance(error, ConnectError)
    assert error.attempts == 2


@given(number=st.integers(1, 10_000))
def test_a_pause_is_drawn_from_nothing_up_to_a_ceiling_that_doubles(number: int) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zconfig._deadline.random.uniform", draw)
        pause_s = backoff_s(number)
    assert drawn == [(0, pause_s)]
    assert pause_s == min(0.4 * 2 ** min(number - 1, 10), 3.0)


def test_pauses_are_spread() -> None:
    pauses = [backoff_s(4) for _ in range(200)]
    assert min(pauses) < 0.75
    assert max(pauses) > 2.25


# --- what passes, and what lasts -----------------------------------------------------------

ONE_OF_EACH = list({cell.error: cell for cell in CELLS}.values())


@pytest.mark.parametrize("cell", ONE_OF_EACH, ids=lambda cell: cell.error.__name__)
def test_a_permanent_cause_ends_it_at_once_and_another_is_tried_again(
    cell: Cell, certificates: Certificates
) -> None:
    causes: list[str] = []
    timeout_s = 0.3 if cell in HANGING else cell.timeout_s
    with cell.environ(certificates, timeout_s) as environ, registry(**environ) as connections:

        def give_up(event: events.Event) -> None:
            if isinstance(event, events.ConnectionRetrying):
                causes.append(event.cause)
                connections.disconnect("prod")

        connections.subscribe(give_up)
        outcome = connections.attempt("prod", wait=PATIENCE_S)["prod"]
    if cell.error.permanent:
        assert type(outcome) is cell.error
        assert (outcome.attempts, causes) == (1, [])
    else:
        assert isinstance(outcome, ClosedError)
        assert causes == [cell.error.cause]


class Late:
    """A Milvus that is there once somebody has tried to reach it twice."""

    def __init__(self, come: Callable[[], None]) -> None:
        self.causes: list[str] = []
        self._come = come

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionRetrying):
            self.causes.append(event.cause)
            if len(self.causes) == 2:
                self._come()


@contextmanager
def down_at_first() -> Iterator[tuple[str, Late]]:
    with fake_server() as server, faults.breakable_proxy(server.port) as proxy:
        proxy.cut()
        yield f"http://127.0.0.1:{proxy.port}", Late(proxy.heal)


@contextmanager
def silent_at_first() -> Iterator[tuple[str, Late]]:
    with fake_server() as server:
        server.hold()
        yield server.uri, Late(server.recover)


@contextmanager
def starting_at_first() -> Iterator[tuple[str, Late]]:
    with fake_server() as server:
        server.fail(grpc.StatusCode.UNAVAILABLE, "Milvus Proxy is not ready yet", method="Connect")
        yield server.uri, Late(server.recover)


@contextmanager
def closing_at_first() -> Iterator[tuple[str, Late]]:
    started = threading.Event()
    with fake_server() as server:
        tunnel = faults.tcp_forward(server.port)

        def handle(conn: socket.socket) -> None:
            (tunnel if started.is_set() else faults.hang_up)(conn)

        with closing(faults.Listener(handle)) as listener:
            yield f"http://127.0.0.1:{listener.port}", Late(started.set)


@contextmanager
def nameless_at_first() -> Iterator[tuple[str, Late]]:
    """Serve under a name that a proxy alone can resolve, once the proxy can."""
    known = threading.Event()
    with fake_server() as server, ExitStack() as patches:
        tunnel = faults.tunnel_to(server.port)

        def handle(conn: socket.socket) -> None:
            (tunnel if known.is_set() else faults.proxy_answering(502))(conn)

        listener = patches.enter_context(closing(faults.Listener(handle)))
        patch = patches.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("http_proxy", f"http://127.0.0.1:{listener.port}")
        yield f"http://db.test:{server.port}", Late(known.set)


LATE = {
    "refused": down_at_first,
    "server_silent": silent_at_first,
    "server_not_ready": starting_at_first,
    "closed_by_peer": closing_at_first,
    "proxy": nameless_at_first,
}


def environ_of(uri: str, **more: str) -> dict[str, str]:
    return {"ZILLIZ_PROD_URI": uri, **more}


def connected(connections: Connections, late: Late, wait: float | None) -> None:
    connections.subscribe(late)
    connection = connections.autoconnect("prod", wait=wait)["prod"]
    assert connection.server.version == VERSION
    assert connection.ping(timeout=PATIENCE_S) > 0
    connections.close()


@pytest.mark.usefixtures("patient_diagnosis")
@pytest.mark.parametrize("cause", LATE)
def test_a_server_that_is_late_is_waited_for(cause: str) -> None:
    # A short timeout where that is how it fails.
    more = {"ZILLIZ_PROD_TIMEOUT": "1"} if cause == "server_silent" else {}
    with LATE[cause]() as (uri, late), registry(**environ_of(uri, **more)) as connections:
        connected(connections, late, PATIENCE_S)
    assert late.causes[:2] == [cause, cause]


def test_the_wait_may_stand_in_the_environment() -> None:
    with down_at_first() as (uri, late):
        environ = environ_of(uri, ZCONFIG_WAIT=str(PATIENCE_S))
        with registry(**environ) as connections:
            connected(connections, late, None)
    assert late.causes[:2] == ["refused", "refused"]


@pytest.mark.parametrize(
    ("configured", "wait", "retried"),
    [("20", None, True), ("20", 0.0, False), ("0", None, False), ("0", 20.0, True)],
)
def test_the_argument_goes_before_the_environment(
    configured: str, wait: float | None, retried: bool
) -> None:
    causes: list[str] = []
    with (
        faults.refused() as port,
        registry(**environ_of(f"http://127.0.0.1:{port}", ZCONFIG_WAIT=configured)) as connections,
    ):

        def give_up(event: events.Event) -> None:
            if isinstance(event, events.ConnectionRetrying):
                causes.append(event.cause)
                connections.disconnect("prod")

        connections.subscribe(give_up)
        connections.attempt("prod", wait=wait)
    assert bool(causes) is retried


def test_what_becomes_permanent_meanwhile_ends_the_wait() -> None:
    causes: list[str] = []

    def handle(conn: socket.socket) -> None:
        (faults.http1 if causes else faults.hang_up_later)(conn)

    def note(event: events.Event) -> None:
        if isinstance(event, events.ConnectionRetrying):
            causes.append(event.cause)

    with faults.listening(handle) as port:
        error = attempted(environ_of(f"http://127.0.0.1:{port}"), note, wait=PATIENCE_S)
    assert type(error) is NotHTTP2Error
    assert causes[0] == "closed_by_peer"
    assert error.attempts == len(causes) + 1


def test_a_wait_ends_with_the_cause_and_the_number_of_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zconfig._connection.connector.backoff_s", lambda _: 0.05)
    with faults.refused() as port:
        error = attempted(environ_of(f"http://127.0.0.1:{port}"), wait=2.0)
    assert isinstance(error, ConnectError)
    assert error.attempts > 1
    assert f"after {error.attempts} attempts" in str(error)
