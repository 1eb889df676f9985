"""One try at something, and the error of a call that failed.

What finds the cause is imported when something has failed: most programs never need it.
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
"""What a call fails of."""


class Attempt(NamedTuple):
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

    def primary(self, topology_cache: TopologyCache) -> Endpoint:
        """Return the endpoint of a global cluster's primary.

        Raises:
            ConnectError: It cannot be told.
        """
        return self._mapper().primary(topology_cache)

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

    def timed_out(self, detail: str) -> ConnectError:
        """Return the error of waiting until the deadline for somebody else's attempt."""
        return self._mapper().timed_out(detail)

    def explain(self, failure: Failure) -> ConnectError:
        """Return the error of what a call failed of; a probe may take until the deadline."""
        return self._mapper().explain(failure)

    def check_material(self) -> None:
        """Make sure that the TLS files can be used, if there are any.

        Raises:
            ConnectError: One cannot.
        """
        tls = self.spec.tls
        if tls.ca or tls.cert or tls.key:
            self._mapper().check_material()

    def _mapper(self) -> ErrorMapper:
        with GATE:  # no process forks while another thread imports what its child needs
            from zconfig._connection.error_mapping import ErrorMapper
        return ErrorMapper(*self)
