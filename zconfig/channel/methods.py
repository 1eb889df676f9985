"""Methods of a server, called over whatever channels there are just now.

A call passes the gate, carries the alias' newest metadata, and is made again where credentials are
found that are newer than those that were refused. The owner of the channels hears how it went.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import grpc

from zconfig.channel.core import Core
from zconfig.channel.future import Failed, RenewableFuture
from zconfig.channel.gate import GATE
from zconfig.channel.line import AUTHORIZATION, Line
from zconfig.channel.owner import Owner, report_failure
from zconfig.errors import ClosedError, ZConfigError

_RENEWALS = 3  # credentials may be replaced once more while a call is made again

T = TypeVar("T")
_Given = dict[str, Any]  # the arguments of a call by name, but for the request


class _Made(NamedTuple):
    """The method on each of a core's channels, in turn."""

    core: Core
    turns: Iterator[Any]


class _Method:
    """A method, on each of the channels in turn.

    Args:
        owner: Who has the channels.
        make: Makes the method of a channel.
    """

    def __init__(self, owner: Owner, make: Callable[[grpc.Channel], Any]) -> None:
        self._owner = owner
        self._make = make
        self._made: _Made | None = None
        if owner.is_closed:
            raise ClosedError(owner.alias)

    def _on_line(self, given: _Given, do: Callable[[Line, _Given], T]) -> T:
        """Do something on the line; if it was closed just then, on the one that comes after it.

        Args:
            given: The arguments of a call.
            do: It is given them with the timeout that is left.
        """
        deadline = _deadline(given["timeout"])
        while True:
            line = self._owner.line
            if line is None:
                line = self._owner.wake(given["timeout"])
                given = _later(given, deadline)
            try:
                return do(line, given)
            except ValueError:  # what gRPC says of a closed channel, and of a wrong argument
                if self._owner.line is line:
                    raise
                given = _later(given, deadline)

    def _start(self, line: Line, how: Callable[..., Any], request: Any, given: _Given) -> Any:
        made = self._made
        if made is None or made.core is not line.core:
            made = _Made(line.core, itertools.cycle(line.core.make(self._make)))
            self._made = made
        metadata = line.merge(given["metadata"])
        return how(next(made.turns), request, **{**given, "metadata": metadata})

    def _begin(self, line: Line, request: Any, given: _Given) -> Any:
        """Start a call that is waited for later; it is inside the gate until it has ended."""
        GATE.enter()
        try:
            future = self._start(line, _future, request, given)
        except BaseException:  # Ctrl-C too must leave the gate
            GATE.leave()
            raise
        future.add_done_callback(lambda done: self._done(line, done))
        return future

    def _done(self, line: Line, future: Any) -> None:
        GATE.leave()
        self._heed(line, future)

    def _heed(self, line: Line, call: Any) -> None:
        """Tell the owner of a call that got no answer, and the caller what is known of that."""
        if why := report_failure(self._owner, line, call.code(), call.details()):
            _add_to_details(call, why)


class Stream(_Method):
    """A method that answers with a stream."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Start a call, and return it, as gRPC's own multi-callable does."""

        def begin(line: Line, given: _Given) -> Any:
            with GATE:  # for the start alone: a stream may go on for hours
                call = self._start(line, _plainly, request, given)
            if not call.add_callback(lambda: self._heed(line, call)):
                self._heed(line, call)  # it has ended already
            return call

        return self._on_line(_arguments(timeout, metadata, kwargs), begin)


class UnaryResponse(_Method):
    """A method with one response."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Make a call, and return its response."""
        return self._wait(_plainly, request, _arguments(timeout, metadata, kwargs))

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
        return self._on_line(given, lambda line, given: self._begin(line, request, given))

    def _wait(self, how: Callable[..., Any], request: Any, given: _Given) -> Any:
        return self._on_line(given, lambda line, given: self._once(line, how, request, given))

    def _once(self, line: Line, how: Callable[..., Any], request: Any, given: _Given) -> Any:
        try:
            with GATE:
                return self._start(line, how, request, given)
        except grpc.RpcError as error:
            self._heed(line, error)
            raise


class UnaryUnary(UnaryResponse):
    """A method with one request and one response: what was refused can be asked again."""

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Make a call, and return its response."""
        line, made = self._owner.line, self._made
        if line is None or made is None or made.core is not line.core:
            return super().__call__(request, timeout, metadata, **kwargs)
        # The short way, which nearly all calls take; whatever else there is to do comes after it.
        deadline, metadata = _deadline(timeout), _kept(metadata)
        try:
            GATE.enter()
            try:
                return next(made.turns)(request, timeout, line.merge(metadata), **kwargs)
            finally:
                GATE.leave()
        except grpc.RpcError as error:
            self._heed(line, error)
            given = _later(_arguments(timeout, metadata, kwargs), deadline)
            if self._renewed(line, error, given) is None:
                raise
        except ValueError:  # as in `_on_line`
            if self._owner.line is line:
                raise
            given = _arguments(timeout, metadata, kwargs)
        return self._wait(_plainly, request, _later(given, deadline))

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any
    ) -> Any:
        """Start a call, and return its future, which asks again where that helps."""
        given, deadline = _arguments(timeout, metadata, kwargs), _deadline(timeout)

        def again(line: Line, error: grpc.RpcError) -> Any:
            try:
                newer = self._renewed(line, error, _later(given, deadline))
                return newer and self._outcome(newer, request, given, deadline)
            except ZConfigError as failure:
                return Failed(error, failure)

        def begin(line: Line, given: _Given) -> Any:
            call = self._begin(line, request, given)
            return RenewableFuture(call, lambda error: again(line, error))

        return self._on_line(given, begin)

    def _wait(self, how: Callable[..., Any], request: Any, given: _Given) -> Any:
        deadline = _deadline(given["timeout"])
        return self._on_line(
            given, lambda line, given: self._insist(line, how, request, given, deadline)
        )

    def _outcome(self, line: Line, request: Any, given: _Given, deadline: float | None) -> Any:
        """Return a call that has ended: the caller may be gRPC's thread, which must not wait."""
        try:
            _, call = self._insist(line, _with_call, request, given, deadline)
        except grpc.RpcError as error:
            return error  # it is a call as well
        return call

    def _insist(
        self,
        line: Line,
        how: Callable[..., Any],
        request: Any,
        given: _Given,
        deadline: float | None,
    ) -> Any:
        """Make a call, and again while its credentials were refused and others are found."""
        for _ in range(_RENEWALS):
            try:
                return self._once(line, how, request, given)
            except grpc.RpcError as error:
                given = _later(given, deadline)
                newer = self._renewed(line, error, given)
                if newer is None:
                    raise
            line, given = newer, _later(given, deadline)
        return self._once(line, how, request, given)

    def _renewed(self, line: Line, error: grpc.RpcError, given: _Given) -> Line | None:
        """Return a line with newer credentials, if it is ours that were refused."""
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return None
        if any(key == AUTHORIZATION for key, _ in given["metadata"] or ()):
            return None
        return self._owner.renew(line, given["timeout"])


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


def _plainly(method: Any, *args: Any, **kwargs: Any) -> Any:
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
