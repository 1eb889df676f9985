"""A WSGI application that connects before gunicorn forks its workers.

    pip install ./zconfig gunicorn
    ZILLIZ_URI=http://localhost:19530 gunicorn --preload --workers 4 gunicorn_app:app

If a required alias cannot connect, gunicorn does not start, and the error names the alias, the
cause and a remedy. Each worker opens connections of its own, on first use or at its first readiness
probe.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import zconfig
from zconfig import health

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

zconfig.autoconnect()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond to `/ready` and `/ping/<alias>`."""
    path = environ["PATH_INFO"]
    if path == "/ready":
        return health.wsgi(environ, start_response)
    try:
        status, answer = "200 OK", ping(path.removeprefix("/ping/"))
    except zconfig.ZConfigError as error:  # a cause and a remedy, no secret
        status, answer = "503 Service Unavailable", {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def ping(alias: str) -> dict[str, object]:
    """Return the round trip to the server of an alias, and the process ID of the worker."""
    milliseconds = zconfig.connections[alias].ping(timeout=2)
    return {"milliseconds": round(milliseconds, 1), "worker": os.getpid()}
