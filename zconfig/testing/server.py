"""A server that answers as Milvus does to what zconfig asks, and fails on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from zconfig.testing.answers import Answers, Reply
from zconfig.testing.calls import Call, call_of, short_name
from zconfig.testing.faults import Act, Fault
from zconfig.testing.recorder import PATIENCE_S, wait_until
from zconfig.testing.relay import Relay

_REFUSED = "auth check failure, please check api key is correct"


class Decodes(Protocol):
    """A class of protobuf messages."""

    FromString: Callable[[bytes], Any]


class FakeServer:
    """A gRPC server on loopback that takes calls for Milvus; `fake_server` makes one.

    It answers what zconfig asks by itself: Connect, GetVersion, CheckHealth and ListDatabases. What
    else your code calls, give it an answer for.

    Args:
        uri: Where clients connect to.
        door: The port that they connect to.
        answers: What it answers.
    """

    def __init__(self, uri: str, door: Relay, answers: Answers) -> None:
        self.uri = uri
        self._door = door
        self._answers = answers
        self._tokens: frozenset[str] | None = None
        self._faults: tuple[Fault, ...] = ()
        self._calls: list[Call] = []
        self._changed = threading.Condition()

    @property
    def port(self) -> int:
        """Where it listens; it keeps its port while it is stopped."""
        return self._door.port

    def __repr__(self) -> str:
        state = "up" if self._door.is_up else "stopped"
        return f"<FakeServer {self.uri}, {state}, {len(self._calls)} calls>"

    # --- what it answers --------------------------------------------------------------------

    def answer(self, method: str, reply: Reply, *, takes: type[Decodes] | None = None) -> None:
        """Give a method an answer, in place of the one that it has.

        Args:
            method: Its name, e.g. `Search`; in full if it is not Milvus', e.g.
                `/grpc.health.v1.Health/Check`.
            reply: The answer: a protobuf message, or one that is encoded, or a function that is
                given the request and returns one of these.
            takes: The class of the request, if the function is to be given a message, not bytes.

        Example:
            >>> with fake_server() as server:
            ...     server.answer("HasCollection", milvus_pb2.BoolResponse(value=True))
            ...     server.answer("Insert", insert, takes=milvus_pb2.InsertRequest)
            ... # doctest: +SKIP
        """
        self._answers.register(method, reply, takes.FromString if takes else bytes)

    def accept(self, *tokens: str) -> None:
        """Let in only who has one of these credentials, from the next call on.

        Args:
            *tokens: API keys, or `user:password`; without any, everybody is let in.
        """
        self._tokens = frozenset(tokens) or None

    # --- what goes wrong --------------------------------------------------------------------

    def fail(
        self,
        code: grpc.StatusCode,
        details: str = "",
        *,
        times: int | None = None,
        method: str | None = None,
    ) -> Fault:
        """Answer calls with a status.

        Args:
            code: Any but `OK`.
            details: The server's words.
            times: How many calls; `None` for all, until it is told otherwise.
            method: Which method's calls, e.g. `Search`; `None` for every method's.

        Returns:
            What `end()` ends, as does the end of a `with` block of it.

        Example:
            >>> from zconfig.testing import fake_server
            >>> with fake_server() as server:
            ...     with server.fail(grpc.StatusCode.UNAVAILABLE, method="Search") as fault:
            ...         fault.hits
            0
        """
        if code is grpc.StatusCode.OK:
            raise ValueError("a call that fails has a status other than OK")
        return self._add(lambda _, context: context.abort(code, details), times, method)

    def refuse_credentials(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Refuse the credentials of calls, whatever they are; the arguments are `fail`'s."""
        return self.fail(grpc.StatusCode.UNAUTHENTICATED, _REFUSED, times=times, method=method)

    def delay(
        self, seconds: float, *, times: int | None = None, method: str | None = None
    ) -> Fault:
        """Answer calls late. The end of the fault answers those that wait.

        Args:
            seconds: How late; `math.inf` for not at all.
            times: As for `fail`.
            method: As for `fail`.
        """
        return self._add(lambda fault, context: fault.hold(context, seconds), times, method)

    def hang_up(self, *, times: int | None = None, method: str | None = None) -> Fault:
        """Close the connection that a call comes over, instead of answering it.

        Other calls on that connection fail with it; a client may connect again at once. The
        arguments are `fail`'s.
        """
        return self._add(self._cut, times, method)

    def recover(self) -> None:
        """End every fault."""
        faults, self._faults = self._faults, ()
        for fault in faults:
            fault.end()

    def stop(self) -> None:
        """Close every connection, and refuse new ones: an outage. The port stays its own."""
        self._door.stop()

    def start(self) -> None:
        """Accept connections again, on the same port."""
        self._door.start()

    def restart(self) -> None:
        """Close every connection, and accept new ones."""
        self.stop()
        self.start()

    # --- what arrived -----------------------------------------------------------------------

    def calls(self, method: str | None = None) -> list[Call]:
        """Return the calls that arrived so far, answered or not, in order.

        Args:
            method: Those of one method, e.g. `Search`; `None` for all.
        """
        name = method and short_name(method)
        return [call for call in tuple(self._calls) if name in {None, call.method}]

    def wait_for(self, method: str, count: int = 1, timeout: float = PATIENCE_S) -> list[Call]:
        """Return the calls of a method, once so many of them have arrived.

        Args:
            method: Its name, e.g. `Search`.
            count: How many, since the server was made.
            timeout: Seconds to wait.

        Raises:
            AssertionError: Not so many arrived.
        """
        wait_until(self._changed, lambda: len(self.calls(method)) >= count, timeout)
        arrived = self.calls(method)
        if len(arrived) < count:
            what = f"{len(arrived)} instead of {count} calls of {method}"
            raise AssertionError(f"{what} arrived within {timeout:g} s")
        return arrived

    # ----------------------------------------------------------------------------------------

    def take(self, method: str, request: bytes, context: Any) -> bytes:
        """Answer a call, as gRPC's server hands it over; a fault ends it by an exception."""
        call = call_of(method, context.invocation_metadata(), request)
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()
        for fault in self._faults:
            fault.strike(call.method, context)
        if self._tokens is not None and call.token not in self._tokens:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSED)
        reply = self._answers.reply(call)
        if reply is None:
            advice = f"the fake server knows no answer: give it one by answer({call.method!r}, ...)"
            context.abort(grpc.StatusCode.UNIMPLEMENTED, advice)
        return reply or b""

    def _add(self, act: Act, times: int | None, method: str | None) -> Fault:
        fault = Fault(act, times, method and short_name(method))
        self._faults = (*self._faults, fault)
        return fault

    def _cut(self, _: Fault, context: Any) -> None:
        _, _, port = context.peer().rpartition(":")
        self._door.cut(int(port))
        context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was closed")
