"""Readiness is told from what is known: at once, without dialing, and by HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

import zconfig
from tests.support import PATIENCE_S
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy, refused
from tests.support.processes import run_python
from tests.support.registries import registry
from zconfig import health
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.aio.async_connections import AsyncConnections
from zconfig.health import AliasStatus, Readiness, Status
from zconfig.testing import FakeServer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture
def path(server: FakeServer) -> Iterator[BreakableProxy]:
    with breakable_proxy(server.port) as proxy:
        yield proxy


def eventually(has_come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not has_come():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def soon(has_come: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not has_come():  # noqa: ASYNC110 - what is known is asked for, and tells nobody
            await asyncio.sleep(0.01)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def ask_wsgi(application: Any, method: str = "GET") -> Response:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started: list[Any] = []
    answer = validator(application)(environ, lambda *start: started.append(start))
    body = b"".join(answer)
    answer.close()
    [(status, headers)] = started
    return Response(int(status[:3]), dict(headers), body)


async def ask_asgi(application: Any, method: str = "GET", path: str = "/") -> Response:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    await application(scope, receive, send)
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Response(start["status"], headers, body["body"])


# --- the value ------------------------------------------------------------------------------


def test_it_is_ready_when_every_required_alias_is_connected(server: FakeServer) -> None:
    environ = {"ZILLIZ_URI": server.uri, "ZILLIZ_EU_URI": server.uri}
    with registry(**environ) as connections:
        connections.autoconnect()
        assert Readiness(connections).status() == Status(
            {"default": AliasStatus("connected", True), "eu": AliasStatus("connected", True)}
        )
        assert Readiness(connections).status().is_ready


def test_an_optional_alias_that_is_missing_is_told_and_keeps_nobody_from_being_ready(
    server: FakeServer,
) -> None:
    with refused() as port:
        extra = {"ZILLIZ_EU_URI": f"http://127.0.0.1:{port}", "ZILLIZ_EU_REQUIRED": "false"}
        with registry(ZILLIZ_URI=server.uri, **extra) as connections:
            connections.autoconnect()
            status = Readiness(connections).status()
    assert status.is_ready
    assert status.aliases["eu"].state == "retrying"
    assert "ZILLIZ_EU_URI" in status.aliases["eu"].last_error


def test_what_nobody_uses_though_it_is_optional_is_left_alone(server: FakeServer) -> None:
    extra = {"ZILLIZ_EU_URI": server.uri, "ZILLIZ_EU_REQUIRED": "false"}
    with registry(ZILLIZ_URI=server.uri, **extra) as connections:
        readiness = Readiness(connections)
        eventually(lambda: readiness.status().is_ready)
        assert readiness.status().aliases["eu"].state == "idle"
    assert len(server.calls("Connect")) == 1


def test_a_required_alias_that_is_misconfigured_is_told_and_nothing_is_ready(
    server: FakeServer,
) -> None:
    environ = {"ZILLIZ_URI": server.uri, "ZILLIZ_EU_URI": "ftp://h"}
    with registry(**environ) as connections:
        connections.autoconnect("default")
        status = Readiness(connections).status()
    assert not status.is_ready
    assert status.aliases["default"].state == "connected"
    assert (status.aliases["eu"].state, status.aliases["eu"].required) == ("misconfigured", True)
    assert "ZILLIZ_EU_URI" in status.aliases["eu"].last_error


def test_an_optional_alias_that_is_misconfigured_keeps_nobody_from_being_ready(
    server: FakeServer,
) -> None:
    extra = {"ZILLIZ_EU_URI": "ftp://h", "ZILLIZ_EU_REQUIRED": "false"}
    with registry(ZILLIZ_URI=server.uri, **extra) as connections:
        connections.autoconnect()
        assert Readiness(connections).status().is_ready


def test_without_any_alias_it_is_not_ready() -> None:
    with registry() as connections:
        status = Readiness(connections).status()
    assert status == Status({})
    assert not status.is_ready


def test_it_follows_a_loss_and_a_return(path: BreakableProxy) -> None:
    with registry(ZILLIZ_URI=f"http://{LOOPBACK}:{path.port}") as connections:
        connections.autoconnect()
        readiness = Readiness(connections)
        path.cut()
        eventually(lambda: not readiness.status().is_ready)
        lost = readiness.status().aliases["default"]
        assert lost.state == "lost"
        assert "start the server, or correct the port in ZILLIZ_URI" in lost.last_error
        path.heal()
        eventually(lambda: readiness.status().is_ready)
        assert readiness.status().aliases["default"].last_error == ""


# --- it dials nobody, and has idle aliases opened -------------------------------------------


def test_it_answers_while_the_server_does_not(server: FakeServer) -> None:
    server.hold()
    with registry(ZILLIZ_URI=server.uri) as connections:
        readiness = Readiness(connections)
        assert readiness.status().aliases["default"].state == "idle"
        server.wait_for("Connect")
        assert readiness.status().aliases["default"].state in ("connecting", "retrying")
        server.recover()
        eventually(lambda: readiness.status().is_ready)
    assert len(server.calls("Connect")) == 1


def test_it_asks_nobody_however_often_it_is_asked(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        connections.autoconnect()
        readiness, before = Readiness(connections), len(server.calls())
        for _ in range(50):
            assert readiness.status().is_ready
        assert len(server.calls()) == before
        assert "zconfig-readiness" not in {each.name for each in threading.enumerate()}


def test_what_cannot_be_opened_is_tried_until_it_can_be() -> None:
    with refused() as port, registry(ZILLIZ_URI=f"http://127.0.0.1:{port}") as connections:
        readiness = Readiness(connections)
        eventually(lambda: bool(readiness.status().aliases["default"].last_error))
        status = readiness.status().aliases["default"]
    assert status.state == "retrying"
    assert "start the server, or correct the port in ZILLIZ_URI" in status.last_error


def test_what_was_disconnected_is_opened_again(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        connections.autoconnect()
        connections.disconnect("default")
        readiness = Readiness(connections)
        assert not readiness.status().is_ready
        eventually(lambda: readiness.status().is_ready)


def test_what_stands_beyond_the_network_is_not_read_in_the_request(
    server: FakeServer, tmp_path: Path
) -> None:
    environ = {"ZCONFIG_AWS_SECRET": "prod"}
    asking, may_answer = threading.current_thread(), threading.Event()

    def read_it() -> Any:
        assert threading.current_thread() is not asking
        assert may_answer.wait(PATIENCE_S)
        return load({"ZILLIZ_URI": server.uri}, tmp_path, system_secrets="nowhere")

    local_loader = lambda: load(environ, tmp_path, system_secrets="nowhere", remote=False)  # noqa: E731 - as short as it can be
    connections = Connections(read_it, local_loader)
    readiness = Readiness(connections)
    assert readiness.status() == readiness.status() == Status({})
    may_answer.set()
    eventually(lambda: readiness.status().is_ready)
    connections.close()


FORKED = """
import os, time, zconfig
from zconfig import health

