"""A server that goes away and comes back: noticed, reported, and nobody has to reconnect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.support import PATIENCE_S
from tests.support.ears import Ears
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig import events
from zconfig._connection import State
from zconfig.errors import ConnectError, RefusedError
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def path(server: FakeServer) -> Iterator[BreakableProxy]:
    """Put something that can be cut between us and the server."""
    with breakable_proxy(server.port) as proxy:
        yield proxy


def uri(path: BreakableProxy) -> str:
    return f"http://{LOOPBACK}:{path.port}"


def test_a_loss_is_noticed_and_reported_though_nobody_calls(path: BreakableProxy) -> None:
    with registry(ZILLIZ_PROD_URI=uri(path)) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        path.cut()
        lost = ears.wait_for(events.ConnectionLost)
        assert connection.state is State.LOST
        assert (lost.alias, lost.endpoint, lost.cause) == ("prod", uri(path), RefusedError.cause)
        assert lost.origin == "ZILLIZ_PROD_URI (environment)"
        assert lost.stage == "TCP"
        assert lost.remedy
        assert lost.remedy in lost.problem


def test_a_return_is_noticed_and_reported_though_nobody_calls(path: BreakableProxy) -> None:
    with registry(ZILLIZ_PROD_URI=uri(path)) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        path.cut()
        ears.wait_for(events.ConnectionLost)
        path.heal()
        recovered = ears.wait_for(events.ConnectionRecovered)
        assert connection.state is State.READY
        assert (recovered.alias, recovered.endpoint) == ("prod", uri(path))
        assert recovered.server_version == VERSION
        assert recovered.elapsed_ms > 0
        assert ears.names()[-2:] == ["lost", "recovered"]


def test_each_of_several_outages_is_reported_once(path: BreakableProxy) -> None:
    with registry(ZILLIZ_PROD_URI=uri(path)) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        for number in (1, 2, 3):
            path.cut()
            ears.wait_for(events.ConnectionLost, number)
            for _ in range(3):
                with pytest.raises(ConnectError):
                    connection.ping()
            path.heal()
            ears.wait_for(events.ConnectionRecovered, number)
        assert ears.names()[-6:] == ["lost", "recovered"] * 3


def test_a_lost_connection_stays_what_it_is_and_works_again(path: BreakableProxy) -> None:
    with registry(ZILLIZ_PROD_URI=uri(path)) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        stub: Any = connection.channel.unary_unary(GET_VERSION)
        path.cut()
        lost = ears.wait_for(events.ConnectionLost)
        assert connections.has_connection("prod")
        assert connections["prod"] is connection
        with pytest.raises(grpc.RpcError) as caught:
            stub(b"", timeout=PATIENCE_S)
        assert lost.problem in (caught.value.details() or "")
        path.heal()
        until_it_succeeds(lambda: stub(b"", timeout=PATIENCE_S))
        assert connection.ping() > 0
        assert len(ears.of(events.ConnectionConnected)) == 1


def until_it_succeeds(call: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            call()
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


def test_a_server_that_came_back_knows_us_anew(path: BreakableProxy, server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=uri(path)) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        before = connection.server.identifier
        path.cut()
        ears.wait_for(events.ConnectionLost)
        path.heal()
        ears.wait_for(events.ConnectionRecovered)
        assert connection.server.identifier != before
        connection.ping()
        (ping,) = server.calls("GetVersion")
        assert ping.metadata["identifier"] == str(connection.server.identifier)


def test_a_server_that_came_back_without_our_database_is_not_recovered(
    path: BreakableProxy, server: FakeServer
) -> None:
    server.databases = ("default", "sales")
    with registry(ZILLIZ_PROD_URI=uri(path), ZILLIZ_PROD_DB_NAME="sales") as connections:
        ears = Ears(connections)
        connections["prod"].ping()
        path.cut()
        ears.wait_for(events.ConnectionLost)
        server.databases = ("default",)
        path.heal()
        server.wait_for("Connect", 2)
        assert connections["prod"].state is State.LOST
        assert not ears.of(events.ConnectionRecovered)


def test_a_call_that_ran_out_of_time_is_no_loss_while_the_server_answers(
    server: FakeServer,
) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        server.hold()
        with pytest.raises(ConnectError):
            connection.ping(timeout=0.05)
        server.recover()
        server.wait_for("Connect", 2)  # the question whether it is still there
        assert connection.ping() > 0
        assert connection.state is State.READY
        assert not ears.of(events.ConnectionLost)


def test_a_server_that_is_there_and_silent_is_lost(server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="0.3") as connections:
        ears = Ears(connections)
        connection = connections.autoconnect("prod", timeout=PATIENCE_S)["prod"]
        server.hold()
        with pytest.raises(ConnectError):
            connection.ping()
        assert ears.wait_for(events.ConnectionLost).cause == "server_silent"
        server.recover()
        ears.wait_for(events.ConnectionRecovered)


def test_a_closed_connection_is_not_looked_after(path: BreakableProxy) -> None:
    with registry(ZILLIZ_A_URI=uri(path), ZILLIZ_B_URI=uri(path)) as connections:
        ears = Ears(connections)
        connections.autoconnect()
        connections.disconnect("a")
        path.cut()
        assert ears.wait_for(events.ConnectionLost).alias == "b"
        path.heal()
        assert ears.wait_for(events.ConnectionRecovered).alias == "b"
        assert len(ears.of(events.ConnectionLost)) == 1


def test_the_real_server_is_lost_and_recovered_and_nobody_reconnects(
    own_milvus: RealMilvus,
) -> None:
    environ = {"ZILLIZ_PROD_URI": own_milvus.uri, "ZILLIZ_PROD_TOKEN": CREDENTIALS}
    with registry(**environ) as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        stub: Any = connection.channel.unary_unary(GET_VERSION)
        own_milvus.stop()
        assert ears.wait_for(events.ConnectionLost).cause == RefusedError.cause
        own_milvus.start()
        own_milvus.wait_ready()
        until_it_succeeds(lambda: stub(b"", timeout=1.0))
        ears.wait_for(events.ConnectionRecovered)
        assert connection.ping() > 0
        assert ears.names().count("connected") == 1


def test_one_connection_that_cannot_be_looked_after_costs_no_other(
    path: BreakableProxy, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=uri(path)) as connections:
        ears = Ears(connections)
        connections.autoconnect()
        lifecycle = connections._pool.managed("a")
        assert lifecycle
        lifecycle.monitor.check = failing  # type: ignore[method-assign] # a source that raises
        lifecycle.monitor.report_failure()
        connections._registry._worker.call()
        deadline = time.monotonic() + PATIENCE_S
        while "the background check of a failed" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        path.cut()
        assert ears.wait_for(events.ConnectionLost).alias == "b"


def failing() -> None:
    raise RuntimeError("a plugin's own")
