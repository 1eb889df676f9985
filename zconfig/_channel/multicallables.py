"""Who has the channels that calls go over, and hears of the calls that fail."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import grpc

from zconfig._channel.bound_channel import AUTHORIZATION, BoundChannel
from zconfig._channel.channels import SharedChannel
from zconfig._channel.fork_gate import GATE
from zconfig.errors import ClosedError, ZConfigError

_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_DEMOTED = "STREAMING_CODE_REPLICATE_VIOLATION"
_DEMOTED_IN_REPLY = _DEMOTED.encode()
_LONGEST_FAILURE = 64 << 10  # bytes; what is larger than that is no status alone


class BoundChannelOwner(Protocol):
    """Has the channels that views look at, and hears how their calls go."""

    @property
    def alias(self) -> str:
        """For whom calls are made."""

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""

    @property
    def bound(self) -> BoundChannel | None:
        """What calls go over just now; `None` where it is closed, or has yet to dial."""

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Hear that a server may be lost, or not the one to ask any more.

        Args:
            bound: What the call went over that failed.
            at_once: Whether that is looked into at once, or within half a second.

        Returns:
            Why the server is lost, if that is known already.
        """


class ChannelOwner(BoundChannelOwner, Protocol):
    """Has the channels of threads."""

    def ensure_open(self, timeout_s: float | None) -> BoundChannel:
        """Return the bound channel, after dialing if need be.

        Raises:
            ClosedError: It is closed for good.
            ConnectError: The server cannot be reached.
        """

    def renew(self, bound: BoundChannel, timeout_s: float | None) -> BoundChannel | None:
        """Return a bound channel to repeat a call on whose credentials were refused on this one.

        Raises:
            ClosedError: It was closed for good meanwhile.
            ConnectError: It was closed meanwhile, and cannot be opened anew.
        """


def report_failure(
    owner: BoundChannelOwner, bound: BoundChannel, code: grpc.StatusCode, details: str | None
) -> str:
    """Tell an owner of a call that has ended; return why its server is lost, if that is known."""
    if code in _LOST:
        return owner.report_failure(bound)
    if _DEMOTED in (details or ""):
        owner.report_failure(bound, at_once=False)
    return ""


def reporting_demotion(owner: BoundChannelOwner, deserialize: Callable[[bytes], Any] | None) -> Any:
    """Return a deserializer that tells the owner where a server is the primary no longer.

    Milvus says so in the status inside of a reply. Where there is one server only, it is the same
    deserializer.
    """
    if not (owner.bound and owner.bound.follows):
        return deserialize

    def deserialized(reply: bytes) -> Any:
        if len(reply) < _LONGEST_FAILURE and _DEMOTED_IN_REPLY in reply and (bound := owner.bound):
            owner.report_failure(bound, at_once=False)
        return deserialize(reply) if deserialize else reply

    return deserialized


