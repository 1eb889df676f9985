"""What a connection's channel is on an event loop: a view of channels that others use as well."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from pymilvus import AsyncMilvusClient, DataType
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support import PATIENCE_S, faults
from tests.support.loops import aside, faces, faces_of
from tests.support.servers import CREDENTIALS
from tests.test_rotation import Source, sent
from zconfig import events
from zconfig._channel.messages import ConnectReply
from zconfig._connection import State
from zconfig.errors import ClosedError, RefusedError
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from tests.support.servers import RealMilvus

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def source(tmp_path: Path, server: FakeServer) -> Source:
    server.accept("key-1")
    source = Source(tmp_path, server.uri)
    source.write("key-1")
    return source


def last(server: FakeServer) -> dict[str, str | bytes]:
    return server.calls("GetVersion")[-1].metadata


# --- what a call carries --------------------------------------------------------------------


def test_each_call_carries_who_we_are_and_what_it_was_given(server: FakeServer) -> None:
    async def main() -> None:
        connection = await face.aio.get()
        method = connection.channel.unary_unary(GET_VERSION)
        await method(b"")
        assert server.calls()[-1].token == "k"
        assert last(server)["identifier"] == str(connection.server.identifier)
        await method(b"", metadata=(("dbname", "sales"), ("identifier", "7")))
        assert (last(server)["dbname"], last(server)["identifier"]) == ("sales", "7")
        assert server.calls()[-1].token == "k"

    with faces(ZILLIZ_URI=server.uri, ZILLIZ_TOKEN="k") as face:
        asyncio.run(main())


def test_generated_stubs_work_on_it(server: FakeServer) -> None:
    async def main() -> None:
        stub = milvus_pb2_grpc.MilvusServiceStub((await face.aio.get()).channel)
        assert (await stub.GetVersion(milvus_pb2.GetVersionRequest())).version == VERSION

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_it_is_a_channel_of_grpcs_asyncio_that_nobody_but_us_closes(server: FakeServer) -> None:
    async def main() -> None:
        channel = (await face.aio.get()).channel
        assert isinstance(channel, grpc.aio.Channel)
        assert copy.deepcopy(channel) is channel
        async with channel as entered:
            assert entered is channel
        await channel.close(grace=1)
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await channel.unary_unary(GET_VERSION)(b"")
        assert "default" in repr(channel)
        await face.aio.close()
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        await face.aio.disconnect("default")
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_a_change_of_its_state_can_be_waited_for(server: FakeServer) -> None:
    async def main(path: faults.BreakableProxy) -> None:
        channel: Any = (await face.aio.get()).channel
        changing = asyncio.create_task(
            channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        )
        await asyncio.sleep(0)
        await aside(path.cut)
        await asyncio.wait_for(changing, PATIENCE_S)

    with (
        faults.breakable_proxy(server.port) as path,
        faces(ZILLIZ_URI=f"http://127.0.0.1:{path.port}") as face,
    ):
        asyncio.run(main(path))


# --- a call ---------------------------------------------------------------------------------


def test_a_call_tells_how_it_ended(server: FakeServer) -> None:
    async def main() -> None:
        told: list[Any] = []
        call = (await face.aio.get()).channel.unary_unary(GET_VERSION)(b"", timeout=PATIENCE_S)
        assert not call.done()
        assert 0 < call.time_remaining() <= PATIENCE_S
        call.add_done_callback(told.append)
        await call.wait_for_connection()
        assert await call == await call
        assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")
        assert await call.debug_error_string() == ""
        assert list(await call.initial_metadata()) == list(await call.trailing_metadata()) == []
        assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
        assert told == [call]

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_a_call_that_failed_tells_why(server: FakeServer) -> None:
    async def main() -> None:
        channel = (await face.aio.get()).channel
        call = channel.unary_unary("/milvus.proto.milvus.MilvusService/Nothing")(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert await call.code() is caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await call.details() == caught.value.details()
        assert await call.debug_error_string()
        assert list(await call.trailing_metadata()) == []
        assert call.time_remaining() is None

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_a_call_that_nobody_awaits_makes_no_noise(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        channel = (await face.aio.get()).channel
        channel.unary_unary("/milvus.proto.milvus.MilvusService/Nothing")(b"")
        await channel.unary_unary(GET_VERSION)(b"")

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("how", ["the call", "who awaits it"])
def test_a_call_can_be_cancelled(server: FakeServer, how: str) -> None:
    async def main() -> None:
        call = (await face.aio.get()).channel.unary_unary(GET_VERSION)(b"")
        server.hold()

        async def wait() -> Any:
            return await call

        waiting = asyncio.create_task(wait())
        await aside(lambda: server.wait_for("GetVersion"))
        assert (call if how == "the call" else waiting).cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await aside(server.wait_until_idle)
        assert call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_a_timeout_counts_from_the_call_on(server: FakeServer) -> None:
    async def main() -> None:
        method = (await face.aio.get()).channel.unary_unary(GET_VERSION)
        server.hold()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_closing_cancels_a_call_in_flight_but_not_who_awaits_it(server: FakeServer) -> None:
    async def main() -> None:
        connection = await face.aio.get()
        method = connection.channel.unary_unary(GET_VERSION)
        server.hold()
        # A cancellation that nobody asked for would end a task group without a word.
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(outcome_of(method))
            pinging = group.create_task(closed(connection.ping))
            await aside(lambda: server.wait_for("GetVersion", 2))
            await connection.close()
        assert calling.result() is grpc.StatusCode.CANCELLED
        assert pinging.result()
        with pytest.raises(ClosedError):
            await method(b"")

    async def outcome_of(method: Any) -> Any:
        try:
            await method(b"")
        except grpc.aio.AioRpcError as error:
            return error.code()

    async def closed(use: Any) -> bool:
        with pytest.raises(ClosedError):
            await use()
        return True

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


def test_a_call_that_gets_no_answer_says_what_is_known_of_the_loss(server: FakeServer) -> None:
    async def main(path: faults.BreakableProxy) -> None:
        connection = await face.aio.get()
        method = connection.channel.unary_unary(GET_VERSION)
        await aside(path.cut)
        with pytest.raises(grpc.aio.AioRpcError):
            await method(b"", timeout=PATIENCE_S)
        await aside(lambda: face.ears.wait_for(events.ConnectionLost))
        assert connection.state is State.LOST
        with pytest.raises(grpc.aio.AioRpcError, match="set by ZILLIZ_URI") as caught:
            await method(b"", timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    with (
        faults.breakable_proxy(server.port) as path,
        faces(ZILLIZ_URI=f"http://127.0.0.1:{path.port}") as face,
    ):
        asyncio.run(main(path))


def test_a_connection_that_cannot_be_opened_again_is_what_a_call_raises(
    source: Source,
) -> None:
    async def main(port: int) -> None:
        method = (await face.aio.get("prod")).channel.unary_unary(GET_VERSION)
        source.point_at(f"http://127.0.0.1:{port}")
        await aside(face.blocking.reload)
        call = method(b"")
        with pytest.raises(RefusedError):
            await call
        with pytest.raises(RefusedError):
            await call.code()

    with faults.refused() as port, source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main(port))


def test_a_wrong_argument_is_an_error_of_grpc(server: FakeServer) -> None:
    async def main() -> None:
        method = (await face.aio.get()).channel.unary_unary(GET_VERSION)
        with pytest.raises(TypeError):
            await method(b"", no_such_argument=1)

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


# --- credentials that were replaced ---------------------------------------------------------


def test_a_call_whose_credentials_were_replaced_succeeds_with_the_new_ones(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zconfig._connection.monitor.credentials_stamp", lambda _: {})

    async def main() -> None:
        connection = await face.aio.get("prod")
        method = connection.channel.unary_unary(GET_VERSION)
        server.accept("key-2")
        source.write("key-2")
        before = source.reads
        await asyncio.gather(*(method(b"") for _ in range(16)))
        assert source.reads == before + 1
        assert await connection.ping() > 0
        assert face.ears.names().count("rotated") == 1
        server.accept("key-3")
        source.write("key-3")
        assert await connection.ping() > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server)[-1] == "key-3"
    assert len(server.peers()) == 2  # one of threads, and one of the event loop


def test_refused_credentials_are_read_again_once_and_not_for_each_call(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        method = (await face.aio.get("prod")).channel.unary_unary(GET_VERSION)
        server.accept("key-of-another")
        before = source.reads
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(b"")
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert source.reads == before + 1

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


def test_a_callers_own_credentials_are_the_callers_own_business(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        method = (await face.aio.get("prod")).channel.unary_unary(GET_VERSION)
        before = source.reads
        with pytest.raises(grpc.aio.AioRpcError):
            await method(b"", metadata=(("authorization", "d3Jvbmc="),))
        assert source.reads == before

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


# --- interceptors ---------------------------------------------------------------------------


class Adder(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # its base is Any
    """Adds a key to each call's metadata, and notes the method and what came back."""

    def __init__(self, key: str, value: str) -> None:
        self._pair = (key, value)
        self.seen: list[Any] = []

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        details.metadata.add(*self._pair)
        call = await continuation(details, request)
        self.seen += [details.method, details.timeout, await call.code(), await call]
        return call


