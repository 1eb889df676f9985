"""Nothing is leaked: threads, file descriptors, channels."""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support import faults
from tests.support.fake_milvus import PATIENCE_S, fake_milvus
from tests.support.registries import registry
from zconfig.connection import CORES
from zconfig.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates
    from zconfig.registry import Connections

CYCLES = 200
WARM_UP = 20


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
        "borrowed": sum(borrowers for _, borrowers in CORES._cores.values()),
    }


@contextmanager
def nothing_leaks() -> Iterator[None]:
    """Compare what is held afterwards with what is held now; gRPC lets go a little later."""
    before = held()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while leaked := {what: count for what, count in held().items() if count > before[what]}:
        assert time.monotonic() < deadline, f"{before} became {leaked}"
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
    with fake_milvus() as server:
        server.databases = ()
        with registry(ZILLIZ_PROD_URI=server.uri) as connections:
            repeat(lambda: fail(connections))


def test_connects_that_fail_in_tls_leave_nothing(certificates: Certificates) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_milvus(credentials=grpc.ssl_server_credentials([pair])) as server:
        uri = f"https://localhost:{server.port}"
        trust = {"ZILLIZ_PROD_TLS_CA": str(certificates.other_ca)}
        with registry(ZILLIZ_PROD_URI=uri, **trust) as connections:
            repeat(lambda: fail(connections))


@pytest.mark.parametrize("pool_size", ["1", "3"])
def test_connecting_and_closing_leaves_nothing(pool_size: str) -> None:
    with (
        fake_milvus() as server,
        registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_POOL_SIZE=pool_size) as connections,
    ):

        def connect_and_close() -> None:
            connections["prod"].ping()
            connections.disconnect("prod")

        repeat(connect_and_close)


def test_autoconnecting_and_closing_leaves_nothing() -> None:
    with fake_milvus() as server:
        environ = {f"ZILLIZ_S{n}_URI": server.uri for n in range(3)}
        with registry(**environ) as connections:

            def connect_and_close() -> None:
                connections.autoconnect()
                connections.close()

            repeat(connect_and_close)


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
    with fake_milvus() as server, registry(ZILLIZ_PROD_URI=server.uri) as connections:
        connections["prod"].ping()
        connections.close()
        reference = weakref.ref(connections)
    del connections
    gc.collect()
    assert reference() is None
