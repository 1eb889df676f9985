"""The application in the examples of containers.

`/live` is for what restarts it, `/ready` for what sends it requests.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import Route

from zconfig import aio, health

app = FastAPI(lifespan=aio.lifespan, routes=[Route("/ready", health.asgi)])


@app.get("/live")
async def live() -> dict[str, bool]:
    """Tell that the process answers; whether its database does is another question."""
    return {"live": True}


@app.get("/")
async def server() -> dict[str, str]:
    """Tell what the database calls itself."""
    connection = await aio.get()
    return {"version": connection.server.version}