class Answerer(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # its base is Any
    """Answers each call itself."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return b"made up"


def test_interceptors_that_are_appended_see_each_call_from_then_on(server: FakeServer) -> None:
    async def main() -> None:
        channel: Any = (await face.aio.get()).channel
        method = channel.unary_unary(GET_VERSION)
        first, second = Adder("x", "1"), Adder("identifier", "7")
        channel._unary_unary_interceptors += [first, second]
        call = method(b"", timeout=PATIENCE_S, metadata=(("y", "2"),))
        answer = await call
        assert first.seen == second.seen == [GET_VERSION, PATIENCE_S, grpc.StatusCode.OK, answer]
        assert {"x": "1", "y": "2", "identifier": "7"}.items() <= last(server).items()
        assert await call.code() is grpc.StatusCode.OK
        assert list(await call.initial_metadata()) == []
        channel._unary_unary_interceptors.append(Answerer())
        call = method(b"")
        assert await call == b"made up"
        assert list(await call.trailing_metadata()) == []

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())


# --- streams --------------------------------------------------------------------------------


def told(_: Any, context: Any) -> Iterator[bytes]:
    yield dict(context.invocation_metadata())["authorization"].encode()


@pytest.fixture
def streaming() -> Iterator[str]:
    """Serve a Milvus that has methods with streams, which tell who we are."""
    connect = grpc.unary_unary_rpc_method_handler(lambda *_: ConnectReply().encode())
    streams = {
        "us": grpc.unary_stream_rpc_method_handler(told),
        "su": grpc.stream_unary_rpc_method_handler(lambda asked, it: b"".join(told(asked, it))),
        "ss": grpc.stream_stream_rpc_method_handler(told),
    }
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        for service, handlers in ((faults.MILVUS, {"Connect": connect}), ("t", streams)):
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop(None).wait()


def test_methods_with_streams_carry_who_we_are(streaming: str) -> None:
    async def requests() -> AsyncIterator[bytes]:
        yield b"a"

    async def main() -> None:
        connection = await face.aio.get()
        channel = connection.channel
        assert [each async for each in channel.unary_stream("/t/us")(b"")] == [b"aw=="]
        assert await channel.stream_unary("/t/su")(requests()) == b"aw=="
        method = channel.stream_stream("/t/ss")
        assert [each async for each in method(requests(), timeout=PATIENCE_S)] == [b"aw=="]
        await connection.close()
        with pytest.raises(ClosedError):
            method(requests())

    with faces(ZILLIZ_URI=streaming, ZILLIZ_TOKEN="k") as face:
        asyncio.run(main())


# --- pymilvus -------------------------------------------------------------------------------


def test_an_asynchronous_pymilvus_client_works_over_it(milvus: RealMilvus) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        client = AsyncMilvusClient(milvus.uri, channel=connection.channel, dedicated=True)
        schema = AsyncMilvusClient.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)
        await client.create_collection("over_aio", schema=schema)
        try:
            rows = [{"id": n, "v": [float(n), 1.0]} for n in range(8)]
            assert (await client.insert("over_aio", rows))["insert_count"] == 8
            both = await asyncio.gather(client.list_collections(), client.has_collection("none"))
            assert "over_aio" in both[0]
            assert both[1] is False
        finally:
            await client.drop_collection("over_aio")
        await client.close()
        assert await connection.ping() > 0

    with faces(ZILLIZ_PROD_URI=milvus.uri, ZILLIZ_PROD_TOKEN=CREDENTIALS) as face:
        asyncio.run(main())


def test_a_client_rotates_under_load_without_a_failed_call(
    own_milvus: RealMilvus, tmp_path: Path
) -> None:
    source = Source(tmp_path, own_milvus.uri)
    source.write(CREDENTIALS)

    async def main() -> None:
        connection = await face.aio.get("prod")
        client = AsyncMilvusClient(own_milvus.uri, channel=connection.channel, dedicated=True)
        over = asyncio.Event()

        async def load() -> int:
            made = 0
            while not over.is_set():
                await client.list_collections()
                made += 1
            return made

        loads = [asyncio.create_task(load()) for _ in range(4)]
        await client.list_collections()
        source.write("root:Milvus-2")
        await client.update_password("root", "Milvus", "Milvus-2", reset_connection=False)
        await aside(lambda: face.ears.wait_for(events.ConnectionRotated))
        await client.list_collections()
        over.set()
        assert all(await asyncio.gather(*loads))

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
