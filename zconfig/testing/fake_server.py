"""A gRPC server on loopback that takes calls for Milvus, and fails on demand."""

from __future__ import annotations

import base64
import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import grpc

from zconfig._channel import messages
from zconfig._channel.bound_channel import AUTHORIZATION
from zconfig._channel.messages import (
    ConnectReply,
    DatabasesReply,
    HealthReply,
    ResponseStatus,
    ServerInfo,
    VersionReply,
)
from zconfig._channel.milvus import DATABASE_NOT_FOUND
from zconfig._redaction import MASK, Secret
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig.testing.recorder import PATIENCE_S, wait_until
from zconfig.testing.tcp_proxy import HOST, Relay, relay

VERSION = "2.6.0"

Act = Callable[["Fault", grpc.ServicerContext], None]
"""Does to a call, as gRPC's server has it, what a fault does."""


class Fault(AbstractContextManager["Fault"]):
    """Something that goes wrong with calls, until it has happened often enough, or is ended.

    As a context manager it is ended with the block.

    Args:
        act: What it does to a call.
        times: How many calls it strikes; `None` for all until it is ended.
        method: Which method's calls, e.g. `Search`; `None` for all methods'.

    Raises:
        ValueError: `times` is less than 1.
    """

    def __init__(self, act: Act, times: int | None = None, method: str | None = None) -> None:
        if times is not None and times < 1:
            raise ValueError("a fault happens at least once: give times=1 or more")
        self._act = act
        self._times = times
        self._method = method
        self._hits = 0
        self._is_over = False
        self._changed = threading.Condition()

    @property
    def hits(self) -> int:
        """How many calls it has struck."""
        return self._hits

    def end(self) -> None:
        """Strike no more calls, and let go of those that it delays."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def strike(self, method: str, context: grpc.ServicerContext) -> None:
        """Do to a call what it does, if this call is one of those.

        Args:
            method: The call's method.
            context: The call, as gRPC's server has it.
        """
        with self._changed:
            if self._is_over or self._method not in {None, method} or self._hits == self._times:
                return
            self._hits += 1
        self._act(self, context)

    def hold(self, context: grpc.ServicerContext, seconds: float) -> None:
        """Wait for some seconds, for the fault's end, or until nobody waits for the call."""
        with self._changed:
            if context.add_callback(self._notify):
                self._changed.wait_for(
                    lambda: self._is_over or not context.is_active(),
                    min(seconds, threading.TIMEOUT_MAX),
                )

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def __exit__(self, *_: object) -> None:
        self.end()


SERVICE = "/milvus.proto.milvus.MilvusService/"
"""What the full names of Milvus' methods begin with."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived.

    Args:
        method: Its name, e.g. `Search`; in full if it is not Milvus', e.g.
            `/grpc.health.v1.Health/Check`.
        metadata: What came along with it; credentials are masked.
        request: The encoded message.
        token: The credentials, an API key or `user:password`; `None` if none came along. It equals
            their text, and shows it only to those who call its `reveal()`.
        peer: The client's end of the TCP connection that it came over, e.g.
            `ipv4:127.0.0.1:50123`.
    """

    method: str
    metadata: Mapping[str, str | bytes]
    request: bytes = field(repr=False)
    token: Secret | None
    peer: str


def call_of(method: str, metadata: Any, request: bytes, peer: str) -> Call:
    """Return a call as it is remembered.

    Args:
        method: The method's full name.
        metadata: Pairs of keys and values, as gRPC has them.
        request: The encoded message.
        peer: The client's end of the connection.

    Example:
        >>> call = call_of(SERVICE + "Search", [("authorization", "cm9vdDpNaWx2dXM=")], b"", "")
        >>> call.method, call.metadata["authorization"], call.token, call.token == "root:Milvus"
        ('Search', '********', <hidden>, True)
    """
    raw = dict(metadata)
    shown = {key: MASK if key == AUTHORIZATION else value for key, value in raw.items()}
    token = _decoded(raw[AUTHORIZATION]) if raw.get(AUTHORIZATION) else None
    return Call(short_name(method), shown, request, token, peer)


