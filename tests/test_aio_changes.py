"""What changes under a connection of an event loop: its configuration, its secrets, its server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support import PATIENCE_S, faults
from tests.support.loops import aside, faces, faces_of
from tests.test_rotation import SHORT_S, Source, rotate_and_leave, rotate_twice, sent, slow
from zconfig import events
from zconfig._connection import State
from zconfig._connection import credentials as config_follower
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConflictError,
    ConnectError,
    RefusedError,
    RejectedCredentialsError,
    ServerSilentError,
    UnknownAliasError,
)
from zconfig.testing import FakeServer, fake_server

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

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


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody see that a secret file was rewritten."""
    monkeypatch.setattr("zconfig._connection.monitor.credentials_stamp", lambda _: {})


# --- a reload -------------------------------------------------------------------------------


@pytest.mark.usefixtures("unwatched")
def test_credentials_that_a_reload_brought_are_proved_and_used_by_the_next_call(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        method = connection.channel.unary_unary(GET_VERSION)
        await method(b"")
        server.accept("key-1", "key-2")
        source.write("key-2")
        changes = await aside(face.blocking.reload)
        assert changes.changed == {"prod": ("credentials",)}
        await asyncio.gather(*(method(b"") for _ in range(8)))
        assert connection.is_open

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
        assert face.ears.names().count("rotated") == 1
    assert sent(server, "Connect") == ["key-1", "key-2"]
    assert sent(server) == ["key-1"] + 8 * ["key-2"]
    assert len(server.peers()) == 2  # one of threads, and one of the event loop


@pytest.mark.usefixtures("unwatched")
def test_wrong_credentials_that_a_reload_brought_are_refused_once_and_the_old_stay(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        source.write("key-of-nobody")
        await aside(face.blocking.reload)
        for _ in range(3):
            assert await connection.ping() > 0
        assert await face.aio.get("prod") is connection
        problem = face.ears.of(events.ConfigProblem)[-1]
        assert (problem.code, problem.alias) == ("rotation_refused", "prod")
        assert await aside(face.blocking["prod"].ping) > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
        assert len(face.ears.of(events.ConfigProblem)) == 1
    assert sent(server, "Connect") == ["key-1", "key-of-nobody"]
    assert set(sent(server)) == {"key-1"}


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("how", ["ping", "call"])
def test_a_call_waits_no_longer_for_a_slow_source_than_its_timeout_and_the_next_one_has_the_answer(
    source: Source, server: FakeServer, how: str
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        method = connection.channel.unary_unary(GET_VERSION)
        server.accept("key-2")
        source.write("key-2")
        with slow(source) as answers:
            for _ in range(2):
                call = connection.ping(SHORT_S) if how == "ping" else method(b"", timeout=SHORT_S)
                with pytest.raises((grpc.RpcError, RejectedCredentialsError)):
                    await call
                assert source.answered == 1
            assert source.reads == 2  # the second call waits for what the first one began
            answers.set()
            await aside(lambda: face.ears.wait_for(events.ConnectionRotated))
            assert await connection.ping(PATIENCE_S) > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


def test_a_connect_waits_no_longer_for_a_slow_source_than_its_timeout(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        server.accept("key-2")
        source.write("key-2")
        with slow(source) as answers:
            for _ in range(2):
                with pytest.raises(AutoconnectError, match="rejected"):
                    await face.aio.autoconnect(timeout=SHORT_S)
                assert source.answered == 1
            assert source.reads == 2
            answers.set()
            assert (await face.aio.autoconnect())["prod"].is_open

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


def test_a_reload_with_another_endpoint_opens_the_alias_there_on_its_next_use(
    source: Source, server: FakeServer
) -> None:
    async def main(other: FakeServer) -> None:
        connection = await face.aio.get("prod")
        method = connection.channel.unary_unary(GET_VERSION)
        source.point_at(other.uri)
        await aside(face.blocking.reload)
        await asyncio.gather(*(method(b"") for _ in range(4)))
        assert str(connection.endpoint) == other.uri
        assert await face.aio.get("prod") is connection
        source.point_at(server.uri)
        await aside(face.blocking.reload)
        assert await connection.ping() > 0
        assert str(connection.endpoint) == server.uri
        source.point_at(other.uri)
        await aside(face.blocking.reload)
        assert await face.aio.get("prod") is connection
        assert str(connection.endpoint) == other.uri

    with fake_server() as other, source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main(other))
        assert len(other.calls("GetVersion")) == 4
        assert (len(server.calls("Connect")), len(other.calls("Connect"))) == (2, 2)
        names = face.ears.names()
        assert (names.count("connected"), names.count("closed")) == (4, 3)


def test_a_reload_that_changes_nothing_touches_nothing(source: Source, server: FakeServer) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        await aside(face.blocking.reload)
        assert await face.aio.get("prod") is connection
        assert await connection.ping() > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert len(server.calls("Connect")) == 1


def test_another_configuration_while_connecting_is_what_is_connected_to(
    source: Source, server: FakeServer
) -> None:
    async def main(other: FakeServer) -> None:
        server.hold()
        asking = [asyncio.create_task(face.aio.get("prod")) for _ in range(2)]
        await aside(lambda: server.wait_for("Connect"))
        source.point_at(other.uri)
        await aside(face.blocking.reload)
        asking.append(asyncio.create_task(face.aio.get("prod")))
        opened = await asyncio.gather(*asking)
        assert {str(each.endpoint) for each in opened} == {other.uri}
        await aside(server.wait_until_idle)

    with fake_server() as other, source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main(other))
        assert len(other.calls("Connect")) == 1


@pytest.mark.usefixtures("unwatched")
def test_a_call_waits_no_longer_for_a_proof_than_its_timeout(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        server.accept("key-1", "key-2")
        source.write("key-2")
        await aside(face.blocking.reload)
        server.hold()
        with pytest.raises(ServerSilentError):
            await connection.ping(timeout=0.1)
        server.recover()
        assert await connection.ping() > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server)[-1] == "key-2"


# --- code -----------------------------------------------------------------------------------


def test_an_alias_that_is_removed_is_closed_at_its_next_use(server: FakeServer) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        await aside(lambda: face.blocking.remove_connection("prod"))
        with pytest.raises(ClosedError):
            await connection.ping()
        assert connection.state is State.CLOSED
        with pytest.raises(UnknownAliasError):
            await face.aio.get("prod")

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_what_an_event_loop_has_connected_a_thread_connects_nowhere_else(
    server: FakeServer,
) -> None:
    async def main(other: FakeServer) -> None:
        connection = await face.aio.get("prod")
        with pytest.raises(ConflictError):
            await aside(lambda: face.blocking.connect("prod", uri=other.uri))
        assert await connection.ping() > 0
        assert str(connection.endpoint) == server.uri

    with fake_server() as other, faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main(other))


def test_an_override_has_connections_of_its_own(server: FakeServer) -> None:
    async def main(other: FakeServer) -> None:
        outer = await face.aio.get("prod")
        with face.blocking.override({"prod": {"uri": other.uri}}):
            inner = await face.aio.get("prod")
            assert str(inner.endpoint) == other.uri
            assert await outer.ping() > 0
            assert str(outer.endpoint) == server.uri
        assert await face.aio.get("prod") is outer

    with fake_server() as other, faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main(other))
        assert len(other.calls("Connect")) == 1
    assert len(server.calls("Connect")) == 1


