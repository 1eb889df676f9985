"""What a connection's channel is: a view of channels that others may look at as well."""

from __future__ import annotations

import copy
import os
import queue
import threading
import time
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support import PATIENCE_S, faults
from tests.support.faults import LOOPBACK
from zconfig._channel import multicallables
from zconfig._channel.bound_channel import BoundChannel, Metadata
from zconfig._channel.channels import (
    ChannelPool,
    ChannelRecipe,
    SharedChannel,
    TLSMaterial,
    channel_options,
    read_material,
)
from zconfig._channel.fork_gate import GATE, ForkGate
from zconfig._channel.view import ChannelView
from zconfig._endpoint import parse_uri
from zconfig._redaction import Secret
from zconfig._spec import ConnectionSpec, TLSFiles
from zconfig.errors import ClosedError
from zconfig.testing import fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certificates import Certificates
    from zconfig._channel.channels import ChannelRef

    # Makes one call on a channel, and returns the metadata that arrived.
    Caller = Callable[[grpc.Channel, Any], dict[str, str]]

OWN: Metadata = (("authorization", "own"), ("dbname", "sales"))
PLAIN = ConnectionSpec("prod", parse_uri("http://localhost:19530"))
VERSION_METHOD = "/milvus.proto.milvus.MilvusService/GetVersion"
RECIPE = ChannelRecipe("localhost:19530", (), None, 1)


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
        "guarded": grpc.unary_unary_rpc_method_handler(admit_the_new),
        "left": grpc.unary_unary_rpc_method_handler(lambda _, c: str(c.time_remaining()).encode()),
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


class Holder:
    """Has channels to an address, as a connection has.

    Attributes:
        newer: Makes the line that is found when credentials were refused.
        asked: How often newer credentials were asked for.
        doubts: How often a call got no answer.
        wakings: With how many seconds to spare it was woken.
    """

    alias = "prod"

    def __init__(self, address: str, count: int = 1) -> None:
        self._address = address
        self._spec = replace(PLAIN, pool_size=count)
        self._loans: list[ChannelRef] = []
        self.is_closed = False
        self.newer: Callable[[], BoundChannel] | None = None
        self.asked = self.doubts = 0
        self.wakings: list[float | None] = []
        self.bound: BoundChannel | None = self.dial()

    def dial(self) -> BoundChannel:
        """Return a line over new channels."""
        self._loans.append(ChannelPool().acquire(self._address, self._spec, None))
        return BoundChannel(self.alias, self._loans[-1].shared, OWN)

    def close(self) -> None:
        self.is_closed, self.bound = True, None
        for loan in self._loans:
            loan.release()

    def ensure_open(self, timeout_s: float | None) -> BoundChannel:
        self.wakings.append(timeout_s)
        if self.is_closed:
            raise ClosedError(self.alias)
        self.bound = self.bound or self.dial()
        return self.bound

    def renew(self, bound: BoundChannel, timeout_s: float | None) -> BoundChannel | None:
        self.asked += 1
        if self.newer:
            self.bound = self.newer()
        return None if self.bound is bound else self.bound

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        del at_once
        assert bound is self.bound
        self.doubts += 1
        return "the cable is out"


def admit_the_new(_: bytes, context: Any) -> bytes:
    if dict(context.invocation_metadata()).get("authorization") != "new":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")
    return told(context) + f"\nremaining_s={context.time_remaining()}".encode()


@contextmanager
def held(address: str, count: int = 1) -> Iterator[tuple[Holder, ChannelView]]:
    """Look at channels of their own, which are closed afterwards."""
    holder = Holder(address, count)
    try:
        yield holder, ChannelView(holder)
    finally:
        holder.close()


@contextmanager
def viewed(address: str, count: int = 1) -> Iterator[ChannelView]:
    with held(address, count) as (_, view):
        yield view


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
    return {
        key: value for key, value in seen.items() if key not in {"peer", "request", "remaining_s"}
    }


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
    with held(address) as (holder, view):
        method: Any = view.unary_unary("/t/uu")
        method(b"", timeout=PATIENCE_S)
        assert holder.bound
        holder.bound = replace(holder.bound, metadata=(("authorization", "rotated"),))
        seen = understood(method(b"", timeout=PATIENCE_S))
    assert metadata_in(seen) == {"authorization": "rotated"}


