"""The server of `zconfig.testing` that fails on demand."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support import PATIENCE_S
from tests.support.faults import breakable_proxy
from tests.support.registries import registry
from zconfig import events
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig.aio.async_connections import AsyncConnections
from zconfig.errors import (
    ClosedByPeerError,
    DatabaseMissingError,
    MissingCredentialsError,
    RefusedError,
    RejectedCredentialsError,
    ServerSilentError,
)
from zconfig.testing import FakeServer, Recorder, fake_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates
    from tests.support.faults import BreakableProxy
    from zconfig._connection import Connection

with import_without_side_effects():
    from pymilvus.grpc_gen import milvus_pb2

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

MILVUS = "/milvus.proto.milvus.MilvusService/"
HEALTH = "/grpc.health.v1.Health/Check"
FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
SECRET = "root:s3cret-password"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeServer]:
    """For tests that each end what they begin."""
    with fake_server() as server:
        yield server


@contextmanager
def connected(server: FakeServer, **fields: str) -> Iterator[Connection]:
    variables = {f"ZILLIZ_{name.upper()}": value for name, value in fields.items()}
    with registry(ZILLIZ_URI=server.uri, **variables) as connections:
        yield connections.default


@contextmanager
def channel_to(server: FakeServer | BreakableProxy) -> Iterator[Callable[..., bytes]]:
    """Return what calls a method over a connection of its own, without retries of gRPC's."""
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", own) as channel:

        def call(
            method: str, request: bytes = b"", timeout: float = PATIENCE_S, **arguments: Any
        ) -> bytes:
            name = method if method.startswith("/") else MILVUS + method
            return channel.unary_unary(name)(request, timeout=timeout, **arguments)

        yield call


def status_of(call: Callable[..., bytes], method: str = "GetVersion", **arguments: Any) -> Any:
    """Return the status that a call ends with."""
    try:
        call(method, **arguments)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_background(work: Callable[[], Any]) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


# --- what it answers by itself --------------------------------------------------------------


def test_it_answers_what_zconfig_asks() -> None:
    with fake_server(version="v2.5.4") as server, connected(server, db_name="sales") as connection:
        assert connection.server.version == "v2.5.4"
        assert connection.health().healthy
        assert connection.ping() > 0


def test_it_has_the_databases_that_it_is_given() -> None:
    with fake_server(databases=["default", "sales"]) as server:
        with connected(server, db_name="sales") as connection:
            assert connection.ping() > 0
        with pytest.raises(DatabaseMissingError), connected(server, db_name="lost"):
            pass


def test_its_databases_may_be_changed(server: FakeServer) -> None:
    server.databases = ["default"]
    with pytest.raises(DatabaseMissingError), connected(server, db_name="sales"):
        pass
    server.databases = ["default", "sales"]
    with connected(server, db_name="sales") as connection:
        assert connection.ping() > 0


def test_each_connect_opens_a_session_of_its_own(server: FakeServer) -> None:
    with connected(server) as one, connected(server) as other:
        assert one.server.identifier != other.server.identifier


def test_it_speaks_to_asyncio_too(shared: FakeServer) -> None:
    async def main() -> float:
        face = AsyncConnections(connections)
        connection = await face.get()
        return await connection.ping()

    with registry(ZILLIZ_URI=shared.uri) as connections:
        assert asyncio.run(main()) > 0


def test_it_serves_tls(certificates: Certificates) -> None:
    pair = certificates.server.key.read_bytes(), certificates.server.cert.read_bytes()
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        assert server.uri.startswith("https://localhost:")
        with connected(server, tls_ca=str(certificates.ca)) as connection:
            assert connection.ping() > 0


def test_the_server_of_an_old_milvus_is_one_that_does_not_know_connect(server: FakeServer) -> None:
    server.fail(grpc.StatusCode.UNIMPLEMENTED, method="Connect")
    with connected(server) as connection:
        assert connection.server.version == "2.6.0"


# --- answers of a test's own ----------------------------------------------------------------


def test_a_method_without_an_answer_says_how_to_give_one(shared: FakeServer) -> None:
    with channel_to(shared) as call, pytest.raises(grpc.RpcError) as caught:
        call("Search")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "answer('Search', ...)" in caught.value.details()


def test_an_answer_may_be_bytes(server: FakeServer) -> None:
    server.answer("Search", b"found")
    with channel_to(server) as call:
        assert call("Search") == b"found"


def test_an_answer_may_be_a_message(server: FakeServer) -> None:
    server.answer("HasCollection", milvus_pb2.BoolResponse(value=True))
    with channel_to(server) as call:
        assert milvus_pb2.BoolResponse.FromString(call("HasCollection")).value


