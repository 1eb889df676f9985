"""gRPC multi-callables that retry with refreshed credentials and report failures to their owner."""

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
_LONGEST_FAILURE = 64 << 10  # bytes; a longer response is not a bare status


class BoundChannelOwner(Protocol):
    """The connection that owns the channels of a view, and receives reports of failed calls."""

    @property
    def alias(self) -> str:
        """The alias of the connection."""

    @property
    def is_closed(self) -> bool:
        """Whether it is closed permanently."""

    @property
    def bound(self) -> BoundChannel | None:
        """The current channels; `None` if it is closed, or has not connected yet."""

    def report_failure(self, bound: BoundChannel, *, at_once: bool = True) -> str:
        """Report a call whose server may be lost, or may no longer be the primary.

        Args:
            bound: The channel of the failed call.
            at_once: Whether to check the server immediately, or within half a second.

        Returns:
            The cause, if the server is known to be lost; otherwise an empty string.
        """


class ChannelOwner(BoundChannelOwner, Protocol):
    """An owner that threads can wait for."""

    def ensure_open(self, timeout_s: float | None) -> BoundChannel:
        """Return the bound channel; connect first if necessary.

        Raises:
            ClosedError: It is closed permanently.
            ConnectError: Connecting failed.
        """

    def renew(self, bound: BoundChannel, timeout_s: float | None) -> BoundChannel | None:
        """Return a bound channel to repeat a call on, or `None` if there are no new credentials.

        Args:
            bound: The channel on which the server rejected the credentials.
            timeout_s: Seconds to wait.

        Raises:
            ClosedError: It was closed permanently meanwhile.
            ConnectError: It was disconnected meanwhile, and reconnecting failed.
        """


def report_failure(
    owner: BoundChannelOwner, bound: BoundChannel, code: grpc.StatusCode, details: str | None
) -> str:
    """Report a failed call to its owner; return the cause if the server is known to be lost."""
    if code in _LOST:
        return owner.report_failure(bound)
    if _DEMOTED in (details or ""):
        owner.report_failure(bound, at_once=False)
    return ""


def reporting_demotion(owner: BoundChannelOwner, deserialize: Callable[[bytes], Any] | None) -> Any:
    """Return a deserializer that reports a server that is no longer the primary.

    Milvus reports it in the status inside a response. Outside global clusters, the deserializer
    is returned unchanged.
    """
    if not (owner.bound and owner.bound.follows):
        return deserialize

    def deserialized(reply: bytes) -> Any:
        if len(reply) < _LONGEST_FAILURE and _DEMOTED_IN_REPLY in reply and (bound := owner.bound):
            owner.report_failure(bound, at_once=False)
        return deserialize(reply) if deserialize else reply

    return deserialized


