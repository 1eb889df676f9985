"""A TCP proxy in front of a fake server, which can close single connections and keeps its port.

gRPC's server cannot close a single connection, and another process may take the port of a stopped
server before the restart.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

HOST = "127.0.0.1"

_CHUNK = 65536


class Relay:
    """Forwards connections of its port, which it keeps while it refuses connections.

    Attributes:
        port: The port for clients.
        is_up: Whether it accepts connections.
        upstream: The port of the server; set it before `start`.

    Args:
        loop: An event loop that runs in another thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.upstream = 0
        self.is_up = False
        self._loop = loop
        self._socket = _bound(0)
        self._serving: dict[asyncio.Task[None], socket.socket] = {}
        self._clients: dict[str, tuple[socket.socket, str]] = {}
        self.port: int = self._socket.getsockname()[1]

    def start(self) -> None:
        """Accept connections."""
        if not self.is_up:
            self._socket.listen()
            self._loop.call_soon_threadsafe(self._loop.add_reader, self._socket, self._accept)
            self.is_up = True

    def stop(self) -> None:
        """Close all connections, and refuse new ones."""
        if self.is_up:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self.is_up = False

    def cut(self, peer: str) -> None:
        """Close one connection, identified by the address that gRPC's server has for its peer."""
        self._loop.call_soon_threadsafe(_shut, self._clients[peer][0])

    def client(self, peer: str) -> str:
        """Return the client's address of a connection, identified as in `cut`."""
        return self._clients[peer][1]

    def close(self) -> None:
        """Stop, and free the port."""
        self.stop()
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the client may have closed it already
            client, address = self._socket.accept()
            task = self._loop.create_task(self._serve(client, _name(address)))
            self._serving[task] = client
            task.add_done_callback(self._serving.pop)

    async def _stop(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = _bound(self.port)
        for client in self._serving.values():
            _shut(client)
        await asyncio.gather(*self._serving)

    async def _serve(self, client: socket.socket, name: str) -> None:
        with suppress(OSError), client, socket.socket() as upstream:
            for each in (client, upstream):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(upstream, (HOST, self.upstream))
            self._clients[_name(upstream.getsockname())] = client, name
            await asyncio.gather(self._pump(client, upstream), self._pump(upstream, client))

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Forward bytes in one direction; at the end close both, since HTTP/2 has no half-close."""
        with suppress(OSError):
            while chunk := await self._loop.sock_recv(source, _CHUNK):
                await self._loop.sock_sendall(sink, chunk)
        _shut(source)
        _shut(sink)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _name(address: tuple[str, int]) -> str:
    host, port = address
    return f"ipv4:{host}:{port}"


def _bound(port: int) -> socket.socket:
    """Return a socket bound to a port; connections are refused until it listens."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock


@contextmanager
def relay() -> Iterator[Relay]:
    """Run a `Relay` in a thread during a `with` block."""
    loop = asyncio.SelectorEventLoop()  # the default loop on Windows has no `add_reader`
    thread = threading.Thread(target=loop.run_forever, name="zconfig-fake-server", daemon=True)
    thread.start()
    try:
        with closing(Relay(loop)) as proxy:
            yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
