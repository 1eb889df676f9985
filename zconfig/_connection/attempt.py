"""One connection attempt, and the error of its failed call.

The diagnosis is imported after a failure, since most programs never need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import grpc

from zconfig._channel.fork_gate import GATE
from zconfig._channel.messages import WireError
from zconfig._channel.milvus import StatusError
from zconfig._endpoint import Endpoint
from zconfig._spec import ConnectionSpec
from zconfig.errors import ConnectError

if TYPE_CHECKING:
    from zconfig._connection.error_mapping import ErrorMapper, Failure
    from zconfig._topology import TopologyCache


T = TypeVar("T")

FAILURES = (grpc.RpcError, StatusError, WireError)
"""The exceptions of a failed call."""


class Attempt(NamedTuple):
    """One connection attempt, or another exchange with a server, with a deadline.

    Args:
        spec: The connection's specification.
        started: The monotonic instant at which the connect started, retries included.
        deadline: The monotonic instant at which this attempt times out.
        number: The number of the attempt, from 1.
        embedded: The address of the embedded server, once it runs; `None` for other servers.
        dialed: The member of a global cluster that is dialed; `None` for other servers.
    """

    spec: ConnectionSpec
    started: float
    deadline: float
    number: int = 1
    embedded: str | None = None
    dialed: Endpoint | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; always positive, since gRPC rejects 0."""
        return max(self.deadline - time.monotonic(), 0.001)

    def primary(self, topology_cache: TopologyCache) -> Endpoint:
        """Return the endpoint of a global cluster's primary.

        Raises:
            ConnectError: The topology is unavailable.
        """
        return self._mapper().primary(topology_cache)

    def run(self, call: Callable[[float], T]) -> T:
        """Make a call, and diagnose its failure.

        Args:
            call: The function that makes the call; its argument is the timeout in seconds. It
                raises `grpc.RpcError`, `StatusError` or `WireError` if the call fails.

        Raises:
            ConnectError: The call failed; the class names the cause.
        """
        try:
            return call(self.left_s)
        except FAILURES as error:
            failure = self.explain(error)
        # Outside the `except`: a chained gRPC error would repeat the diagnosis at length.
        raise failure

    def timed_out(self, detail: str) -> ConnectError:
        """Return the error of a caller whose deadline passed while another one connected."""
        return self._mapper().timed_out(detail)

    def explain(self, failure: Failure) -> ConnectError:
        """Return the error of a failed call; a probe may take until the deadline."""
        return self._mapper().explain(failure)

    def check_material(self) -> None:
        """Check the TLS files, if any.

        Raises:
            ConnectError: A file cannot be used.
        """
        tls = self.spec.tls
        if tls.ca or tls.cert or tls.key:
            self._mapper().check_material()

    def _mapper(self) -> ErrorMapper:
        with GATE:  # a child that is forked during an import could never import the module
            from zconfig._connection.error_mapping import ErrorMapper
        return ErrorMapper(*self)
