"""A fake Milvus server on loopback that fails on demand."""

from __future__ import annotations

import base64
import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import field
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
from zconfig._value import Value, value
from zconfig.testing.recorder import PATIENCE_S, wait_until
from zconfig.testing.tcp_proxy import HOST, Relay, relay

VERSION = "2.6.0"

Act = Callable[["Fault", grpc.ServicerContext], None]
"""Applies a fault to a call, which gRPC's server represents by its context."""


class Fault(AbstractContextManager["Fault"]):
    """A failure that the server applies to calls, for a number of calls or until `end`.

    As a context manager it ends with the block.

    Args:
        act: Applies the fault to a call.
        times: The number of calls that fail; `None` for all calls until `end`.
        method: The method whose calls fail, e.g. `Search`; `None` for all methods.

    Raises:
        ValueError: `times` is less than 1.
    """

    def __init__(self, act: Act, times: int | None = None, method: str | None = None) -> None:
        if times is not None and times < 1:
            raise ValueError("a fault applies to at least one call; pass times=1 or more, or None")
        self._act = act
        self._times = times
        self._method = method
        self._hits = 0
        self._is_over = False
        self._changed = threading.Condition()

    @property
    def hits(self) -> int:
        """The number of calls that the fault was applied to."""
        return self._hits

    def end(self) -> None:
        """End the fault, and answer the calls that it delays."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def strike(self, method: str, context: grpc.ServicerContext) -> None:
        """Apply the fault to a call, if it concerns this call.

        Args:
            method: The method of the call.
            context: The call in gRPC's server.
        """
        with self._changed:
            if self._is_over or self._method not in {None, method} or self._hits == self._times:
                return
            self._hits += 1
        self._act(self, context)

    def hold(self, context: grpc.ServicerContext, seconds: float) -> None:
        """Wait for some seconds, until the fault ends, or until the client cancels the call."""
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
"""The prefix of the full names of Milvus' methods."""


@value
class Call(Value):
    """One call that the server received.

    Args:
        method: The name of the method, e.g. `Search`; the full name for services other than Milvus,
            e.g. `/grpc.health.v1.Health/Check`.
        metadata: The metadata; credentials are masked.
        request: The encoded request.
        token: The credentials, an API key or `user:password`; `None` if the call has none. It
            equals their text, but only its `reveal()` returns it.
        peer: The client's address of the TCP connection, e.g. `ipv4:127.0.0.1:50123`.
    """

    method: str
    metadata: Mapping[str, str | bytes]
    request: bytes = field(repr=False)
    token: Secret | None
    peer: str


def call_of(method: str, metadata: Any, request: bytes, peer: str) -> Call:
    """Return the record of a call.

    Args:
        method: The full name of the method.
        metadata: Pairs of keys and values.
        request: The encoded request.
        peer: The client's address of the connection.

    Examples:
        >>> call = call_of(SERVICE + "Search", [("authorization", "cm9vdDpNaWx2dXM=")], b"", "")
        >>> call.method, call.metadata["authorization"], call.token, call.token == "root:Milvus"
        ('Search', '********', <hidden>, True)
    """
    raw = dict(metadata)
    shown = {key: MASK if key == AUTHORIZATION else value for key, value in raw.items()}
    token = _decoded(raw[AUTHORIZATION]) if raw.get(AUTHORIZATION) else None
    return Call(short_name(method), shown, request, token, peer)


def short_name(method: str) -> str:
    """Return the name of a method, without the service if that is Milvus'."""
    return method.removeprefix(SERVICE)


def _decoded(authorization: str) -> Secret:
    """Return the credentials of a call, which Milvus' clients encode."""
    try:
        return Secret(base64.b64decode(authorization, validate=True).decode())
    except ValueError:
        return Secret(authorization)


