"""The verbs of `zconfig.aio`: the same configuration, events and errors, on an event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import zconfig
from tests import test_global_cluster
from tests.support import PATIENCE_S, faults
from tests.support.applications import eventually
from tests.support.loops import aside, faces
from tests.support.processes import run_python
from tests.support.servers import CREDENTIALS
from zconfig import aio, events
from zconfig._connection import CHANNELS, State, connector
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    ConnectTimeoutError,
    DatabaseMissingError,
    RefusedError,
    RejectedCredentialsError,
    ServerSilentError,
    TLSMaterialError,
    UnknownAliasError,
    UntrustedCertificateError,
)
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from tests.support.certificates import Certificates
    from tests.support.servers import RealMilvus

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

cluster = test_global_cluster.cluster
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
VERBS = {"autoconnect", "connect", "disconnect", "close"}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(databases=["default"]) as fake:
        yield fake


# --- both faces -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_verbs_take_the_same_parameters_on_both_faces(verb: str) -> None:
    ours = inspect.signature(getattr(aio, verb)).parameters
    theirs = inspect.signature(getattr(zconfig.connections, verb)).parameters
    assert list(ours.values()) == list(theirs.values())


def test_a_connection_has_the_same_members_on_both_faces() -> None:
    def members(kind: type) -> dict[str, Any]:
        public = {n: m for n, m in vars(kind).items() if not n.startswith("_")}
        return {
            name: "property" if isinstance(m, property) else list(inspect.signature(m).parameters)
            for name, m in public.items()
        }

    blocking = members(zconfig.Connection)
    del blocking["round_trip_ms"]  # it may have to ask the server
    assert members(aio.AsyncConnection) == blocking


def test_what_a_connection_does_is_documented_alike_on_both_faces() -> None:
    for name in ("ping", "health", "spec", "endpoint", "state"):
        assert (
            getattr(aio.AsyncConnection, name).__doc__ == getattr(zconfig.Connection, name).__doc__
        )


def test_the_public_names_are_these() -> None:
    assert set(aio.__all__) == VERBS | {
        "AsyncConnection",
        "AsyncConnections",
        "get",
        "keep_trying",
        "lifespan",
        "ping",
    }


def test_no_module_is_found_where_one_expects_the_connections() -> None:
    with pytest.raises(ImportError, match="cannot import name 'connections'"):
        from zconfig.aio import connections  # noqa: F401


def test_the_module_is_there_as_an_attribute_and_only_imported_when_asked_for() -> None:
    source = """
import json, sys, zconfig
before = [name for name in ("grpc", "zconfig.aio") if name in sys.modules]
verbs = [zconfig.aio.get.__name__, zconfig.aio.lifespan.__name__]
print(json.dumps([before, verbs]))
"""
    done = run_python(source)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], ["get", "lifespan"]]


def test_the_faces_are_over_one_configuration(server: FakeServer) -> None:
    source = """
import asyncio, zconfig
from zconfig import aio, connections

async def main():
    connection = await aio.get()
    await aio.connect("added", uri=str(connection.endpoint))
    return connection.server.version, sorted(await aio.autoconnect())

