"""What a connection's channel is: a view of channels that others may look at as well."""

from __future__ import annotations

import copy
import os
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support.fake_milvus import PATIENCE_S, VERSION, fake_milvus
from tests.support.faults import LOOPBACK
from zconfig.channel.core import CorePool, Material, channel_options, read_material
from zconfig.channel.view import ChannelView
from zconfig.endpoint import parse
from zconfig.errors import ClosedError
from zconfig.spec import ConnectionSpec, TLSFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates
    from zconfig.channel.view import Metadata

    # Makes one call on a channel, and returns the metadata that arrived.
    Caller = Callable[[grpc.Channel, Any], dict[str, str]]

OWN: Metadata = (("authorization", "own"), ("dbname", "sales"))
PLAIN = ConnectionSpec("prod", parse("http://localhost:19530"))
VERSION_METHOD = "/milvus.proto.milvus.MilvusService/GetVersion"


# --- a server of all four kinds of methods -------------------------------------------------


def told(context: Any, request: bytes = b"") -> bytes:
    """Return the metadata of a call and the connection it came over, as text."""
    ours = [pair for pair in context.invocation_metadata() if pair[0] != "user-agent"]
    seen = {"peer": context.peer(), "request": request.decode(), **dict(ours)}
    return "\n".join(f"{key}={value}" for key, value in seen.items()).encode()


