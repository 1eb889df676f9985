"""A FastAPI application whose connections open when it starts, and close when it ends.

    pip install ./zconfig fastapi uvicorn
    ZILLIZ_URI=http://localhost:19530 uvicorn fastapi_app:app

It does not start while a required connection cannot be made, and says which, why, and what to do.
`/ready` is for a readiness probe: it dials nobody, and tells what is known already.
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
    """Tell whether the server of an alias answers, and how fast."""
    connection = await aio.get(alias)
    milliseconds = await connection.ping(timeout=2)
    return {"version": connection.server.version, "milliseconds": round(milliseconds, 1)}


@app.exception_handler(ZConfigError)
async def unavailable(_: Request, error: ZConfigError) -> JSONResponse:
    """Answer with what is wrong and what to do; no secret is in it."""
    return JSONResponse({"error": str(error)}, status_code=503)