pairs = st.lists(st.tuples(st.sampled_from("abcd"), st.text("xyz", max_size=2)), max_size=6)


@given(own=pairs, given_=pairs)
def test_merging_keeps_all_of_the_callers_pairs_and_only_adds_keys_it_lacks(
    own: list[tuple[str, str]], given_: list[tuple[str, str]]
) -> None:
    merged = list(BoundChannel("prod", SharedChannel(RECIPE, []), tuple(own)).merge(given_))
    keys = {key for key, _ in given_}
    assert merged[: len(given_)] == given_
    assert merged[len(given_) :] == [pair for pair in own if pair[0] not in keys]


# --- an owner that takes it back -----------------------------------------------------------


@every_kind
def test_a_view_of_a_closed_connection_raises_closed_error(address: str, call: Caller) -> None:
    with held(address) as (holder, view):
        holder.close()
        with pytest.raises(ClosedError) as caught:
            call(view, None)
    assert caught.value.alias == "prod"
    assert caught.value.__context__ is None


def calls_of(view: ChannelView) -> list[Callable[[], Any]]:
    """Return every way to make a call, on stubs that are made now."""
    unary: Any = view.unary_unary("/t/uu")
    server_stream: Any = view.unary_stream("/t/us")
    client_stream: Any = view.stream_unary("/t/su")
    both: Any = view.stream_stream("/t/ss")
    return [
        lambda: unary(b"", timeout=PATIENCE_S),
        lambda: unary.with_call(b"", timeout=PATIENCE_S)[0],
        lambda: unary.future(b"", timeout=PATIENCE_S).result(),
        lambda: client_stream(iter([]), timeout=PATIENCE_S),
        lambda: client_stream.with_call(iter([]), timeout=PATIENCE_S)[0],
        lambda: client_stream.future(iter([]), timeout=PATIENCE_S).result(),
        lambda: next(server_stream(b"", timeout=PATIENCE_S)),
        lambda: next(both(iter([b""]), timeout=PATIENCE_S)),
    ]


def test_stubs_made_before_raise_closed_error_once_it_is_closed(address: str) -> None:
    with held(address) as (holder, view):
        calls = [*calls_of(view), lambda: view.subscribe(print)]
        for call in calls[:-1]:
            call()
        holder.close()
        for call in calls:
            with pytest.raises(ClosedError):
                call()
        view.unsubscribe(print)


def test_stubs_made_before_dial_anew_where_the_line_was_cut(address: str) -> None:
    with held(address) as (holder, view):
        for call in calls_of(view):
            call()
            holder.bound = None
            assert metadata_in(understood(call())) == dict(OWN)
    assert holder.wakings == [PATIENCE_S] * 8


def test_a_line_that_is_cut_between_the_look_and_the_call_is_dialed_anew(address: str) -> None:
    with held(address) as (holder, view):
        for call in calls_of(view):
            call()
            bound = holder.bound
            assert bound
            bound.shared.close()
            holder.bound = None
            holder.ensure_open = late(bound, holder.ensure_open)  # type: ignore[method-assign] # a slow thread
            assert understood(call())["peer"]
            del holder.ensure_open