def understood(answer: bytes) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in answer.decode().splitlines())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a server tells each caller what came along with the call."""
    handlers: dict[str, Any] = {
        "uu": grpc.unary_unary_rpc_method_handler(lambda _, context: told(context)),
        "us": grpc.unary_stream_rpc_method_handler(lambda _, context: iter([told(context)])),
        "su": grpc.stream_unary_rpc_method_handler(lambda asked, c: told(c, b"".join(asked))),
        "ss": grpc.stream_stream_rpc_method_handler(lambda asked, c: (told(c) for _ in asked)),
        "slow": grpc.unary_unary_rpc_method_handler(wait_for_the_end),
    }
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", handlers),))
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        server.start()
        yield f"{LOOPBACK}:{port}"
        server.stop(None).wait()


def wait_for_the_end(_: bytes, context: Any) -> bytes:
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait()
    return b""


@contextmanager
def viewed(address: str, count: int = 1) -> Iterator[ChannelView]:
    """Look at channels of their own, which are closed afterwards."""
    spec = replace(PLAIN, pool_size=count)
    core = CorePool().acquire(address, spec, None)
    try:
        yield ChannelView("prod", core.channels, OWN)
    finally:
        core.release()


def uu(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.unary_unary("/t/uu")
    return understood(method(b"", timeout=PATIENCE_S, metadata=metadata))


def uu_with_call(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.unary_unary("/t/uu")
    answer, call = method.with_call(b"", timeout=PATIENCE_S, metadata=metadata)
    assert call.code() is grpc.StatusCode.OK
    return understood(answer)


def uu_future(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.unary_unary("/t/uu")
    return understood(method.future(b"", timeout=PATIENCE_S, metadata=metadata).result())


def us(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.unary_stream("/t/us")
    (answer,) = method(b"", timeout=PATIENCE_S, metadata=metadata)
    return understood(answer)


def su(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.stream_unary("/t/su")
    seen = understood(method(iter([b"1", b"2"]), timeout=PATIENCE_S, metadata=metadata))
    assert seen["request"] == "12"
    return seen


def su_with_call(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.stream_unary("/t/su")
    answer, call = method.with_call(iter([]), timeout=PATIENCE_S, metadata=metadata)
    assert call.code() is grpc.StatusCode.OK
    return understood(answer)


def su_future(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.stream_unary("/t/su")
    return understood(method.future(iter([]), timeout=PATIENCE_S, metadata=metadata).result())


def ss(channel: grpc.Channel, metadata: Any = None) -> dict[str, str]:
    method: Any = channel.stream_stream("/t/ss")
    first, second = method(iter([b"1", b"2"]), timeout=PATIENCE_S, metadata=metadata)
    assert first == second
    return understood(first)


every_kind = pytest.mark.parametrize(
    "call", [uu, uu_with_call, uu_future, us, su, su_with_call, su_future, ss]
)


def metadata_in(seen: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in seen.items() if key not in {"peer", "request"}}


# --- metadata ------------------------------------------------------------------------------


@every_kind
def test_each_call_carries_the_alias_metadata(address: str, call: Caller) -> None:
    with viewed(address) as view:
        assert metadata_in(call(view, None)) == {"authorization": "own", "dbname": "sales"}


@every_kind
def test_the_callers_metadata_is_added_and_its_keys_win(address: str, call: Caller) -> None:
    with viewed(address) as view:
        seen = call(view, [("authorization", "mine"), ("a-request", "7")])
    assert metadata_in(seen) == {"authorization": "mine", "dbname": "sales", "a-request": "7"}


def test_metadata_that_can_be_read_once_only_arrives_whole(address: str) -> None:
    with viewed(address) as view:
        seen = metadata_in(uu(view, iter([("a", "1"), ("b", "2")])))
    assert seen == {"authorization": "own", "dbname": "sales", "a": "1", "b": "2"}


def test_new_metadata_counts_for_stubs_made_before(address: str) -> None:
    with viewed(address) as view:
        method: Any = view.unary_unary("/t/uu")
        view.metadata = (("authorization", "rotated"),)
        seen = understood(method(b"", timeout=PATIENCE_S))
    assert metadata_in(seen) == {"authorization": "rotated"}


pairs = st.lists(st.tuples(st.sampled_from("abcd"), st.text("xyz", max_size=2)), max_size=6)


@given(own=pairs, given_=pairs)
def test_merging_keeps_all_of_the_callers_pairs_and_only_adds_keys_it_lacks(
    own: list[tuple[str, str]], given_: list[tuple[str, str]]
) -> None:
    view = ChannelView("prod", [grpc_channel_of_nobody()], tuple(own))
    merged = list(view.merge(given_))
    keys = {key for key, _ in given_}
    assert merged[: len(given_)] == given_
    assert merged[len(given_) :] == [pair for pair in own if pair[0] not in keys]


def grpc_channel_of_nobody() -> Any:
    return object()


# --- an owner that takes it back -----------------------------------------------------------


@every_kind
def test_a_revoked_view_raises_closed_error(address: str, call: Caller) -> None:
    with viewed(address) as view:
        view.revoke()
        with pytest.raises(ClosedError) as caught:
            call(view, None)
    assert caught.value.alias == "prod"


def test_stubs_made_before_raise_closed_error_once_the_view_is_revoked(address: str) -> None:
    with viewed(address) as view:
        unary: Any = view.unary_unary("/t/uu")
        client_stream: Any = view.stream_unary("/t/su")
        calls: list[Callable[[], Any]] = [
            lambda: unary(b""),
            lambda: unary.with_call(b""),
            lambda: unary.future(b""),
            lambda: client_stream(iter([])),
            lambda: client_stream.with_call(iter([])),
            lambda: client_stream.future(iter([])),
            lambda: view.unary_stream("/t/us")(b""),
            lambda: view.stream_stream("/t/ss")(iter([])),
            lambda: view.subscribe(print),
        ]
        view.revoke()
        for call in calls:
            with pytest.raises(ClosedError):
                call()
        view.unsubscribe(print)
    assert repr(view) == "<ChannelView of 'prod', closed>"


def test_a_channel_closed_between_the_check_and_the_call_is_a_closed_error(address: str) -> None:
    with viewed(address) as view:
        method: Any = view.unary_unary("/t/uu")
        merge = view.merge

        def merge_while_another_thread_closes(metadata: Any) -> Any:
            merged = merge(metadata)
            (channel,) = view._channels
            view.revoke()
            channel.close()
            return merged

        view.merge = merge_while_another_thread_closes  # type: ignore[method-assign] # a slow thread
        with pytest.raises(ClosedError) as caught:
            method(b"", timeout=PATIENCE_S)
    assert caught.value.__cause__ is None


def test_a_value_error_of_an_open_view_is_the_callers() -> None:
    class PickyChannel:
        def unary_unary(self, method: str) -> Any:
            def call(request: bytes, timeout: float | None, metadata: Any) -> bytes:
                raise ValueError("what the caller passed")

            return call

    view = ChannelView("prod", [PickyChannel()], ())  # type: ignore[list-item] # all that is used
    method: Any = view.unary_unary("/t/uu")
    with pytest.raises(ValueError, match="what the caller passed"):
        method(b"")


def test_revoking_waits_until_a_stub_is_made() -> None:
    made, go_on = threading.Event(), threading.Event()

    class SlowChannel:
        def unary_unary(self, method: str) -> Any:
            made.set()
            assert go_on.wait(PATIENCE_S)
            return print

    view = ChannelView("prod", [SlowChannel()], ())  # type: ignore[list-item] # all that is used
    with futures.ThreadPoolExecutor(2) as pool:
        stub = pool.submit(view.unary_unary, "/t/uu")
        assert made.wait(PATIENCE_S)
        revoked = pool.submit(view.revoke)
        with pytest.raises(TimeoutError):
            revoked.result(0.05)
        go_on.set()
        stub.result(PATIENCE_S)
        revoked.result(PATIENCE_S)
    assert not view.is_open


def test_a_view_is_abandoned_though_a_thread_that_is_gone_holds_its_lock() -> None:
    view = ChannelView("prod", [grpc_channel_of_nobody()], ())
    view._lock.acquire()
    ends_soon(view.abandon)
    assert not view.is_open


def ends_soon(do: Callable[[], None]) -> None:
    """Do something in a thread that may hang, and see that it does not."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_revoked_view_leaves_other_views_of_the_same_channel_alone(address: str) -> None:
    with viewed(address) as view:
        other = ChannelView("other", view._channels, (("authorization", "other"),))
        view.revoke()
        assert uu(other)["authorization"] == "other"


