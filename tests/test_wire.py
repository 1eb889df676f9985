"""Our codec against pymilvus' generated classes, byte for byte."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zconfig._channel import messages
from zconfig._channel.messages import (
    ClientInfo,
    ConnectReply,
    ConnectRequest,
    DatabasesReply,
    HealthReply,
    ResponseStatus,
    ServerInfo,
    VersionReply,
    WireError,
)
from zconfig._channel.pymilvus_import import import_without_side_effects

with import_without_side_effects():
    from google.protobuf.internal.encoder import _VarintBytes as varint
    from google.protobuf.message import DecodeError
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

TEXT = st.text(max_size=30)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)

STATUSES = st.builds(ResponseStatus, error_code=INT32, reason=TEXT, code=INT32)
SERVERS = st.builds(ServerInfo, build_tags=TEXT, deploy_mode=TEXT)
CLIENTS = st.builds(
    ClientInfo, sdk_type=TEXT, sdk_version=TEXT, local_time=TEXT, user=TEXT, host=TEXT
)
KINDS = {
    ResponseStatus: STATUSES,
    ServerInfo: SERVERS,
    ClientInfo: CLIENTS,
    ConnectRequest: st.builds(ConnectRequest, client_info=CLIENTS),
    ConnectReply: st.builds(ConnectReply, status=STATUSES, server_info=SERVERS, identifier=INT64),
    VersionReply: st.builds(VersionReply, status=STATUSES, version=TEXT),
    HealthReply: st.builds(
        HealthReply,
        status=STATUSES,
        is_healthy=st.booleans(),
        reasons=st.lists(TEXT, max_size=3).map(tuple),
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
    ClientInfo: common_pb2.ClientInfo,
    ConnectRequest: milvus_pb2.ConnectRequest,
    ConnectReply: milvus_pb2.ConnectResponse,
    VersionReply: milvus_pb2.GetVersionResponse,
    HealthReply: milvus_pb2.CheckHealthResponse,
    DatabasesReply: milvus_pb2.ListDatabasesResponse,
}
THEIR_NAMES = {"is_healthy": "isHealthy", "names": "db_names"}


def integer(number, value):
    return varint(number << 3) + varint(value % 2**64)


def block(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


# Fields of every wire type that proto3 has, under numbers that no message of Milvus uses.
UNKNOWN = st.lists(
    st.one_of(
        INT64.map(lambda value: integer(900, value)),
        TEXT.map(lambda value: block(901, value.encode())),
        st.binary(min_size=8, max_size=8).map(lambda raw: bytes([0b11110001, 0x70]) + raw),
        st.binary(min_size=4, max_size=4).map(lambda raw: bytes([0b11110101, 0x70]) + raw),
    ),
    max_size=4,
).map(b"".join)


def theirs(message):
    """Return pymilvus' message with the same content."""
    facts = {}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        name = THEIR_NAMES.get(field.name, field.name)
        facts[name] = theirs(value) if isinstance(value, messages.Message) else value
    return REFERENCES[type(message)](**facts)


def ours(cls, reference):
    """Return our message with the content of one of pymilvus'."""
    facts = {}
    for field in dataclasses.fields(cls):
        value = getattr(reference, THEIR_NAMES.get(field.name, field.name))
        if isinstance(field.default, messages.Message):
            value = ours(type(field.default), value)
        elif isinstance(field.default, tuple):
            value = tuple(value)
        facts[field.name] = value
    return cls(**facts)


@given(MESSAGES)
def test_our_bytes_are_the_generated_classes_bytes(message):
    assert message.encode() == theirs(message).SerializeToString(deterministic=True)


@given(MESSAGES)
def test_their_bytes_decode_to_the_same_message(message):
    assert type(message).decode(theirs(message).SerializeToString()) == message


def test_every_message_that_is_declared_is_held_against_a_generated_class():
    declared = {
        each
        for each in vars(messages).values()
        if isinstance(each, type) and issubclass(each, messages.Message)
    }
    assert declared - {messages.Message} == set(KINDS) == set(REFERENCES)


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
    except WireError:
        return
    assert isinstance(decoded, cls)


@given(MESSAGES, st.data())
def test_a_truncated_message_decodes_or_raises_a_wire_error(message, data):
    encoded = message.encode()
    cut = data.draw(st.integers(0, len(encoded)))
    try:
        decoded = type(message).decode(encoded[:cut])
    except WireError:
        with pytest.raises(DecodeError):
            REFERENCES[type(message)].FromString(encoded[:cut])
    else:
        assert isinstance(decoded, type(message))


@given(INT64)
def test_an_int32_keeps_the_low_bits_as_the_generated_classes_do(value):
    encoded = integer(3, value)
    assert ResponseStatus.decode(encoded).code == common_pb2.Status.FromString(encoded).code


@pytest.mark.parametrize("identifier", [-(2**63), -1, 0, 1, 2**63 - 1])
def test_an_identifier_survives_at_the_ends_of_its_range(identifier):
    reply = ConnectReply(identifier=identifier)
    assert ConnectReply.decode(reply.encode()) == reply
    assert milvus_pb2.ConnectResponse.FromString(reply.encode()).identifier == identifier


def test_the_last_of_a_single_value_counts():
    assert VersionReply.decode(block(2, b"old") + block(2, b"new")).version == "new"
    assert ResponseStatus.decode(integer(3, 7) + integer(3, 9)).code == 9


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
        (b"\x12\x05abc", "truncated"),
        (b"\x12", "truncated"),
        (b"\x08\x80", "truncated"),
        (b"\x09\x00\x00", "truncated"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "truncated"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "exceeds 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "exceeds 64 bits"),
        (b"\x00\x00", "not a valid field number"),
        (b"\xf8\xff\xff\xff\xff\x01\x00", "not a valid field number"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0f", "wire type 7"),
        (b"\x12\x02\xc3\x28", "not UTF-8"),
    ],
)
def test_malformed_bytes_are_refused_with_the_reason(data, why):
    with pytest.raises(WireError, match=why) as caught:
        VersionReply.decode(data)
    assert caught.value.__context__ is None


def test_a_text_without_encoding_is_refused_and_not_kept_in_the_error():
    with pytest.raises(WireError) as caught:
        ClientInfo(user="secret\udc80").encode()
    assert caught.value.__context__ is None
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "encoded", [integer(2, 5), b"\x11" + b"A" * 8, b"\x15" + b"A" * 4], ids=str
)
def test_a_field_of_another_type_than_expected_is_skipped(encoded):
    assert milvus_pb2.GetVersionResponse.FromString(encoded).version == ""
    assert VersionReply.decode(encoded) == VersionReply()


def test_a_text_where_a_number_is_expected_is_skipped():
    assert ResponseStatus.decode(block(3, b"800")).code == 0


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
