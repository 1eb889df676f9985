"""A fake server at work: gRPC's own behind it, and its port before it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc

from zconfig.testing.answers import Answers
from zconfig.testing.relay import HOST, relay
from zconfig.testing.server import FakeServer

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
    version: str = "2.6.0",
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
        server = FakeServer(uri, door, Answers(version, databases))
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
