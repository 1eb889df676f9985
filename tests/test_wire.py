"""Our codec against pymilvus' generated classes, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zconfig._channel import messages, wire
from zconfig._channel.messages import (
    ConnectReply,
    ConnectRequest,
    DatabasesReply,
    HealthReply,
    ResponseStatus,
    ServerInfo,
    VersionReply,
)
from zconfig._channel.pymilvus_import import import_without_side_effects

with import_without_side_effects():
    from google.protobuf.message import DecodeError
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

TEXT = st.text(max_size=30)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
# The order of a map's entries is not part of the format. Theirs, when asked for a stable one, is
# the keys' order but for a key before its own prefix; so no key here is another's prefix.
KEYS = TEXT.map(lambda key: key.replace("\0", "") + "\0")
MAP = st.dictionaries(KEYS, TEXT, max_size=4) | st.dictionaries(TEXT, TEXT, max_size=1)

STATUSES = st.builds(
    ResponseStatus, error_code=INT32, reason=TEXT, code=INT32, retriable=st.booleans(), detail=TEXT
)
SERVERS = st.builds(
    ServerInfo,
    build_tags=TEXT,
    build_time=TEXT,
    git_commit=TEXT,
    go_version=TEXT,
    deploy_mode=TEXT,
    reserved=MAP,
)
KINDS = {
    ResponseStatus: STATUSES,
    ServerInfo: SERVERS,
    ConnectRequest: st.builds(
        ConnectRequest,
        sdk_type=TEXT,
        sdk_version=TEXT,
        local_time=TEXT,
        user=TEXT,
        host=TEXT,
        reserved=MAP,
    ),
    ConnectReply: st.builds(ConnectReply, status=STATUSES, server=SERVERS, identifier=INT64),
    VersionReply: st.builds(VersionReply, status=STATUSES, version=TEXT),
    HealthReply: st.builds(
        HealthReply,
        status=STATUSES,
        is_healthy=st.booleans(),
        reasons=st.lists(TEXT, max_size=3).map(tuple),
        quota_states=st.lists(INT32, max_size=4).map(tuple),
    ),
    DatabasesReply: st.builds(
        DatabasesReply, status=STATUSES, names=st.lists(TEXT, max_size=4).map(tuple)
    ),
}
MESSAGES = st.one_of(*KINDS.values())
PAIRS = st.sampled_from(list(KINDS)).flatmap(lambda cls: st.tuples(KINDS[cls], KINDS[cls]))
REFERENCES = {
    ResponseStatus: common_pb2.Status,
    ServerInfo: common_pb2.ServerInfo,
    ConnectRequest: milvus_pb2.ConnectRequest,
    ConnectReply: milvus_pb2.ConnectResponse,
    VersionReply: milvus_pb2.GetVersionResponse,
    HealthReply: milvus_pb2.CheckHealthResponse,
    DatabasesReply: milvus_pb2.ListDatabasesResponse,
}
THEIR_NAMES = {"server": "server_info", "is_healthy": "isHealthy", "names": "db_names"}

# Fields of every wire type that proto3 has, under numbers that no message of Milvus uses.
UNKNOWN = st.lists(
    st.one_of(
        INT64.filter(bool).map(lambda value: wire.integer(900, value)),
        TEXT.map(lambda value: wire.texts(901, [value])),
        st.binary(min_size=8, max_size=8).map(lambda raw: bytes([0b11110001, 0x70]) + raw),
        st.binary(min_size=4, max_size=4).map(lambda raw: bytes([0b11110101, 0x70]) + raw),
    ),
    max_size=4,
).map(b"".join)


def theirs(message):
    """Return pymilvus' message with the same content."""
    if isinstance(message, ConnectRequest):
        return milvus_pb2.ConnectRequest(client_info=common_pb2.ClientInfo(**message._asdict()))
    facts = {}
    for field, value in message._asdict().items():
        name = THEIR_NAMES.get(field, field)
        facts[name] = theirs(value) if isinstance(value, ResponseStatus | ServerInfo) else value
    return REFERENCES[type(message)](**facts)


def ours(cls, reference):
    """Return our message with the content of one of pymilvus'."""
    if cls is ConnectRequest:
        reference = reference.client_info
    facts = {}
    for field in cls._fields:
        value = getattr(reference, THEIR_NAMES.get(field, field))
        nested = {"status": ResponseStatus, "server": ServerInfo}.get(field)
        if nested:
            value = ours(nested, value)
        elif field == "reserved":
            value = dict(value)
        elif type(cls._field_defaults.get(field)) is tuple:
            value = tuple(value)
        facts[field] = value
    return cls(**facts)


@given(MESSAGES)
def test_our_bytes_are_the_generated_classes_bytes(message):
    assert message.encode() == theirs(message).SerializeToString(deterministic=True)


@given(MESSAGES)
def test_their_bytes_decode_to_the_same_message(message):
    assert type(message).decode(theirs(message).SerializeToString()) == message


def test_a_map_is_encoded_in_the_order_of_its_keys():
    assert wire.text_map(1, {"b": "2", "a": "1"}) == wire.text_map(1, {"a": "1", "b": "2"})


@given(st.dictionaries(TEXT, TEXT, max_size=6))
def test_any_map_of_texts_crosses_both_ways(facts):
    encoded = ServerInfo(reserved=facts).encode()
    reference = common_pb2.ServerInfo.FromString(encoded)
    assert dict(reference.reserved) == facts
    assert ServerInfo.decode(reference.SerializeToString()).reserved == facts


