"""The port of a fake server: it carries bytes to and from gRPC's, and can cut the line.

gRPC's server closes no single connection, and a port that it gives back may be somebody else's by
the time it is wanted again.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

HOST = "127.0.0.1"

_CHUNK = 65536


class Relay:
    """Listens on a port of its own, and keeps it while nobody is let in.

    Attributes:
        port: Where it listens.
        upstream: The port that everything is carried to; to be set before the start.

    Args:
        loop: Where it works; it runs in a thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.upstream = 0
        self._loop = loop
        self._socket = _bound(0)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._callers: dict[int, asyncio.WriteTransport] = {}
        self.port: int = self._socket.getsockname()[1]

    @property
    def is_up(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    def start(self) -> None:
        """Accept connections."""
        self._do(self._start())

    def stop(self) -> None:
        """Break what is open, and refuse connections."""
        self._do(self._stop())

    def cut(self, port: int) -> None:
        """Break one connection.

        Args:
            port: Where its bytes come from, as gRPC's server sees it.
        """
        self._do(self._cut(port))

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop()
        self._socket.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def _stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._socket = _bound(self.port)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _cut(self, port: int) -> None:
        if transport := self._callers.get(port):
            transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            # A stop cancels this; asyncio of Python 3.11 complains of a task that ends by that.
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(HOST, self.upstream)
        port = forth.get_extra_info("sockname")[1]
        self._callers[port] = writer.transport
        try:
            await asyncio.gather(_pump(reader, forth), _pump(back, writer))
        finally:
            del self._callers[port]
            forth.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes one way; HTTP/2 knows no connection that is closed one way only."""
    with suppress(OSError):
        while chunk := await source.read(_CHUNK):
            sink.write(chunk)
            await sink.drain()
    sink.close()


def _bound(port: int) -> socket.socket:
    """Return a socket on a port; while nobody listens on it, connections are refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock


@contextmanager
def relay() -> Iterator[Relay]:
    """Have a port of one's own, that leads to another one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="zconfig-fake-server", daemon=True)
    thread.start()
    try:
        with closing(Relay(loop)) as door:
            yield door
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
