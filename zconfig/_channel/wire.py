"""The part of the protobuf wire format that Milvus' messages need, without a protobuf runtime.

Applications bring pymilvus of any age, and with it a protobuf that generated code of ours would
conflict with. Field numbers and types stand in the `.proto` files and never change, so a codec
of this size is all it takes. https://protobuf.dev/programming-guides/encoding/ is the format.

Writing goes by function, one per type of field, their results joined in the order of the field
numbers; a value equal to its type's default takes no bytes, as proto3 has it. Reading goes by
`decode_fields`, whose `Fields` are asked for a number and a type:

    >>> data = text(1, "prod") + integer(2, -1)
    >>> fields = parse(data)
    >>> fields.text(1), fields.integer(2), fields.text(3)
    ('prod', -1, '')

As the format asks, a field that is unknown, or that came in another type than expected, is
skipped; of a single value sent twice the last one counts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LARGEST_NUMBER = (1 << 29) - 1
_WORD = 1 << 64
_MORE = 0x80  # the bit of a varint's byte that says another one follows

Bits = Literal[32, 64]


class WireError(ValueError):
    """The bytes are no protobuf message, or a text is no Unicode."""


# --- writing -------------------------------------------------------------------------------


def text(number: int, value: str) -> bytes:
    """Encode a `string` field.

    Args:
        number: The field's number.
        value: The text.

    Raises:
        WireError: The text holds lone surrogates.
    """
    return _block(number, _utf8(value)) if value else b""


def texts(number: int, values: Iterable[str]) -> bytes:
    """Encode a `repeated string` field; see `text`."""
    return b"".join(_block(number, _utf8(value)) for value in values)


def text_map(number: int, values: Mapping[str, str]) -> bytes:
    """Encode a `map<string, string>` field, sorted by key; see `text`."""
    pairs = ((_utf8(key), _utf8(values[key])) for key in sorted(values))
    return b"".join(_block(number, _block(1, key) + _block(2, value)) for key, value in pairs)


def integer(number: int, value: int) -> bytes:
    """Encode an `int32`, `int64`, enum or `bool` field."""
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


def integers(number: int, values: Iterable[int]) -> bytes:
    """Encode a `repeated` field of `int32`, `int64` or an enum, packed."""
    packed = b"".join(_varint(value) for value in values)
    return _block(number, packed) if packed else b""


def message(number: int, encoded: bytes) -> bytes:
    """Encode a field that holds a message; it is sent even where that one is empty."""
    return _block(number, encoded)


def _block(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    rest = value % _WORD  # negative numbers go as their two's complement of 64 bits
    encoded = bytearray()
    while rest >= _MORE:
        encoded.append(rest % _MORE | _MORE)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _utf8(value: str) -> bytes:
    with suppress(UnicodeEncodeError):
        return value.encode()
    # Raised out here, without the error's context: that one holds the whole text.
    raise WireError("a text holds lone surrogates, which have no encoding")


# --- reading -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one message, as they came: numbers and blocks of bytes.

    Args:
        values: By field number, everything that was sent under it, in order.
    """

    values: Mapping[int, list[int | bytes]]

    def text(self, number: int) -> str:
        """Return a `string` field.

        Raises:
            WireError: It is not UTF-8.
        """
        return next(reversed(self.texts(number)), "")

    def texts(self, number: int) -> tuple[str, ...]:
        """Return a `repeated string` field; see `text`."""
        return tuple(_decoded(block) for block in self._blocks(number))

    def text_map(self, number: int) -> dict[str, str]:
        """Return a `map<string, string>` field; see `text`."""
        entries = (decode_fields(block) for block in self._blocks(number))
        return {entry.text(1): entry.text(2) for entry in entries}

    def integer(self, number: int, bits: Bits = 64) -> int:
        """Return an integer field.

        Args:
            number: The field's number.
            bits: 32 for `int32` and enums, 64 for `int64`.
        """
        numbers = [value for value in self._sent(number) if isinstance(value, int)]
        return _signed(numbers[-1], bits) if numbers else 0

    def integers(self, number: int, bits: Bits = 64) -> tuple[int, ...]:
        """Return a `repeated` integer field, packed or not; see `integer`."""
        return tuple(
            _signed(single, bits)
            for value in self._sent(number)
            for single in ([value] if isinstance(value, int) else _unpacked(value))
        )

    def boolean(self, number: int) -> bool:
        """Return a `bool` field."""
        return self.integer(number) != 0

    def message(self, number: int) -> bytes:
        """Return a field that holds a message, still encoded; empty where none was sent.

        One sent in several parts is their concatenation: that is how the format merges.
        """
        return b"".join(self._blocks(number))

    def _sent(self, number: int) -> list[int | bytes]:
        return self.values.get(number, [])

    def _blocks(self, number: int) -> list[bytes]:
        return [value for value in self._sent(number) if isinstance(value, bytes)]


def decode_fields(data: bytes) -> Fields:
    """Take a message apart.

    Args:
        data: One whole message.

    Returns:
        Its fields, without those of a fixed width, which no message of ours has.

    Raises:
        WireError: The bytes are cut short or malformed.

    Example:
        >>> parse(bytes([0x12, 0x02, 0x68, 0x69])).text(2)
        'hi'
    """
    values: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 0b111
        if not 0 < number <= _LARGEST_NUMBER:
            raise WireError(f"{number} is no field number")
        value, at = _read_value(data, at, kind)
        if kind in (_VARINT, _LENGTH):
            values.setdefault(number, []).append(value)
    return Fields(values)


def _read_value(data: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    if kind == _VARINT:
        return _read_varint(data, at)
    if kind == _LENGTH:
        return _read_block(data, *_read_varint(data, at))
    if kind == _FIXED64:
        return _read_block(data, 8, at)
    if kind == _FIXED32:
        return _read_block(data, 4, at)
    raise WireError(f"wire type {kind} does not occur in proto3")


def _read_block(data: bytes, length: int, at: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(data):
        raise WireError("the message is cut short")
    return data[at:end], end


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise WireError("the message is cut short")
        byte = data[at]
        at += 1
        value |= (byte % _MORE) << shift
        if byte < _MORE and value < _WORD:
            return value, at
    raise WireError("a number has more than 64 bits")


def _unpacked(block: bytes) -> Iterator[int]:
    at = 0
    while at < len(block):
        value, at = _read_varint(block, at)
        yield value


def _signed(value: int, bits: Bits) -> int:
    half = 1 << bits - 1
    return (value + half) % (2 * half) - half


def _decoded(block: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return block.decode()
    raise WireError("a text is not UTF-8")
