"""The topology, or why it cannot be had: statuses of HTTP, retries, nothing secret in between."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from zconfig.diagnosis.verdict import StageError, Verdict
from zconfig.errors import (
    ConnectError,
    MalformedTopologyError,
    MissingCredentialsError,
    NotGlobalClusterError,
    NotPermittedError,
    RejectedCredentialsError,
    TopologyRefusedError,
    TopologyUnavailableError,
)
from zconfig.patience import backoff_s
from zconfig.redaction import evidence
from zconfig.topology.parsing import message_of, parse_topology
from zconfig.topology.request import Answer, get_topology
from zconfig.topology.values import Topology

if TYPE_CHECKING:
    from zconfig.diagnosis.target import ProbeTarget
    from zconfig.spec import ConnectionSpec

_TRIES = 3

_BY_STATUS: dict[int, type[ConnectError]] = {
    HTTPStatus.UNAUTHORIZED: RejectedCredentialsError,
    HTTPStatus.FORBIDDEN: NotPermittedError,
    HTTPStatus.NOT_FOUND: NotGlobalClusterError,
    HTTPStatus.TOO_MANY_REQUESTS: TopologyUnavailableError,
}
# A redirect is not followed: the token would go along.
_BY_HUNDRED: dict[int, type[ConnectError]] = {
    3: NotGlobalClusterError,
    4: TopologyRefusedError,
    5: TopologyUnavailableError,
}
_ABOUT_CREDENTIALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def fetch_topology(spec: ConnectionSpec, target: ProbeTarget, deadline: float) -> Topology:
    """Ask a global cluster for its topology; what may pass is tried three times.

    Args:
        spec: The connection that asks, for its credentials.
        target: Where the spec's endpoint leads, and through which proxy.
        deadline: The monotonic instant to stop at; names, TLS and reading included.

    Raises:
        StageError: The topology cannot be had; nothing secret is in the detail.
    """
    number = 1
    while True:
        outcome = _ask(spec, target, deadline)
        if isinstance(outcome, Topology):
            return outcome
        pause_s = backoff_s(number)
        is_last = number == _TRIES or time.monotonic() + pause_s >= deadline
        if outcome.error.permanent or is_last:
            raise StageError(outcome.error, outcome.detail, outcome.field)
        time.sleep(pause_s)
        number += 1


def _ask(spec: ConnectionSpec, target: ProbeTarget, deadline: float) -> Topology | Verdict:
    """Return a failure rather than raise it: the frames that it comes from know the token."""
    token = spec.credentials.secret.reveal() if spec.credentials else None
    try:
        return _topology_in(get_topology(target, token, deadline), has_token=token is not None)
    except StageError as failed:
        return Verdict(failed.error, evidence(failed.detail, spec.secrets), field=failed.field)


def _topology_in(answer: Answer, *, has_token: bool) -> Topology:
    if answer.status == HTTPStatus.OK:
        return parse_topology(answer.body)
    error = _BY_STATUS.get(answer.status) or _BY_HUNDRED.get(answer.status // 100)
    if answer.status in _ABOUT_CREDENTIALS and not has_token:
        error = MissingCredentialsError
    said = " ".join(filter(None, (answer.reason, message_of(answer.body))))
    raise StageError(error or MalformedTopologyError, f"HTTP {answer.status} {said}")
