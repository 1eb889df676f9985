"""What zconfig says to a server itself: Connect, GetVersion, CheckHealth, ListDatabases.

Each exchange is a generator that yields calls and is sent their responses, so that the same one
serves blocking and asyncio channels: `run_exchange` and `run_exchange_async` make its calls.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
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
from zconfig._version import __version__

DATABASE_NOT_FOUND = 800
"""Milvus' code of a database that is missing: `ErrDatabaseNotFound` of its package `merr`."""


_LONGEST_ANSWER = 64 * 1024


class StatusError(Exception):
    """A call was delivered, and the server's reply says that it failed.

    Args:
        status: What the server said.
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
        method: Its full name.
        message: The encoded request.
    """

    method: str
    message: bytes = messages.EMPTY_REQUEST


T = TypeVar("T")
R = TypeVar("R", bound=_Reply)
Exchange = Generator[Request, bytes, T]
"""Yields calls, is sent their responses or thrown their `grpc.RpcError`, and returns a result."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server said of itself.

    Args:
        version: Its release, e.g. `v2.3.5`, or `milvus_lite-3.2.2`.
        identifier: The session's number; `None` from servers that have none.
        deploy_mode: E.g. `STANDALONE`; empty where it does not say.
        reply: Its whole answer to Connect, encoded; empty from servers that do not know it, or
            that repeat the credentials in it.
    """

    version: str
    identifier: int | None = None
    deploy_mode: str = ""
    reply: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all parts of a server are well.

    Args:
        healthy: Whether the server calls itself healthy.
        reasons: Why not.
    """

    healthy: bool
    reasons: tuple[str, ...] = ()


def run_exchange(
    ask: Callable[[str, bytes, float], bytes], exchange: Exchange[T], timeout_s: float
) -> T:
    """Make the calls of an exchange, and return its result.

    Args:
        ask: Makes one call, of a method, with a message, within seconds.
        exchange: What to ask.
        timeout_s: Seconds for all of it.

    Raises:
        grpc.RpcError: A call failed.
        StatusError: The server refused.
        WireError: The answer is not Milvus'.
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
    """Return an answer that is short enough to be read: reading a long one blocks all threads."""
    if len(response) <= _LONGEST_ANSWER:
        return response
    seen = f"{len(response)} bytes, more than the {_LONGEST_ANSWER} that it may have"
    raise WireError(f"the answer has {seen}")


def handshake(spec: ConnectionSpec) -> Exchange[Server]:
    """Introduce ourselves: the server proves our credentials and our database.

    Args:
        spec: The connection's specification; its metadata comes along with each call.
    """
    server = yield from _connect(spec)
    if server and spec.endpoint.transport is not TransportType.LITE:
        return server
    # A server that does not know Connect, and Milvus Lite, which takes any database in it.
    found = evidence((yield from get_version()), spec.secrets)
    if spec.db_name != DEFAULT_DATABASE:
        yield from _find_database(spec.db_name)
    return replace(server or Server(""), version=found)


def get_version() -> Exchange[str]:
    """Ask for the server's release, in its own words."""
    reply = yield from _ask(Request(messages.GET_VERSION), VersionReply.decode)
    return reply.version


def check_health(spec: ConnectionSpec) -> Exchange[Health]:
    """Ask whether the server calls itself healthy."""
    reply = yield from _ask(Request(messages.CHECK_HEALTH), HealthReply.decode)
    return Health(reply.is_healthy, tuple(evidence(each, spec.secrets) for each in reply.reasons))


def list_databases() -> Exchange[tuple[str, ...]]:
    """Ask for the databases that this user may see."""
    reply = yield from _ask(Request(messages.LIST_DATABASES), DatabasesReply.decode)
    return reply.names


def _connect(spec: ConnectionSpec) -> Exchange[Server | None]:
    """Return the answer to Connect, or `None` from a server that does not know the call."""
    try:
        encoded = yield Request(messages.CONNECT, ConnectRequest(_client_info(spec)).encode())
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise
    reply = _checked(ConnectReply.decode(encoded))
    version, mode = (
        evidence(each, spec.secrets)
        for each in (reply.server_info.build_tags, reply.server_info.deploy_mode)
    )
    said = encoded.decode("latin-1")
    repeats = Masker(lambda: spec.secrets).mask(said) != said
    return Server(version, reply.identifier or None, mode, b"" if repeats else encoded)


def _client_info(spec: ConnectionSpec) -> ClientInfo:
    """Return who we are, which a server lists among its clients."""
    return ClientInfo(
        sdk_type="Python",
        sdk_version=f"zconfig-{__version__}",
        local_time=str(datetime.now(UTC)),
        user=(spec.credentials.user if spec.credentials else None) or "",
        host=socket.gethostname(),
    )


def _find_database(name: str) -> Exchange[None]:
    """Fail as a server does that looks for the database itself."""
    if name not in (yield from _databases()):
        raise StatusError(ResponseStatus(code=DATABASE_NOT_FOUND, reason="it is not listed"))


def _databases() -> Exchange[tuple[str, ...]]:
    """Return the databases of a server; those too old to know Connect know but one."""
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