def test_an_answer_may_be_made_of_the_bytes_of_the_request(server: FakeServer) -> None:
    server.answer("Search", bytes.upper)
    with channel_to(server) as call:
        assert call("Search", b"echo") == b"ECHO"


def test_an_answer_may_be_made_of_the_message_of_the_request(server: FakeServer) -> None:
    def has(request: Any) -> Any:
        return milvus_pb2.BoolResponse(value=request.collection_name == "docs")

    server.answer("HasCollection", has, takes=milvus_pb2.HasCollectionRequest)
    wanted = milvus_pb2.HasCollectionRequest(collection_name="docs").SerializeToString()
    with channel_to(server) as call:
        assert milvus_pb2.BoolResponse.FromString(call("HasCollection", wanted)).value
        assert not milvus_pb2.BoolResponse.FromString(call("HasCollection")).value


def test_an_answer_replaces_the_one_that_is_there(server: FakeServer) -> None:
    server.answer("GetVersion", milvus_pb2.GetVersionResponse(version="v9"))
    with channel_to(server) as call:
        assert milvus_pb2.GetVersionResponse.FromString(call("GetVersion")).version == "v9"


def test_methods_of_other_services_go_by_their_full_name(server: FakeServer) -> None:
    server.answer(HEALTH, b"\x08\x01")
    with channel_to(server) as call:
        assert call(HEALTH) == b"\x08\x01"
        assert status_of(call, "Check") is grpc.StatusCode.UNIMPLEMENTED
    assert [call.method for call in server.calls()] == [HEALTH, "Check"]


def test_a_method_of_milvus_goes_by_its_full_name_as_well(server: FakeServer) -> None:
    server.answer(MILVUS + "Search", b"found")
    server.fail(grpc.StatusCode.ABORTED, method=MILVUS + "Query")
    with channel_to(server) as call:
        assert call("Search") == b"found"
        assert status_of(call, "Query") is grpc.StatusCode.ABORTED
    assert len(server.calls(MILVUS + "Search")) == len(server.calls("Search")) == 1


