"""Puts a server at a distance: proxies that let everything through late.

    python -m benchmarks.distance 19530 20 3    # to this port, 20 ms each way, by three ports

It prints its ports, and ends when its standard input does. One thread does it all, and little of
it: many connections that are opened at once must not wait for each other here, of all places.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, suppress

from tests.support.faults import CHUNK, LOOPBACK


async def serve(upstream: int, latency_s: float, count: int) -> None:
    """Serve until the standard input ends."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The system accepts a connection at once. This stands for the time that it would take.
        await asyncio.sleep(2 * latency_s)
        back, forth = await asyncio.open_connection(LOOPBACK, upstream)
        # The end cancels this; asyncio of Python 3.11 complains of a task that ends by that.
        with suppress(asyncio.CancelledError):
            await asyncio.gather(pump(reader, forth, latency_s), pump(back, writer, latency_s))

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(await asyncio.start_server(carry, LOOPBACK))
            for _ in range(count)
        ]
        print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, latency_s: float) -> None:
    """Carry bytes one way; each chunk is late by the latency, however many are under way."""
    later = asyncio.get_running_loop().call_later
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            later(latency_s, sink.write, chunk)
    later(latency_s, sink.close)


if __name__ == "__main__":
    port, one_way_ms, how_many = sys.argv[1:]
    asyncio.run(serve(int(port), float(one_way_ms) / 1e3, int(how_many)))
