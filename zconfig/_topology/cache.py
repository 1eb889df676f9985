"""Which member of a global cluster is the primary, as far as is known, and when to ask again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from zconfig._diagnosis.model import Diagnosis, StageError
from zconfig._endpoint import Endpoint
from zconfig._topology.model import Topology
from zconfig.errors import ServerSilentError

REFRESH_S = 300.0
"""Seconds after which the topology is asked for again, as pymilvus does."""


class TopologyCache:
    """Knows a global cluster's topology, and keeps it until a newer one is told.

    It starts no thread: its owner calls `refresh` once `due` has passed, and when a call fails
    that the primary would have answered. Any number of threads may use it; they wait for one
    request rather than make several. After a fork, make a new one.

    Args:
        ask: Asks for the topology until a monotonic instant, as `fetch_topology` does; raises
            `StageError`.
    """

    def __init__(self, ask: Callable[[float], Topology]) -> None:
        self._ask = ask
        self._asking = threading.Lock()
        self._topology: Topology | None = None
        self._requests = 0
        self._failure: Diagnosis | None = None  # of the latest request, without its traceback
        self._due = -math.inf

    @property
    def topology(self) -> Topology | None:
        """The newest topology; `None` before the first."""
        return self._topology

    @property
    def due(self) -> float:
        """The monotonic instant to ask again at, whatever the last request came to."""
        return self._due

    def primary(self, deadline: float) -> Endpoint:
        """Return the primary's endpoint; asks only if no topology is known.

        Args:
            deadline: The monotonic instant to stop at.

        Raises:
            StageError: No topology is known, and none can be had.
        """
        while (topology := self._topology) is None:
            self.refresh(deadline)
        return topology.primary.endpoint

    def refresh(self, deadline: float) -> None:
        """Ask again, or wait for the answer to a request that is under way.

        Args:
            deadline: The monotonic instant to stop at.

        Raises:
            StageError: The topology cannot be had; the one that is known stays.
        """
        before = self._requests
        # This lock is the request under way; nobody needs it to read what is known.
        if not self._asking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StageError(ServerSilentError, "another request for the topology is under way")
        try:
            if self._requests == before:
                self._failure = self._request(deadline)
                self._requests += 1
            failure = self._failure
        finally:
            self._asking.release()
        if failure:
            raise StageError(failure.error, failure.detail, failure.field)

    def _request(self, deadline: float) -> Diagnosis | None:
        """Ask, and take what is newer than what is known; return why there is no answer."""
        try:
            newest = self._ask(deadline)
        except StageError as failed:
            return Diagnosis(failed.error, failed.detail, field=failed.field)
        finally:
            self._due = time.monotonic() + REFRESH_S
        known = self._topology
        if known is None or newest.version > known.version:
            self._topology = newest
        return None