# --- what users do with a channel ----------------------------------------------------------


def test_closing_a_view_closes_nothing(address: str) -> None:
    with viewed(address) as view:
        view.close()
        with view as same:
            assert same is view
        assert uu(view)["authorization"] == "own"


def test_a_deep_copy_is_the_view_itself(address: str) -> None:
    with viewed(address) as view:
        assert copy.deepcopy({"channel": view})["channel"] is view


def test_its_representation_names_the_alias_and_no_secret(address: str) -> None:
    with viewed(address) as view:
        assert repr(view) == "<ChannelView of 'prod', open>"


@contextmanager
def watcher_ends() -> Iterator[None]:
    """Wait for the thread in which gRPC watches a channel: it fails if the channel closes first."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + PATIENCE_S
    while any(not t.name.startswith("ThreadPool") for t in {*threading.enumerate()} - before):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_channel_can_be_waited_for(address: str) -> None:
    with viewed(address) as view, watcher_ends():
        grpc.channel_ready_future(view).result(PATIENCE_S)


def test_a_subscription_reports_the_state_until_it_is_taken_back(address: str) -> None:
    states: list[grpc.ChannelConnectivity] = []
    ready = threading.Event()

    def note(state: grpc.ChannelConnectivity) -> None:
        states.append(state)
        if state is grpc.ChannelConnectivity.READY:
            ready.set()

    with viewed(address) as view:
        with watcher_ends():
            view.subscribe(note, try_to_connect=True)
            assert ready.wait(PATIENCE_S)
            view.unsubscribe(note)
        seen = len(states)
    assert len(states) == seen


class Tracing(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds metadata to every call, as tracing does."""

    def _add(self, continuation: Any, details: Any, request: Any) -> Any:
        traced = (*(details.metadata or ()), ("traceparent", "00-1"))
        return continuation(details._replace(metadata=traced), request)

    intercept_unary_unary: Any = _add
    intercept_unary_stream: Any = _add
    intercept_stream_unary: Any = _add
    intercept_stream_stream: Any = _add


@every_kind
def test_it_can_be_intercepted(address: str, call: Caller) -> None:
    with viewed(address) as view:
        seen = call(grpc.intercept_channel(view, Tracing()), [("dbname", "other")])
    assert seen["traceparent"] == "00-1"
    assert seen["authorization"] == "own"
    assert seen["dbname"] == "other"


def test_pymilvus_generated_stub_works_on_it() -> None:
    with fake_milvus() as server, viewed(f"{LOOPBACK}:{server.port}") as view:
        stub = milvus_pb2_grpc.MilvusServiceStub(view)
        reply = stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=PATIENCE_S)
        assert reply.version == VERSION
        assert server.calls[0].metadata["authorization"] == "own"


# --- the channels underneath ---------------------------------------------------------------


def test_calls_take_turns_on_the_connections_of_a_pool(address: str) -> None:
    with viewed(address, count=4) as view:
        method: Any = view.unary_unary("/t/uu")
        peers = [understood(method(b"", timeout=PATIENCE_S))["peer"] for _ in range(8)]
    assert len(set(peers)) == 4
    assert peers[:4] == peers[4:]


def test_without_a_pool_all_calls_share_a_connection(address: str) -> None:
    with viewed(address) as view:
        assert len({uu(view)["peer"] for _ in range(8)}) == 1


def test_borrowers_of_one_target_share_a_tcp_connection(address: str) -> None:
    pool = CorePool()
    one = pool.acquire(address, PLAIN, None)
    other = pool.acquire(address, replace(PLAIN, alias="other", db_name="other"), None)
    peers = {uu(core.channels[0])["peer"] for core in (one, other)}
    one.release()
    other.release()
    assert len(peers) == 1


def test_the_last_release_closes_and_an_earlier_one_does_not(address: str) -> None:
    pool = CorePool()
    one, other = pool.acquire(address, PLAIN, None), pool.acquire(address, PLAIN, None)
    one.release()
    one.release()
    uu(other.channels[0])
    other.release()
    with pytest.raises(ValueError, match="closed channel"):
        uu(other.channels[0])
    again = pool.acquire(address, PLAIN, None)
    uu(again.channels[0])
    again.release()


