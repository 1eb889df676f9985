"""Connections for asyncio, from the same configuration and with the same functions, awaited.

    from zconfig import aio

    await aio.autoconnect()                     # every alias, concurrently
    await aio.ping("analytics")                 # milliseconds
    app = FastAPI(lifespan=aio.lifespan)        # connects at startup, closes at shutdown

Each alias has one connection per process, which threads and event loops share. Each event loop has
its own channels to the server, which are closed when the loop ends.
"""

from __future__ import annotations

import zconfig
from zconfig.aio.async_connections import AsyncConnections
from zconfig.aio.connection import AsyncConnection

__all__ = [
    "AsyncConnection",
    "AsyncConnections",
    "autoconnect",
    "close",
    "connect",
    "disconnect",
    "get",
    "keep_trying",
    "lifespan",
    "ping",
]

_connections = AsyncConnections(zconfig.connections)

autoconnect = _connections.autoconnect
connect = _connections.connect
get = _connections.get
ping = _connections.ping
keep_trying = _connections.keep_trying
disconnect = _connections.disconnect
close = _connections.close
lifespan = _connections.lifespan
