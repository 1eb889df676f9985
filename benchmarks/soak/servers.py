"""Servers that can be killed, frozen, and told new passwords."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any, Protocol

import grpc
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support.servers import CREDENTIALS, RealMilvus

USER = "turner"
Metadata = tuple[tuple[str, str], ...]

_CALL_S = 20.0
_PATIENCE_S = 90.0
_BETWEEN_LOOKS_S = 0.2


class Server(Protocol):
    """A server with a user `USER`."""

    @property
    def port(self) -> int:
        """Where it listens."""

    def set_password(self, old: str | None, new: str) -> None:
        """Change the user's password; without an old one, make the user."""

    def kill(self) -> None:
        """End it at once."""

    def come_back(self) -> None:
        """Start it again, on its port; return once it answers."""

    def freeze(self) -> None:
        """Have it do nothing, with its connections open."""

    def thaw(self) -> None:
        """Have it go on; return once it answers."""


class Milvus:
    """A real Milvus.

    Args:
        directory: A directory of its own.
    """

    def __init__(self, directory: Path) -> None:
        self._server = RealMilvus(directory)
        self._server.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def set_password(self, old: str | None, new: str) -> None:
        """Change the user's password; without an old one, make the user."""
        metadata = (("authorization", _encoded(CREDENTIALS)),)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = milvus_pb2_grpc.MilvusServiceStub(channel)
            _wait_until_well(stub, metadata)
            if old is None:
                make = milvus_pb2.CreateCredentialRequest(username=USER, password=_encoded(new))
                status = stub.CreateCredential(make, timeout=_CALL_S, metadata=metadata)
            else:
                change = milvus_pb2.UpdateCredentialRequest(
                    username=USER, oldPassword=_encoded(old), newPassword=_encoded(new)
                )
                status = stub.UpdateCredential(change, timeout=_CALL_S, metadata=metadata)
        if status.code:
            raise RuntimeError(f"Milvus did not take a password: {status.reason}")

    def kill(self) -> None:
        """End it at once."""
        self._server.stop()

    def come_back(self) -> None:
        """Start it again, on its port and data; return once it answers."""
        self._server.start()
        self._server.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it answers."""
        self._server.wait_ready()

    def freeze(self) -> None:
        """Have it do nothing, with its connections open."""
        self._server.freeze()

    def thaw(self) -> None:
        """Have it go on; return once it answers."""
        self._server.thaw()
        self._server.wait_ready()


def _wait_until_well(stub: Any, metadata: Metadata) -> None:
    """Wait until the server has forgotten what died with it; before that it takes no password."""
    deadline = time.monotonic() + _PATIENCE_S
    request = milvus_pb2.CheckHealthRequest()
    while not stub.CheckHealth(request, timeout=_CALL_S, metadata=metadata).isHealthy:
        if time.monotonic() > deadline:
            raise TimeoutError("Milvus does not become healthy")
        time.sleep(_BETWEEN_LOOKS_S)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