def test_the_last_release_cancels_what_is_in_flight(address: str) -> None:
    core = CorePool().acquire(address, PLAIN, None)
    slow: Any = core.channels[0].unary_unary("/t/slow")
    call = slow.future(b"", timeout=PATIENCE_S)
    core.release()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        call.result(PATIENCE_S)
    assert call.code() is grpc.StatusCode.CANCELLED


def test_forgotten_channels_are_neither_shared_again_nor_closed(address: str) -> None:
    pool = CorePool()
    before = pool.acquire(address, PLAIN, None)
    pool.forget()
    after = pool.acquire(address, PLAIN, None)
    assert after.channels != before.channels
    after.release()
    uu(before.channels[0])
    before.channels[0].close()


def test_a_pool_is_forgotten_though_a_thread_that_is_gone_holds_its_lock(address: str) -> None:
    pool = CorePool()
    pool._lock.acquire()
    ends_soon(pool.forget)
    ends_soon(lambda: pool.acquire(address, PLAIN, None).release())


def shared(one: ConnectionSpec, other: ConnectionSpec) -> bool:
    """Return whether two specifications get the same channels, once their files are read."""
    pool = CorePool()
    cores = [
        pool.acquire("dns:///db:1", spec, read_material(spec.tls) if spec.endpoint.secure else None)
        for spec in (one, other)
    ]
    for core in cores:
        core.release()
    return cores[0].channels == cores[1].channels


def tls(certificates: Certificates, **files: Any) -> ConnectionSpec:
    trust = TLSFiles(ca=str(certificates.ca))
    return ConnectionSpec("prod", parse("https://db:1"), tls=replace(trust, **files))


def test_aliases_with_the_same_tls_identity_share(certificates: Certificates) -> None:
    one = tls(certificates)
    assert shared(one, replace(one, alias="other", db_name="other"))


def test_aliases_with_different_tls_identities_do_not_share(certificates: Certificates) -> None:
    pair = {"cert": str(certificates.client.cert), "key": str(certificates.client.key)}
    one = tls(certificates)
    assert not shared(one, tls(certificates, ca=str(certificates.other_ca)))
    assert not shared(one, tls(certificates, **pair))
    assert not shared(one, tls(certificates, server_name="other.test"))
    assert not shared(one, PLAIN)


@pytest.mark.parametrize(
    "change",
    [{"keepalive_s": 60.0}, {"proxy": "off"}, {"proxy": "http://proxy:3128"}, {"pool_size": 2}],
)
def test_aliases_with_other_options_do_not_share(change: dict[str, Any]) -> None:
    assert not shared(PLAIN, replace(PLAIN, **change))


def test_aliases_that_differ_in_credentials_alone_share() -> None:
    with_token = replace(PLAIN, credentials=None, required=False, timeout_s=1.0)
    assert shared(PLAIN, with_token)


def test_tls_material_is_not_shown(certificates: Certificates) -> None:
    key = certificates.client.key
    material = Material(key=key.read_bytes())
    assert repr(material) == "Material()"
    assert "PRIVATE" not in material.identity


# --- options -------------------------------------------------------------------------------


def option(name: str, **changes: Any) -> Any:
    return dict(channel_options(replace(PLAIN, **changes))).get(f"grpc.{name}")


def test_keepalive_pings_are_sent_as_often_as_configured() -> None:
    assert option("keepalive_time_ms", keepalive_s=12.5) == 12_500
    assert option("keepalive_time_ms", keepalive_s=0) is None


def test_only_frequent_pings_are_sent_on_idle_connections() -> None:
    assert option("keepalive_permit_without_calls", keepalive_s=30) == 1
    assert option("keepalive_permit_without_calls", keepalive_s=300) is None
    assert option("keepalive_permit_without_calls", keepalive_s=0) is None


def test_a_proxy_is_used_as_configured() -> None:
    assert option("enable_http_proxy", proxy="off") == 0
    assert option("http_proxy", proxy="http://proxy:3128") == "http://proxy:3128"
    assert option("enable_http_proxy") is None
    assert option("http_proxy") is None


def test_an_embedded_server_is_never_dialed_through_a_proxy() -> None:
    assert option("enable_http_proxy", endpoint=parse("./x.db")) == 0


def test_a_process_shares_no_channel_with_its_parent() -> None:
    assert dict(channel_options(PLAIN))["zconfig.pid"] == os.getpid()


def test_messages_are_not_limited() -> None:
    assert option("max_receive_message_length") == -1
    assert option("max_send_message_length") == -1
