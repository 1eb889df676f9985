"""The one seam where a failed call becomes an error of ours: cause, origin and remedy.

What finds the cause is imported when something has failed: most programs never need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc

from zconfig.channel.gate import GATE
from zconfig.channel.lite import LiteError
from zconfig.channel.milvus import StatusError
from zconfig.channel.wire import WireError
from zconfig.endpoint import Endpoint
from zconfig.errors import (
    ConnectError,
    HostnameMismatchError,
    PlaintextServerError,
    TLSServerError,
    with_names,
)
from zconfig.origin import Origin
from zconfig.sources.files import FileError
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection.judging import Judge
    from zconfig.topology import Follower

T = TypeVar("T")
Failure = grpc.RpcError | StatusError | WireError | LiteError | FileError

FAILURES = (grpc.RpcError, StatusError, WireError)
"""What a call fails of."""


def error_of(  # noqa: PLR0913 - an error says all that is known
    kind: type[ConnectError],
    spec: ConnectionSpec,
    *,
    detail: str = "",
    elapsed_ms: float = 0.0,
    attempts: int = 1,
    origin: Origin | None = None,
    hint: str = "",
    remedy: str = "",
) -> ConnectError:
    """Return an error of a connection, whose remedy and hint name the settings of its alias.

    Args:
        kind: Its class.
        spec: The connection's specification.
        detail: What was seen, redacted.
        elapsed_ms: Milliseconds from the start of the connect.
        attempts: How many times it was tried.
        origin: Where the value at fault was set; that of the settings that the class blames by
            default.
        hint: An observation; in it and in the remedy `{field}` stands for the name of a setting.
            What the configuration warns of in the settings that the class blames is added.
        remedy: One thing to do; that of the class by default.
    """
    hints = spec.hints_about(*kind.at_fault)
    return kind(
        spec.alias,
        endpoint=str(spec.endpoint),
        origin=str(origin or spec.origin(*kind.at_fault)),
        detail=detail,
        elapsed_ms=elapsed_ms,
        attempts=attempts,
        hint="; ".join(filter(None, (with_names(hint, spec.name_of), *hints))),
        remedy=with_names(remedy or _remedy_in_code(kind, spec) or kind.remedy, spec.name_of),
    )


def _remedy_in_code(kind: type[ConnectError], spec: ConnectionSpec) -> str:
    """Return the remedy where code gave the place: TLS may be the parameter `secure` there."""
    origin = spec.origins.get("uri")
    if origin is None or origin.source != "code":
        return ""
    by_uri = origin.key == "uri"
    if kind is PlaintextServerError:
        return f"{kind.remedy}, and leave out secure" if by_uri else "leave out secure"
    if kind is TLSServerError and not by_uri:
        return "pass secure=True"
    if kind is HostnameMismatchError and origin.key in {"host and port", "port"}:
        return kind.remedy.replace("{uri}", "the parameter host")
    return ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at something, with a deadline.

    Args:
        spec: The connection it is for.
        started: The monotonic instant at which the whole undertaking began.
        deadline: The monotonic instant at which this try must have ended.
        number: Which try it is, from 1.
        embedded: Where the embedded server listens, once it runs; `None` for any other.
        dialed: The member of a global cluster that is dialed; `None` for any other.
    """

    spec: ConnectionSpec
    started: float
    deadline: float
    number: int = 1
    embedded: str | None = None
    dialed: Endpoint | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; never quite nothing, which gRPC refuses."""
        return max(self.deadline - time.monotonic(), 0.001)

    def primary(self, follower: Follower) -> Endpoint:
        """Return the endpoint of a global cluster's primary.

        Raises:
            ConnectError: It cannot be told.
        """
        return self._judge().primary(follower)

    def run(self, call: Callable[[float], T]) -> T:
        """Make a call.

        Args:
            call: Makes it within the seconds it is given; raises `grpc.RpcError`,
                `StatusError` or `WireError` when it fails.

        Raises:
            ConnectError: Its class names the cause.
        """
        try:
            return call(self.left_s)
        except FAILURES as error:
            failure = self.explain(error)
        # Outside the `except`: a chained gRPC error would repeat in its own words, at length,
        # what the verdict says.
        raise failure

    def explain(self, failure: Failure) -> ConnectError:
        """Return the error of what a call failed of; a probe may take until the deadline."""
        return self._judge().explain(failure)

    def check_material(self) -> None:
        """Make sure that the TLS files can be used, if there are any.

        Raises:
            ConnectError: One cannot.
        """
        tls = self.spec.tls
        if tls.ca or tls.cert or tls.key:
            self._judge().check_material()

    def _judge(self) -> Judge:
        with GATE:  # as for gRPC: a fork in the middle of an import leaves the child without it
            from zconfig.connection.judging import Judge
        return Judge(self)
