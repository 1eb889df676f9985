"""The ways to call through a connection, and how a call ended."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import pymilvus

import zconfig
from benchmarks.soak.values import End
from zconfig import aio
from zconfig.errors import ClosedError, ConnectError

TIMEOUT_S = 3.0
"""Seconds for a call, and in the configuration those for a connect."""

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_GONE_IN_PYMILVUS = ("Retry timeout", "Retry run out", *(each.name for each in _GONE))


@dataclass(frozen=True, slots=True)
class Way:
    """A way to call.

    Args:
        name: What it is called.
        call: Makes a call on the connection of an alias.
        limit_s: Seconds that the call may take, with the connects that it may need.
    """

    name: str
    call: Callable[[str], Any]
    limit_s: float


@dataclass(frozen=True, slots=True)
class AsyncWay:
    """A way to call on an event loop; its fields are those of `Way`."""

    name: str
    call: Callable[[str], Coroutine[Any, Any, Any]]
    limit_s: float


class Held:
    """Calls on stubs that are made once, and kept: as an application does."""

    def __init__(self) -> None:
        self._stubs: dict[str, Any] = {}

    def call(self, alias: str) -> None:
        """Call on the stub of an alias; one whose connection was closed is made anew."""
        try:
            self._stub(alias)(b"", timeout=TIMEOUT_S)
        except ClosedError:
            self._stubs.pop(alias, None)
            self._stub(alias)(b"", timeout=TIMEOUT_S)

    def _stub(self, alias: str) -> Any:
        return self._stubs.get(alias) or self._stubs.setdefault(alias, _stub(alias))


def blocking() -> tuple[Way, ...]:
    """Return the ways of a thread."""
    return (
        Way("ping", lambda alias: zconfig.connections[alias].ping(TIMEOUT_S), 2 * TIMEOUT_S),
        Way("stub", lambda alias: _stub(alias)(b"", timeout=TIMEOUT_S), 2 * TIMEOUT_S),
        Way("future", _call_later, 2 * TIMEOUT_S),
        Way("held", Held().call, 4 * TIMEOUT_S),
        Way("pymilvus", _call_with_pymilvus, 3 * TIMEOUT_S),
    )


def asynchronous() -> tuple[AsyncWay, ...]:
    """Return the ways on an event loop."""
    return (
        AsyncWay("aio ping", lambda alias: aio.ping(alias, TIMEOUT_S), TIMEOUT_S),
        AsyncWay("aio stub", _call_on_loop, 2 * TIMEOUT_S),
        AsyncWay("aio pymilvus", _call_with_pymilvus_on_loop, 3 * TIMEOUT_S),
    )


def end_of(error: BaseException) -> End:
    """Return what an error says of how a call ended."""
    if isinstance(error, ClosedError):
        return End.CLOSED
    if isinstance(error, grpc.RpcError):
        return _end_of_status(error.code())
    if isinstance(error, pymilvus.MilvusException):
        return _end_of_text(str(error))
    return End.FAILED if isinstance(error, ConnectError) else End.ODD


def _end_of_status(code: grpc.StatusCode) -> End:
    if code is grpc.StatusCode.CANCELLED:
        return End.CLOSED
    return End.FAILED if code in _GONE else End.ODD


def _end_of_text(text: str) -> End:
    """All that pymilvus keeps of an error is its text."""
    if "this connection is closed" in text:
        return End.CLOSED
    return End.FAILED if any(each in text for each in _GONE_IN_PYMILVUS) else End.ODD


def _stub(alias: str) -> Any:
    return zconfig.connections[alias].channel.unary_unary(GET_VERSION)


def _call_later(alias: str) -> None:
    _stub(alias).future(b"", timeout=TIMEOUT_S).result()


def _call_with_pymilvus(alias: str) -> None:
    zconfig.client(alias).get_server_version(timeout=TIMEOUT_S)


async def _call_on_loop(alias: str) -> None:
    connection = await aio.get(alias)
    stub: Any = connection.channel.unary_unary(GET_VERSION)
    await stub(b"", timeout=TIMEOUT_S)


async def _call_with_pymilvus_on_loop(alias: str) -> None:
    client = await zconfig.async_client(alias)
    await client.get_server_version(timeout=TIMEOUT_S)


async def secret_on_loop(alias: str) -> str:
    """Return what the connection of the running event loop calls with."""
    credentials = (await aio.get(alias)).spec.credentials
    return str(credentials.secret.reveal()) if credentials else ""
