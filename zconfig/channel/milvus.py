"""The four calls that zconfig makes itself: Connect, GetVersion, CheckHealth, ListDatabases."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import grpc

from zconfig._version import __version__
from zconfig.channel import messages
from zconfig.channel.messages import (
    ConnectReply,
    ConnectRequest,
    DatabasesReply,
    HealthReply,
    Status,
    VersionReply,
)
from zconfig.endpoint import Transport
from zconfig.spec import DEFAULT_DATABASE, ConnectionSpec

DATABASE_NOT_FOUND = 800
"""Milvus' code of a database that is missing: `ErrDatabaseNotFound` of its package `merr`."""


class StatusError(Exception):
    """A call was delivered, and the server's reply says that it failed.

    Args:
        status: What the server said.
    """

    def __init__(self, status: Status) -> None:
        self.status = status
        super().__init__(status.code or status.error_code)


class _Reply(Protocol):
    @property
    def status(self) -> Status: ...


R = TypeVar("R", bound=_Reply)


@dataclass(frozen=True, slots=True)
class Server:
    """What a server said of itself.

    Args:
        version: Its release, e.g. `v2.3.5`, or `milvus_lite-3.2.2`.
        identifier: The session's number; `None` from servers that have none.
        deploy_mode: E.g. `STANDALONE`; empty where it does not say.
    """

    version: str
    identifier: int | None = None
    deploy_mode: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all parts of a server are well.

    Args:
        healthy: Whether the server calls itself healthy.
        reasons: Why not.
    """

    healthy: bool
    reasons: tuple[str, ...] = ()


def greet(channel: grpc.Channel, spec: ConnectionSpec, timeout_s: float) -> Server:
    """Introduce ourselves: the server proves our credentials and our database.

    Args:
        channel: Carries the credentials and the database's name.
        spec: The connection's specification.
        timeout_s: Seconds for all of it.

    Raises:
        grpc.RpcError: A call failed.
        StatusError: The server refused.
        WireError: The answer is not Milvus'.
    """
    deadline = time.monotonic() + timeout_s
    server = _connect(channel, spec, timeout_s)
    if server and spec.endpoint.transport is not Transport.LITE:
        return server
    # A server that does not know Connect, and Milvus Lite, which takes any database in it.
    found = get_version(channel, deadline - time.monotonic())
    if spec.db_name != DEFAULT_DATABASE:
        _find_database(channel, spec.db_name, deadline - time.monotonic())
    return replace(server or Server(""), version=found)


def get_version(channel: grpc.Channel, timeout_s: float) -> str:
    """Return the server's release; raises what `greet` does."""
    return _ask(channel, messages.GET_VERSION, VersionReply.decode, timeout_s).version


def check_health(channel: grpc.Channel, timeout_s: float) -> Health:
    """Return whether the server calls itself healthy; raises what `greet` does."""
    reply = _ask(channel, messages.CHECK_HEALTH, HealthReply.decode, timeout_s)
    return Health(reply.is_healthy, reply.reasons)


def list_databases(channel: grpc.Channel, timeout_s: float) -> tuple[str, ...]:
    """Return the databases that this user may see; raises what `greet` does."""
    return _ask(channel, messages.LIST_DATABASES, DatabasesReply.decode, timeout_s).names


def _connect(channel: grpc.Channel, spec: ConnectionSpec, timeout_s: float) -> Server | None:
    """Return the answer to Connect, or `None` from a server that does not know the call."""
    request = _introduction(spec).encode()
    try:
        reply = _ask(channel, messages.CONNECT, ConnectReply.decode, timeout_s, request)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise
    return Server(reply.server.build_tags, reply.identifier or None, reply.server.deploy_mode)


def _introduction(spec: ConnectionSpec) -> ConnectRequest:
    """Return who we are, which a server lists among its clients."""
    return ConnectRequest(
        sdk_type="Python",
        sdk_version=f"zconfig-{__version__}",
        local_time=str(datetime.now(UTC)),
        user=(spec.credentials.user if spec.credentials else None) or "",
        host=socket.gethostname(),
    )


def _find_database(channel: grpc.Channel, name: str, timeout_s: float) -> None:
    """Fail as a server does that looks for the database itself."""
    if name not in _databases(channel, timeout_s):
        raise StatusError(Status(code=DATABASE_NOT_FOUND, reason="it is not listed"))


def _databases(channel: grpc.Channel, timeout_s: float) -> tuple[str, ...]:
    """Return the databases of a server; those too old to know Connect know but one."""
    try:
        return list_databases(channel, timeout_s)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return (DEFAULT_DATABASE,)
        raise


def _ask(
    channel: grpc.Channel,
    method: str,
    decode: Callable[[bytes], R],
    timeout_s: float,
    request: bytes = messages.EMPTY_REQUEST,
) -> R:
    # Without serializers gRPC passes bytes as they are.
    call: Callable[..., bytes] = channel.unary_unary(method)
    reply = decode(call(request, timeout=max(timeout_s, 0.001)))
    if not reply.status.ok:
        raise StatusError(reply.status)
    return reply
