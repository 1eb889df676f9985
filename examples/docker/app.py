"""The application of the container examples.

`/live` is for a liveness probe, `/ready` for a readiness probe.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import Route

from zconfig import aio, health

app = FastAPI(lifespan=aio.lifespan, routes=[Route("/ready", health.asgi)])


@app.get("/live")
async def live() -> dict[str, bool]:
    """Report that the process responds; this does not depend on a server."""
    return {"live": True}


@app.get("/")
async def server() -> dict[str, str]:
    """Return the version that the server reports."""
    connection = await aio.get()
    return {"version": connection.server.version}