print(*asyncio.run(main()), connections["added"].ping() > 0)
"""
    done = run_python(source, environ={"ZILLIZ_URI": server.uri})
    assert done.stdout == f"{VERSION} ['added', 'default'] True\n", done.stderr


# --- the verbs ------------------------------------------------------------------------------


def test_autoconnect_opens_every_alias_concurrently(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        connecting = asyncio.create_task(face.aio.autoconnect())
        await aside(lambda: server.wait_for("Connect", 3))
        server.recover()
        opened = await connecting
        assert list(opened) == ["a", "b", "c"]
        assert {each.state for each in opened.values()} == {State.READY}

    with faces(**{f"ZILLIZ_{name}_URI": server.uri for name in "ABC"}) as face:
        asyncio.run(main())
        assert len(face.ears.of(events.ConnectionConnected)) == 3
    assert len(server.peers()) == 1  # aliases share what they can


def test_autoconnect_reports_every_failure_in_one_error_and_keeps_what_connected(
    server: FakeServer,
) -> None:
    async def main() -> None:
        with pytest.raises(AutoconnectError) as caught:
            await face.aio.autoconnect()
        assert {a: type(e) for a, e in caught.value.failures.items()} == {
            "none": DatabaseMissingError,
            "off": RefusedError,
        }
        assert caught.value.connected == ("on",)
        assert (await face.aio.get("on")).is_open
        assert len(server.calls("Connect")) == 2

    with (
        faults.refused() as port,
        faces(
            ZILLIZ_ON_URI=server.uri,
            ZILLIZ_NONE_URI=f"{server.uri}/none",
            ZILLIZ_OFF_URI=f"http://127.0.0.1:{port}",
        ) as face,
    ):
        asyncio.run(main())


def test_an_optional_alias_may_fail_unless_it_is_named(server: FakeServer) -> None:
    async def main() -> None:
        assert list(await face.aio.autoconnect()) == ["on"]
        with pytest.raises(AutoconnectError):
            await face.aio.autoconnect("off")

    with (
        faults.refused() as port,
        faces(
            ZILLIZ_ON_URI=server.uri,
            ZILLIZ_OFF_URI=f"http://127.0.0.1:{port}",
            ZILLIZ_OFF_REQUIRED="false",
        ) as face,
    ):
        asyncio.run(main())


def test_autoconnect_dials_nobody_when_the_configuration_is_wrong(server: FakeServer) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError) as caught:
            await face.aio.autoconnect()
        assert [problem.code for problem in caught.value.problems] == ["bad_port"]
        with pytest.raises(UnknownAliasError):
            await face.aio.autoconnect("nobody")
        with pytest.raises(ConfigurationError):
            await face.aio.autoconnect("good", timeout=-1)
        assert list(await face.aio.autoconnect("good")) == ["good"]

    with faces(ZILLIZ_GOOD_URI=server.uri, ZILLIZ_BAD_URI="http://db:0") as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 1


def test_an_alias_connects_on_its_first_use_and_once(server: FakeServer) -> None:
    async def main() -> None:
        first = await face.aio.get()
        assert await face.aio.get("Default") is first
        assert await face.aio.ping() > 0
        assert await first.ping() > 0
        assert (first.alias, str(first.endpoint)) == ("default", server.uri)
        assert first.server.version == VERSION
        assert first.target == first.endpoint.target
        assert (await first.health()).healthy
        assert "default" in repr(first)

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 1
    assert len(server.calls("GetVersion")) == 2


def test_the_only_alias_is_the_default_and_several_have_none(server: FakeServer) -> None:
    async def main() -> str:
        return (await face.aio.get()).alias

    with faces(ZILLIZ_ONE_URI=server.uri) as face:
        assert asyncio.run(main()) == "one"
    with (
        faces(ZILLIZ_ONE_URI=server.uri, ZILLIZ_TWO_URI=server.uri) as face,
        pytest.raises(UnknownAliasError, match=r"none is the default \(configured: one, two\)"),
    ):
        asyncio.run(main())


def test_connect_takes_what_the_blocking_one_takes(server: FakeServer) -> None:
    async def main() -> None:
        connection = await face.aio.connect("eu-Prod", uri=server.uri, token="k", timeout=20)
        assert connection.alias == "eu_prod"
        assert connection.spec.timeout_s == 20
        assert connection.spec.origin().source == "code"
        assert face.blocking.spec("eu_prod") == connection.spec
        assert (
            await face.aio.connect("eu_prod", uri=server.uri, token="k", timeout=20) is connection
        )
        with pytest.raises(ConflictError, match="differs in credentials"):
            await face.aio.connect("eu_prod", uri=server.uri, token="other", timeout=20)
        with pytest.raises(ConfigurationError, match=r"aio\.connect"):
            await face.aio.connect("eu_prod", uri="gopher://x")
        with pytest.raises(ConflictError, match="differs in endpoint"):
            await face.aio.connect("eu_prod", secure=True)
        with pytest.raises(ConfigurationError, match=r"url \(aio\.connect\).*mean uri\?"):
            await face.aio.connect("new", url=server.uri)
        with pytest.raises(
            ConfigurationError, match=r"uri \(aio\.connect\): is None, and the alias"
        ):
            await face.aio.connect("new", uri=None)
        for verb in (face.aio.get, face.aio.ping, face.aio.connect, face.aio.keep_trying):
            with pytest.raises(ConfigurationError, match="not a URI") as caught:
                await verb("http://root:pass-word@db")
            assert "pass-word" not in str(caught.value)

    with faces() as face:
        asyncio.run(main())


def test_connect_with_credentials_alone_replaces_those_that_are_configured(
    server: FakeServer,
) -> None:
    async def main() -> None:
        await face.aio.connect("prod", token="new")
        assert server.calls("Connect")[0].token == "new"

    with faces(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TOKEN="old") as face:
        asyncio.run(main())


def test_connect_without_arguments_goes_on_following_what_is_configured(
    server: FakeServer,
) -> None:
    async def main() -> None:
        connection = await face.aio.connect("prod")
        assert connection is await face.aio.connect("prod", token=None, db_name="")
        assert connection.spec.origin().source == "environment"
        assert "prod" not in face.blocking._registry.registry_state.added

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_a_failed_connect_configures_nothing(server: FakeServer) -> None:
    async def main() -> None:
        server.accept("right")
        with pytest.raises(RejectedCredentialsError):
            await face.aio.connect("prod", uri=server.uri, token="wrong")
        assert "prod" not in face.blocking
        await face.aio.connect("prod", uri=server.uri, token="right")

    with faces() as face:
        asyncio.run(main())


def test_an_alias_that_the_other_face_has_live_is_not_connected_elsewhere(
    server: FakeServer,
) -> None:
    async def main() -> None:
        with pytest.raises(ConflictError):
            await face.aio.connect("prod", uri=server.uri, db_name="other")

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        assert face.blocking["prod"].ping() > 0
        asyncio.run(main())


def test_disconnect_closes_one_alias_and_it_opens_again_on_use(server: FakeServer) -> None:
    async def main() -> None:
        opened = await face.aio.autoconnect()
        await face.aio.disconnect("A")
        await face.aio.disconnect("a")
        await face.aio.disconnect("nobody")
        assert opened["a"].state is State.CLOSED
        assert not opened["a"].is_open
        for use in (opened["a"].ping, opened["a"].health):
            with pytest.raises(ClosedError, match=r"await zconfig\.aio\.get\('a'\)"):
                await use()
        with pytest.raises(ClosedError):
            _ = opened["a"].channel
        assert await opened["b"].ping() > 0
        assert (await face.aio.get("a")) is not opened["a"]
        with pytest.raises(ConfigurationError):
            await face.aio.disconnect(1)  # type: ignore[arg-type]  # what is to be refused

    with faces(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as face:
        asyncio.run(main())
        assert face.ears.names().count("closed") == 1


def test_close_drops_the_channels_of_the_event_loop_and_connections_stay(
    server: FakeServer,
) -> None:
    async def main() -> None:
        await face.aio.close()
        opened = await face.aio.autoconnect()
        await face.aio.close()
        assert {each.state for each in opened.values()} == {State.READY}
        assert await opened["a"].ping() > 0
        assert await face.aio.ping("b") > 0

    with faces(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 2


@pytest.mark.parametrize("by", ["thread", "aio.disconnect", "connection", "context manager"])
def test_closing_an_alias_closes_it_for_threads_and_event_loops(
    server: FakeServer, by: str
) -> None:
    async def main() -> None:
        blocking, connection = await aside(lambda: face.blocking["prod"]), await face.aio.get()
        if by == "thread":
            await aside(lambda: face.blocking.disconnect("prod"))
        elif by == "aio.disconnect":
            await face.aio.disconnect("prod")
        elif by == "connection":
            await connection.close()
        else:
            async with connection:
                pass
        assert (blocking.state, connection.state) == (State.CLOSED, State.CLOSED)
        with pytest.raises(ClosedError):
            await connection.ping()
        with pytest.raises(ClosedError):
            await aside(blocking.ping)
        assert await face.aio.ping() > 0

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())
        assert face.ears.names().count("closed") == 1


def test_a_connection_is_a_context_manager(server: FakeServer) -> None:
    async def main() -> None:
        async with await face.aio.get("prod") as connection:
            assert await connection.ping() > 0
        assert connection.state is State.CLOSED

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_a_lifespan_connects_at_the_start_and_closes_at_the_end(server: FakeServer) -> None:
    async def main() -> None:
        for start in (face.aio.lifespan, lambda: face.aio.lifespan(object())):
            async with start():
                connection = await face.aio.get()
                assert connection.is_open
            assert connection.state is State.CLOSED

    with faces(ZILLIZ_URI=server.uri) as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 2


def test_a_lifespan_that_cannot_start_leaves_nothing_open(server: FakeServer) -> None:
    async def main() -> None:
        with pytest.raises(AutoconnectError):
            async with face.aio.lifespan():
                raise AssertionError("it has started")
        assert face.ears.names()[-1] == "closed"

    with (
        faults.refused() as port,
        faces(ZILLIZ_ON_URI=server.uri, ZILLIZ_OFF_URI=f"http://127.0.0.1:{port}") as face,
    ):
        asyncio.run(main())


# --- one connect ----------------------------------------------------------------------------


def test_many_tasks_that_ask_for_one_alias_make_one_connect(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        asking = [asyncio.create_task(face.aio.get("prod")) for _ in range(64)]
        await aside(lambda: server.wait_for("Connect"))
        server.recover()
        assert len(set(await asyncio.gather(*asking))) == 1

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())
        assert face.ears.names().count("connecting") == 1
    assert len(server.calls("Connect")) == 1


def test_who_is_cancelled_takes_nothing_from_the_others(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        first, second = (asyncio.create_task(face.aio.get("prod")) for _ in range(2))
        await aside(lambda: server.wait_for("Connect"))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        server.recover()
        assert (await second).is_open

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 1


def test_a_connect_ends_with_the_last_who_waits_for_it(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        asking = [asyncio.create_task(face.aio.get("prod")) for _ in range(2)]
        await aside(lambda: server.wait_for("Connect"))
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await aside(server.wait_until_idle)
        await face.aio.disconnect("prod")
        await aside(lambda: eventually(lambda: CHANNELS._channel_pool == {}))
        server.recover()
        assert await face.aio.ping("prod") > 0

    with faces(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TIMEOUT="60") as face:
        asyncio.run(main())
        assert "failed" not in face.ears.names()


def test_one_who_is_cancelled_before_the_connect_has_begun_keeps_nobody_from_connecting(
    server: FakeServer,
) -> None:
    async def main() -> None:
        await face.aio.disconnect("prod")
        for steps in range(12):  # wherever it is when it is cancelled
            asking = asyncio.create_task(face.aio.get("prod"))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_S):
            assert await face.aio.ping("prod") > 0

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_a_disconnect_ends_a_connect_that_is_under_way(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        asking = asyncio.create_task(face.aio.get("prod"))
        await aside(lambda: server.wait_for("Connect"))
        await face.aio.disconnect("prod")
        with pytest.raises(ClosedError):
            await asking
        await aside(server.wait_until_idle)

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())


def test_a_task_that_waits_less_than_the_connect_takes_says_so(server: FakeServer) -> None:
    async def main() -> None:
        server.hold()
        patient = asyncio.create_task(face.aio.get("prod"))
        await aside(lambda: server.wait_for("Connect"))
        told = "another task is still connecting.*raise ZILLIZ_PROD_TIMEOUT"
        with pytest.raises(ServerSilentError, match=told):
            await face.aio.ping("prod", timeout=0.05)
        server.recover()
        assert (await patient).is_open

    with faces(ZILLIZ_PROD_URI=server.uri) as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 1


# --- failures -------------------------------------------------------------------------------


def test_a_failure_is_diagnosed_as_on_the_blocking_face() -> None:
    async def main() -> ConnectError:
        with pytest.raises(ConnectError) as caught:
            await face.aio.get("prod")
        return caught.value

    with (
        faults.listening(faults.http1) as port,
        faces(ZILLIZ_PROD_URI=f"http://127.0.0.1:{port}") as face,
    ):
        ours = asyncio.run(main())
        theirs = face.blocking.attempt("prod")["prod"]
        assert isinstance(theirs, ConnectError)
        assert (type(ours), ours.detail) == (type(theirs), theirs.detail)
        assert (ours.origin, ours.remedy) == (theirs.origin, theirs.remedy)
        assert ours.__context__ is None
        first, second = face.ears.of(events.ConnectionFailed)
        assert (first.cause, first.stage) == (second.cause, second.stage)


def test_transient_failures_are_retried_while_wait_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(connector, "backoff_s", lambda number: pauses.append(number) or 0.01)

    async def main(server: FakeServer, path: faults.BreakableProxy) -> None:
        connecting = asyncio.create_task(face.aio.autoconnect(wait=PATIENCE_S))
        await aside(lambda: face.ears.wait_for(events.ConnectionRetrying, 3))
        path.heal()
        await connecting

    with fake_server() as server, faults.breakable_proxy(server.port) as path:
        path.cut()
        with faces(ZILLIZ_URI=f"http://127.0.0.1:{path.port}") as face:
            asyncio.run(main(server, path))
            numbers = [event.attempt for event in face.ears.of(events.ConnectionRetrying)]
            assert numbers == pauses == list(range(1, len(numbers) + 1))
            (connected,) = face.ears.of(events.ConnectionConnected)
            assert connected.attempt == len(numbers) + 1


def test_the_variable_for_waiting_counts_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "backoff_s", lambda _: 0.01)

    async def main() -> None:
        with pytest.raises(RefusedError) as caught:
            await face.aio.get()
        assert caught.value.attempts > 1

    with (
        faults.refused() as port,
        faces(ZILLIZ_URI=f"http://127.0.0.1:{port}", ZCONFIG_WAIT="0.3") as face,
    ):
        asyncio.run(main())


def test_a_permanent_failure_is_not_retried(server: FakeServer) -> None:
    async def main() -> None:
        with pytest.raises(AutoconnectError) as caught:
            await face.aio.autoconnect(wait=PATIENCE_S)
        assert isinstance(caught.value.failures["default"], DatabaseMissingError)

    with faces(ZILLIZ_URI=f"{server.uri}/none") as face:
        asyncio.run(main())
    assert len(server.calls("Connect")) == 1


def test_many_failures_are_diagnosed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 40  # more than there are threads for `asyncio.to_thread`
    all_there = threading.Barrier(count)
    explain = connector.Attempt.explain

    def meet(*args: Any) -> ConnectError:
        all_there.wait(PATIENCE_S)
        return explain(*args)

    monkeypatch.setattr(connector.Attempt, "explain", meet)

    async def main() -> None:
        with pytest.raises(AutoconnectError) as caught:
            await face.aio.autoconnect()
        assert {type(each) for each in caught.value.failures.values()} == {RefusedError}

    with faults.refused() as port:
        environ = {f"ZILLIZ_S{n}_URI": f"http://127.0.0.1:{port}" for n in range(count)}
        with faces(**environ) as face:
            asyncio.run(main())


def test_silent_servers_are_given_up_at_the_deadline() -> None:
    async def main() -> None:
        begun = time.monotonic()
        with pytest.raises(AutoconnectError) as caught:
            await face.aio.autoconnect(timeout=0.5)
        causes = {type(each) for each in caught.value.failures.values()}
        assert causes <= {ServerSilentError, ConnectTimeoutError}
        assert time.monotonic() - begun >= 0.5
        waited_s = max(each.elapsed_ms for each in caught.value.failures.values()) / 1e3
        assert waited_s < PATIENCE_S  # and not the TIMEOUT

    with faults.listening(faults.swallow) as port:
        environ = {f"ZILLIZ_{n}_URI": f"http://127.0.0.1:{port}" for n in "ABC"}
        environ |= {f"ZILLIZ_{n}_TIMEOUT": "60" for n in "ABC"}
        with faces(**environ) as face:
            asyncio.run(main())


def test_the_event_loop_goes_on_while_a_failure_is_diagnosed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, may_answer = threading.Event(), threading.Event()
    explain = connector.Attempt.explain

    def slow(*args: Any) -> ConnectError:
        asked.set()
        assert may_answer.wait(PATIENCE_S)
        return explain(*args)

    monkeypatch.setattr(connector.Attempt, "explain", slow)

    async def main() -> None:
        asking = asyncio.create_task(face.aio.get())
        await aside(lambda: asked.wait(PATIENCE_S))
        may_answer.set()
        with pytest.raises(RefusedError):
            await asking

    with faults.refused() as port, faces(ZILLIZ_URI=f"http://127.0.0.1:{port}") as face:
        asyncio.run(main())


def test_no_secret_shows_in_a_failure(server: FakeServer) -> None:
    async def main() -> None:
        server.accept("right")
        with pytest.raises(RejectedCredentialsError) as caught:
            await face.aio.connect("prod", uri=server.uri, token="my-secret-token")
        assert "my-secret-token" not in f"{caught.value} {caught.value!r}"

    with faces() as face:
        asyncio.run(main())


# --- the ways to a server -------------------------------------------------------------------


def test_milvus_lite_is_started_and_let_go(lite_uri: str) -> None:
    async def main() -> None:
        connection = await face.aio.get()
        assert await connection.ping() > 0
        assert connection.server.version.startswith("milvus_lite")
        blocking = await aside(lambda: face.blocking.default)
        assert blocking.target == connection.target
        await face.aio.close()
        assert await aside(blocking.ping) > 0

    with faces(ZILLIZ_URI=lite_uri) as face:
        asyncio.run(main())


def test_a_unix_socket_is_dialed(server: FakeServer, tmp_path: Path) -> None:
    async def main() -> float:
        return await face.aio.ping()

    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        listener = faults.Listener(faults.tcp_forward(server.port), sock)
        with closing(listener), faces(ZILLIZ_URI=f"unix:{path}") as face:
            assert asyncio.run(main()) > 0


def test_tls_is_verified_with_the_files_of_the_alias(certificates: Certificates) -> None:
    async def main() -> None:
        assert await face.aio.ping("right") > 0
        with pytest.raises(UntrustedCertificateError):
            await face.aio.get("wrong")
        with pytest.raises(TLSMaterialError):
            await face.aio.get("missing")

    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        environ = {f"ZILLIZ_{name}_URI": server.uri for name in ("RIGHT", "WRONG", "MISSING")}
        with faces(
            ZILLIZ_RIGHT_TLS_CA=str(certificates.ca),
            ZILLIZ_WRONG_TLS_CA=str(certificates.other_ca),
            ZILLIZ_MISSING_TLS_CA=str(certificates.ca.with_name("none.pem")),
            **environ,
        ) as face:
            asyncio.run(main())


def test_aliases_share_a_tls_connection(certificates: Certificates) -> None:
    async def main() -> None:
        await face.aio.autoconnect()

    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        environ = {f"ZILLIZ_{n}_URI": server.uri for n in "AB"}
        trust = {f"ZILLIZ_{n}_TLS_CA": str(certificates.ca) for n in "AB"}
        with faces(**environ, **trust) as face:
            asyncio.run(main())
        assert len(server.calls("Connect")) == 2
        assert len(server.peers()) == 1


def test_a_pool_has_connections_of_its_own_and_calls_are_spread_over_them(
    server: FakeServer,
) -> None:
    async def main() -> None:
        connection = await face.aio.get()
        method = connection.channel.unary_unary(GET_VERSION)
        for _ in range(6):
            await method(b"")

    with faces(ZILLIZ_URI=server.uri, ZILLIZ_POOL_SIZE="3") as face:
        asyncio.run(main())
    assert len({call.peer for call in server.calls("GetVersion")}) == 3


def test_a_proxy_of_the_alias_is_gone_through(server: FakeServer) -> None:
    async def main() -> float:
        return await face.aio.ping()

    with (
        faults.listening(faults.tunnel_to(server.port)) as port,
        faces(ZILLIZ_URI="http://db.test:19530", ZILLIZ_PROXY=f"http://127.0.0.1:{port}") as face,
    ):
        assert asyncio.run(main()) > 0


def test_a_global_clusters_primary_is_dialed_and_followed(
    cluster: test_global_cluster.Cluster,
) -> None:
    async def main() -> None:
        connection = await face.aio.get("world")
        assert connection.target.endswith(test_global_cluster.MEMBERS[0])
        cluster.promote(1)
        cluster.paths[0].cut()
        await aside(lambda: face.ears.wait_for(events.ConnectionMoved))
        assert connection.target.endswith(test_global_cluster.MEMBERS[1])
        assert await connection.ping() > 0

    with faces(**cluster.environ) as face:
        asyncio.run(main())


def test_the_real_server_is_proved_asked_and_closed(milvus: RealMilvus) -> None:
    async def main() -> None:
        with pytest.raises(RejectedCredentialsError):
            await face.aio.connect("wrong", uri=milvus.uri, token="root:wrong")
        with pytest.raises(DatabaseMissingError):
            await face.aio.connect("none", uri=f"{milvus.uri}/none", token=CREDENTIALS)
        opened = await face.aio.autoconnect()
        assert await opened["prod"].ping() > 0
        assert (await opened["prod"].health()).healthy
        assert "2.3.5" in opened["prod"].server.version

    with faces(ZILLIZ_PROD_URI=milvus.uri, ZILLIZ_PROD_TOKEN=CREDENTIALS) as face:
        asyncio.run(main())