# --- failing --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_it_fails_with_any_status(code: grpc.StatusCode, shared: FakeServer) -> None:
    with shared.fail(code, "as the test wants it"), channel_to(shared) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call("GetVersion")
        assert caught.value.code() is code
        assert caught.value.details() == "as the test wants it"


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, "UNAVAILABLE", 14])
def test_only_an_error_status_is_a_failure(shared: FakeServer, code: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{code!r} is not an error status")):
        shared.fail(code)


def test_it_fails_so_many_times(server: FakeServer) -> None:
    fault = server.fail(grpc.StatusCode.UNAVAILABLE, times=2)
    with channel_to(server) as call:
        seen = [status_of(call).name for _ in range(4)]
    assert seen == ["UNAVAILABLE", "UNAVAILABLE", "OK", "OK"]
    assert fault.hits == 2


def test_less_than_once_is_refused(shared: FakeServer) -> None:
    with pytest.raises(ValueError, match="times=1"):
        shared.fail(grpc.StatusCode.UNAVAILABLE, times=0)


def test_it_fails_until_it_is_told_otherwise(server: FakeServer) -> None:
    fault = server.fail(grpc.StatusCode.UNAVAILABLE)
    with channel_to(server) as call:
        assert {status_of(call) for _ in range(5)} == {grpc.StatusCode.UNAVAILABLE}
        fault.end()
        assert status_of(call) is grpc.StatusCode.OK
    assert fault.hits == 5


def test_it_fails_for_the_time_of_a_block(server: FakeServer) -> None:
    with channel_to(server) as call:
        with server.fail(grpc.StatusCode.UNAVAILABLE):
            assert status_of(call) is grpc.StatusCode.UNAVAILABLE
        assert status_of(call) is grpc.StatusCode.OK


def test_it_fails_for_one_method(server: FakeServer) -> None:
    server.answer("Search", b"")
    server.fail(grpc.StatusCode.UNAVAILABLE, method="Search")
    with channel_to(server) as call:
        assert status_of(call, "Search") is grpc.StatusCode.UNAVAILABLE
        assert status_of(call, "GetVersion") is grpc.StatusCode.OK


def test_the_fault_that_came_first_counts(server: FakeServer) -> None:
    server.fail(grpc.StatusCode.UNAVAILABLE, times=1)
    server.fail(grpc.StatusCode.ABORTED, times=1)
    with channel_to(server) as call:
        assert [status_of(call).name for _ in range(3)] == ["UNAVAILABLE", "ABORTED", "OK"]


def test_recovering_ends_every_fault(server: FakeServer) -> None:
    server.fail(grpc.StatusCode.UNAVAILABLE, method="GetVersion")
    server.refuse_credentials()
    server.recover()
    with channel_to(server) as call:
        assert status_of(call) is grpc.StatusCode.OK


# --- credentials ----------------------------------------------------------------------------


def test_it_refuses_credentials(server: FakeServer) -> None:
    server.refuse_credentials(times=1, method="Connect")
    with registry(ZILLIZ_URI=server.uri, ZILLIZ_TOKEN=SECRET) as connections:
        with pytest.raises(RejectedCredentialsError):
            connections.connect("default")
        assert connections.default.ping() > 0


def test_it_lets_in_who_has_the_credentials(server: FakeServer) -> None:
    server.accept(SECRET, "an-api-key")
    for accepted in (SECRET, "an-api-key"):
        with connected(server, token=accepted) as connection:
            assert connection.ping() > 0
    with pytest.raises(RejectedCredentialsError), connected(server, token="another-api-key"):
        pass
    with pytest.raises(MissingCredentialsError), connected(server):
        pass


def test_it_may_let_in_everybody_again(server: FakeServer) -> None:
    server.accept(SECRET)
    server.accept()
    with connected(server) as connection:
        assert connection.ping() > 0


# --- delays ---------------------------------------------------------------------------------


def test_it_answers_late(server: FakeServer) -> None:
    with channel_to(server) as call:
        with server.delay(0.05) as late:
            assert status_of(call) is grpc.StatusCode.OK
        assert late.hits == 1
        with server.delay(10 * PATIENCE_S):
            assert status_of(call, timeout=0.1) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_it_may_not_answer_at_all(server: FakeServer) -> None:
    with connected(server) as connection:
        server.hold(method="GetVersion")
        with pytest.raises(ServerSilentError):
            connection.ping(timeout=0.2)


def test_the_end_of_a_delay_answers_who_waits(server: FakeServer) -> None:
    fault = server.hold()
    with channel_to(server) as call:
        answer = in_background(lambda: call("GetVersion"))
        server.wait_for("GetVersion")
        fault.end()
        assert answer.result(PATIENCE_S)


def test_it_holds_answers_back_until_the_end_of_a_block(server: FakeServer) -> None:
    with channel_to(server) as call:
        with server.hold(method="GetVersion"):
            answer = in_background(lambda: call("GetVersion"))
            server.wait_for("GetVersion")
            assert call("CheckHealth")
            assert not answer.done()
        assert answer.result(PATIENCE_S)


def test_a_call_that_is_held_back_is_over_once_its_client_gives_it_up(server: FakeServer) -> None:
    server.hold()
    with (
        channel_to(server) as call,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as impatient,
    ):
        given_up = impatient.unary_unary(f"{MILVUS}GetVersion").future(b"")
        server.wait_for("GetVersion")
        given_up.cancel()
        server.wait_until_idle()
        answer = in_background(lambda: call("GetVersion"))
        server.wait_for("GetVersion", 2)
        with pytest.raises(AssertionError, match=r"1 calls are unanswered after 0\.01 s"):
            server.wait_until_idle(timeout=0.01)
        server.recover()
        assert answer.result(PATIENCE_S)
        server.wait_until_idle()


def test_recovering_answers_who_waits(server: FakeServer) -> None:
    server.hold()
    with channel_to(server) as call:
        answer = in_background(lambda: call("GetVersion"))
        server.wait_for("GetVersion")
        server.recover()
        assert answer.result(PATIENCE_S)


def test_what_is_late_may_fail_as_well(server: FakeServer) -> None:
    late = server.delay(0.01)
    server.fail(grpc.StatusCode.ABORTED)
    with channel_to(server) as call:
        assert status_of(call) is grpc.StatusCode.ABORTED
    assert late.hits == 1


# --- connections that are closed ------------------------------------------------------------


def test_it_hangs_up_on_a_call(server: FakeServer) -> None:
    with connected(server) as connection:
        server.hang_up(times=1, method="GetVersion")
        with pytest.raises(ClosedByPeerError):
            connection.ping()
        until(lambda: pings(connection))


def test_hanging_up_leaves_other_connections_alone(server: FakeServer) -> None:
    slow = server.hold(method="Search")
    server.answer("Search", b"found")
    server.hang_up(method="GetVersion")
    with channel_to(server) as one, channel_to(server) as other:
        answer = in_background(lambda: one("Search"))
        server.wait_for("Search")
        assert status_of(other, "GetVersion") is grpc.StatusCode.UNAVAILABLE
        slow.end()
        assert answer.result(PATIENCE_S) == b"found"


def test_a_server_that_is_stopped_refuses_connections(server: FakeServer) -> None:
    server.stop()
    with pytest.raises(RefusedError), connected(server):
        pass


def test_a_connection_sees_an_outage_and_its_end(server: FakeServer) -> None:
    recorder = Recorder()
    with connected(server) as connection, registry(ZILLIZ_URI=server.uri) as connections:
        connections.subscribe(recorder.take)
        assert connections.default.ping() > 0
        server.stop()
        recorder.wait_for(events.ConnectionLost, PATIENCE_S)
        server.start()
        recorder.wait_for(events.ConnectionRecovered, PATIENCE_S)
        until(lambda: pings(connection))


def test_a_server_that_is_stopped_keeps_its_port(server: FakeServer) -> None:
    server.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.port))