def short_name(method: str) -> str:
    """Return a method's name, without the service if that is Milvus'."""
    return method.removeprefix(SERVICE)


def _decoded(authorization: str) -> Secret:
    """Return the credentials that a call carries; Milvus' clients encode them."""
    try:
        return Secret(base64.b64decode(authorization, validate=True).decode())
    except ValueError:
        return Secret(authorization)


class ProtobufMessage(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return it encoded."""


Reply = bytes | ProtobufMessage | Callable[[Any], bytes | ProtobufMessage]
"""An answer: bytes, a message, or what makes one of these of the request."""


class Decodes(Protocol):
    """A class of protobuf messages."""

    FromString: Callable[[bytes], Any]


_REFUSED = "auth check failure, please check api key is correct"


class FakeServer:
    """A gRPC server on loopback that takes calls for Milvus; `fake_server` makes one.

    It answers what zconfig asks by itself: Connect, GetVersion, CheckHealth and ListDatabases. What
    else your code calls, give it an answer for.

    Attributes:
        uri: Where clients connect to.
        databases: Which ones it has; `None` for any that is asked for. It may be changed.

    Args:
        uri: As above.
        door: The port that they connect to.
        version: What it calls itself.
        databases: As above.
    """

    def __init__(
        self, uri: str, door: Relay, version: str, databases: Collection[str] | None
    ) -> None:
        self.uri = uri
        self.databases = databases
        self._door = door
        self._version = version
        self._sessions = itertools.count(1)
        self._answers: dict[str, Callable[[Call], bytes]] = {
            short_name(messages.CONNECT): self._connect,
            short_name(messages.GET_VERSION): lambda _: VersionReply(version=version).encode(),
            short_name(messages.CHECK_HEALTH): lambda _: HealthReply(is_healthy=True).encode(),
            short_name(messages.LIST_DATABASES): self._list_databases,
        }
        self._tokens: frozenset[str] | None = None
        self._faults: tuple[Fault, ...] = ()
        self._calls: list[Call] = []
        self._unanswered = 0
        self._changed = threading.Condition()

    @property
    def port(self) -> int:
        """Where it listens; it keeps its port while it is stopped."""
        return self._door.port

    def __repr__(self) -> str:
        state = "up" if self._door.is_up else "stopped"
        return f"<FakeServer {self.uri}, {state}, {len(self._calls)} calls>"

    # --- what it answers --------------------------------------------------------------------

    def answer(self, method: str, reply: Reply, *, takes: type[Decodes] | None = None) -> None:
        """Give a method an answer, in place of the one that it has.

        Args:
            method: Its name, e.g. `Search`; in full if it is not Milvus', e.g.
                `/grpc.health.v1.Health/Check`.
            reply: The answer: a protobuf message, or one that is encoded, or a function that is
                given the request and returns one of these.
            takes: The class of the request, if the function is to be given a message, not bytes.

        Example:
            >>> with fake_server() as server:
            ...     server.answer("HasCollection", milvus_pb2.BoolResponse(value=True))
            ...     server.answer("Insert", insert, takes=milvus_pb2.InsertRequest)
            ... # doctest: +SKIP
        """
        decode: Callable[[bytes], Any] = takes.FromString if takes else bytes

        def answer(call: Call) -> bytes:
            made = reply(decode(call.request)) if callable(reply) else reply
            return made if isinstance(made, bytes) else made.SerializeToString()

        self._answers[short_name(method)] = answer

    def accept(self, *tokens: str) -> None:
        """Let in only who has one of these credentials, from the next call on.

        Args:
            *tokens: API keys, or `user:password`; without any, everybody is let in.
        """
        self._tokens = frozenset(tokens) or None

    # --- what goes wrong --------------------------------------------------------------------

    def fail(
        self,
        code: grpc.StatusCode,
        details: str = "",
        *,
        times: int | None = None,
        method: str | None = None,
    ) -> Fault:
        """Answer calls with a status.

        Args:
            code: Any but `OK`.
            details: The server's words.
            times: How many calls; `None` for all, until it is told otherwise.
            method: Which method's calls, e.g. `Search`; `None` for every method's.

        Returns:
            What `end()` ends, as does the end of a `with` block of it.

        Example:
            >>> from zconfig.testing import fake_server
            >>> with fake_server() as server:
            ...     with server.fail(grpc.StatusCode.UNAVAILABLE, method="Search") as fault:
            ...         fault.hits
            0
        """
        if code is grpc.StatusCode.OK:
            raise ValueError("a call that fails has a status other than OK")
        return self._add(lambda _, context: context.abort(code, details), times, method)

    def refuse_credentials(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Refuse the credentials of calls, whatever they are; the arguments are `fail`'s."""
        return self.fail(grpc.StatusCode.UNAUTHENTICATED, _REFUSED, times=times, method=method)

    def delay(
        self, seconds: float, *, times: int | None = None, method: str | None = None
    ) -> Fault:
        """Answer calls late. The end of the fault answers those that wait.

        Args:
            seconds: How late.
            times: As for `fail`.
            method: As for `fail`.
        """
        return self._add(lambda fault, context: fault.hold(context, seconds), times, method)

    def hold(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Answer no calls until the end of the fault, or `recover`; the arguments are `fail`'s.

        Example:
            >>> with fake_server() as server, server.hold(method="Search"):
            ...     searching = pool.submit(search)
            ...     server.wait_for("Search")  # it has arrived, and waits for its answer
            ... # doctest: +SKIP
        """
        return self.delay(math.inf, times=times, method=method)

    def hang_up(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Close the connection that a call comes over, instead of answering it.

        Other calls on that connection fail with it; a client may connect again at once. The
        arguments are `fail`'s.
        """
        return self._add(self._cut, times, method)

    def recover(self) -> None:
        """End every fault, and answer the calls that wait."""
        faults, self._faults = self._faults, ()
        for fault in faults:
            fault.end()

    def stop(self) -> None:
        """Close every connection, and refuse new ones: an outage. The port stays its own."""
        self._door.stop()

    def start(self) -> None:
        """Accept connections again, on the same port."""
        self._door.start()

    def restart(self) -> None:
        """Close every connection, and accept new ones."""
        self.stop()
        self.start()

    # --- what arrived -----------------------------------------------------------------------

    def calls(self, method: str | None = None) -> list[Call]:
        """Return the calls that arrived so far, answered or not, in order.

        Args:
            method: Those of one method, e.g. `Search`; `None` for all.
        """
        name = method and short_name(method)
        return [call for call in tuple(self._calls) if name in {None, call.method}]

    def wait_for(self, method: str, count: int = 1, timeout: float = PATIENCE_S) -> list[Call]:
        """Return the calls of a method, once so many of them have arrived.

        Args:
            method: Its name, e.g. `Search`.
            count: How many, since the server was made.
            timeout: Seconds to wait.

        Raises:
            AssertionError: Not so many arrived.
        """
        wait_until(self._changed, lambda: len(self.calls(method)) >= count, timeout)
        arrived = self.calls(method)
        if len(arrived) < count:
            what = f"{len(arrived)} instead of {count} calls of {method}"
            raise AssertionError(f"{what} arrived within {timeout:g} s")
        return arrived

    def wait_until_idle(self, timeout: float = PATIENCE_S) -> None:
        """Wait until no call waits for its answer: each got one, or its client gave it up.

        Args:
            timeout: Seconds to wait.

        Raises:
            AssertionError: Calls wait still.
        """
        if not wait_until(self._changed, lambda: self._unanswered == 0, timeout):
            raise AssertionError(f"{self._unanswered} calls wait still after {timeout:g} s")

    def peers(self) -> set[str]:
        """Return the TCP connections that calls came over so far, by their clients' ends."""
        return {call.peer for call in self.calls()}

    # ----------------------------------------------------------------------------------------

    def take(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer a call, as gRPC's server hands it over; a fault ends it by an exception."""
        peer = self._door.client(context.peer())
        call = call_of(method, context.invocation_metadata(), request, peer)
        with self._changed:
            self._calls.append(call)
            self._unanswered += 1
            self._changed.notify_all()
        try:
            return self._reply(call, context)
        finally:
            with self._changed:
                self._unanswered -= 1
                self._changed.notify_all()

    def _reply(self, call: Call, context: grpc.ServicerContext) -> bytes:
        for fault in self._faults:
            fault.strike(call.method, context)
        if self._tokens is not None and call.token not in self._tokens:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSED)
        answer = self._answers.get(call.method)
        if answer is None:
            advice = f"the fake server knows no answer: give it one by answer({call.method!r}, ...)"
            context.abort(grpc.StatusCode.UNIMPLEMENTED, advice)
        return answer(call)

    def _connect(self, call: Call) -> bytes:
        wanted = str(call.metadata.get("dbname") or DEFAULT_DATABASE)
        if self.databases is None or wanted in self.databases:
            server = ServerInfo(build_tags=self._version, deploy_mode="STANDALONE")
            return ConnectReply(server_info=server, identifier=next(self._sessions)).encode()
        reason = f"database not found[database={wanted}]"
        return ConnectReply(ResponseStatus(code=DATABASE_NOT_FOUND, reason=reason)).encode()

    def _list_databases(self, _: Call) -> bytes:
        return DatabasesReply(names=tuple(self.databases or (DEFAULT_DATABASE,))).encode()

    def _add(self, act: Act, times: int | None, method: str | None) -> Fault:
        fault = Fault(act, times, method and short_name(method))
        self._faults = (*self._faults, fault)
        return fault

    def _cut(self, _: Fault, context: grpc.ServicerContext) -> None:
        self._door.cut(context.peer())
        context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was closed")


_THREADS = 64  # a call that is delayed keeps one


class _EveryMethod(grpc.GenericRpcHandler):
    """Hands calls of every method, in bytes, to a server."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        take = partial(self._server.take, handler_call_details.method)
        return grpc.unary_unary_rpc_method_handler(take)


@contextmanager
def fake_server(
    *,
    version: str = VERSION,
    databases: Collection[str] | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[FakeServer]:
    """Run a server that answers as Milvus does to what zconfig asks, and fails on demand.

    Args:
        version: What it calls itself.
        databases: Which ones it has; `None` for any that is asked for.
        credentials: What it serves TLS with, as `grpc.ssl_server_credentials` makes them; its URI
            has the host `localhost` then.

    Example:
        >>> import zconfig
        >>> with fake_server() as server, zconfig.connections.override({"x": {"uri": server.uri}}):
        ...     zconfig.connections["x"].server.version
        '2.6.0'
    """
    with relay() as door:
        uri = f"https://localhost:{door.port}" if credentials else f"http://{HOST}:{door.port}"
        server = FakeServer(uri, door, version, databases)
        with _listening(_EveryMethod(server), credentials) as door.upstream:
            try:
                server.start()
                yield server
            finally:
                server.recover()
                server.stop()


@contextmanager
def _listening(
    handler: grpc.GenericRpcHandler, credentials: grpc.ServerCredentials | None
) -> Iterator[int]:
    """Have gRPC listen on some port of loopback, which is returned."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="zconfig-fake-server") as pool:
        server = grpc.server(pool, handlers=[handler], options=[("grpc.so_reuseport", 0)])
        place = f"{HOST}:0"
        port = (
            server.add_secure_port(place, credentials)
            if credentials
            else server.add_insecure_port(place)
        )
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()
