"""State changes of a connection → events. Pure functions, except for the clock."""

from __future__ import annotations

import time

from zconfig import events
from zconfig._channel.milvus import Server
from zconfig._spec import ConnectionSpec
from zconfig.errors import ConnectError


def connecting(spec: ConnectionSpec) -> events.ConnectionConnecting:
    """Return the event of a connect that starts."""
    return events.ConnectionConnecting(**_names(spec), origin=str(spec.origin()))


def retrying(error: ConnectError, delay_s: float) -> events.ConnectionRetrying:
    """Return the event of a failed attempt, with the pause before the next."""
    return events.ConnectionRetrying(
        alias=error.alias,
        endpoint=error.endpoint,
        attempt=error.attempts,
        cause=error.cause,
        remedy=error.remedy,
        delay_ms=delay_s * 1e3,
        elapsed_ms=error.elapsed_ms,
    )


def connected(spec: ConnectionSpec, server: Server, attempt: int, started: float) -> events.Event:
    """Return the event of a successful connect, which started at a monotonic instant."""
    return events.ConnectionConnected(
        **_names(spec),
        origin=str(spec.origin()),
        server_version=server.version,
        attempt=attempt,
        elapsed_ms=_ms_since(started),
    )


def failed(error: ConnectError) -> events.ConnectionFailed:
    """Return the event of a connect that failed."""
    return events.ConnectionFailed(
        alias=error.alias,
        endpoint=error.endpoint,
        origin=error.origin,
        cause=error.cause,
        stage=str(error.stage),
        permanent=error.permanent,
        attempt=error.attempts,
        elapsed_ms=error.elapsed_ms,
        problem=str(error),
        remedy=error.remedy,
    )


def lost(spec: ConnectionSpec, error: ConnectError) -> events.ConnectionLost:
    """Return the event of a lost server."""
    return events.ConnectionLost(
        **_names(spec),
        origin=error.origin,
        cause=error.cause,
        stage=str(error.stage),
        problem=str(error),
        remedy=error.remedy,
    )


def recovered(spec: ConnectionSpec, server: Server, since: float) -> events.ConnectionRecovered:
    """Return the event of a recovered server, which was lost at a monotonic instant."""
    return events.ConnectionRecovered(
        **_names(spec), server_version=server.version, elapsed_ms=_ms_since(since)
    )


def moved(spec: ConnectionSpec, before: str, after: str, started: float) -> events.ConnectionMoved:
    """Return the event of a move to another primary."""
    return events.ConnectionMoved(
        **_names(spec), previous=before, target=after, elapsed_ms=_ms_since(started)
    )


def rotated(spec: ConnectionSpec, started: float) -> events.ConnectionRotated:
    """Return the event of credentials that the server has accepted."""
    return events.ConnectionRotated(
        **_names(spec), origin=str(spec.origin("credentials")), elapsed_ms=_ms_since(started)
    )


def closed(spec: ConnectionSpec) -> events.ConnectionClosed:
    """Return the event of a closed connection."""
    return events.ConnectionClosed(**_names(spec))


def _names(spec: ConnectionSpec) -> dict[str, str]:
    return {"alias": spec.alias, "endpoint": str(spec.endpoint)}


def _ms_since(instant: float) -> float:
    return (time.monotonic() - instant) * 1e3
