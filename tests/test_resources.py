"""Nothing is leaked: threads, file descriptors, channels, memory."""

from __future__ import annotations

import contextlib
import gc
import itertools
import socket
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support import PATIENCE_S, faults
from tests.support.processes import run_python
from tests.support.registries import registry
from zconfig._connection import CHANNELS
from zconfig._registry import Connections
from zconfig._registry.background import _BETWEEN_ROUNDS_S as BETWEEN_ROUNDS_S
from zconfig._settings.load import load
from zconfig.errors import ConnectError
from zconfig.testing import fake_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates

CYCLES = 50
WARM_UP = 20

# Prints by how many kilobytes the most that was ever in memory grew in each half of many cycles.
# Allocators and caches settle in the first half, by some 500 KB, with TLS by 1,500 KB; the second
# one should add little. Its bound is wide, and yet one leaked channel a cycle is beyond it.
MEASURE = r"""
import os
import re
import resource
import sys
from pathlib import Path
from zconfig import connections
from zconfig.errors import ConnectError

HALF = int(os.environ["HALF"])

def memory_kb():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    # On Linux that begins with the most that the parent had.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

def connect_and_close():
    connections.default.ping()
    connections.close()

def fail():
    try:
        connections.default
    except ConnectError:
        return
    raise AssertionError("it has connected")

def grow(do):
    before = memory_kb()
    for _ in range(HALF):
        do()
    return memory_kb() - before

do = {"close": connect_and_close, "fail": fail}[os.environ["DO"]]
for _ in range(50):
    do()
print(grow(do), grow(do))
"""
HALF = 200
LARGEST_GROWTH_KB = 4 * HALF


def held() -> dict[str, int]:
    """Count what this process holds."""
    gc.collect()
    channels = [each for each in gc.get_objects() if isinstance(each, grpc.Channel)]
    # The workers of the server in this process come as they are needed; all others are clients'.
    threads = [t for t in threading.enumerate() if not t.name.startswith("ThreadPoolExecutor")]
    return {
        "threads": len(threads),
        "descriptors": len(list(Path("/dev/fd").iterdir())),
        "channels": len(channels),
        "objects": sum(is_of_a_connection(each) for each in gc.get_objects()),
        "borrowed": sum(borrowers for _, borrowers in CHANNELS._channel_pool.values()),
    }


def is_of_a_connection(each: object) -> bool:
    return str(type(each).__module__).startswith(("zconfig._connection", "zconfig._channel"))


@contextmanager
def nothing_leaks() -> Iterator[None]:
    """Compare what is held afterwards with what is held now; gRPC lets go a little later."""
    before = held()
    yield
    deadline = time.monotonic() + PATIENCE_S
    # A thread of gRPC's own may come late; what leaves one each time leaves many.
    allowed = {**before, "threads": before["threads"] + 1}
    while leaked := {what: count for what, count in held().items() if count > allowed[what]}:
        names = [thread.name for thread in threading.enumerate()]
        assert time.monotonic() < deadline, f"{before} became {leaked} with {names}"
        time.sleep(0.05)


def repeat(do: Callable[[], None]) -> None:
    """Do something often, and see that it leaves nothing; gRPC's own threads are there then."""
    for _ in range(WARM_UP):
        do()
    with nothing_leaks():
        for _ in range(CYCLES):
            do()


def fail(connections: Connections) -> None:
    with pytest.raises(ConnectError):
        connections.connect("prod")


def test_refused_connects_leave_nothing() -> None:
    with (
        faults.refused() as port,
        registry(ZILLIZ_PROD_URI=f"http://127.0.0.1:{port}") as connections,
    ):
        repeat(lambda: fail(connections))


@pytest.mark.parametrize("handler", [faults.hang_up, faults.http1])
def test_connects_to_something_else_leave_nothing(handler: faults.Handler) -> None:
    with (
        faults.listening(handler) as port,
        registry(ZILLIZ_PROD_URI=f"http://127.0.0.1:{port}") as connections,
    ):
        repeat(lambda: fail(connections))


def test_rejected_connects_leave_nothing() -> None:
    with fake_server() as server:
        server.databases = ()
        with registry(ZILLIZ_PROD_URI=server.uri) as connections:
            repeat(lambda: fail(connections))


