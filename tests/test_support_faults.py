"""The servers that fail on purpose fail as they are told, whatever their client does."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support import faults
from tests.support.certificates import Certificates
from tests.support.topology import routing_proxy, telling, topology_server


@pytest.mark.parametrize("said", [b"", b"CONN"])
@pytest.mark.parametrize(
    "handle",
    [faults.connect_proxy, faults.tunnel_to(1), faults.gateway(200)],
    ids=["connect_proxy", "tunnel_to", "gateway"],
)
def test_a_client_may_go_before_it_has_asked(handle: faults.Handler, said: bytes) -> None:
    with faults.listening(handle) as port:
        say(port, said)


@pytest.mark.parametrize("said", [b"", b"CONN"])
def test_a_client_of_the_proxy_to_names_may_go_before_it_has_asked(said: bytes) -> None:
    with routing_proxy({}) as url:
        say(int(url.rpartition(":")[2]), said)


@pytest.mark.parametrize("said", [b"", b"CONN"])
def test_a_client_of_the_topology_may_go_before_it_has_asked(
    certificates: Certificates, said: bytes
) -> None:
    with topology_server(certificates, telling({})) as server:
        say(server.port, said)
    assert server.requests == []


@pytest.mark.parametrize(
    ("handle", "said"),
    [(faults.hang_up, b"CONN"), (faults.hang_up_later, (faults.CHUNK + 1) * b"x")],
)
def test_to_close_in_good_order_is_no_reset_whatever_the_client_says(
    handle: faults.Handler, said: bytes
) -> None:
    with faults.bound() as sock, socket.socket() as client:
        sock.listen()
        client.settimeout(20)
        client.connect(sock.getsockname())
        client.sendall(said)  # before the handler begins
        with contextlib.closing(faults.Listener(handle, sock)):
            assert client.recv(1) == b""
            client.close()


def say(port: int, said: bytes) -> None:
    """Send some bytes, close, and wait until the server has closed too, which may be a reset.

    pytest fails a test with an exception in another thread.
    """
    with (
        socket.create_connection((faults.LOOPBACK, port), timeout=20) as conn,
        contextlib.suppress(OSError),
    ):
        conn.sendall(said)
        conn.shutdown(socket.SHUT_WR)
        faults.swallow(conn)
