"""A Milvus in this process that remembers every call, and answers when it is let."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from tests.support.faults import LOOPBACK, grpc_server
from zconfig._channel.messages import (
    ConnectReply,
    DatabasesReply,
    HealthReply,
    ResponseStatus,
    ServerInfo,
    VersionReply,
)

VERSION = "2.6.1"
DEMOTED = "code: STREAMING_CODE_REPLICATE_VIOLATION, cause: not the primary cluster"
PATIENCE_S = 20.0
"""Longer than anything takes that is not stuck."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived.

    Args:
        method: Its name, e.g. `Connect`.
        metadata: What came along with it.
        peer: The client's end of the TCP connection that it came over.
    """

    method: str
    metadata: dict[str, str | bytes]
    peer: str


class FakeMilvus:
    """Answers as Milvus does to the four calls of zconfig.

    Attributes:
        port: Where it listens.
        calls: What arrived, in order.
        databases: What it lists, and finds when `dbname` comes along.
        secrets: What callers must know one of, e.g. `root:Milvus`; `None` lets everybody in.
        away: How many of the next calls find it unavailable.
        demoted: How it says on GetVersion that it is a primary no longer: in the `reply` or as
            the `error` of the call.
    """

    def __init__(self) -> None:
        self.port = 0
        self.calls: list[Call] = []
        self.databases: tuple[str, ...] = ("default",)
        self.secrets: set[str] | None = None
        self.away = 0
        self.demoted: Literal["", "reply", "error"] = ""
        self._waiting = 0
        self._holding = False
        self._changed = threading.Condition()

    @property
    def uri(self) -> str:
        """Where clients dial."""
        return f"http://{LOOPBACK}:{self.port}"

    def of(self, method: str) -> list[Call]:
        """Return the calls of one method."""
        return [call for call in list(self.calls) if call.method == method]

    def count(self, method: str) -> int:
        """Return how many calls of one method arrived."""
        return len(self.of(method))

    def peers(self) -> set[str]:
        """Return the TCP connections that calls came over."""
        return {call.peer for call in list(self.calls)}

    def hold(self) -> None:
        """Leave every call unanswered from now on."""
        self._holding = True

    def let_go(self) -> None:
        """Answer what waits, and everything that comes."""
        with self._changed:
            self._holding = False
            self._changed.notify_all()

    def wait_for(self, count: int, method: str = "Connect", budget_s: float = PATIENCE_S) -> None:
        """Wait until so many calls of one method arrived."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self.count(method) >= count, budget_s)
        assert arrived, f"{self.count(method)} instead of {count} calls of {method}"

    def wait_until_cancelled(self) -> None:
        """Wait until nobody waits for an answer any more."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting == 0, PATIENCE_S)

    def methods(self) -> dict[str, Any]:
        """Return what it answers to, as `grpc_server` takes it."""
        return {
            "Connect": self._connect,
            "GetVersion": self._get_version,
            "CheckHealth": self._check_health,
            "ListDatabases": self._list_databases,
        }

    def _connect(self, _: bytes, context: Any) -> bytes:
        call = self._receive("Connect", context)
        wanted = call.metadata.get("dbname") or "default"
        if wanted not in self.databases:
            status = ResponseStatus(code=800, reason=f"database not found[database={wanted!r}]")
            return ConnectReply(status).encode()
        server = ServerInfo(build_tags=VERSION, deploy_mode="STANDALONE")
        return ConnectReply(server_info=server, identifier=len(self.calls)).encode()

    def _get_version(self, _: bytes, context: Any) -> bytes:
        self._receive("GetVersion", context)
        if self.demoted == "error":
            context.abort(grpc.StatusCode.UNKNOWN, DEMOTED)
        status = ResponseStatus(code=2, reason=DEMOTED) if self.demoted else ResponseStatus()
        return VersionReply(status=status, version=VERSION).encode()

    def _check_health(self, _: bytes, context: Any) -> bytes:
        self._receive("CheckHealth", context)
        return HealthReply(is_healthy=False, reasons=("querynode is down",)).encode()

    def _list_databases(self, _: bytes, context: Any) -> bytes:
        self._receive("ListDatabases", context)
        return DatabasesReply(names=self.databases).encode()

    def _receive(self, method: str, context: Any) -> Call:
        """Note a call, and return when it may be answered, or nobody waits for that any more."""
        call = Call(method, dict(context.invocation_metadata()), context.peer())
        context.add_callback(self._notify)
        with self._changed:
            self.calls.append(call)
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._holding and context.is_active()))
            self._waiting -= 1
            is_away, self.away = self.away > 0, max(self.away - 1, 0)
            self._changed.notify_all()
        if is_away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "it is away")
        if self.secrets is not None and _secret(call) not in self.secrets:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")
        return call

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _secret(call: Call) -> str:
    return base64.b64decode(call.metadata.get("authorization", "")).decode()


@contextmanager
def fake_milvus(*, credentials: grpc.ServerCredentials | None = None) -> Iterator[FakeMilvus]:
    """Serve a fake Milvus, with TLS if credentials are given."""
    fake = FakeMilvus()
    with grpc_server(fake.methods(), credentials=credentials) as fake.port:
        try:
            yield fake
        finally:
            fake.let_go()