class RetryingFuture:
    """A gRPC future whose call is made once more where newer credentials are found.

    Everything else is as with the future that gRPC gives.

    Args:
        call: The future that gRPC gave.
        again: Makes the call once more, given what it failed of; returns it when it has ended, or
            `None` if there is no use in that.
    """

    def __init__(self, call: Any, again: Callable[[grpc.RpcError], Any]) -> None:
        self._call = call
        self._again: Callable[[grpc.RpcError], Any] | None = again
        self._lock = threading.Lock()

    def result(self, timeout: float | None = None) -> Any:
        """Return the response, or raise why there is none; see `grpc.Future.result`."""
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            if not self._is_made_again(error):
                raise
        return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        """Return what the call failed of, or `None`; see `grpc.Future.exception`."""
        error = self._call.exception(timeout)
        if isinstance(error, grpc.RpcError) and self._is_made_again(error):
            return self._call.exception(timeout)
        return error

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have a function called with this future when it is done."""
        self._call.add_done_callback(lambda _: fn(self))

    def _is_made_again(self, error: grpc.RpcError) -> bool:
        """Make the call again, once; tell whether this or another thread has done so."""
        with self._lock:
            again, self._again = self._again, None
            call = again(error) if again else None
            self._call = call or self._call
            return self._call is not error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class FailedCall:
    """A call that was refused, and could not be made again.

    Args:
        call: The call, which has ended.
        failure: Why it could not.
    """

    def __init__(self, call: Any, failure: ZConfigError) -> None:
        self._call = call
        self._failure = failure

    def result(self, _: float | None = None) -> NoReturn:
        """Raise why there is no response."""
        raise self._failure

    def exception(self, _: float | None = None) -> ZConfigError:
        """Return why there is no response."""
        return self._failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


grpc.Future.register(RetryingFuture)
grpc.Call.register(RetryingFuture)


_RENEWALS = 3  # credentials may be replaced once more while a call is made again

T = TypeVar("T")
_Given = dict[str, Any]  # the arguments of a call by name, but for the request


class _Bound(NamedTuple):
    """The method on each of the shared channels, in turn."""

    shared: SharedChannel
    turns: Iterator[Any]


class _Method:
    """A method, on each of the channels in turn.

    Args:
        owner: Who has the channels.
        make: Makes the method of a channel.
    """

    def __init__(self, owner: ChannelOwner, make: Callable[[grpc.Channel], Any]) -> None:
        self._owner = owner
        self._make = make
        self._made: _Bound | None = None
        if owner.is_closed:
            raise ClosedError(owner.alias)

    def _on_current(self, given: _Given, do: Callable[[BoundChannel, _Given], T]) -> T:
        """Do something on the bound channel; if it was closed just then, on its successor.

        Args:
            given: The arguments of a call.
            do: It is given them with the timeout that is left.
        """
        deadline = _deadline(given["timeout"])
        while True:
            bound = self._owner.bound
            if bound is None:
                bound = self._owner.ensure_open(given["timeout"])
                given = _later(given, deadline)
            try:
                return do(bound, given)
            except ValueError:  # what gRPC says of a closed channel, and of a wrong argument
                if self._owner.bound is bound:
                    raise
                given = _later(given, deadline)

    def _start(
        self, bound: BoundChannel, how: Callable[..., Any], request: Any, given: _Given
    ) -> Any:
        made = self._made
        if made is None or made.shared is not bound.shared:
            made = _Bound(bound.shared, itertools.cycle(bound.shared.make(self._make)))
            self._made = made
        metadata = bound.merge(given["metadata"])
        return how(next(made.turns), request, **{**given, "metadata": metadata})

    def _begin(self, bound: BoundChannel, request: Any, given: _Given) -> Any:
        """Start a call that is waited for later; it is inside the gate until it has ended."""
        GATE.enter()
        try:
            future = self._start(bound, _future, request, given)
        except BaseException:  # Ctrl-C too must leave the gate
            GATE.leave()
            raise
        future.add_done_callback(lambda done: self._done(bound, done))
        return future

    def _done(self, bound: BoundChannel, future: Any) -> None:
        GATE.leave()
        self._report(bound, future)

    def _report(self, bound: BoundChannel, call: Any) -> None:
        """Tell the owner of a call that got no answer, and the caller what is known of that."""
        if why := report_failure(self._owner, bound, call.code(), call.details()):
            _add_to_details(call, why)


class StreamResponse(_Method):
    """A method that answers with a stream."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Start a call, and return it, as gRPC's own multi-callable does."""

        def begin(bound: BoundChannel, given: _Given) -> Any:
            with GATE:  # for the start alone: a stream may go on for hours
                call = self._start(bound, _blocking, request, given)
            if not call.add_callback(lambda: self._report(bound, call)):
                self._report(bound, call)  # it has ended already
            return call

        return self._on_current(_arguments(timeout, metadata, kwargs), begin)


class UnaryResponse(_Method):
    """A method with one response."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Make a call, and return its response."""
        return self._wait(_blocking, request, _arguments(timeout, metadata, kwargs))

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Make a call, and return its response and the `grpc.Call`."""
        return self._wait(_with_call, request, _arguments(timeout, metadata, kwargs))

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Start a call, and return its future."""
        given = _arguments(timeout, metadata, kwargs)
        return self._on_current(given, lambda bound, given: self._begin(bound, request, given))

    def _wait(self, how: Callable[..., Any], request: Any, given: _Given) -> Any:
        return self._on_current(given, lambda bound, given: self._once(bound, how, request, given))

    def _once(
        self, bound: BoundChannel, how: Callable[..., Any], request: Any, given: _Given
    ) -> Any:
        try:
            with GATE:
                return self._start(bound, how, request, given)
        except grpc.RpcError as error:
            self._report(bound, error)
            raise


