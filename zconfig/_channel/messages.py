"""The Milvus messages that zconfig sends and reads itself.

Names and field numbers are those of milvus-proto (https://github.com/milvus-io/milvus-proto,
`proto/milvus.proto` and `proto/common.proto`). Only the fields that are used are declared; what
else a server sends is skipped. The requests of GetVersion, CheckHealth and ListDatabases have
no fields that a client sets: `EMPTY_REQUEST` is all of them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self

from zconfig._channel import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT = "/milvus.proto.milvus.MilvusService/Connect"
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
CHECK_HEALTH = "/milvus.proto.milvus.MilvusService/CheckHealth"
LIST_DATABASES = "/milvus.proto.milvus.MilvusService/ListDatabases"

EMPTY_REQUEST = b""


class ConnectRequest(NamedTuple):
    """`ConnectRequest`: who the client is (its field `client_info`).

    Args:
        sdk_type: What speaks, e.g. `Python`.
        sdk_version: Its version.
        local_time: The client's clock, as text.
        user: The user that connects; empty with a token.
        host: The client's host name.
        reserved: Further facts by name.
    """

    sdk_type: str = ""
    sdk_version: str = ""
    local_time: str = ""
    user: str = ""
    host: str = ""
    reserved: Mapping[str, str] = MappingProxyType({})

    def encode(self) -> bytes:
        """Return the request as bytes.

        Raises:
            WireError: A text holds lone surrogates.
        """
        client_info = (
            wire.text(1, self.sdk_type)
            + wire.text(2, self.sdk_version)
            + wire.text(3, self.local_time)
            + wire.text(4, self.user)
            + wire.text(5, self.host)
            + wire.text_map(6, self.reserved)
        )
        return wire.message(2, client_info)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a request.

        Raises:
            WireError: The bytes are malformed.
        """
        info = wire.decode_fields(wire.decode_fields(data).message(2))
        return cls(
            sdk_type=info.text(1),
            sdk_version=info.text(2),
            local_time=info.text(3),
            user=info.text(4),
            host=info.text(5),
            reserved=info.text_map(6),
        )


class ResponseStatus(NamedTuple):
    """`common.Status`: how a call went, inside a reply that gRPC delivered.

    Args:
        error_code: The code of servers up to 2.2, still sent by newer ones; 0 is success.
        reason: What went wrong, in the server's words.
        code: The code of servers from 2.3 on; 0 is success, 800 a database that is missing.
        retriable: Whether the server thinks that trying again may help.
        detail: More of the reason.
    """

    error_code: int = 0
    reason: str = ""
    code: int = 0
    retriable: bool = False
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the call succeeded, by the old code and by the new."""
        return self.code == 0 and self.error_code == 0

    def encode(self) -> bytes:
        """Return the status as bytes; see `ConnectRequest.encode`."""
        return (
            wire.integer(1, self.error_code)
            + wire.text(2, self.reason)
            + wire.integer(3, self.code)
            + wire.integer(4, self.retriable)
            + wire.text(5, self.detail)
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a status; see `ConnectRequest.decode`."""
        fields = wire.decode_fields(data)
        return cls(
            error_code=fields.integer(1, bits=32),
            reason=fields.text(2),
            code=fields.integer(3, bits=32),
            retriable=fields.boolean(4),
            detail=fields.text(5),
        )


class ServerInfo(NamedTuple):
    """`common.ServerInfo`: what the server says it is.

    Args:
        build_tags: Its release, e.g. `v2.3.5`; `milvus_lite` for the embedded one.
        build_time: When it was built, as text.
        git_commit: From which commit.
        go_version: With which Go; empty for the embedded one.
        deploy_mode: E.g. `STANDALONE`, `CLUSTER`, `embedded`.
        reserved: Further facts by name.
    """

    build_tags: str = ""
    build_time: str = ""
    git_commit: str = ""
    go_version: str = ""
    deploy_mode: str = ""
    reserved: Mapping[str, str] = MappingProxyType({})

    def encode(self) -> bytes:
        """Return the facts as bytes; see `ConnectRequest.encode`."""
        return (
            wire.text(1, self.build_tags)
            + wire.text(2, self.build_time)
            + wire.text(3, self.git_commit)
            + wire.text(4, self.go_version)
            + wire.text(5, self.deploy_mode)
            + wire.text_map(6, self.reserved)
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the facts; see `ConnectRequest.decode`."""
        fields = wire.decode_fields(data)
        return cls(
            build_tags=fields.text(1),
            build_time=fields.text(2),
            git_commit=fields.text(3),
            go_version=fields.text(4),
            deploy_mode=fields.text(5),
            reserved=fields.text_map(6),
        )


class ConnectReply(NamedTuple):
    """`ConnectResponse`: the answer to `ConnectRequest`.

    Args:
        status: How the call went.
        server: What the server says it is.
        identifier: The session's number, sent back with each later call; 0 is none.
    """

    status: ResponseStatus = ResponseStatus()
    server: ServerInfo = ServerInfo()
    identifier: int = 0

    def encode(self) -> bytes:
        """Return the reply as bytes; see `ConnectRequest.encode`."""
        return (
            wire.message(1, self.status.encode())
            + wire.message(2, self.server.encode())
            + wire.integer(3, self.identifier)
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a reply; see `ConnectRequest.decode`."""
        fields = wire.decode_fields(data)
        return cls(
            status=ResponseStatus.decode(fields.message(1)),
            server=ServerInfo.decode(fields.message(2)),
            identifier=fields.integer(3),
        )


class VersionReply(NamedTuple):
    """`GetVersionResponse`.

    Args:
        status: How the call went.
        version: The server's release, e.g. `v2.3.5` or `milvus_lite-3.2.2`.
    """

    status: ResponseStatus = ResponseStatus()
    version: str = ""

    def encode(self) -> bytes:
        """Return the reply as bytes; see `ConnectRequest.encode`."""
        return wire.message(1, self.status.encode()) + wire.text(2, self.version)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a reply; see `ConnectRequest.decode`."""
        fields = wire.decode_fields(data)
        return cls(status=ResponseStatus.decode(fields.message(1)), version=fields.text(2))


class HealthReply(NamedTuple):
    """`CheckHealthResponse`.

    Args:
        status: How the call went.
        is_healthy: Whether the server calls itself healthy.
        reasons: Why it does not.
        quota_states: Numbers of `QuotaState`: what is limited or denied for now.
    """

    status: ResponseStatus = ResponseStatus()
    is_healthy: bool = False
    reasons: tuple[str, ...] = ()
    quota_states: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Return the reply as bytes; see `ConnectRequest.encode`."""
        return (
            wire.message(1, self.status.encode())
            + wire.integer(2, self.is_healthy)
            + wire.texts(3, self.reasons)
            + wire.integers(4, self.quota_states)
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a reply; see `ConnectRequest.decode`."""
        fields = wire.decode_fields(data)
        return cls(
            status=ResponseStatus.decode(fields.message(1)),
            is_healthy=fields.boolean(2),
            reasons=fields.texts(3),
            quota_states=fields.integers(4, bits=32),
        )


class DatabasesReply(NamedTuple):
    """`ListDatabasesResponse`.

    Args:
        status: How the call went.
        names: The databases that this user may see.
    """

    status: ResponseStatus = ResponseStatus()
    names: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the reply as bytes; see `ConnectRequest.encode`."""
        return wire.message(1, self.status.encode()) + wire.texts(2, self.names)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a reply; see `ConnectRequest.decode`."""
        fields = wire.decode_fields(data)
        return cls(status=ResponseStatus.decode(fields.message(1)), names=fields.texts(2))