@given(MESSAGES, UNKNOWN, UNKNOWN)
def test_unknown_fields_are_skipped(message, before, after):
    encoded = before + message.encode() + after
    assert type(message).decode(encoded) == message
    assert ours(type(message), REFERENCES[type(message)].FromString(encoded)) == message


@given(PAIRS)
def test_two_messages_in_one_merge_as_the_generated_classes_merge_them(pair):
    cls = type(pair[0])
    encoded = pair[0].encode() + pair[1].encode()
    assert cls.decode(encoded) == ours(cls, REFERENCES[cls].FromString(encoded))


@given(st.sampled_from(list(KINDS)), st.binary(max_size=200))
def test_any_bytes_decode_or_raise_a_wire_error(cls, data):
    try:
        decoded = cls.decode(data)
    except wire.WireError:
        return
    assert isinstance(decoded, cls)


@given(MESSAGES, st.data())
def test_a_truncated_message_decodes_or_raises_a_wire_error(message, data):
    encoded = message.encode()
    cut = data.draw(st.integers(0, len(encoded)))
    try:
        decoded = type(message).decode(encoded[:cut])
    except wire.WireError:
        with pytest.raises(DecodeError):
            REFERENCES[type(message)].FromString(encoded[:cut])
    else:
        assert isinstance(decoded, type(message))


@given(st.lists(INT32, max_size=5), st.lists(INT32, max_size=5), st.lists(INT32, max_size=5))
def test_packed_and_unpacked_numbers_mix_in_order(first, packed, last):
    def unpacked(values):
        # An entry of zero is sent where it stands alone, unlike a single field of zero.
        return b"".join(bytes([4 << 3]) + wire.integers(1, [value])[2:] for value in values)

    encoded = unpacked(first) + wire.integers(4, packed) + unpacked(last)
    reference = milvus_pb2.CheckHealthResponse.FromString(encoded)
    assert list(HealthReply.decode(encoded).quota_states) == first + packed + last
    assert list(reference.quota_states) == first + packed + last


@given(INT64)
def test_an_int32_keeps_the_low_bits_as_the_generated_classes_do(value):
    encoded = wire.integer(3, value) + wire.integers(4, [value])
    reference = milvus_pb2.CheckHealthResponse.FromString(encoded)
    assert HealthReply.decode(encoded).quota_states == tuple(reference.quota_states)
    assert ResponseStatus.decode(encoded).code == common_pb2.Status.FromString(encoded).code


@pytest.mark.parametrize("identifier", [-(2**63), -1, 0, 1, 2**63 - 1])
def test_an_identifier_survives_at_the_ends_of_its_range(identifier):
    reply = ConnectReply(identifier=identifier)
    assert ConnectReply.decode(reply.encode()) == reply
    assert milvus_pb2.ConnectResponse.FromString(reply.encode()).identifier == identifier


def test_the_last_of_a_single_value_counts():
    assert VersionReply.decode(wire.text(2, "old") + wire.text(2, "new")).version == "new"
    assert wire.decode_fields(wire.integer(1, 7) + wire.integer(1, 9)).integer(1) == 9


def test_an_empty_reply_is_a_success_with_nothing_in_it():
    assert ConnectReply.decode(b"") == ConnectReply()
    assert ConnectReply().status.ok


@pytest.mark.parametrize(
    "status", [ResponseStatus(code=800), ResponseStatus(error_code=1), ResponseStatus(code=-1)]
)
def test_a_status_is_ok_only_if_both_codes_are_zero(status):
    assert not status.ok


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x12\x05abc", "cut short"),
        (b"\x12", "cut short"),
        (b"\x08\x80", "cut short"),
        (b"\x09\x00\x00", "cut short"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut short"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x00\x00", "no field number"),
        (b"\xf8\xff\xff\xff\xff\x01\x00", "no field number"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0f", "wire type 7"),
        (b"\x12\x02\xc3\x28", "not UTF-8"),
    ],
)
def test_malformed_bytes_are_refused_with_the_reason(data, why):
    with pytest.raises(wire.WireError, match=why) as caught:
        VersionReply.decode(data)
    assert caught.value.__context__ is None


def test_a_text_without_encoding_is_refused_and_not_kept_in_the_error():
    with pytest.raises(wire.WireError) as caught:
        ConnectRequest(user="secret\udc80").encode()
    assert caught.value.__context__ is None
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "encoded", [wire.integer(2, 5), b"\x11" + b"A" * 8, b"\x15" + b"A" * 4], ids=str
)
def test_a_field_of_another_type_than_expected_is_skipped(encoded):
    assert milvus_pb2.GetVersionResponse.FromString(encoded).version == ""
    assert VersionReply.decode(encoded) == VersionReply()


def test_a_text_where_a_number_is_expected_is_skipped():
    assert ResponseStatus.decode(wire.text(3, "800")).code == 0


def test_the_requests_without_fields_are_empty_in_the_generated_classes_too():
    requests = (
        milvus_pb2.GetVersionRequest,
        milvus_pb2.CheckHealthRequest,
        milvus_pb2.ListDatabasesRequest,
    )
    encoded = {request().SerializeToString() for request in requests}
    assert encoded == {messages.EMPTY_REQUEST}


def test_the_methods_are_those_of_the_generated_stub():
    called = []

    class Recorder:
        def unary_unary(self, path, **rest):
            called.append(path)

        stream_unary = unary_stream = stream_stream = unary_unary

    milvus_pb2_grpc.MilvusServiceStub(Recorder())
    ours = {
        messages.CONNECT,
        messages.GET_VERSION,
        messages.CHECK_HEALTH,
        messages.LIST_DATABASES,
    }
    assert ours <= set(called)
