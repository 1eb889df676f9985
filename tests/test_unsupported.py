"""Where gRPC would hang: gevent that it was not told of, and sub-interpreters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.processes import run_python
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

PATCH = """
import gevent.monkey
gevent.monkey.patch_all({what})
"""

TELL = """
import grpc.experimental.gevent
grpc.experimental.gevent.init_gevent()
"""

USE = """
import gevent
from zconfig import connections
from zconfig.errors import ConfigurationError, ServerSilentError
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


def run(*parts: str, **environ: str) -> str:
    # gevent itself warns where a module that it replaces was imported before.
    done = run_python("".join(parts), environ=environ, warnings="ignore")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("what", ["", "thread=False", "socket=False"])
def test_a_connect_is_refused_before_it_dials_where_grpc_was_not_told(
    server: FakeServer, what: str
) -> None:
    connect = """
try:
    connections["default"]
except ConfigurationError as error:
    print(error.problems[0].code, error)
"""
    said = run(PATCH.format(what=what), USE, connect, ZILLIZ_URI=server.uri)
    assert said.startswith("gevent_without_grpc ")
    assert "call grpc.experimental.gevent.init_gevent() after gevent.monkey.patch_all()" in said
    assert server.calls() == []


def test_gevent_that_has_replaced_nothing_is_no_reason_to_refuse(server: FakeServer) -> None:
    run(USE, "connections.default.ping()", ZILLIZ_URI=server.uri)
    assert len(server.calls("GetVersion")) == 1


def test_everything_works_where_grpc_was_told(server: FakeServer) -> None:
    everything = """
connection = connections.default
stub = connection.channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
calls = [connection.ping, lambda: stub(b"", timeout=10)]
calls.append(lambda: stub.future(b"", timeout=10).result())
greenlets = [gevent.spawn(call) for call in calls * 5]
gevent.joinall(greenlets, timeout=20, raise_error=True)
assert all(greenlet.value for greenlet in greenlets)
connections.close()
assert connections.autoconnect()["default"].ping() > 0
"""
    run(PATCH.format(what=""), TELL, USE, everything, ZILLIZ_URI=server.uri)
    assert len(server.calls("GetVersion")) == 16
    assert len(server.calls("Connect")) == 2


def test_a_call_that_waits_does_not_stop_the_other_greenlets(server: FakeServer) -> None:
    server.hold()
    wait = """
ticks = []

def tick():
    while True:
        ticks.append(True)
        gevent.sleep(0.01)

gevent.spawn(tick)
try:
    connections.connect(timeout=1.0)
except ServerSilentError:
    print(len(ticks))
"""
    said = run(PATCH.format(what=""), TELL, USE, wait, ZILLIZ_URI=server.uri)
    assert int(said) > 10


# --- sub-interpreters ------------------------------------------------------------------------

IN_A_SUB_INTERPRETER = """
try:
    import _interpreters as interpreters
    sub, run = interpreters.create("legacy"), interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    sub, run = interpreters.create(isolated=False), interpreters.run_string
run(sub, '''
import asyncio
import zconfig
from zconfig import aio
from zconfig.errors import ConfigurationError

for connect in (
    lambda: zconfig.connections["a"],
    zconfig.autoconnect,
    lambda: asyncio.run(aio.ping("a")),
    lambda: asyncio.run(aio.autoconnect()),
):
    try:
        connect()
    except ConfigurationError as error:
        print(error.problems[0].code, error, flush=True)
''')
"""


def test_a_sub_interpreter_is_refused_and_does_not_hang(server: FakeServer) -> None:
    said = run(IN_A_SUB_INTERPRETER, ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri).splitlines()
    assert len(said) == 4
    assert all(each.startswith("sub_interpreter ") for each in said)
    assert all(each.endswith("under mod_wsgi, set WSGIApplicationGroup %{GLOBAL}") for each in said)
    assert server.calls() == []
