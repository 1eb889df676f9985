"""Many threads on one registry: one connect an alias, no deadlock, nothing half-open."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import PATIENCE_S, faults
from tests.support.processes import run_python
from tests.support.registries import registry
from zconfig import events
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._connection import CHANNELS, Connection, ManagedConnection, State
from zconfig._connection.connector import Connector, ConnectResult, PendingConnect
from zconfig._deadline import ConnectBudget
from zconfig.aio import AsyncConnections
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConflictError,
    MissingExtraError,
    RefusedError,
    ServerSilentError,
    ZConfigError,
)
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zconfig._registry import Connections

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

THREADS = 64
DEEDS = 60
SECRET = "c0rrect-h0rse"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(count) as pool:
        yield pool


def at_once(count: int, do: Callable[[int], Any]) -> list[Any]:
    """Do something in many threads that begin together; return the results or the errors."""
    barrier = threading.Barrier(count, timeout=PATIENCE_S)

    def begin(number: int) -> Any:
        barrier.wait()
        try:
            return do(number)
        except ZConfigError as error:
            return error

    with threads(count) as pool:
        return list(pool.map(begin, range(count)))


def has_channels(server: FakeServer) -> bool:
    """Tell whether any connection has channels to a server."""
    return any(target.endswith(f":{server.port}") for target, *_ in CHANNELS._channel_pool)


def hears(connections: Connections, kind: type[events.Event]) -> threading.Event:
    """Return an event that is set when a lifecycle event of this kind comes."""
    heard = threading.Event()

    def hook(event: events.Event) -> None:
        if isinstance(event, kind):
            heard.set()

    connections.subscribe(hook)
    return heard


# --- one alias, many threads ---------------------------------------------------------------


def test_many_threads_that_want_an_alias_make_one_connect(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        found = at_once(THREADS, lambda _: connections["prod"])
        assert {id(each) for each in found} == {id(connections["prod"])}
        assert connections["prod"].is_open
    assert len(server.calls("Connect")) == 1


@pytest.mark.parametrize("ask", ["lookup", "connect", "autoconnect", "default"])
def test_who_comes_while_a_connect_is_in_flight_waits_for_it(server: FakeServer, ask: str) -> None:
    server.hold()
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(8) as pool:
        ways: dict[str, Callable[[], Any]] = {
            "lookup": lambda: connections["prod"],
            "connect": lambda: connections.connect("prod"),
            "autoconnect": lambda: connections.autoconnect()["prod"],
            "default": lambda: connections.default,
        }
        first = pool.submit(lambda: connections["prod"])
        server.wait_for("Connect")
        others = [pool.submit(ways[ask]) for _ in range(7)]
        server.recover()
        assert {id(each.result(PATIENCE_S)) for each in others} == {id(first.result(PATIENCE_S))}
    assert len(server.calls("Connect")) == 1


def test_a_failure_is_told_to_everybody_who_waited(server: FakeServer) -> None:
    server.databases = ()
    server.hold()
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(4) as pool:
        flights = [pool.submit(lambda: connections["prod"]) for _ in range(4)]
        server.wait_for("Connect")
        server.recover()
        causes = {getattr(flight.exception(PATIENCE_S), "cause", None) for flight in flights}
        assert causes == {"database_missing"}
        assert not connections.has_connection("prod")


def test_that_an_extra_is_missing_is_told_to_everybody_who_waited(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, go_on = threading.Event(), threading.Event()

    def run_without_the_extra(_: Connector, __: object) -> None:
        opened.set()
        assert go_on.wait(PATIENCE_S)
        raise MissingExtraError("milvus-lite 3", "lite")

    monkeypatch.setattr(Connector, "run", run_without_the_extra)
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(2) as pool:
        first = pool.submit(lambda: connections["prod"])
        assert opened.wait(PATIENCE_S)
        second = pool.submit(lambda: connections["prod"])
        wait_until_joined(connections)
        go_on.set()
        assert isinstance(first.exception(PATIENCE_S), MissingExtraError)
        assert isinstance(second.exception(PATIENCE_S), MissingExtraError)


def flight_of(connections: Connections, alias: str = "prod") -> PendingConnect:
    lifecycle = connections._pool.managed(alias)
    assert lifecycle
    assert lifecycle._pending
    return lifecycle._pending


def wait_until_joined(connections: Connections, alias: str = "prod") -> None:
    """Wait until another thread waits for the connect in flight."""
    deadline = time.monotonic() + PATIENCE_S
    outcome = flight_of(connections, alias).outcome
    # Who waits for a future holds its condition; nothing public tells.
    while not outcome._condition._waiters:  # type: ignore[attr-defined] # private to the library
        assert time.monotonic() < deadline
        sleep(0.001)


def test_who_waits_for_another_threads_connect_waits_no_longer_than_it_wanted(
    server: FakeServer,
) -> None:
    server.hold()
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(1) as pool:
        first = pool.submit(lambda: connections["prod"])
        server.wait_for("Connect")
        with pytest.raises(AutoconnectError) as caught:
            connections.autoconnect("prod", timeout=0.1)
        failure = caught.value.failures["prod"]
        assert isinstance(failure, ServerSilentError)
        assert failure.detail == "another thread is still connecting"
        assert "raise ZILLIZ_PROD_TIMEOUT" in failure.remedy
        server.recover()
        assert first.result(PATIENCE_S).is_open


# --- two configurations of one alias -------------------------------------------------------


@pytest.mark.parametrize("face", ["threads", "event loop"])
def test_who_has_more_time_than_the_connect_it_waited_for_makes_one_more(
    server: FakeServer, face: str
) -> None:
    async def on_a_loop(connections: Connections) -> None:
        both = AsyncConnections(connections)
        short = asyncio.create_task(both.autoconnect("default", timeout=0.3))
        await asyncio.to_thread(connecting.wait, PATIENCE_S)
        long = asyncio.create_task(both.get())
        with pytest.raises(AutoconnectError):
            await short
        server.recover()
        assert (await long).is_open

    server.hold()
    with registry(ZILLIZ_URI=server.uri) as connections:
        connecting = hears(connections, events.ConnectionConnecting)
        if face == "event loop":
            asyncio.run(on_a_loop(connections))
            return
        with ThreadPoolExecutor(2) as threads:
            short = threads.submit(connections.autoconnect, "default", timeout=0.3)
            assert connecting.wait(PATIENCE_S)
            long = threads.submit(lambda: connections["default"])
            with pytest.raises(AutoconnectError):
                short.result(PATIENCE_S)
            server.recover()
            assert long.result(PATIENCE_S).is_open


def test_two_threads_with_two_configurations_are_one_connection_and_one_conflict(
    server: FakeServer,
) -> None:
    tokens = (f"{SECRET}-1", f"{SECRET}-2")
    with registry() as connections:
        found = at_once(2, lambda n: connections.connect("dev", uri=server.uri, token=tokens[n]))
        (conflict,) = [each for each in found if isinstance(each, ConflictError)]
        (live,) = [each for each in found if isinstance(each, Connection)]
        assert connections["dev"] is live
    assert len(server.calls("Connect")) == 1
    assert "credentials" in str(conflict)
    assert SECRET not in str(conflict)
    assert SECRET not in repr(conflict)


def test_who_waits_with_another_configuration_gets_a_conflict(server: FakeServer) -> None:
    server.hold()
    with registry() as connections, threads(2) as pool:
        first = pool.submit(connections.connect, "dev", uri=server.uri, token=SECRET)
        server.wait_for("Connect")
        second = pool.submit(connections.connect, "dev", uri=server.uri, db_name="hidden-sales")
        server.recover()
        assert first.result(PATIENCE_S).is_open
        conflict = second.exception(PATIENCE_S)
    assert isinstance(conflict, ConflictError)
    assert all(name in str(conflict) for name in ("credentials", "db_name"))
    assert SECRET not in str(conflict)
    assert "hidden-sales" not in str(conflict)


def test_what_is_being_connected_cannot_be_added_otherwise(server: FakeServer) -> None:
    server.hold()
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(1) as pool:
        flight = pool.submit(lambda: connections["prod"])
        server.wait_for("Connect")
        try:
            with pytest.raises(ConflictError):
                connections.add_connection(prod={"uri": server.uri, "token": SECRET})
        finally:
            server.recover()
            flight.result(PATIENCE_S)


# --- disconnecting while connecting --------------------------------------------------------


END: dict[str, Callable[[Connections], None]] = {
    "disconnect": lambda connections: connections.disconnect("prod"),
    "remove_connection": lambda connections: connections.remove_connection("prod"),
    "close": lambda connections: connections.close(),
}


@pytest.mark.parametrize("end", END)
def test_ending_a_connect_in_flight_ends_it_with_closed_error(server: FakeServer, end: str) -> None:
    server.hold()
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(2) as pool:
        flights = [pool.submit(lambda: connections["prod"])]
        server.wait_for("Connect")
        flights.append(pool.submit(lambda: connections["prod"]))
        wait_until_joined(connections)
        END[end](connections)
        for flight in flights:
            assert isinstance(flight.exception(PATIENCE_S), ClosedError)
        server.wait_until_idle()
        assert not connections.has_connection("prod")


@pytest.mark.parametrize("end", END)
def test_ending_a_pause_between_two_attempts_ends_it_with_closed_error(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_s = PATIENCE_S + 2
    monkeypatch.setattr("zconfig._connection.connector.backoff_s", lambda _: pause_s)
    with (
        faults.refused() as port,
        registry(ZILLIZ_PROD_URI=f"http://127.0.0.1:{port}") as connections,
        threads(1) as pool,
    ):
        retrying = hears(connections, events.ConnectionRetrying)
        flight = pool.submit(connections.attempt, "prod", wait=3 * PATIENCE_S)
        assert retrying.wait(PATIENCE_S)
        END[end](connections)
        assert isinstance(flight.result(PATIENCE_S)["prod"], ClosedError)


def test_a_connect_that_was_ended_leaves_an_alias_that_shares_the_channel_alone(
    server: FakeServer,
) -> None:
    with (
        registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_OTHER_URI=server.uri) as connections,
        threads(1) as pool,
    ):
        other = connections["other"]
        server.hold()
        flight = pool.submit(lambda: connections["prod"])
        server.wait_for("Connect", 2)
        connections.disconnect("prod")
        server.recover()
        assert isinstance(flight.exception(PATIENCE_S), ClosedError)
        assert other.ping() > 0
        assert not connections.has_connection("prod")


def test_who_asks_after_a_disconnect_gets_a_connect_of_its_own(server: FakeServer) -> None:
    with (
        registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_OTHER_URI=server.uri) as connections,
        threads(2) as pool,
    ):
        assert connections["other"].is_open  # so the channel stays, and the first call with it
        server.hold()
        first = pool.submit(lambda: connections["prod"])
        server.wait_for("Connect", 2)
        connections.disconnect("prod")
        second = pool.submit(lambda: connections["prod"])
        with suppress(AssertionError):
            server.wait_for("Connect", 3, timeout=1.0)
        server.recover()
        assert isinstance(first.exception(PATIENCE_S), ClosedError)
        assert second.result(PATIENCE_S) is connections["prod"]


def test_a_connect_that_is_ended_as_the_server_answers_never_counts_as_connected(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Connector.run
    opened: list[ManagedConnection | None] = []

    def run_and_disconnect(
        opening: Connector, tell: Callable[[events.Event], None]
    ) -> ConnectResult:
        found = run(opening, tell)
        opened.append(connections._pool.managed("prod"))
        connections.disconnect("prod")
        return found

    monkeypatch.setattr(Connector, "run", run_and_disconnect)
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        connected = hears(connections, events.ConnectionConnected)
        with pytest.raises(ClosedError):
            connections.connect("prod")
        assert not connected.is_set()
        assert [each.state for each in opened if each] == [State.CLOSED]
        assert not connections.has_connection("prod")
        assert not has_channels(server)


def test_a_ping_in_flight_when_its_connection_is_closed_is_a_closed_error(
    server: FakeServer,
) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(1) as pool:
        connection = connections["prod"]
        server.hold()
        ping = pool.submit(connection.ping)
        server.wait_for("GetVersion")
        connections.disconnect("prod")
        assert isinstance(ping.exception(PATIENCE_S), ClosedError)


# --- many aliases at once ------------------------------------------------------------------


def test_autoconnect_opens_all_aliases_at_the_same_time() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(fake_server()) for _ in range(20)]
        environ = {f"ZILLIZ_S{n}_URI": server.uri for n, server in enumerate(servers)}
        connections = stack.enter_context(registry(**environ))
        pool = stack.enter_context(threads(1))
        for server in servers:
            server.hold()
        flight = pool.submit(connections.autoconnect)
        # Every connect arrives while none has been answered.
        for server in servers:
            server.wait_for("Connect")
        for server in servers:
            server.recover()
        assert set(flight.result(PATIENCE_S)) == {f"s{n}" for n in range(20)}


def test_autoconnect_of_several_works_while_the_interpreter_ends(server: FakeServer) -> None:
    at_exit = """
        import atexit
        import zconfig

        atexit.register(lambda: print(*zconfig.autoconnect()))
        """
    done = run_python(at_exit, environ={"ZILLIZ_A_URI": server.uri, "ZILLIZ_B_URI": server.uri})
    assert (done.stdout, done.stderr) == ("a b\n", "")


def test_the_timeout_is_one_for_all_aliases_and_all_attempts() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(fake_server())
        silent.hold()
        refused = f"http://127.0.0.1:{stack.enter_context(faults.refused())}"
        environ = {f"ZILLIZ_S{n}_URI": silent.uri for n in range(12)}
        environ |= {f"ZILLIZ_R{n}_URI": refused for n in range(5)}
        connections = stack.enter_context(registry(**environ))
        started = time.monotonic()
        with pytest.raises(AutoconnectError) as caught:
            connections.autoconnect(timeout=2.0, wait=2.0)
        elapsed_s = time.monotonic() - started
        silent.recover()
    causes = {alias: type(error) for alias, error in caught.value.failures.items()}
    assert causes == {
        **{f"s{n}": ServerSilentError for n in range(12)},
        **{f"r{n}": RefusedError for n in range(5)},
    }
    # One after another, the silent ones alone would take 24 s.
    assert elapsed_s < PATIENCE_S
    silences = [e for e in caught.value.failures.values() if isinstance(e, ServerSilentError)]
    refusals = [e for e in caught.value.failures.values() if isinstance(e, RefusedError)]
    assert {each.attempts for each in silences} == {1}
    assert max(each.attempts for each in refusals) > 1


def test_a_timeout_in_code_counts_for_more_than_the_alias_own(server: FakeServer) -> None:
    server.hold()
    with (
        registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="0.2") as connections,
        threads(1) as pool,
    ):
        flight = pool.submit(connections.autoconnect, timeout=PATIENCE_S)
        server.wait_for("Connect")
        with pytest.raises(TimeoutError):
            flight.result(1.0)
        server.recover()
        assert flight.result(PATIENCE_S)["prod"].is_open


def test_autoconnect_ends_when_one_alias_is_closed_meanwhile(server: FakeServer) -> None:
    with fake_server() as slow, threads(1) as pool:
        slow.hold()
        with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=slow.uri) as connections:
            flight = pool.submit(connections.autoconnect)
            slow.wait_for("Connect")
            connections.disconnect("b")
            failure = flight.exception(PATIENCE_S)
            assert isinstance(failure, AutoconnectError)
            assert failure.connected == ("a",)
            assert connections["a"].is_open


def test_autoconnect_says_what_failed_though_the_alias_is_removed_meanwhile(
    server: FakeServer,
) -> None:
    server.hold()
    with registry(ZILLIZ_PROD_URI=server.uri) as connections, threads(1) as pool:
        flight = pool.submit(connections.autoconnect)
        server.wait_for("Connect")
        connections.remove_connection("prod")
        assert isinstance(flight.exception(PATIENCE_S), AutoconnectError)


def test_no_connect_waits_for_another_thread_that_imports_pymilvus(server: FakeServer) -> None:
    def connect() -> bool:
        return connections["b"].is_open

    with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections:
        connections["a"].ping()
        with ThreadPoolExecutor(1) as pool, import_without_side_effects():
            assert pool.submit(connect).result(PATIENCE_S)


# --- interrupted ---------------------------------------------------------------------------


@contextmanager
def interrupted_when(ready: Callable[[], object]) -> Iterator[None]:
    """Send this process an interrupt, as Ctrl-C does, once something is ready."""

    def interrupt() -> None:
        ready()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    yield
    sender.join(PATIENCE_S)


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupted_autoconnect_leaves_nothing_half_open(
    server: FakeServer, count: int
) -> None:
    server.hold()
    environ = {f"ZILLIZ_S{n}_URI": server.uri for n in range(count)}
    with registry(**environ) as connections:
        failed = hears(connections, events.ConnectionFailed)
        with (
            pytest.raises(KeyboardInterrupt),
            interrupted_when(lambda: server.wait_for("Connect", count)),
        ):
            connections.autoconnect()
        assert not failed.is_set()
        server.wait_until_idle()
        assert connections.list_connections() == [(f"s{n}", None) for n in range(count)]
        assert not any(place.managed._pending for place in connections._pool._all())
        assert not has_channels(server)
        server.recover()
        assert len(connections.autoconnect()) == count


def test_an_interrupted_attempt_ends_the_connect_of_an_alias_in_another_spelling(
    server: FakeServer,
) -> None:
    server.hold()
    with registry(ZILLIZ_EU_PROD_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections:
        with (
            pytest.raises(KeyboardInterrupt),
            interrupted_when(lambda: server.wait_for("Connect", 2)),
        ):
            connections.attempt("EU-prod", "b")
        server.wait_until_idle()
        assert not any(place.managed._pending for place in connections._pool._all())


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupted_autoconnect_leaves_the_connects_of_other_threads_alone(
    server: FakeServer, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def join(pending: PendingConnect, budget: ConnectBudget) -> None:
        joined.release()
        joins(pending, budget)

    joined, joins = threading.Semaphore(0), PendingConnect.join
    monkeypatch.setattr(PendingConnect, "join", join)
    server.hold()
    names = [f"s{n}" for n in range(count)]
    environ = {f"ZILLIZ_{name.upper()}_URI": server.uri for name in names}
    with registry(**environ) as connections, threads(count) as pool:
        others = [pool.submit(connections.__getitem__, name) for name in names]
        server.wait_for("Connect", count)
        with (
            pytest.raises(KeyboardInterrupt),
            interrupted_when(lambda: [joined.acquire(timeout=PATIENCE_S) for _ in names]),
        ):
            connections.autoconnect()
        server.recover()
        assert all(other.result(PATIENCE_S).is_open for other in others)
        assert len(server.calls("Connect")) == count


@pytest.mark.stress
@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupt_at_any_moment_leaves_each_alias_free_to_be_connected(
    server: FakeServer, count: int
) -> None:
    environ = {f"ZILLIZ_S{n}_URI": server.uri for n in range(count)}
    for each in range(60):
        server.hold()
        with registry(**environ) as connections:
            with pytest.raises(KeyboardInterrupt), interrupted_when(partial(sleep, each / 10_000)):
                connections.autoconnect()
            server.recover()
            assert len(connections.autoconnect()) == count


def test_an_interrupted_ping_leaves_no_call_and_the_connection_live(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        connection = connections["prod"]
        server.hold()
        arrived = partial(server.wait_for, "GetVersion")
        with pytest.raises(KeyboardInterrupt), interrupted_when(arrived):
            connection.ping()
        server.wait_until_idle()
        server.recover()
        assert connection.ping() > 0


def test_an_interrupted_connect_is_open_and_configured_or_neither(server: FakeServer) -> None:
    def hook(_: events.Event) -> None:
        hooked.set()
        assert may_go_on.wait(PATIENCE_S)

    hooked, may_go_on = threading.Event(), threading.Event()
    with registry() as connections:
        connections.subscribe(hook, events.ConnectionConnected)
        heard = partial(hooked.wait, PATIENCE_S)
        with pytest.raises(KeyboardInterrupt), interrupted_when(heard):
            connections.connect("prod", uri=server.uri)
        may_go_on.set()
        deadline = time.monotonic() + PATIENCE_S
        while "prod" not in connections and time.monotonic() < deadline:
            sleep(0.01)
        assert ("prod" in connections, connections.has_connection("prod")) == (True, True)


def interrupted_by(moment: type[events.Event]) -> Callable[[events.Event], None]:
    """Return a hook in which Ctrl-C is pressed."""

    def hook(event: events.Event) -> None:
        if isinstance(event, moment):
            raise KeyboardInterrupt

    return hook


def test_an_interrupt_in_a_hook_before_the_connect_leaves_nothing_half_open(
    server: FakeServer,
) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        unsubscribe = connections.subscribe(interrupted_by(events.ConnectionConnecting))
        with pytest.raises(KeyboardInterrupt):
            connections.connect("prod")
        assert not has_channels(server)
        assert not connections.has_connection("prod")
        unsubscribe()
        assert connections["prod"].is_open


def test_an_interrupt_in_a_hook_after_the_connect_leaves_the_connection_live(
    server: FakeServer,
) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        unsubscribe = connections.subscribe(interrupted_by(events.ConnectionConnected))
        with pytest.raises(KeyboardInterrupt):
            connections.connect("prod")
        unsubscribe()
        assert connections.has_connection("prod")
        assert connections["prod"].ping() > 0


def test_a_hook_may_call_the_connection_that_it_hears_of(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        pings: list[float] = []

        def ping(event: events.Event) -> None:
            if isinstance(event, events.ConnectionConnected):
                pings.append(connections[event.alias].ping())

        connections.subscribe(ping)
        assert connections["prod"].is_open
        assert len(pings) == 1


def test_an_interrupted_autoconnect_leaves_what_was_connected_before(server: FakeServer) -> None:
    with (
        fake_server() as slow,
        registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=slow.uri) as connections,
    ):
        live = connections["a"]
        slow.hold()
        with pytest.raises(KeyboardInterrupt), interrupted_when(lambda: slow.wait_for("Connect")):
            connections.autoconnect()
        assert live.is_open
        assert connections["a"] is live


# --- the table -----------------------------------------------------------------------------


@pytest.fixture
def _restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    import sys

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_restless")
def test_what_many_threads_add_while_others_are_removed_is_all_there() -> None:
    with registry() as connections:
        place = {"uri": "http://127.0.0.1:1"}
        connections.add_connection(**{f"old{n}": place for n in range(400)})

        def add_or_remove(number: int) -> None:
            if number == 0:
                for each in range(400):
                    connections.remove_connection(f"old{each}")
            else:
                for each in range(30):
                    connections.add_connection(**{f"new{number}_{each}": place})

        at_once(9, add_or_remove)
        assert sorted(connections) == sorted(f"new{n}_{m}" for n in range(1, 9) for m in range(30))


# --- everything at once --------------------------------------------------------------------


@pytest.mark.stress
@pytest.mark.usefixtures("_restless")
def test_whatever_happens_at_once_an_alias_connects_afterwards(
    server: FakeServer, seed: int
) -> None:
    environ = {f"ZILLIZ_{alias}_URI": server.uri for alias in "ABC"}
    with registry(**environ) as connections:
        expected = (ClosedError, AutoconnectError)

        def meddle(number: int) -> None:
            choose = random.Random(f"{seed}/{number}")  # noqa: S311 - the same at each run
            for _ in range(DEEDS):
                deed, alias = choose.choice(deeds), choose.choice("abc")
                try:
                    deed(alias)
                except expected as error:
                    assert_only_closed(error)

        deeds: list[Callable[[str], Any]] = [
            lambda alias: connections[alias],
            lambda alias: connections[alias].ping(),
            lambda _: connections.autoconnect(),
            lambda _: connections.list_connections(),
            lambda _: connections.close(),
            connections.connect,
            connections.disconnect,
            connections.has_connection,
        ]
        failures = [each for each in at_once(8, meddle) if each is not None]
        assert failures == []
        for alias in "abc":
            connections.disconnect(alias)
            assert connections[alias].ping() > 0
        connections.close()
        assert connections._pool._all() == ()
        assert not has_channels(server)


def assert_only_closed(error: ZConfigError) -> None:
    """Somebody else's `close` is the only thing that may go wrong."""
    causes = error.failures.values() if isinstance(error, AutoconnectError) else [error]
    assert all(isinstance(cause, ClosedError) for cause in causes), repr(error)


def test_what_is_found_at_a_look_is_what_is_open(server: FakeServer) -> None:
    environ = {"ZILLIZ_PROD_URI": server.uri}
    with registry(**environ) as connections:

        def found() -> list[str]:
            pool = connections._registry.registry_state.pool
            assert set(pool.ready) == {each.alias for each in pool.live()}
            assert all(pool.find(alias) is each for alias, each in pool.ready.items())
            return list(pool.ready)

        assert found() == []
        first = connections["PROD"]
        assert found() == ["prod"]
        with connections.override({"docs": {"uri": server.uri}}):
            assert found() == []
            assert connections["docs"]
            assert found() == ["docs"]
        assert found() == ["prod"]
        first.close()
        assert found() == []
        assert connections["prod"] is not first
        connections.disconnect("prod")
        assert found() == []
        assert connections["prod"]
        connections._pool.managed("prod").replace_spec(first.spec)  # type: ignore[union-attr]
        assert found() == []
        assert connections["prod"]
        assert found() == ["prod"]
