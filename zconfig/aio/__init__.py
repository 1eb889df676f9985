"""Connections on asyncio, from the same configuration: the same verbs, awaited.

    from zconfig import aio

    await aio.autoconnect()                     # every alias, concurrently
    await aio.ping("analytics")                 # milliseconds
    app = FastAPI(lifespan=aio.lifespan)        # connects at the start, closes at the end

Each alias has one connection in the process, which threads and event loops share. An event loop has
channels of its own to the same server, which are closed when it ends.
"""

from __future__ import annotations

import zconfig
from zconfig.aio.connection import AsyncConnection
from zconfig.aio.connections import AsyncConnections

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