def test_a_restart_closes_every_connection_and_keeps_the_port(server: FakeServer) -> None:
    port = server.port
    held = server.hold(method="GetVersion", times=1)
    with channel_to(server) as call:
        status = in_background(lambda: status_of(call))
        server.wait_for("GetVersion")
        server.restart()
        assert status.result(PATIENCE_S) is grpc.StatusCode.UNAVAILABLE
        until(lambda: status_of(call) is grpc.StatusCode.OK)
    assert (server.port, held.hits) == (port, 1)


def test_starting_and_stopping_twice_is_harmless(server: FakeServer) -> None:
    server.start()
    server.stop()
    server.stop()
    server.start()
    with connected(server) as connection:
        assert connection.ping() > 0


def pings(connection: Connection) -> bool:
    try:
        return connection.ping() > 0
    except (ClosedByPeerError, RefusedError):
        return False


# --- what arrived ---------------------------------------------------------------------------


def test_calls_are_written_down_in_order(server: FakeServer) -> None:
    with connected(server) as connection:
        connection.ping()
        connection.health()
    assert [call.method for call in server.calls()] == ["Connect", "GetVersion", "CheckHealth"]
    assert len(server.calls("GetVersion")) == 1


def test_a_call_that_failed_is_written_down_too(server: FakeServer) -> None:
    server.fail(grpc.StatusCode.UNAVAILABLE)
    with channel_to(server) as call:
        status_of(call, "Search", request=b"wanted")
    assert server.calls("Search")[0].request == b"wanted"


def test_credentials_are_masked_unless_they_are_asked_for(server: FakeServer) -> None:
    with connected(server, token=SECRET, db_name="sales"):
        call = server.calls("Connect")[0]
    assert call.metadata["authorization"] == "********"
    assert call.metadata["dbname"] == "sales"
    assert "s3cret" not in repr(call) + repr(server)
    assert call.token == SECRET


def test_calls_tell_the_connections_that_they_came_over(server: FakeServer) -> None:
    with breakable_proxy(server.port) as path, channel_to(path) as one, channel_to(server) as other:
        assert status_of(one) is status_of(other) is status_of(one) is grpc.StatusCode.OK
        first, second, third = (call.peer for call in server.calls())
        assert path.peers == {first} == {third}
        assert server.peers() == {first, second}


def test_without_credentials_there_is_no_token(shared: FakeServer) -> None:
    with channel_to(shared) as call:
        call("GetVersion")
    assert shared.calls()[-1].token is None


def test_credentials_that_are_not_encoded_are_taken_as_they_are(shared: FakeServer) -> None:
    with channel_to(shared) as call:
        call("GetVersion", metadata=[("authorization", "Bearer x")])
    assert shared.calls()[-1].token == "Bearer x"


def test_calls_can_be_waited_for(server: FakeServer) -> None:
    with channel_to(server) as call:
        calling = in_background(lambda: [call("GetVersion"), call("GetVersion")])
        arrived = server.wait_for("GetVersion", 2, timeout=PATIENCE_S)
        calling.result(PATIENCE_S)
    assert [call.method for call in arrived] == ["GetVersion"] * 2


def test_calls_that_do_not_arrive_are_a_failure_that_says_so(shared: FakeServer) -> None:
    with pytest.raises(AssertionError, match=r"0 instead of 1 calls of Upsert .* within 0\.01 s"):
        shared.wait_for("Upsert", timeout=0.01)


# --- its end --------------------------------------------------------------------------------


def test_its_end_ends_calls_that_wait() -> None:
    with fake_server() as server, channel_to(server) as call:
        server.hold()
        status = in_background(lambda: status_of(call))
        server.wait_for("GetVersion")
    assert status.result(PATIENCE_S) in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_its_end_leaves_no_thread_and_gives_the_port_back() -> None:
    def own_threads() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name.startswith("zconfig-fake")}

    before = own_threads()
    with fake_server() as server, channel_to(server) as call:
        call("GetVersion")
        assert own_threads() > before
    assert own_threads() == before
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
