"""The Milvus messages that zconfig encodes and decodes itself.

Names and numbers are those of milvus-proto (https://github.com/milvus-io/milvus-proto,
`proto/milvus.proto` and `proto/common.proto`), where they never change. Only the fields in use
are declared, with number and type. The requests of GetVersion, CheckHealth and ListDatabases have
no field that a client sets: `EMPTY_REQUEST` encodes each of them.

This module implements the encoding (https://protobuf.dev/programming-guides/encoding/), since
generated code would conflict with the protobuf runtime of the application's pymilvus, which may
have any version. A value equal to its type's default takes no bytes. Unknown fields, and fields
of another wire type, are skipped. The last of several values for a single field is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from operator import itemgetter
from typing import Any, NamedTuple, Self

from zconfig._value import Value, value

CONNECT = "/milvus.proto.milvus.MilvusService/Connect"
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
CHECK_HEALTH = "/milvus.proto.milvus.MilvusService/CheckHealth"
LIST_DATABASES = "/milvus.proto.milvus.MilvusService/ListDatabases"

EMPTY_REQUEST = b""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LARGEST_NUMBER = (1 << 29) - 1
_WORD = 1 << 64
_MORE = 0x80  # the continuation bit of a varint's byte


class WireError(ValueError):
    """The bytes are not a protobuf message, or a text is not valid Unicode."""


# --- values --------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    if 0 <= value < _MORE:
        return bytes((value,))
    rest = value % _WORD  # a negative number is sent as its two's complement of 64 bits
    encoded = bytearray()
    while rest >= _MORE:
        encoded.append(rest % _MORE | _MORE)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _block(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _encode_text(value: str) -> bytes:
    with suppress(UnicodeEncodeError):
        return _block(value.encode())
    # Raised here, without the context, which would contain the whole text.
    raise WireError("a text contains lone surrogates, which cannot be encoded")


def _decode_text(block: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return block.decode()
    raise WireError("a text is not UTF-8")


def _signed(value: int, *, bits: int) -> int:
    half = 1 << bits - 1
    return (value + half) % (2 * half) - half


class _Type(NamedTuple):
    """A type of values: its wire type, and its encoder and decoder."""

    sent_as: int
    encode: Callable[[Any], bytes]
    decode: Callable[[Any], Any]


_TEXT = _Type(_LENGTH, _encode_text, _decode_text)
_INT32 = _Type(_VARINT, _varint, partial(_signed, bits=32))
_INT64 = _Type(_VARINT, _varint, partial(_signed, bits=64))
_BOOLEAN = _Type(_VARINT, _varint, bool)


# --- fields and messages -------------------------------------------------------------------


class _Field(NamedTuple):
    """A field: its number and type, and the conversion between its value and the values sent."""

    number: int
    type: _Type
    to_values: Callable[[Any], Iterable[Any]]
    from_values: Callable[[list[Any]], Any]

    @property
    def tag(self) -> int:
        return self.number << 3 | self.type.sent_as

    def encode(self, value: Any) -> bytes:
        tag = _varint(self.tag)
        return b"".join([tag + self.type.encode(each) for each in self.to_values(value)])

    def decode(self, sent: list[int | bytes]) -> Any:
        return self.from_values(list(map(self.type.decode, sent)))

    def with_default(self, default: Any) -> Any:
        return dataclasses.field(default=default, metadata={"field": self})


@value
class Message(Value):
    """A message, with the fields that its class declares."""

    def encode(self) -> bytes:
        """Return the message as bytes; `WireError` if a text contains lone surrogates."""
        fields = type(self)._fields().items()
        return b"".join([each.encode(getattr(self, name)) for name, each in fields])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the decoded message; `WireError` if the bytes are malformed."""
        sent = _sent_values(data)
        fields = cls._fields().items()
        return cls(
            **{name: each.decode(sent[each.tag]) for name, each in fields if each.tag in sent}
        )

    @classmethod
    @cache
    def _fields(cls) -> Mapping[str, _Field]:
        return {each.name: each.metadata["field"] for each in dataclasses.fields(cls)}


def _single(number: int, kind: _Type, default: Any) -> Any:
    """Declare a field with one value, of which the last one that was sent counts."""
    return _Field(
        number, kind, lambda value: (value,) if value else (), itemgetter(-1)
    ).with_default(default)


def _repeated(number: int, kind: _Type) -> Any:
    """Declare a repeated field."""
    return _Field(number, kind, tuple, tuple).with_default(())