def test_connects_that_fail_in_tls_leave_nothing(certificates: Certificates) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        trust = {"ZILLIZ_PROD_TLS_CA": str(certificates.other_ca)}
        with registry(ZILLIZ_PROD_URI=server.uri, **trust) as connections:
            repeat(lambda: fail(connections))


@pytest.mark.parametrize("pool_size", ["1", "3"])
def test_connecting_and_closing_leaves_nothing(pool_size: str) -> None:
    with (
        fake_server() as server,
        registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_POOL_SIZE=pool_size) as connections,
    ):

        def connect_and_close() -> None:
            connections["prod"].ping()
            connections.disconnect("prod")

        repeat(connect_and_close)


def test_autoconnecting_and_closing_leaves_nothing() -> None:
    with fake_server() as server:
        environ = {f"ZILLIZ_S{n}_URI": server.uri for n in range(3)}
        with registry(**environ) as connections:

            def connect_and_close() -> None:
                connections.autoconnect()
                connections.close()

            repeat(connect_and_close)


def test_rotating_leaves_nothing() -> None:
    with fake_server() as server:
        environ = {"ZILLIZ_PROD_URI": server.uri, "ZILLIZ_PROD_TOKEN": "user:first"}
        connections = Connections(
            lambda: load(environ, Path.cwd(), system_secrets=str(Path.cwd() / "none"))
        )
        numbers = itertools.count()

        def rotate() -> None:
            environ["ZILLIZ_PROD_TOKEN"] = f"user:secret{next(numbers)}"
            assert connections.reload().changed == {"prod": ("credentials",)}
            connections["prod"].ping()

        with contextlib.closing(connections):
            connections["prod"].ping()
            repeat(rotate)
        assert len(server.peers()) == 1
        assert len({call.token for call in server.calls("GetVersion")}) > CYCLES


@pytest.mark.parametrize("secure", [False, True])
def test_connecting_and_closing_takes_no_more_and_more_memory(
    certificates: Certificates, secure: bool
) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    credentials = grpc.ssl_server_credentials([pair]) if secure else None
    with fake_server(credentials=credentials) as server:
        environ = {"ZILLIZ_URI": server.uri}
        if secure:
            environ["ZILLIZ_TLS_CA"] = str(certificates.ca)
        assert growth_kb("close", environ) < LARGEST_GROWTH_KB


def test_failed_connects_take_no_more_and_more_memory() -> None:
    with faults.refused() as port:
        assert growth_kb("fail", {"ZILLIZ_URI": f"http://127.0.0.1:{port}"}) < LARGEST_GROWTH_KB


def growth_kb(do: str, environ: dict[str, str]) -> int:
    """Return by how much the memory grew in the second half of many cycles."""
    done = run_python(MEASURE, environ={**environ, "DO": do, "HALF": str(HALF)})
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[1])


def test_the_keepers_thread_ends_with_the_last_connection() -> None:
    with (
        fake_server() as server,
        registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections,
    ):
        connections.autoconnect()
        keeper = connections._registry._worker._thread
        assert keeper
        connections.disconnect("a")
        keeper.join(3 * BETWEEN_ROUNDS_S)
        assert keeper.is_alive()
        connections.disconnect("b")
        keeper.join(PATIENCE_S)
        assert not keeper.is_alive()
        assert connections["a"].ping() > 0
        assert connections._registry._worker._thread not in (None, keeper)


def test_the_embedded_server_is_let_go(lite_uri: str) -> None:
    with registry(ZILLIZ_URI=lite_uri) as connections:

        def connect_and_close() -> None:
            connections.default.ping()
            connections.close()

        for _ in range(3):
            connect_and_close()
        with nothing_leaks():
            for _ in range(5):
                connect_and_close()
        host, _, port = connections.default.target.rpartition(":")
        connections.close()
        deadline = time.monotonic() + PATIENCE_S
        while listens(host, int(port)):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def listens(host: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) == 0


def test_a_registry_that_is_dropped_is_collected() -> None:
    with fake_server() as server, registry(ZILLIZ_PROD_URI=server.uri) as connections:
        connections["prod"].ping()
        connections.close()
        reference = weakref.ref(connections)
    del connections
    gc.collect()
    assert reference() is None
