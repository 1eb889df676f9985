"""OpenTelemetry: metrics of the connections, a span for each connect, trace context on each call.

The extra `otel` installs OpenTelemetry's API.

    from zconfig import otel

    otel.instrument()

The metrics and their attributes follow the semantic conventions for database clients, with the
alias as the pool: `db.client.connection.count` by state, `.create_time`, `.timeouts` and
`.pending_requests` (https://opentelemetry.io/docs/specs/semconv/database/database-metrics/). An
additional metric, `zconfig.connection.failures`, counts failures by cause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import zconfig
from zconfig import events
from zconfig._channel import bound_channel
from zconfig._per_process import PerProcess
from zconfig._registry import Connections
from zconfig._spec import ConnectionSpec
from zconfig._version import __version__
from zconfig.errors import (
    ConfigurationError,
    ConnectTimeoutError,
    MissingExtraError,
    NameTimeoutError,
    ServerSilentError,
)

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError:
    _is_missing = True
else:
    _is_missing = False
if _is_missing:  # raised here, so that the ImportError is not in its context
    raise MissingExtraError("opentelemetry", "otel")

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

__all__ = ["instrument"]

_STATES = {"connected": "used", "lost": "lost"}
_TIMEOUTS = {error.cause for error in (ConnectTimeoutError, NameTimeoutError, ServerSilentError)}
# A connect takes milliseconds to seconds; the default buckets expect values in milliseconds.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def instrument(
    connections: Connections | None = None,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> Callable[[], None]:
    """Start to measure and trace connections.

    Args:
        connections: The connections; `zconfig.connections` by default.
        meter_provider: The provider for metrics; the global one by default.
        tracer_provider: The provider for spans; the global one by default.

    Returns:
        A function that stops the instrumentation.

    Examples:
        >>> from zconfig import otel
        >>> end = otel.instrument()
        >>> end()
    """
    watched = zconfig.connections if connections is None else connections
    hooks: tuple[Callable[[events.ConnectionEvent], None], ...] = (
        _Metrics(watched, metrics.get_meter("zconfig", __version__, meter_provider)),
        _Spans(watched, trace.get_tracer("zconfig", __version__, tracer_provider)),
    )
    unsubscribe = [watched.subscribe(hook, events.ConnectionEvent) for hook in hooks]
    bound_channel.metadata_providers += (_trace_context,)

    def end() -> None:
        for each in unsubscribe:
            each()
        left = list(bound_channel.metadata_providers)
        if _trace_context in left:
            left.remove(_trace_context)
        bound_channel.metadata_providers = tuple(left)

    return end


def _trace_context() -> tuple[tuple[str, str], ...]:
    """Return the metadata that links a call to the current trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())


class _Metrics:
    """Records metrics of events, and observes the current connections.

    Args:
        connections: The connections to measure.
        meter: Creates the instruments.
    """

    def __init__(self, connections: Connections, meter: metrics.Meter) -> None:
        self._connections = connections
        meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [self._count],
            "{connection}",
            "HTTP/2 connections of an alias, by state",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.pending_requests",
            [self._pending],
            "{request}",
            "Connects of an alias that are in progress",
        )
        self._create_time = meter.create_histogram(
            "db.client.connection.create_time",
            "s",
            "Time until the server accepted the credentials",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._timeouts = meter.create_counter(
            "db.client.connection.timeouts", "{timeout}", "Connection attempts that timed out"
        )
        self._failures = meter.create_counter(
            "zconfig.connection.failures", "{failure}", "Connection attempts that failed, by cause"
        )

    def __call__(self, event: events.ConnectionEvent) -> None:
        """Record one event."""
        if isinstance(event, events.ConnectionConnected):
            self._create_time.record(event.elapsed_ms / 1e3, self._attributes(event.alias))
        elif isinstance(event, events.ConnectionFailed | events.ConnectionRetrying):
            attributes = self._attributes(event.alias)
            self._failures.add(1, {**attributes, "error.type": event.cause})
            if event.cause in _TIMEOUTS:
                self._timeouts.add(1, attributes)

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        for alias, stats in self._connections.stats().items():
            spec = _known_spec(self._connections, alias)
            if spec and (state := _STATES.get(stats.state)):
                attributes = {**_attributes(spec), "db.client.connection.state": state}
                yield Observation(spec.pool_size, attributes)

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        for alias, stats in self._connections.stats().items():
            is_pending = stats.state == "connecting"
            yield Observation(int(is_pending), self._attributes(alias))

    def _attributes(self, alias: str) -> dict[str, AttributeValue]:
        return _known_attributes(self._connections, alias)


class _Spans:
    """Creates a span for each connect, with its failed attempts as events.

    Args:
        connections: The connections to trace.
        tracer: Creates the spans.
    """

    _lock = PerProcess(threading.Lock)

    def __init__(self, connections: Connections, tracer: trace.Tracer) -> None:
        self._connections = connections
        self._tracer = tracer
        self._spans: dict[str, Span] = {}

    def __call__(self, event: events.ConnectionEvent) -> None:
        """Record one event."""
        if isinstance(event, events.ConnectionConnecting):
            self._begin(event.alias)
        elif isinstance(event, events.ConnectionRetrying):
            self._note(event)
        elif isinstance(event, events.ConnectionConnected):
            self._end(event.alias, {"zconfig.attempts": event.attempt})
        elif isinstance(event, events.ConnectionFailed):
            failure: dict[str, AttributeValue] = {
                "error.type": event.cause,
                "zconfig.stage": event.stage,
                "zconfig.attempts": event.attempt,
            }
            self._end(event.alias, failure, event.problem)
        elif isinstance(event, events.ConnectionClosed | events.ConnectionRemoved):
            self._end(event.alias, {})

    def _begin(self, alias: str) -> None:
        attributes = _known_attributes(self._connections, alias)
        span = self._tracer.start_span(
            f"connect {alias}", kind=SpanKind.CLIENT, attributes=attributes
        )
        with self._lock:
            unfinished, self._spans[alias] = self._spans.get(alias), span
        if unfinished:  # a cancelled connect has no event
            unfinished.end()

    def _note(self, event: events.ConnectionRetrying) -> None:
        if span := self._spans.get(event.alias):
            facts: dict[str, AttributeValue] = {
                "error.type": event.cause,
                "zconfig.attempt": event.attempt,
                "zconfig.delay_ms": event.delay_ms,
            }
            span.add_event("retrying", facts)

    def _end(self, alias: str, facts: Mapping[str, AttributeValue], problem: str = "") -> None:
        with self._lock:
            span = self._spans.pop(alias, None)
        if span is None:
            return
        span.set_attributes(dict(facts))
        if problem:
            span.set_status(Status(StatusCode.ERROR, problem))
        span.end()


def _known_attributes(connections: Connections, alias: str) -> dict[str, AttributeValue]:
    if spec := _known_spec(connections, alias):
        return _attributes(spec)
    return {"db.system.name": "milvus", "db.client.connection.pool.name": alias}


def _known_spec(connections: Connections, alias: str) -> ConnectionSpec | None:
    """Return the specification of an alias; `None` if it was removed, or is not configured yet."""
    try:
        return connections.spec(alias)
    except ConfigurationError:
        return None


def _attributes(spec: ConnectionSpec) -> dict[str, AttributeValue]:
    endpoint = spec.endpoint
    where: dict[str, Any] = {"server.address": endpoint.host or endpoint.uri}
    if endpoint.port:
        where["server.port"] = endpoint.port
    return {
        "db.system.name": "milvus",
        "db.namespace": spec.db_name,
        "db.client.connection.pool.name": spec.alias,
        **where,
    }
