"""The Milvus calls of zconfig itself: Connect, GetVersion, CheckHealth, ListDatabases.

Each exchange is a generator that yields requests and receives their responses, so that blocking
and asyncio channels share it: `run_exchange` and `run_exchange_async` make its calls.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import field, replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, TypeVar

import grpc

from zconfig._channel import messages
from zconfig._channel.messages import (
    ClientInfo,
    ConnectReply,
    ConnectRequest,
    DatabasesReply,
    HealthReply,
    ResponseStatus,
    VersionReply,
    WireError,
)
from zconfig._endpoint import TransportType
from zconfig._redaction import Masker, evidence
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig._spec import ConnectionSpec
from zconfig._value import Value, value
from zconfig._version import __version__

DATABASE_NOT_FOUND = 800
"""Milvus' code for a missing database: `ErrDatabaseNotFound` of its package `merr`."""


_LONGEST_ANSWER = 64 * 1024


class StatusError(Exception):
    """A response of the server reports a failure.

    Args:
        status: The status in the response.
    """

    def __init__(self, status: ResponseStatus) -> None:
        self.status = status
        super().__init__(status.code or status.error_code)


class _Reply(Protocol):
    @property
    def status(self) -> ResponseStatus: ...


class Request(NamedTuple):
    """A unary call to make.

    Args:
        method: The full method name.
        message: The encoded request.
    """

    method: str
    message: bytes = messages.EMPTY_REQUEST


T = TypeVar("T")
R = TypeVar("R", bound=_Reply)
Exchange = Generator[Request, bytes, T]
"""A generator that yields requests, receives responses or `grpc.RpcError`, and returns a result."""


@value
class Server(Value):
    """A server's description of itself.

    Args:
        version: The server release, e.g. `v2.3.5`, or `milvus_lite-3.2.2`.
        identifier: The number of the session; `None` if the server does not have sessions.
        deploy_mode: The deployment, e.g. `STANDALONE`; empty if unknown.
        reply: The encoded response to Connect; empty if the server does not implement Connect,
            or if the response contains the credentials.
    """

    version: str
    identifier: int | None = None
    deploy_mode: str = ""
    reply: bytes = field(default=b"", repr=False, compare=False)


@value
class Health(Value):
    """The health of a server.

    Args:
        healthy: Whether the server reports all of its components as healthy.
        reasons: The reasons of an unhealthy server.
    """

    healthy: bool
    reasons: tuple[str, ...] = ()


def run_exchange(
    ask: Callable[[str, bytes, float], bytes], exchange: Exchange[T], timeout_s: float
) -> T:
    """Make the calls of an exchange, and return its result.

    Args:
        ask: Makes one call; its arguments are the method, the request and a timeout in seconds.
        exchange: The exchange.
        timeout_s: Seconds for the whole exchange.

    Raises:
        grpc.RpcError: A call failed.
        StatusError: The server reported a failure.
        WireError: A response is not a Milvus message.
    """
    deadline = time.monotonic() + timeout_s
    try:
        request = next(exchange)
        while True:
            try:
                response = ask(*request, max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                request = exchange.throw(error)
            else:
                request = exchange.send(_bounded(response))
    except StopIteration as end:
        result: T = end.value
        return result


async def run_exchange_async(
    ask: Callable[[str, bytes, float], Awaitable[bytes]], exchange: Exchange[T], timeout_s: float
) -> T:
    """Make the calls of an exchange as `run_exchange` does, on an event loop."""
    deadline = time.monotonic() + timeout_s
    try:
        request = next(exchange)
        while True:
            try:
                response = await ask(*request, max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                request = exchange.throw(error)
            else:
                request = exchange.send(_bounded(response))
    except StopIteration as end:
        result: T = end.value
        return result


def _bounded(response: bytes) -> bytes:
    """Check the length of a response: decoding a long one would block all threads."""
    if len(response) <= _LONGEST_ANSWER:
        return response
    seen = f"{len(response)} bytes, more than the limit of {_LONGEST_ANSWER}"
    raise WireError(f"the response has {seen}")


def handshake(spec: ConnectionSpec) -> Exchange[Server]:
    """Connect: the server verifies the credentials and the database.

    Args:
        spec: The connection's specification; the caller sends its metadata with each call.
    """
    server = yield from _connect(spec)
    if server and spec.endpoint.transport is not TransportType.LITE:
        return server
    # Servers without Connect, and Milvus Lite, whose Connect accepts any database.
    found = evidence((yield from get_version()), spec.secrets)
    if spec.db_name != DEFAULT_DATABASE:
        yield from _find_database(spec.db_name)
    return replace(server or Server(""), version=found)


def get_version() -> Exchange[str]:
    """Return the server release, as the server reports it."""
    reply = yield from _ask(Request(messages.GET_VERSION), VersionReply.decode)
    return reply.version


def check_health(spec: ConnectionSpec) -> Exchange[Health]:
    """Return the health that the server reports."""
    reply = yield from _ask(Request(messages.CHECK_HEALTH), HealthReply.decode)
    return Health(reply.is_healthy, tuple(evidence(each, spec.secrets) for each in reply.reasons))


def list_databases() -> Exchange[tuple[str, ...]]:
    """Return the databases that the user may see."""
    reply = yield from _ask(Request(messages.LIST_DATABASES), DatabasesReply.decode)
    return reply.names


def _connect(spec: ConnectionSpec) -> Exchange[Server | None]:
    """Return the response to Connect; `None` if the server does not implement it."""
    try:
        encoded = yield Request(messages.CONNECT, ConnectRequest(_client_info(spec)).encode())
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise
    reply = _checked(ConnectReply.decode(encoded))
    said = encoded.decode("utf-8", "surrogateescape")
    repeated = spec.secrets if Masker(lambda: spec.secrets).mask(said) != said else ()
    version, mode = (
        evidence(each, repeated)
        for each in (reply.server_info.build_tags, reply.server_info.deploy_mode)
    )
    return Server(version, reply.identifier or None, mode, b"" if repeated else encoded)


def _client_info(spec: ConnectionSpec) -> ClientInfo:
    """Return the description of this client, which the server lists."""
    return ClientInfo(
        sdk_type="Python",
        sdk_version=f"zconfig-{__version__}",
        local_time=str(datetime.now(UTC)),
        user=(spec.credentials.user if spec.credentials else None) or "",
        host=socket.gethostname(),
    )


def _find_database(name: str) -> Exchange[None]:
    """Raise the error that a server with Connect reports for a missing database."""
    if name not in (yield from _databases()):
        raise StatusError(ResponseStatus(code=DATABASE_NOT_FOUND, reason="it is not listed"))


def _databases() -> Exchange[tuple[str, ...]]:
    """Return the server's databases; old servers have only the default one."""
    try:
        return (yield from list_databases())
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return (DEFAULT_DATABASE,)
        raise


def _ask(request: Request, decode: Callable[[bytes], R]) -> Exchange[R]:
    return _checked(decode((yield request)))


def _checked(reply: R) -> R:
    if not reply.status.ok:
        raise StatusError(reply.status)
    return reply
