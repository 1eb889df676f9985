"""What a fake server answers: to zconfig as Milvus does, and else what it was given."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol

from zconfig.channel import messages
from zconfig.channel.messages import (
    ConnectReply,
    DatabasesReply,
    HealthReply,
    ServerInfo,
    Status,
    VersionReply,
)
from zconfig.channel.milvus import DATABASE_NOT_FOUND
from zconfig.settings.fields import DEFAULT_DATABASE
from zconfig.testing.calls import Call, short_name


class Message(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return it encoded."""


Reply = bytes | Message | Callable[[Any], bytes | Message]
"""An answer: bytes, a message, or what makes one of these of the request."""


class Answers:
    """The answers of a server, by method.

    Args:
        version: What it calls itself.
        databases: Which ones it has; `None` for any that is asked for.
    """

    def __init__(self, version: str, databases: Collection[str] | None = None) -> None:
        listed = tuple(databases or (DEFAULT_DATABASE,))
        server = ServerInfo(build_tags=version, deploy_mode="STANDALONE")
        known: dict[str, Callable[[Call], bytes]] = {
            messages.CONNECT: partial(_connect, server, databases),
            messages.GET_VERSION: lambda _: VersionReply(version=version).encode(),
            messages.CHECK_HEALTH: lambda _: HealthReply(is_healthy=True).encode(),
            messages.LIST_DATABASES: lambda _: DatabasesReply(names=listed).encode(),
        }
        self._by_method = {short_name(method): answer for method, answer in known.items()}

    def register(self, method: str, reply: Reply, decode: Callable[[bytes], Any] = bytes) -> None:
        """Take the answer to a method.

        Args:
            method: Its name, or its full one.
            reply: The answer.
            decode: Makes of an encoded request what a function is given.
        """

        def answer(call: Call) -> bytes:
            made = reply(decode(call.request)) if callable(reply) else reply
            return made if isinstance(made, bytes) else made.SerializeToString()

        self._by_method[short_name(method)] = answer

    def reply(self, call: Call) -> bytes | None:
        """Return the answer to a call, encoded; `None` where there is none."""
        answer = self._by_method.get(call.method)
        return answer(call) if answer else None


def _connect(server: ServerInfo, databases: Collection[str] | None, call: Call) -> bytes:
    wanted = str(call.metadata.get("dbname") or DEFAULT_DATABASE)
    if databases is None or wanted in databases:
        return ConnectReply(server=server, identifier=1).encode()
    reason = f"database not found[database={wanted}]"
    return ConnectReply(Status(code=DATABASE_NOT_FOUND, reason=reason)).encode()