def _message(number: int, default: Message) -> Any:
    """Declare a field with a message, which is sent even if it is empty.

    Parts of a message are concatenated: protobuf merges them so.
    """
    blocks = _Type(_LENGTH, lambda value: _block(value.encode()), bytes)
    return _Field(
        number, blocks, lambda value: (value,), lambda parts: default.decode(b"".join(parts))
    ).with_default(default)


def _sent_values(data: bytes) -> Mapping[int, list[int | bytes]]:
    """Return the values sent, in order, by tag."""
    values: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 0b111
        if not 0 < number <= _LARGEST_NUMBER:
            raise WireError(f"{number} is not a valid field number")
        value, at = _read_value(data, at, kind)
        values.setdefault(tag, []).append(value)
    return values


def _read_value(data: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    if kind == _VARINT:
        return _read_varint(data, at)
    if kind == _LENGTH:
        return _read_block(data, *_read_varint(data, at))
    if kind == _FIXED64:
        return _read_block(data, 8, at)
    if kind == _FIXED32:
        return _read_block(data, 4, at)
    raise WireError(f"wire type {kind} is not part of proto3")


def _read_block(data: bytes, length: int, at: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(data):
        raise WireError("the message is truncated")
    return data[at:end], end


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise WireError("the message is truncated")
        byte = data[at]
        at += 1
        value |= (byte % _MORE) << shift
        if byte < _MORE and value < _WORD:
            return value, at
    raise WireError("a number exceeds 64 bits")


# --- the messages --------------------------------------------------------------------------


@value
class ClientInfo(Message):
    """`common.ClientInfo`: the client, as the server lists it.

    Args:
        sdk_type: The SDK, e.g. `Python`.
        sdk_version: The version of the SDK.
        local_time: The client's clock, as text.
        user: The user name; empty with a token.
        host: The client's host name.
    """

    sdk_type: str = _single(1, _TEXT, "")
    sdk_version: str = _single(2, _TEXT, "")
    local_time: str = _single(3, _TEXT, "")
    user: str = _single(4, _TEXT, "")
    host: str = _single(5, _TEXT, "")


@value
class ConnectRequest(Message):
    """`ConnectRequest`."""

    client_info: ClientInfo = _message(2, ClientInfo())


@value
class ResponseStatus(Message):
    """`common.Status`: the outcome of a call, inside the response.

    Args:
        error_code: The code of servers up to 2.2, still sent by newer ones; 0 is success.
        reason: The server's error message.
        code: The code of servers from 2.3 on; 0 is success, 800 is a missing database.
    """

    error_code: int = _single(1, _INT32, 0)
    reason: str = _single(2, _TEXT, "")
    code: int = _single(3, _INT32, 0)

    @property
    def ok(self) -> bool:
        """Whether both codes report success."""
        return self.code == 0 and self.error_code == 0


@value
class ServerInfo(Message):
    """`common.ServerInfo`: the server's description of itself.

    Args:
        build_tags: The server release, e.g. `v2.3.5`; `milvus_lite` for an embedded server.
        deploy_mode: The deployment, e.g. `STANDALONE`, `CLUSTER`, `embedded`.
    """

    build_tags: str = _single(1, _TEXT, "")
    deploy_mode: str = _single(5, _TEXT, "")


@value
class ConnectReply(Message):
    """`ConnectResponse`: `identifier` is the number of the session; 0 if there is none."""

    status: ResponseStatus = _message(1, ResponseStatus())
    server_info: ServerInfo = _message(2, ServerInfo())
    identifier: int = _single(3, _INT64, 0)


@value
class VersionReply(Message):
    """`GetVersionResponse`: the server release, e.g. `v2.3.5` or `milvus_lite-3.2.2`."""

    status: ResponseStatus = _message(1, ResponseStatus())
    version: str = _single(2, _TEXT, "")


@value
class HealthReply(Message):
    """`CheckHealthResponse`: whether the server is healthy, or the reasons why not."""

    status: ResponseStatus = _message(1, ResponseStatus())
    is_healthy: bool = _single(2, _BOOLEAN, default=False)
    reasons: tuple[str, ...] = _repeated(3, _TEXT)


@value
class DatabasesReply(Message):
    """`ListDatabasesResponse`: the databases that the user may see."""

    status: ResponseStatus = _message(1, ResponseStatus())
    names: tuple[str, ...] = _repeated(2, _TEXT)