@pytest.mark.parametrize("how", ["call", "with_call", "future"])
def test_a_call_that_dials_first_has_what_is_left_of_its_timeout(
    address: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def slow(timeout_s: float | None) -> BoundChannel:
        now[0] += 500
        return ensure_open(timeout_s)

    monkeypatch.setattr(multicallables, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with held(address) as (holder, view):
        method: Any = view.unary_unary("/t/left")
        holder.bound, ensure_open = None, holder.ensure_open
        holder.ensure_open = slow  # type: ignore[method-assign]
        left = {
            "call": lambda: method(b"", timeout=600),
            "with_call": lambda: method.with_call(b"", timeout=600)[0],
            "future": lambda: method.future(b"", timeout=600).result(),
        }[how]()
    assert 0 < float(left) < 102  # gRPC rounds up


def late(
    bound: BoundChannel, ensure_open: Callable[[float | None], BoundChannel]
) -> Callable[[float | None], BoundChannel]:
    """Return what gives a line that is closed already the first time."""
    answers = iter([bound])
    return lambda timeout_s: next(answers, None) or ensure_open(timeout_s)


def test_a_value_error_of_an_open_view_is_the_callers(address: str) -> None:
    class PickyChannel:
        def unary_unary(self, *_: object) -> Any:
            def call(request: bytes, timeout: float | None, metadata: Any) -> bytes:
                raise ValueError("what the caller passed")

            return call

    with held(address) as (holder, view):
        core = SharedChannel(RECIPE, [PickyChannel()])
        holder.bound = BoundChannel("prod", core, ())
        method: Any = view.unary_unary("/t/uu")
        with pytest.raises(ValueError, match="what the caller passed"):
            method(b"")


def test_closing_waits_until_a_stub_is_made() -> None:
    made, go_on = threading.Event(), threading.Event()

    class SlowChannel:
        def close(self) -> None:
            assert go_on.is_set()

        def make(self) -> None:
            made.set()
            assert go_on.wait(PATIENCE_S)

    core = SharedChannel(RECIPE, [SlowChannel()])
    with futures.ThreadPoolExecutor(2) as pool:
        stub = pool.submit(core.make, lambda channel: channel.make())
        assert made.wait(PATIENCE_S)
        closed = pool.submit(core.close)
        with pytest.raises(TimeoutError):
            closed.result(0.05)
        go_on.set()
        stub.result(PATIENCE_S)
        closed.result(PATIENCE_S)
    with pytest.raises(ValueError, match="closed"):
        core.first(print)


# --- credentials that are refused ----------------------------------------------------------


def guarded(view: ChannelView) -> list[Callable[[], Any]]:
    """Return every way to make a unary call for which credentials are needed."""
    method: Any = view.unary_unary("/t/guarded")
    return [
        lambda: method(b"", timeout=PATIENCE_S),
        lambda: method.with_call(b"", timeout=PATIENCE_S)[0],
        lambda: method.future(b"", timeout=PATIENCE_S).result(PATIENCE_S),
    ]


def with_credentials(holder: Holder, secret: str) -> BoundChannel:
    assert holder.bound
    return replace(holder.bound, metadata=(("authorization", secret),))


def test_what_was_refused_is_asked_again_with_newer_credentials(address: str) -> None:
    with held(address) as (holder, view):
        for call in guarded(view):
            holder.bound = with_credentials(holder, "old")
            holder.newer = lambda: with_credentials(holder, "new")
            assert understood(call())["authorization"] == "new"
    assert holder.asked == 3


def test_what_is_refused_again_and_again_is_not_asked_for_ever(address: str) -> None:
    with held(address) as (holder, view):
        for call in guarded(view):
            holder.newer = lambda: with_credentials(holder, "newer but wrong")
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert holder.asked <= 12  # four a call


def test_what_is_refused_stays_refused_where_nothing_newer_is_found(address: str) -> None:
    with held(address) as (holder, view):
        for call in guarded(view):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert holder.asked == 3


def test_credentials_of_the_callers_own_are_not_replaced(address: str) -> None:
    with held(address) as (holder, view):
        method: Any = view.unary_unary("/t/guarded")
        with pytest.raises(grpc.RpcError):
            method(b"", timeout=PATIENCE_S, metadata=[("authorization", "mine")])
    assert holder.asked == 0


def test_the_callers_metadata_come_along_with_the_second_call(address: str) -> None:
    with held(address) as (holder, view):
        holder.newer = lambda: with_credentials(holder, "new")
        method: Any = view.unary_unary("/t/guarded")
        seen = understood(method(b"", timeout=PATIENCE_S, metadata=iter([("a", "1")])))
    assert metadata_in(seen) == {"authorization": "new", "a": "1"}


def test_the_second_call_has_the_rest_of_the_time(address: str) -> None:
    with held(address) as (holder, view):

        def slowly() -> BoundChannel:
            time.sleep(0.5)
            return with_credentials(holder, "new")

        holder.newer = slowly
        method: Any = view.unary_unary("/t/guarded")
        seen = understood(method(b"", timeout=5.0))
    assert float(seen["remaining_s"]) < 4.6


def test_a_future_is_begun_again_but_once_whoever_waits_for_it(address: str) -> None:
    with held(address) as (holder, view), futures.ThreadPoolExecutor(8) as pool:
        holder.newer = lambda: with_credentials(holder, "new")
        method: Any = view.unary_unary("/t/guarded")
        future = method.future(b"", timeout=PATIENCE_S)
        assert isinstance(future, grpc.Future)
        answers = list(pool.map(lambda _: future.result(PATIENCE_S), range(8)))
        assert len(set(answers)) == 1
        assert future.exception() is None
        assert future.code() is grpc.StatusCode.OK
    assert holder.asked == 1


def test_the_callback_of_a_future_is_given_the_answer_to_the_second_call(address: str) -> None:
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with held(address) as (holder, view):
        holder.newer = lambda: with_credentials(holder, "new")
        method: Any = view.unary_unary("/t/guarded")
        future = method.future(b"", timeout=PATIENCE_S)
        future.add_done_callback(lambda done: answers.put(done.result()))
        assert understood(answers.get(timeout=PATIENCE_S))["authorization"] == "new"


# --- calls without an answer ---------------------------------------------------------------


def test_the_owner_hears_of_every_call_without_an_answer() -> None:
    with faults.refused() as port, held(f"{LOOPBACK}:{port}") as (holder, view):
        for number, call in enumerate(calls_of(view), 1):
            with pytest.raises(grpc.RpcError):
                call()
            until(lambda: holder.doubts == number)  # noqa: B023 - called in this turn


def test_a_call_without_an_answer_says_why_if_that_is_known() -> None:
    with faults.refused() as port, held(f"{LOOPBACK}:{port}") as (_, view):
        for call in calls_of(view)[:3]:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            details = caught.value.details()
            assert details.endswith("; the cable is out")
            assert details.count("the cable is out") == 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_owner_hears_nothing_of_calls_with_an_answer(address: str) -> None:
    with held(address) as (holder, view):
        for call in [*calls_of(view), *guarded(view)]:
            with suppress(grpc.RpcError):
                call()
    assert holder.doubts == 0


# --- the gate -------------------------------------------------------------------------------


def test_a_closed_gate_lets_nobody_in_until_it_is_opened(address: str) -> None:
    with viewed(address) as view, futures.ThreadPoolExecutor(8) as pool:
        calls = calls_of(view)
        GATE.close(PATIENCE_S)
        try:
            waiting = [pool.submit(call) for call in calls]
            done, _ = futures.wait(waiting, 0.1)
            assert not done
        finally:
            GATE.open()
        for future in waiting:
            future.result(PATIENCE_S)


def test_closing_the_gate_waits_for_the_calls_that_are_inside(address: str) -> None:
    with viewed(address) as view, futures.ThreadPoolExecutor(1) as pool:
        slow: Any = view.unary_unary("/t/slow")
        call = slow.future(b"", timeout=PATIENCE_S)
        closing = pool.submit(GATE.close, PATIENCE_S)
        try:
            with pytest.raises(TimeoutError):
                closing.result(0.1)
            call.cancel()
            closing.result(PATIENCE_S)
        finally:
            GATE.open()


def test_closing_the_gate_does_not_wait_for_ever() -> None:
    gate = ForkGate()
    with gate:
        gate.close(0.01)
        gate.open()
    gate.close(PATIENCE_S)
    gate.open()


def test_a_gate_that_two_have_closed_is_opened_by_both() -> None:
    gate = ForkGate()
    gate.close(0)
    gate.close(0)
    gate.open()
    entered = threading.Thread(target=gate.enter, daemon=True)
    entered.start()
    entered.join(0.05)
    assert entered.is_alive()
    gate.open()
    entered.join(PATIENCE_S)
    assert not entered.is_alive()


def ends_soon(do: Callable[[], None]) -> None:
    """Do something in a thread that may hang, and see that it does not."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


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
        assert repr(view) == "<ChannelView of 'prod'>"


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
    with fake_server() as server, viewed(f"{LOOPBACK}:{server.port}") as view:
        stub = milvus_pb2_grpc.MilvusServiceStub(view)
        reply = stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=PATIENCE_S)
        assert reply.version == VERSION
        assert server.calls()[0].token == "own"


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


def same(channel: grpc.Channel) -> grpc.Channel:
    return channel


def test_borrowers_of_one_target_share_a_tcp_connection(address: str) -> None:
    pool = ChannelPool()
    one = pool.acquire(address, PLAIN, None)
    other = pool.acquire(address, replace(PLAIN, alias="other", db_name="other"), None)
    peers = {uu(loan.shared.first(same))["peer"] for loan in (one, other)}
    one.release()
    other.release()
    assert len(peers) == 1


@pytest.mark.parametrize(
    "look", [SharedChannel.is_failing, lambda core: core.connectivity(dial=True)]
)
def test_a_look_at_the_channels_is_under_way_in_no_fork(address: str, look: Any) -> None:
    loan = ChannelPool().acquire(address, PLAIN, None)
    with futures.ThreadPoolExecutor(1) as pool:
        GATE.close(PATIENCE_S)
        try:
            looking = pool.submit(look, loan.shared)
            with pytest.raises(TimeoutError):
                looking.result(0.2)
        finally:
            GATE.open()
        looking.result(PATIENCE_S)
    loan.release()


def test_the_last_release_closes_and_an_earlier_one_does_not(address: str) -> None:
    pool = ChannelPool()
    one, other = pool.acquire(address, PLAIN, None), pool.acquire(address, PLAIN, None)
    one.release()
    one.release()
    uu(other.shared.first(same))
    other.release()
    with pytest.raises(ValueError, match="closed"):
        other.shared.first(same)
    again = pool.acquire(address, PLAIN, None)
    uu(again.shared.first(same))
    again.release()


def test_the_last_release_cancels_what_is_in_flight(address: str) -> None:
    loan = ChannelPool().acquire(address, PLAIN, None)
    slow: Any = loan.shared.first(lambda channel: channel.unary_unary("/t/slow"))
    call = slow.future(b"", timeout=PATIENCE_S)
    loan.release()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        call.result(PATIENCE_S)
    assert call.code() is grpc.StatusCode.CANCELLED


def test_forgotten_channels_are_neither_shared_again_nor_closed(address: str) -> None:
    pool = ChannelPool()
    before = pool.acquire(address, PLAIN, None)
    pool.after_fork()
    after = pool.acquire(address, PLAIN, None)
    assert after.shared is not before.shared
    after.release()
    before.release()
    uu(before.shared.first(same))
    before.shared.close()


def test_a_pool_is_forgotten_though_a_thread_that_is_gone_holds_its_lock(address: str) -> None:
    pool = ChannelPool()
    pool._lock.acquire()
    vars(ChannelPool)["_lock"].renew()
    ends_soon(pool.after_fork)
    ends_soon(lambda: pool.acquire(address, PLAIN, None).release())


def shared(one: ConnectionSpec, other: ConnectionSpec) -> bool:
    """Return whether two specifications get the same channels, once their files are read."""
    pool = ChannelPool()
    loans = [
        pool.acquire("dns:///db:1", spec, read_material(spec.tls) if spec.endpoint.secure else None)
        for spec in (one, other)
    ]
    for loan in loans:
        loan.release()
    return loans[0].shared is loans[1].shared


def tls(certificates: Certificates, **files: Any) -> ConnectionSpec:
    trust = TLSFiles(ca=str(certificates.ca))
    return ConnectionSpec("prod", parse_uri("https://db:1"), tls=trust._replace(**files))


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
    [
        {"keepalive_s": 60.0},
        {"proxy": Secret("off")},
        {"proxy": Secret("http://proxy:3128")},
        {"pool_size": 2},
    ],
)
def test_aliases_with_other_options_do_not_share(change: dict[str, Any]) -> None:
    assert not shared(PLAIN, replace(PLAIN, **change))


def test_aliases_that_differ_in_credentials_alone_share() -> None:
    with_token = replace(PLAIN, credentials=None, required=False, timeout_s=1.0)
    assert shared(PLAIN, with_token)


def test_tls_material_is_not_shown(certificates: Certificates) -> None:
    key = certificates.client.key
    material = TLSMaterial(key=key.read_bytes())
    assert repr(material) == "TLSMaterial()"
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
    assert option("enable_http_proxy", proxy=Secret("off")) == 0
    assert option("http_proxy", proxy=Secret("http://proxy:3128")) == "http://proxy:3128"
    assert option("enable_http_proxy") is None
    assert option("http_proxy") is None


def test_an_embedded_server_is_never_dialed_through_a_proxy() -> None:
    assert option("enable_http_proxy", endpoint=parse_uri("./x.db")) == 0


def test_a_process_shares_no_channel_with_its_parent() -> None:
    assert dict(channel_options(PLAIN))["zconfig.pid"] == os.getpid()


def test_messages_are_not_limited() -> None:
    assert option("max_receive_message_length") == -1
    assert option("max_send_message_length") == -1