zconfig.autoconnect()
assert health.status().is_ready
if os.fork() == 0:
    first = health.status()
    assert first.aliases["default"].state == "idle", first
    deadline = time.monotonic() + 20
    while not health.status().is_ready:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert health.status().is_ready
"""


def test_a_worker_that_was_forked_becomes_ready_though_nobody_uses_it(server: FakeServer) -> None:
    done = run_python(FORKED, environ={"ZILLIZ_URI": server.uri}, warnings="default")
    assert done.returncode == 0, done.stderr
    assert len({call.peer for call in server.calls("Connect")}) == 2


# --- on an event loop -----------------------------------------------------------------------


def test_it_knows_what_is_open_on_an_event_loop(path: BreakableProxy) -> None:
    with registry(ZILLIZ_URI=f"http://{LOOPBACK}:{path.port}") as connections:
        readiness = Readiness(connections)

        async def main() -> None:
            await AsyncConnections(connections).autoconnect()
            assert readiness.status().is_ready
            assert (await asyncio.to_thread(readiness.status)).is_ready
            path.cut()
            await soon(lambda: readiness.status().aliases["default"].state == "lost")
            assert "start the server" in readiness.status().aliases["default"].last_error

        asyncio.run(main())


def test_what_nobody_has_used_is_opened_where_an_event_loop_asks(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        readiness = Readiness(connections)

        async def main() -> None:
            assert (await ask_asgi(readiness.asgi)).status == 503
            await soon(lambda: readiness.status().is_ready)

        asyncio.run(main())
    assert len(server.calls("Connect")) == 1


def test_what_threads_have_used_is_opened_for_threads(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        connection = connections["default"]
        connections._registry.pool.abandon()  # as in a child process

        async def main() -> None:
            readiness = Readiness(connections)
            assert not readiness.status().is_ready
            await soon(lambda: readiness.status().is_ready)

        asyncio.run(main())
        assert connection.is_open
    assert len(server.calls("Connect")) == 2


# --- by HTTP --------------------------------------------------------------------------------


READY = {"ready": True, "aliases": {"default": {"state": "connected", "required": True}}}


def test_both_applications_answer_200_when_it_is_ready(server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        connections.autoconnect()
        readiness = Readiness(connections)
        by_wsgi = ask_wsgi(readiness.wsgi)
        by_asgi = asyncio.run(ask_asgi(readiness.asgi))
    assert (by_wsgi.status, by_wsgi.document) == (200, READY)
    assert by_wsgi.headers == {
        "Content-Type": "application/json",
        "Content-Length": str(len(by_wsgi.body)),
        "Cache-Control": "no-store",
    }
    headers = {name.lower(): value for name, value in by_wsgi.headers.items()}
    assert by_asgi == Response(200, headers, by_wsgi.body)


def test_both_applications_answer_503_when_it_is_not_and_say_no_more_than_they_should() -> None:
    with registry(ZILLIZ_URI="ftp://inner.example") as connections:
        readiness = Readiness(connections)
        by_wsgi = ask_wsgi(readiness.wsgi)
        by_asgi = asyncio.run(ask_asgi(readiness.asgi))
    wrong = {"state": "misconfigured", "required": True}
    assert by_wsgi.document == {"ready": False, "aliases": {"default": wrong}}
    assert (by_wsgi.status, by_asgi.status, by_asgi.body) == (503, 503, by_wsgi.body)


def test_details_are_told_where_the_application_wants_them() -> None:
    with registry(ZILLIZ_URI="ftp://inner.example") as connections:
        answer = ask_wsgi(Readiness(connections, details=True).wsgi)
    assert "ZILLIZ_URI" in answer.document["aliases"]["default"]["last_error"]


def test_no_secret_is_told() -> None:
    environ = {"ZILLIZ_URI": "http://me:s3cr3t-w0rd@127.0.0.1:1", "ZILLIZ_EU_URI": "ftp://h"}
    environ["ZILLIZ_EU_TOKEN"] = "s3cr3t-w0rd"
    with registry(**environ) as connections:
        readiness = Readiness(connections, details=True)
        eventually(lambda: bool(readiness.status().aliases["default"].last_error))
        assert b"s3cr3t" not in ask_wsgi(readiness.wsgi).body


def test_head_is_answered_as_get_without_a_body() -> None:
    with registry() as connections:
        readiness = Readiness(connections)
        whole, head = ask_wsgi(readiness.wsgi), ask_wsgi(readiness.wsgi, "HEAD")
        assert head == whole._replace(body=b"")
        assert asyncio.run(ask_asgi(readiness.asgi, "HEAD")).body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_no_other_method_is_allowed(method: str) -> None:
    with registry() as connections:
        readiness = Readiness(connections)
        by_wsgi = ask_wsgi(readiness.wsgi, method)
        by_asgi = asyncio.run(ask_asgi(readiness.asgi, method))
    assert (by_wsgi.status, by_wsgi.headers["Allow"]) == (405, "GET, HEAD")
    assert (by_asgi.status, by_asgi.headers["allow"]) == (405, "GET, HEAD")


def test_it_is_no_application_for_anything_but_http() -> None:
    with registry() as connections:
        scope = {"type": "websocket"}
        with pytest.raises(ValueError, match="not websocket"):
            asyncio.run(Readiness(connections).asgi(scope, None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("route", "path"), [(Route, "/ready"), (Mount, "/ready/")], ids=["route", "mount"]
)
def test_it_can_be_a_route_and_a_mount(route: Any, path: str, server: FakeServer) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        connections.autoconnect()
        app = Starlette(routes=[route("/ready", Readiness(connections).asgi)])
        answer = asyncio.run(ask_asgi(app, path=path))
    assert (answer.status, answer.document) == (200, READY)


def test_the_ready_made_ones_are_about_the_singleton(server: FakeServer) -> None:
    with zconfig.connections.override({"docs": {"uri": server.uri}}) as connections:
        connections.autoconnect()
        assert list(health.status().aliases) == ["docs"]
        assert ask_wsgi(health.wsgi).status == 200
        assert asyncio.run(ask_asgi(health.asgi)).status == 200


def test_importing_it_imports_no_grpc_and_starts_no_thread() -> None:
    source = """
import sys, threading, zconfig
assert zconfig.health.status().aliases == {}
assert "grpc" not in sys.modules and "zconfig.aio" not in sys.modules
assert threading.active_count() == 1
"""
    done = run_python(source)
    assert done.returncode == 0, done.stderr
