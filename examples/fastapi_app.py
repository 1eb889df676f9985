"""A FastAPI application that connects at startup and closes its connections at shutdown.

    pip install ./zconfig fastapi uvicorn
    ZILLIZ_URI=http://localhost:19530 uvicorn fastapi_app:app

If a required alias cannot connect, the application does not start, and the error names the alias,
the cause and a remedy. `/ready` is for a readiness probe: it reports the known status, and contacts
no server.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import Route

from zconfig import ZConfigError, aio, health

app = FastAPI(lifespan=aio.lifespan)
app.router.routes.append(Route("/ready", health.asgi))


@app.get("/health/{alias}")
async def ask(alias: str) -> dict[str, str | float]:
    """Ping the server of an alias, and return its version and the round trip."""
    connection = await aio.get(alias)
    milliseconds = await connection.ping(timeout=2)
    return {"version": connection.server.version, "milliseconds": round(milliseconds, 1)}


@app.exception_handler(ZConfigError)
async def unavailable(_: Request, error: ZConfigError) -> JSONResponse:
    """Respond with the cause and a remedy; the message contains no secret."""
    return JSONResponse({"error": str(error)}, status_code=503)