class UnaryUnary(UnaryResponse):
    """A method with one request and one response: what was refused can be asked again."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Make a call, and return its response."""
        bound, made = self._owner.bound, self._made
        if bound is None or made is None or made.shared is not bound.shared:
            return super().__call__(request, timeout, metadata, **kwargs)
        # The short way, which nearly all calls take; whatever else there is to do comes after it.
        deadline, metadata = _deadline(timeout), _kept(metadata)
        try:
            GATE.enter()
            try:
                return next(made.turns)(request, timeout, bound.merge(metadata), **kwargs)
            finally:
                GATE.leave()
        except grpc.RpcError as error:
            self._report(bound, error)
            given = _later(_arguments(timeout, metadata, kwargs), deadline)
            if self._renewed(bound, error, given) is None:
                raise
        except ValueError:  # as in `_on_current`
            if self._owner.bound is bound:
                raise
            given = _arguments(timeout, metadata, kwargs)
        return self._wait(_blocking, request, _later(given, deadline))

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Start a call, and return its future, which asks again where that helps."""
        given, deadline = _arguments(timeout, metadata, kwargs), _deadline(timeout)

        def again(bound: BoundChannel, error: grpc.RpcError) -> Any:
            try:
                newer = self._renewed(bound, error, _later(given, deadline))
                return newer and self._outcome(newer, request, given, deadline)
            except ZConfigError as failure:
                return FailedCall(error, failure)

        def begin(bound: BoundChannel, given: _Given) -> Any:
            call = self._begin(bound, request, given)
            return RetryingFuture(call, lambda error: again(bound, error))

        return self._on_current(given, begin)

    def _wait(self, how: Callable[..., Any], request: Any, given: _Given) -> Any:
        deadline = _deadline(given["timeout"])
        return self._on_current(
            given,
            lambda bound, given: self._call_with_refresh(bound, how, request, given, deadline),
        )

    def _outcome(
        self, bound: BoundChannel, request: Any, given: _Given, deadline: float | None
    ) -> Any:
        """Return a call that has ended: the caller may be gRPC's thread, which must not wait."""
        try:
            _, call = self._call_with_refresh(bound, _with_call, request, given, deadline)
        except grpc.RpcError as error:
            return error  # it is a call as well
        return call

    def _call_with_refresh(
        self,
        bound: BoundChannel,
        how: Callable[..., Any],
        request: Any,
        given: _Given,
        deadline: float | None,
    ) -> Any:
        """Make a call, and again while its credentials were refused and others are found."""
        for _ in range(_RENEWALS):
            try:
                return self._once(bound, how, request, given)
            except grpc.RpcError as error:
                given = _later(given, deadline)
                newer = self._renewed(bound, error, given)
                if newer is None:
                    raise
            bound, given = newer, _later(given, deadline)
        return self._once(bound, how, request, given)

    def _renewed(
        self, bound: BoundChannel, error: grpc.RpcError, given: _Given
    ) -> BoundChannel | None:
        """Return a bound channel with newer credentials, if it is ours that were refused."""
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return None
        if any(key == AUTHORIZATION for key, _ in given["metadata"] or ()):
            return None
        return self._owner.renew(bound, given["timeout"])


def _arguments(timeout: float | None, metadata: Any, rest: dict[str, Any]) -> _Given:
    """Return a call's arguments by name."""
    return {"timeout": timeout, "metadata": _kept(metadata), **rest}


def _kept(metadata: Any) -> Any:
    """Return metadata that can be read a second time, for a second call."""
    return tuple(metadata) if metadata else None


def _add_to_details(call: Any, why: str) -> None:
    """Have a failed call say why, in the details that everybody shows; gRPC's own class stays."""
    state: Any = getattr(call, "_state", None)
    if why not in (getattr(state, "details", None) or why):
        state.details = f"{state.details}; {why}"


def _blocking(method: Any, *args: Any, **kwargs: Any) -> Any:
    return method(*args, **kwargs)


def _with_call(method: Any, *args: Any, **kwargs: Any) -> Any:
    return method.with_call(*args, **kwargs)


def _future(method: Any, *args: Any, **kwargs: Any) -> Any:
    return method.future(*args, **kwargs)


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _later(given: _Given, deadline: float | None) -> _Given:
    """Return the arguments of a call with the seconds that are left of its timeout."""
    if deadline is None:
        return given
    return {**given, "timeout": max(deadline - time.monotonic(), 0.001)}
