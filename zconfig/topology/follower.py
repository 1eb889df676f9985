"""Which member of a global cluster is the primary, as far as is known, and when to ask again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from zconfig.diagnosis.verdict import StageError, Verdict
from zconfig.endpoint import Endpoint
from zconfig.errors import ServerSilentError
from zconfig.topology.values import Topology

REFRESH_S = 300.0
"""Seconds after which the topology is asked for again, as pymilvus does."""

_NO_LONGER_WRITABLE = "STREAMING_CODE_REPLICATE_VIOLATION"


def calls_for_refresh(code: grpc.StatusCode, text: str) -> bool:
    """Tell whether a call may have failed because the primary moved.

    Args:
        code: The status of the call; `OK` where it was the reply that said what failed.
        text: What was said.

    Example:
        >>> calls_for_refresh(grpc.StatusCode.UNAVAILABLE, "Connection refused")
        True
        >>> calls_for_refresh(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")
        False
    """
    return code is grpc.StatusCode.UNAVAILABLE or _NO_LONGER_WRITABLE in text


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one request came to; a failure is kept without its traceback."""

    moved: bool = False
    failure: Verdict | None = None


class Follower:
    """Knows a global cluster's topology, and keeps it until a newer one is told.

    It starts no thread: its owner calls `refresh` once `due` has passed, and when a call fails
    so that `calls_for_refresh` says so. Any number of threads may use it; they wait for one
    request rather than make several. After a fork, make a new one.

    Args:
        ask: Asks for the topology until a monotonic instant, as `fetch_topology` does; raises
            `StageError`.
    """

    def __init__(self, ask: Callable[[float], Topology]) -> None:
        self._ask = ask
        self._asking = threading.Lock()
        self._topology: Topology | None = None
        self._latest = _Outcome()
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

    def refresh(self, deadline: float) -> bool:
        """Ask again, or wait for the answer to a request that is under way.

        Args:
            deadline: The monotonic instant to stop at.

        Returns:
            Whether the primary's endpoint changed; the first topology changes nothing.

        Raises:
            StageError: The topology cannot be had; the one that is known stays.
        """
        before = self._latest
        # This lock is the request under way; nobody needs it to read what is known.
        if not self._asking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StageError(ServerSilentError, "another request for the topology is under way")
        try:
            if self._latest is before:
                self._latest = self._outcome(deadline)
            latest = self._latest
        finally:
            self._asking.release()
        if failure := latest.failure:
            raise StageError(failure.error, failure.detail, failure.field)
        return latest.moved

    def _outcome(self, deadline: float) -> _Outcome:
        try:
            return _Outcome(moved=self._take(self._ask(deadline)))
        except StageError as failed:
            failure = Verdict(failed.error, failed.detail, field=failed.field)
            return _Outcome(failure=failure)
        finally:
            self._due = time.monotonic() + REFRESH_S

    def _take(self, newest: Topology) -> bool:
        """Take a topology if it is newer than the one that is known."""
        known = self._topology
        if known is not None and newest.version <= known.version:
            return False
        self._topology = newest
        return known is not None and known.primary.endpoint != newest.primary.endpoint