class RetryingFuture:
    """A gRPC future that repeats its call once if newer credentials are found.

    Everything else is delegated to gRPC's future.

    Args:
        call: The future of gRPC.
        again: Repeats the call after an error, and returns the completed call; `None` if
            repeating it cannot help.
    """

    def __init__(self, call: Any, again: Callable[[grpc.RpcError], Any]) -> None:
        self._call = call
        self._again: Callable[[grpc.RpcError], Any] | None = again
        self._lock = threading.Lock()

    def result(self, timeout: float | None = None) -> Any:
        """Return the response, or raise the error; see `grpc.Future.result`."""
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            if not self._is_made_again(error):
                raise
        return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        """Return the error of the call, or `None`; see `grpc.Future.exception`."""
        error = self._call.exception(timeout)
        if isinstance(error, grpc.RpcError) and self._is_made_again(error):
            return self._call.exception(timeout)
        return error

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Call a function with this future when it is done."""
        self._call.add_done_callback(lambda _: fn(self))

    def _is_made_again(self, error: grpc.RpcError) -> bool:
        """Repeat the call, once; return whether this or another thread has repeated it."""
        with self._lock:
            again, self._again = self._again, None
            call = again(error) if again else None
            self._call = call or self._call
            return self._call is not error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class FailedCall:
    """A call whose credentials were rejected, and whose refresh failed.

    Args:
        call: The completed call.
        failure: The error of the refresh.
    """

    def __init__(self, call: Any, failure: ZConfigError) -> None:
        self._call = call
        self._failure = failure

    def result(self, _: float | None = None) -> NoReturn:
        """Raise the error of the refresh."""
        raise self._failure

    def exception(self, _: float | None = None) -> ZConfigError:
        """Return the error of the refresh."""
        return self._failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


grpc.Future.register(RetryingFuture)
grpc.Call.register(RetryingFuture)


_RENEWALS = 3  # credentials may change again while a call is repeated

T = TypeVar("T")
_Given = dict[str, Any]  # the arguments of a call by name, without the request


class _Bound(NamedTuple):
    """The multi-callables of a method, one per shared channel, to use in turn."""

    shared: SharedChannel
    turns: Iterator[Any]


class _Method:
    """A method, called on each of the channels in turn.

    Args:
        owner: The owner of the channels.
        make: Creates the multi-callable of one channel.
    """

    def __init__(self, owner: ChannelOwner, make: Callable[[grpc.Channel], Any]) -> None:
        self._owner = owner
        self._make = make
        self._made: _Bound | None = None
        if owner.is_closed:
            raise ClosedError(owner.alias)

    def _on_current(self, given: _Given, do: Callable[[BoundChannel, _Given], T]) -> T:
        """Call a function with the bound channel; if that was closed meanwhile, with the next one.

        Args:
            given: The arguments of a call.
            do: The function. It receives the arguments with the remaining timeout.
        """
        deadline = _deadline(given["timeout"])
        while True:
            bound = self._owner.bound
            if bound is None:
                bound = self._owner.ensure_open(given["timeout"])
                given = _later(given, deadline)
            try:
                return do(bound, given)
            except ValueError:  # gRPC raises it for a closed channel, and for a wrong argument
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
        """Start a call and return its future; the call leaves the gate when it is done."""
        GATE.enter()
        try:
            future = self._start(bound, _future, request, given)
        except BaseException:  # also after Ctrl-C
            GATE.leave()
            raise
        future.add_done_callback(lambda done: self._done(bound, done))
        return future

    def _done(self, bound: BoundChannel, future: Any) -> None:
        GATE.leave()
        self._report(bound, future)

    def _report(self, bound: BoundChannel, call: Any) -> None:
        """Report a failed call to the owner, and add the known cause to its details."""
        if why := report_failure(self._owner, bound, call.code(), call.details()):
            _add_to_details(call, why)


class StreamResponse(_Method):
    """A method with a stream of responses."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Start a call, and return it, as gRPC's own multi-callable does."""

        def begin(bound: BoundChannel, given: _Given) -> Any:
            with GATE:  # only for the start: a stream may last for hours
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
    """A method with one request and one response, which can be repeated with new credentials."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Make a call, and return its response."""
        bound, made = self._owner.bound, self._made
        if bound is None or made is None or made.shared is not bound.shared:
            return super().__call__(request, timeout, metadata, **kwargs)
        # The fast path of nearly all calls. The other cases continue below.
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
        """Start a call, and return its future, which repeats it with newer credentials."""
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
        """Return a completed call: the caller may be gRPC's thread, which must not wait."""
        try:
            _, call = self._call_with_refresh(bound, _with_call, request, given, deadline)
        except grpc.RpcError as error:
            return error  # it is a `grpc.Call` too
        return call

    def _call_with_refresh(
        self,
        bound: BoundChannel,
        how: Callable[..., Any],
        request: Any,
        given: _Given,
        deadline: float | None,
    ) -> Any:
        """Make a call; repeat it while credentials are rejected and newer ones are found."""
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
        """Return a bound channel with newer credentials, if the server rejected the alias' own."""
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return None
        if any(key == AUTHORIZATION for key, _ in given["metadata"] or ()):
            return None
        return self._owner.renew(bound, given["timeout"])


def _arguments(timeout: float | None, metadata: Any, rest: dict[str, Any]) -> _Given:
    """Return a call's arguments by name."""
    return {"timeout": timeout, "metadata": _kept(metadata), **rest}


def _kept(metadata: Any) -> Any:
    """Return metadata as a tuple, which a repeated call can iterate over again."""
    return tuple(metadata) if metadata else None


def _add_to_details(call: Any, why: str) -> None:
    """Add a cause to the details of a failed call, which logs show; its class stays gRPC's."""
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
    """Return the arguments of a call with the seconds until its deadline as timeout."""
    if deadline is None:
        return given
    return {**given, "timeout": max(deadline - time.monotonic(), 0.001)}
