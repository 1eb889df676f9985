"""Readiness: whether the connections that this process requires are open.

    app.add_route("/ready", health.asgi)                    # FastAPI, Starlette
    DispatcherMiddleware(app, {"/ready": health.wsgi})      # Flask and other WSGI frameworks
    health.status().is_ready                                # any other program

The response is 200 if every required alias is connected, and 503 otherwise. It is made from the
known status: the request does not contact a server. Required aliases that this process has not used
yet, for example in a newly forked worker, are opened in the background.

Readiness decides whether the process receives requests. Do not use it as a liveness probe: an
outage of a server is no reason to restart the process. A liveness probe should use a route that
needs no server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import zconfig
from zconfig._registry import Connections, registry_of
from zconfig._registry.pool import slot_status
from zconfig._registry.registry import Registry
from zconfig._registry.stats import AliasState
from zconfig._settings.load import has_remote
from zconfig._value import Value, value

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["AliasStatus", "Readiness", "Status", "asgi", "status", "wsgi"]


@value
class AliasStatus(Value):
    """The status of one alias in this process.

    Args:
        state: The state, as in `AliasStats`, or `misconfigured`.
        required: Whether readiness requires the alias.
        last_error: The reason why it is not connected, if known. For operators: it contains no
            secret, but it names the endpoint and the place where that is set.
    """

    state: AliasState | Literal["misconfigured"]
    required: bool
    last_error: str = ""

    @property
    def is_wanting(self) -> bool:
        """Whether it is required, and not connected."""
        return self.required and self.state != "connected"


@value
class Status(Value):
    """The status of every configured alias.

    Args:
        aliases: The status by alias.
    """

    aliases: Mapping[str, AliasStatus]

    @property
    def is_ready(self) -> bool:
        """Whether every required alias is connected, and at least one alias is configured."""
        return bool(self.aliases) and not any(each.is_wanting for each in self.aliases.values())

    def as_dict(self, *, details: bool = False) -> dict[str, Any]:
        """Return the status as a dictionary for JSON.

        Args:
            details: Whether to include the reason why an alias is not connected.

        Examples:
            >>> from zconfig.health import AliasStatus, Status
            >>> Status({"docs": AliasStatus("lost", required=True)}).as_dict()
            {'ready': False, 'aliases': {'docs': {'state': 'lost', 'required': True}}}
        """
        told = {alias: _told(each, details=details) for alias, each in self.aliases.items()}
        return {"ready": self.is_ready, "aliases": told}


def _told(alias: AliasStatus, *, details: bool) -> dict[str, Any]:
    short = {"state": alias.state, "required": alias.required}
    return {**short, "last_error": alias.last_error} if details and alias.last_error else short


class Readiness:
    """The readiness of this process, as a value and as applications to mount.

    Args:
        connections: The connections; `zconfig.connections` by default.
        details: Whether responses include the reason why an alias is not connected. It names
            endpoints, variables and files; do not expose these to every client.

    Attributes:
        asgi: An ASGI application that answers GET and HEAD.
        wsgi: A WSGI application that does the same.

    Examples:
        >>> from zconfig import health
        >>> internal = health.Readiness(details=True)
        >>> app.add_route("/internal/ready", internal.asgi)  # doctest: +SKIP
    """

    def __init__(self, connections: Connections | None = None, *, details: bool = False) -> None:
        self._connections = zconfig.connections if connections is None else connections
        self._details = details
        self._reader: threading.Thread | None = None
        self.asgi = _ASGI(self._answer)
        self.wsgi = _WSGI(self._answer)

    def status(self) -> Status:
        """Return the known status at once, and open required idle aliases in the background.

        Examples:
            >>> from zconfig import health
            >>> health.Readiness().status()
            Status(aliases={})
        """
        registry = registry_of(self._connections)
        registry.read_changes()
        status = _observe(registry)
        wanting = {alias: each.state for alias, each in status.aliases.items() if each.is_wanting}
        # The background retries of a `retrying` alias may belong to the parent of a fork.
        idle = [alias for alias, state in wanting.items() if state in ("idle", "retrying")]
        if idle:
            registry.keep_trying(dict.fromkeys(idle))
        elif not status.aliases and has_remote(registry.known.configuration.options):
            self._have_read(registry)
        return status

    def _have_read(self, registry: Registry) -> None:
        """Read the secret managers in a thread: they may configure the aliases."""
        if self._reader is None or not self._reader.is_alive():
            self._reader = threading.Thread(
                target=registry.publish_config, name="zconfig-readiness", daemon=True
            )
            self._reader.start()

    def _answer(self, method: str) -> _Answer:
        if method not in ("GET", "HEAD"):
            allowed = ("Allow", "GET, HEAD")
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "use GET"}, allowed)
        status = self.status()
        code = HTTPStatus.OK if status.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        answer = _answer(code, status.as_dict(details=self._details))
        return answer if method == "GET" else answer._replace(body=b"")


class _Answer(NamedTuple):
    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


def _answer(status: HTTPStatus, document: Mapping[str, Any], *headers: tuple[str, str]) -> _Answer:
    body = json.dumps(document).encode()
    usual = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    return _Answer(status, [*usual, *headers], body)


class _ASGI:
    # An object: Starlette treats a function or method as a request handler of its own.
    def __init__(self, answer: Callable[[str], _Answer]) -> None:
        self._answer = answer

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        _receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the readiness application accepts HTTP, not {scope['type']}")
        answer = self._answer(scope["method"])
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        start = {"type": "http.response.start", "status": answer.status.value, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})


class _WSGI:
    def __init__(self, answer: Callable[[str], _Answer]) -> None:
        self._answer = answer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        answer = self._answer(environ["REQUEST_METHOD"])
        start_response(f"{answer.status.value} {answer.status.phrase}", answer.headers)
        return [answer.body]


def _observe(registry: Registry) -> Status:
    """Return the known status, without reading the configuration: that may use the network."""
    configuration = registry.known.configuration
    statuses = {
        problem.alias: AliasStatus(
            "misconfigured", problem.alias not in configuration.optional, str(problem)
        )
        for problem in configuration.errors
        if problem.alias is not None
    }
    for alias, spec in registry.known.items():
        state, _, last_error = slot_status(registry.registry_state, alias)
        statuses[alias] = AliasStatus(state, spec.required, last_error)
    return Status(statuses)


_readiness = Readiness()

asgi = _readiness.asgi
status = _readiness.status
wsgi = _readiness.wsgi
