"""What holds for every URI, and for every text that is none."""

from __future__ import annotations

import string
import traceback
from ipaddress import ip_address
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zconfig._endpoint import (
    Endpoint,
    EndpointError,
    Family,
    TransportType,
    parse_uri,
    split_userinfo,
)
from zconfig._redaction import Secret

CANARY = "c4naryc4nary"
thorough = settings(max_examples=150, deadline=None)

printable_ascii = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
ports = st.integers(1, 65535)
labels = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join).map(lambda name: f"{name}.example")
addresses = st.ip_addresses().map(lambda address: parse_uri(f"http://{bracketed(address)}").host)
databases = st.none() | printable_ascii.filter(bool)
path_text = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="/,"), min_size=1
)


def fault_of(read, text):
    try:
        read(text)
    except EndpointError as error:
        return error
    return None


def bracketed(host):
    return f"[{host}]" if ":" in str(host) else str(host)


@st.composite
def remote_endpoints(draw):
    secure = draw(st.booleans())
    label = draw(labels)
    domain, family = draw(
        st.sampled_from(
            [
                (".example", Family.MILVUS),
                (".aws-us-west-2.vectordb.zillizcloud.com", Family.DEDICATED),
                (".serverless.aws-us-west-2.vectordb.zillizcloud.com", Family.SERVERLESS),
                (".serverless.ali-cn-hangzhou.cloud.zilliz.com.cn", Family.SERVERLESS),
                (".aws-us-west-2.api.zillizcloud.com", Family.PROJECT),
                (".global-cluster.vectordb.zillizcloud.com", Family.GLOBAL_CLUSTER),
            ]
            if secure
            else [(".example", Family.MILVUS)]
        )
    )
    transport = TransportType.TLS if secure else TransportType.PLAINTEXT
    host = f"in01-{label}{domain}"
    if family is Family.MILVUS:
        host = draw(st.just(host) | addresses)
    return Endpoint(transport, family, host, draw(ports), None, draw(databases))


segments = st.lists(path_text, min_size=1, max_size=3).map("/".join)
sockets = segments.map(
    lambda path: Endpoint(TransportType.UNIX, Family.MILVUS, None, None, f"/{path}", None)
)
lite_files = segments.map(
    lambda path: Endpoint(TransportType.LITE, Family.LITE, None, None, f"./{path}.db", None)
)
endpoints = remote_endpoints() | sockets | lite_files

valid_uris = endpoints.map(str) | st.builds(
    lambda scheme, user, host, port, rest: f"{scheme}://{user}{bracketed(host)}{port}{rest}",
    st.sampled_from(["https", "HTTP", "tcp", "grpc", "grpcs"]),
    st.sampled_from(["", "root:Milvus@", "key@", "a%40:b:c%25@"]),
    names | st.ip_addresses(),
    st.just("") | ports.map(":{}".format),
    st.sampled_from(["", "/", "/sales", "/sales/", "/%2f"]),
)

garbage = st.sampled_from([*"@:/?#[]%.,;~'\"\\ \t\n\0-+&=0aZ", "://", "%zz", "%40", "%00", "%FF"])
strange = garbage | st.characters() | st.sampled_from(["\udcff", "\u202e", "\uff0e"])


@st.composite
def mutated_uris(draw):
    """A valid URI with a few of its characters replaced, removed or repeated."""
    text = draw(valid_uris)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 3, len(text))))
        insertion = draw(strange | st.just("") | st.just(text[start:end] * 2))
        text = text[:start] + insertion + text[end:]
    return text


any_text = st.text(st.characters()) | st.lists(garbage).map("".join) | mutated_uris()


@thorough
@given(endpoints)
def test_an_endpoint_survives_its_uri(endpoint):
    assert parse_uri(endpoint.uri) == endpoint


@thorough
@given(valid_uris)
def test_the_normal_form_is_a_fixed_point(text):
    endpoint = parse_uri(text)
    assert parse_uri(endpoint.uri) == endpoint
    assert parse_uri(endpoint.uri).uri == endpoint.uri


@thorough
@given(any_text)
@example("\ud800")
@example("https://[")
@example("unix:/%ED%A0%80")
def test_any_text_is_an_endpoint_or_a_fault(text):
    try:
        endpoint = parse_uri(text)
    except EndpointError:
        return
    assert parse_uri(endpoint.uri) == endpoint
    assert endpoint.port is None or 1 <= endpoint.port <= 65535
    assert endpoint.uri.isprintable()
    if endpoint.host is not None:
        assert set(endpoint.host) <= set(string.ascii_lowercase + string.digits + "-_.:")


@thorough
@given(any_text)
def test_userinfo_is_split_off_or_a_fault(text):
    try:
        found = split_userinfo(text)
    except EndpointError:
        return
    credentials = [each for each in (found.user, found.password) if each is not None]
    assert all(type(each) is Secret for each in credentials)
    assert found.uri == text or len(found.uri) < len(text)
    assert split_userinfo(found.uri).uri == found.uri


@thorough
@given(any_text)
def test_userinfo_never_changes_where_a_uri_leads(text):
    try:
        expected = parse_uri(text)
        found = split_userinfo(text)
    except EndpointError:
        return
    assert parse_uri(found.uri) == expected


@pytest.mark.parametrize("read", [parse_uri, split_userinfo])
@thorough
@given(text=any_text, at=st.floats(0, 1))
def test_a_fault_repeats_nothing_of_the_text(read, text, at):
    position = round(at * len(text))
    error = fault_of(read, text[:position] + CANARY + text[position:])
    if error is None:
        return
    shown = traceback.TracebackException(
        type(error), error, error.__traceback__.tb_next, capture_locals=True
    )
    told = [str(error), repr(error), repr(error.args), error.message, error.remedy]
    assert CANARY not in "".join([*told, *shown.format()])
    assert error.__context__ is error.__cause__ is None


@thorough
@given(user=printable_ascii.filter(bool), password=st.none() | printable_ascii.filter(bool))
def test_percent_encoded_credentials_come_back_equal(user, password):
    encoded = quote(user, safe="")
    if password is not None:
        encoded += ":" + quote(password, safe="")
    found = split_userinfo(f"https://{encoded}@db.example/sales")
    assert (found.uri, found.user, found.password) == ("https://db.example/sales", user, password)
    assert parse_uri(f"https://{encoded}@db.example/sales") == parse_uri("https://db.example/sales")


@thorough
@given(st.ip_addresses())
def test_an_ip_address_stays_the_same_address(address):
    assert ip_address(parse_uri(f"http://{bracketed(address)}").host) == address


@thorough
@given(remote_endpoints() | sockets)
def test_a_target_is_a_uri_that_grpc_knows(endpoint):
    assert endpoint.target.startswith(("dns:///", "unix:/"))
    assert endpoint.target.isascii()
    assert " " not in endpoint.target