def test_secrets_in_use_on_an_event_loop_are_known_to_the_masking(server: FakeServer) -> None:
    async def main() -> None:
        await face.aio.connect("prod", uri=server.uri, token="key-1")
        await aside(lambda: face.blocking.remove_connection("prod"))
        assert "key-1" in face.blocking.secrets()

    with faces() as face:
        asyncio.run(main())


# --- secret files ---------------------------------------------------------------------------


def test_a_rewritten_secret_file_rotates_by_itself(source: Source, server: FakeServer) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        server.accept("key-1", "key-2")
        source.write("key-2")
        rotated = await aside(lambda: face.ears.wait_for(events.ConnectionRotated))
        assert str(source.secret) in rotated.origin
        assert await connection.ping() > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server) == ["key-2"]


@pytest.mark.usefixtures("unwatched")
def test_a_call_outlives_a_second_rotation_that_follows_the_first_closely(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        rotate_twice(source, server)
        assert await connection.ping() > 0
        assert len(face.ears.of(events.ConnectionRotated)) == 1
        assert not face.ears.of(events.ConfigProblem)

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server, "Connect") == ["key-1", "key-2", "key-3"]


def test_a_wrong_secret_file_is_refused_once_and_the_old_stays(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        source.write("key-of-nobody")
        problem = await aside(lambda: face.ears.wait_for(events.ConfigProblem))
        assert problem.code == "rotation_refused"
        assert await connection.ping() > 0
        assert connection.state is State.READY

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server, "Connect").count("key-of-nobody") == 1


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("calls_away", [1, 99])
def test_a_call_whose_server_goes_away_while_it_is_renewed_is_made_again(
    source: Source, server: FakeServer, calls_away: int
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        method = connection.channel.unary_unary(GET_VERSION)
        rotate_and_leave(source, server, calls_away)
        if calls_away == 1:
            await method(b"")
            assert sent(server)[-1] == "key-2"
            return
        with pytest.raises(grpc.RpcError) as caught:
            await method(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not face.ears.of(events.ConfigProblem)

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


@pytest.mark.parametrize("is_ping", [True, False])
def test_a_call_whose_connection_is_closed_while_it_is_renewed_hears_of_that(
    source: Source, server: FakeServer, is_ping: bool
) -> None:
    async def main() -> None:
        connection = await face.aio.get("prod")
        loop = asyncio.get_running_loop()
        server.accept("key-2")

        def disconnect() -> None:
            asyncio.run_coroutine_threadsafe(face.aio.disconnect("prod"), loop).result(PATIENCE_S)

        source.on_read = disconnect
        method = connection.channel.unary_unary(GET_VERSION)
        with pytest.raises(ClosedError):
            await (connection.ping() if is_ping else method(b""))

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


def test_credentials_are_not_replaced_where_code_configured_them(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_follower, "BETWEEN_RENEWALS_S", 0)

    async def main() -> None:
        connection = await face.aio.connect("prod", token="key-1")
        server.accept("key-2")
        source.write("key-2")
        with pytest.raises(ConnectError):
            await connection.ping()

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())


def test_a_connect_that_is_refused_reads_the_credentials_once_more(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        server.accept("key-2")
        source.write("key-2")
        before = source.reads
        opened = await asyncio.gather(*(face.aio.get("prod") for _ in range(8)))
        assert len(set(opened)) == 1
        assert source.reads == before + 1
        await face.aio.disconnect("prod")
        server.accept("key-of-another")
        with pytest.raises(RejectedCredentialsError):
            await face.aio.get("prod")
        assert source.reads == before + 2

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server, "Connect")[:2] == ["key-1", "key-2"]


def test_credentials_from_code_that_are_refused_are_not_replaced(
    source: Source, server: FakeServer
) -> None:
    async def main() -> None:
        with pytest.raises(RejectedCredentialsError):
            await face.aio.connect("prod", token="wrong")
        assert await face.aio.ping("prod") > 0

    with source.connections() as connections:
        face = faces_of(connections)
        asyncio.run(main())
    assert sent(server, "Connect") == ["wrong", "key-1"]


# --- a server that goes away ----------------------------------------------------------------


def test_a_loss_and_a_return_are_noticed_and_reported_though_nobody_calls() -> None:
    async def main(path: faults.BreakableProxy) -> None:
        connection = await face.aio.get("prod")
        await aside(path.cut)
        lost = await aside(lambda: face.ears.wait_for(events.ConnectionLost))
        assert (lost.alias, lost.cause) == ("prod", RefusedError.cause)
        assert connection.state is State.LOST
        await aside(path.heal)
        await aside(lambda: face.ears.wait_for(events.ConnectionRecovered))
        assert connection.state is State.READY
        assert await connection.ping() > 0

    with (
        fake_server() as server,
        faults.breakable_proxy(server.port) as path,
        faces(ZILLIZ_PROD_URI=f"http://127.0.0.1:{path.port}") as face,
    ):
        asyncio.run(main(path))
        names = face.ears.names()
        assert (names.count("lost"), names.count("recovered")) == (1, 1)


def test_calls_work_again_soon_after_the_server_is_back() -> None:
    async def main(path: faults.BreakableProxy) -> None:
        connection = await face.aio.get("prod")
        for _ in range(2):
            await aside(path.cut)
            with pytest.raises(ConnectError):
                await connection.ping()
            await aside(path.heal)
            async with asyncio.timeout(PATIENCE_S):
                while not await answers(connection.ping(timeout=1)):
                    pass

    async def answers(pinging: object) -> bool:
        try:
            await pinging  # type: ignore[misc]  # any awaitable
        except ConnectError:
            return False
        return True

    with (
        fake_server() as server,
        faults.breakable_proxy(server.port) as path,
        faces(ZILLIZ_PROD_URI=f"http://127.0.0.1:{path.port}") as face,
    ):
        asyncio.run(main(path))


def test_a_server_that_is_silent_is_lost_after_a_call_that_got_no_answer() -> None:
    async def main() -> None:
        connection = (await face.aio.autoconnect("prod", timeout=PATIENCE_S))["prod"]
        server.hold()
        with pytest.raises(ServerSilentError):
            await connection.ping(timeout=0.1)
        await aside(lambda: face.ears.wait_for(events.ConnectionLost))
        server.recover()
        await aside(lambda: face.ears.wait_for(events.ConnectionRecovered))

    with (
        fake_server() as server,
        faces(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="0.5") as face,
    ):
        asyncio.run(main())