class ProtobufMessage(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return it encoded."""


Reply = bytes | ProtobufMessage | Callable[[Any], bytes | ProtobufMessage]
"""A reply: bytes, a message, or a function that returns one of these for a request."""


class Decodes(Protocol):
    """A class of protobuf messages."""

    FromString: Callable[[bytes], Any]


_REFUSED = "auth check failure, please check api key is correct"


class FakeServer:
    """A fake Milvus server on loopback; `fake_server` creates one.

    It answers the calls that zconfig makes: Connect, GetVersion, CheckHealth and ListDatabases. For
    other calls of your code, set replies with `answer`.

    Attributes:
        uri: The URI for clients.
        databases: The names of the databases; `None` accepts any name. You can change it.

    Args:
        uri: As above.
        proxy: The TCP proxy that clients connect to.
        version: The release that the server reports.
        databases: As above.
    """

    def __init__(
        self, uri: str, proxy: Relay, version: str, databases: Collection[str] | None
    ) -> None:
        self.uri = uri
        self.databases = databases
        self._proxy = proxy
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
        """The port of the server; it stays the same while the server is stopped."""
        return self._proxy.port

    def __repr__(self) -> str:
        state = "up" if self._proxy.is_up else "stopped"
        return f"<FakeServer {self.uri}, {state}, {len(self._calls)} calls>"

    # --- replies ----------------------------------------------------------------------------

    def answer(self, method: str, reply: Reply, *, takes: type[Decodes] | None = None) -> None:
        """Set the reply of a method, and replace the current one.

        Args:
            method: The name of the method, e.g. `Search`; the full name for services other than
                Milvus, e.g. `/grpc.health.v1.Health/Check`.
            reply: A protobuf message, an encoded one, or a function that receives the request and
                returns one of these.
            takes: The class of the request. With it, a function receives a message, otherwise
                bytes.

        Examples:
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
        """Accept only these credentials, from the next call on.

        Args:
            *tokens: API keys, or `user:password`; without arguments, accept every call.
        """
        self._tokens = frozenset(tokens) or None

    # --- faults -----------------------------------------------------------------------------

    def fail(
        self,
        code: grpc.StatusCode,
        details: str = "",
        *,
        times: int | None = None,
        method: str | None = None,
    ) -> Fault:
        """Answer calls with an error status.

        Args:
            code: Any status code except `OK`.
            details: The message of the status.
            times: The number of calls that fail; `None` for all calls until the fault ends.
            method: The method whose calls fail, e.g. `Search`; `None` for all methods.

        Returns:
            The fault. Its `end()`, or the end of a `with` block, ends it.

        Examples:
            >>> from zconfig.testing import fake_server
            >>> with fake_server() as server:
            ...     with server.fail(grpc.StatusCode.UNAVAILABLE, method="Search") as fault:
            ...         fault.hits
            0
        """
        if code not in set(grpc.StatusCode) - {grpc.StatusCode.OK}:
            raise ValueError(f"{code!r} is not an error status; pass one of grpc.StatusCode")
        return self._add(lambda _, context: context.abort(code, details), times, method)

    def refuse_credentials(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Reject all credentials; the arguments are those of `fail`."""
        return self.fail(grpc.StatusCode.UNAUTHENTICATED, _REFUSED, times=times, method=method)

    def delay(
        self, seconds: float, *, times: int | None = None, method: str | None = None
    ) -> Fault:
        """Delay the replies to calls. The end of the fault answers the delayed calls.

        Args:
            seconds: The delay in seconds.
            times: As for `fail`.
            method: As for `fail`.
        """
        return self._add(lambda fault, context: fault.hold(context, seconds), times, method)

    def hold(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Answer no calls until the fault ends, or `recover`; the arguments are those of `fail`.

        Examples:
            >>> with fake_server() as server, server.hold(method="Search"):
            ...     searching = pool.submit(search)
            ...     server.wait_for("Search")  # it has arrived, and waits for its answer
            ... # doctest: +SKIP
        """
        return self.delay(math.inf, times=times, method=method)

    def hang_up(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Close the connection of a call instead of answering it.

        Other calls on that connection fail too. A client can reconnect at once. The arguments are
        those of `fail`.
        """
        return self._add(self._cut, times, method)

    def recover(self) -> None:
        """End every fault, and answer the delayed calls."""
        faults, self._faults = self._faults, ()
        for fault in faults:
            fault.end()

    def stop(self) -> None:
        """Close every connection and refuse new ones, as in an outage. The port stays reserved."""
        self._proxy.stop()

    def start(self) -> None:
        """Accept connections again, on the same port."""
        self._proxy.start()

    def restart(self) -> None:
        """Close every connection, and accept new ones."""
        self.stop()
        self.start()

    # --- received calls ---------------------------------------------------------------------

    def calls(self, method: str | None = None) -> list[Call]:
        """Return the calls that were received so far, answered or not, in order.

        Args:
            method: A method, e.g. `Search`; `None` for all methods.
        """
        name = method and short_name(method)
        return [call for call in tuple(self._calls) if name in {None, call.method}]

    def wait_for(self, method: str, count: int = 1, timeout: float = PATIENCE_S) -> list[Call]:
        """Wait for calls of a method, and return them.

        Args:
            method: The name of the method, e.g. `Search`.
            count: The number of calls since the server was created.
            timeout: Seconds to wait.

        Raises:
            AssertionError: Fewer calls were received within the timeout.
        """
        wait_until(self._changed, lambda: len(self.calls(method)) >= count, timeout)
        arrived = self.calls(method)
        if len(arrived) < count:
            what = f"{len(arrived)} instead of {count} calls of {method}"
            raise AssertionError(f"{what} were received within {timeout:g} s")
        return arrived

    def wait_until_idle(self, timeout: float = PATIENCE_S) -> None:
        """Wait until every call was answered, or cancelled by its client.

        Args:
            timeout: Seconds to wait.

        Raises:
            AssertionError: Some calls are still unanswered.
        """
        if not wait_until(self._changed, lambda: self._unanswered == 0, timeout):
            raise AssertionError(f"{self._unanswered} calls are unanswered after {timeout:g} s")

    def peers(self) -> set[str]:
        """Return the clients' addresses of all TCP connections with calls so far."""
        return {call.peer for call in self.calls()}

    # ----------------------------------------------------------------------------------------

    def take(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer a call from gRPC's server; a fault ends it with an exception."""
        peer = self._proxy.client(context.peer())
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
            advice = f"the fake server has no reply; set one with answer({call.method!r}, ...)"
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
        self._proxy.cut(context.peer())
        context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was closed")


_THREADS = 64  # a delayed call occupies one


class _EveryMethod(grpc.GenericRpcHandler):
    """Passes the calls of every method to a server, as bytes."""

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
    """Run a server that answers zconfig's calls as Milvus does, and fails on demand.

    Args:
        version: The release that the server reports.
        databases: The names of the databases; `None` accepts any name.
        credentials: Credentials for TLS, from `grpc.ssl_server_credentials`. With them, the URI
            has the host `localhost`.

    Examples:
        >>> import zconfig
        >>> with fake_server() as server, zconfig.connections.override({"x": {"uri": server.uri}}):
        ...     zconfig.connections["x"].server.version
        '2.6.0'
    """
    with relay() as proxy:
        uri = f"https://localhost:{proxy.port}" if credentials else f"http://{HOST}:{proxy.port}"
        server = FakeServer(uri, proxy, version, databases)
        with _listening(_EveryMethod(server), credentials) as proxy.upstream:
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
    """Run gRPC's server on a free port of loopback, and yield the port."""
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
