"""A WSGI application whose connections are proved before gunicorn forks its workers.

    pip install ./zconfig gunicorn
    ZILLIZ_URI=http://localhost:19530 gunicorn --preload --workers 4 gunicorn_app:app

It does not start while a required connection cannot be made, and says which, why, and what to do.
A worker opens connections of its own: on first use, or when it is first asked whether it is ready.
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
    """Answer `/ready`, and `/ping/<alias>`."""
    path = environ["PATH_INFO"]
    if path == "/ready":
        return health.wsgi(environ, start_response)
    try:
        status, answer = "200 OK", ping(path.removeprefix("/ping/"))
    except zconfig.ZConfigError as error:  # what is wrong and what to do; no secret is in it
        status, answer = "503 Service Unavailable", {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def ping(alias: str) -> dict[str, object]:
    """Tell how fast the server of an alias answers, and which worker asked."""
    milliseconds = zconfig.connections[alias].ping(timeout=2)
    return {"milliseconds": round(milliseconds, 1), "worker": os.getpid()}
