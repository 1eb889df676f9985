"""OpenTelemetry: metrics, spans, and the trace that a call belongs to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import db_attributes
from opentelemetry.semconv._incubating.metrics import db_metrics
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY, CollectorRegistry

from tests.support.ears import Ears
from tests.support.faults import LOOPBACK, breakable_proxy, listening, refused, swallow
from tests.support.loops import faces
from tests.support.processes import REPOSITORY, run_python
from tests.support.registries import registry
from zconfig import events, otel
from zconfig._channel import bound_channel
from zconfig._registry import Connections
from zconfig._spec import ConnectionSpec
from zconfig.errors import AutoconnectError, ConnectError
from zconfig.testing import FakeServer, fake_server

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


class Telemetry:
    """What an application collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def watch(self, connections: Connections) -> Any:
        return otel.instrument(
            connections, meter_provider=self.meters, tracer_provider=self.tracers
        )

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self.reader.get_metrics_data()
        scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
        found = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return [point for metric in found for point in metric.data.data_points]

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    yield Telemetry()
    assert bound_channel.metadata_providers == (), "a test did not end what it began"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


def attributes(server: FakeServer, alias: str = "default") -> dict[str, Any]:
    return {
        db_attributes.DB_SYSTEM_NAME: "milvus",
        db_attributes.DB_NAMESPACE: "default",
        db_attributes.DB_CLIENT_CONNECTION_POOL_NAME: alias,
        "server.address": LOOPBACK,
        "server.port": server.port,
    }


def test_connections_are_counted_by_state(server: FakeServer, telemetry: Telemetry) -> None:
    with (
        breakable_proxy(server.port) as path,
        registry(ZILLIZ_URI=f"http://{LOOPBACK}:{path.port}", ZILLIZ_POOL_SIZE="3") as connections,
    ):
        end, ears = telemetry.watch(connections), Ears(connections)
        name, state = db_metrics.DB_CLIENT_CONNECTION_COUNT, "db.client.connection.state"
        assert telemetry.points(name) == []
        connections["default"]
        (point,) = telemetry.points(name)
        expected = {**attributes(server), "server.port": path.port, state: "used"}
        assert (point.value, dict(point.attributes)) == (3, expected)
        path.cut()
        ears.wait_for(events.ConnectionLost)
        (point,) = telemetry.points(name)
        assert (point.value, point.attributes[state]) == (3, "lost")
        connections.close()
        assert telemetry.points(name) == []
        end()


def test_the_time_of_a_connect_is_measured_in_seconds(
    server: FakeServer, telemetry: Telemetry
) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        end, ears = telemetry.watch(connections), Ears(connections)
        connections["default"]
        (point,) = telemetry.points(db_metrics.DB_CLIENT_CONNECTION_CREATE_TIME)
        (connected,) = ears.of(events.ConnectionConnected)
        assert (point.count, point.sum) == (1, pytest.approx(connected.elapsed_ms / 1e3))
        assert dict(point.attributes) == attributes(server)
        end()


def test_attempts_that_fail_are_counted_and_those_that_take_too_long(
    telemetry: Telemetry,
) -> None:
    with listening(swallow) as silent, refused() as port:
        environ = {
            "ZILLIZ_SILENT_URI": f"http://{LOOPBACK}:{silent}",
            "ZILLIZ_SILENT_TIMEOUT": "0.3",
            "ZILLIZ_DOWN_URI": f"http://{LOOPBACK}:{port}",
        }
        with registry(**environ) as connections:
            end = telemetry.watch(connections)
            with pytest.raises(AutoconnectError):
                connections.autoconnect()
            end()
    pool = db_attributes.DB_CLIENT_CONNECTION_POOL_NAME
    (timeout,) = telemetry.points(db_metrics.DB_CLIENT_CONNECTION_TIMEOUTS)
    assert (timeout.value, timeout.attributes[pool]) == (1, "silent")
    failures = telemetry.points("zconfig.connection.failures")
    assert {(p.attributes[pool], p.attributes["error.type"]): p.value for p in failures} == {
        ("silent", "server_silent"): 1,
        ("down", "refused"): 1,
    }


def test_a_connect_under_way_is_pending(server: FakeServer, telemetry: Telemetry) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        end = telemetry.watch(connections)
        pending: list[int] = []

        def look(event: events.Event) -> None:
            (point,) = telemetry.points(db_metrics.DB_CLIENT_CONNECTION_PENDING_REQUESTS)
            pending.append(point.value)

        connections.subscribe(look, (events.ConnectionConnecting, events.ConnectionConnected))
        connections["default"]
        assert pending == [1, 0]
        end()


def test_an_alias_that_is_removed_while_metrics_are_collected_takes_no_other_with_it(
    server: FakeServer, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = Connections.spec

    def removed(connections: Connections, alias: str) -> ConnectionSpec:
        connections.remove_connection("gone")
        return look_up(connections, alias)

    with registry(ZILLIZ_GONE_URI=server.uri, ZILLIZ_KEPT_URI=server.uri) as connections:
        end = telemetry.watch(connections)
        connections.autoconnect()
        monkeypatch.setattr(Connections, "spec", removed)
        name = "db.client.connection.pool.name"
        found = telemetry.points(db_metrics.DB_CLIENT_CONNECTION_COUNT)
        assert [point.attributes[name] for point in found] == ["kept"]
        end()


def test_a_connect_is_a_span_below_the_one_of_who_asked_for_it(
    server: FakeServer, telemetry: Telemetry
) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        end = telemetry.watch(connections)
        with telemetry.tracers.get_tracer("app").start_as_current_span("request") as request:
            connections["default"]
        end()
    span = telemetry.spans()[0]
    assert (span.name, span.kind) == ("connect default", SpanKind.CLIENT)
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert dict(span.attributes or {}) == {**attributes(server), "zconfig.attempts": 1}
    assert span.status.status_code is StatusCode.UNSET


def test_a_connect_that_fails_is_a_span_with_its_attempts_and_its_cause(
    telemetry: Telemetry,
) -> None:
    with refused() as port, registry(ZILLIZ_URI=f"http://{LOOPBACK}:{port}") as connections:
        end = telemetry.watch(connections)
        with pytest.raises(AutoconnectError):
            connections.autoconnect(wait=1)
        end()
    (span,) = telemetry.spans()
    told = span.attributes or {}
    assert (told["error.type"], told["zconfig.stage"]) == ("refused", "TCP")
    assert {each.name for each in span.events} == {"retrying"}
    assert len(span.events) + 1 == told["zconfig.attempts"]
    assert span.status.status_code is StatusCode.ERROR
    assert "connection refused" in (span.status.description or "")


def test_a_connect_that_is_cancelled_ends_its_span(telemetry: Telemetry) -> None:
    with listening(swallow) as port:
        environ = {"ZILLIZ_URI": f"http://{LOOPBACK}:{port}", "ZILLIZ_TIMEOUT": "0.2"}
        with registry(**environ) as connections:
            end = telemetry.watch(connections)
            for _ in range(2):
                with pytest.raises(ConnectError):
                    connections["default"]
            end()
    assert len(telemetry.spans()) == 2


def test_a_call_carries_the_trace_that_it_belongs_to(
    server: FakeServer, telemetry: Telemetry
) -> None:
    with registry(ZILLIZ_URI=server.uri, ZILLIZ_TOKEN="secret") as connections:
        method = connections["default"].channel.unary_unary(GET_VERSION)
        method(b"")
        end = telemetry.watch(connections)
        with telemetry.tracers.get_tracer("app").start_as_current_span("request") as request:
            method(b"")
            method(b"", metadata=(("traceparent", "mine"),))
        end()
        method(b"")
    calls = server.calls("GetVersion")
    without, with_trace, own, after = (call.metadata for call in calls)
    trace_id = trace.format_trace_id(request.get_span_context().trace_id)
    assert with_trace["traceparent"].split("-")[1] == trace_id
    assert own["traceparent"] == "mine"
    assert "traceparent" not in {**without, **after}
    assert {call.token for call in calls} == {"secret"}


def test_a_call_carries_it_once_however_often_it_is_asked_for(
    server: FakeServer, telemetry: Telemetry
) -> None:
    with registry(ZILLIZ_URI=server.uri) as connections:
        ends = [telemetry.watch(connections) for _ in range(2)]
        with telemetry.tracers.get_tracer("app").start_as_current_span("request"):
            (pair,) = bound_channel.provided_metadata()
        assert pair[0] == "traceparent"
        ends[0]()
        assert len(bound_channel.metadata_providers) == 1
        ends[1]()


def test_a_call_on_an_event_loop_carries_it_too(server: FakeServer, telemetry: Telemetry) -> None:
    async def main() -> None:
        connection = await face.aio.get()
        method: Any = connection.channel.unary_unary(GET_VERSION)
        with telemetry.tracers.get_tracer("app").start_as_current_span("request"):
            await method(b"")

    with faces(ZILLIZ_URI=server.uri) as face:
        end = telemetry.watch(face.blocking)
        asyncio.run(main())
        end()
    (call,) = server.calls("GetVersion")
    assert "traceparent" in call.metadata


def test_no_secret_is_in_what_is_told(server: FakeServer, telemetry: Telemetry) -> None:
    server.accept("another")
    with registry(ZILLIZ_URI=server.uri, ZILLIZ_TOKEN="canary-token") as connections:
        end = telemetry.watch(connections)
        with pytest.raises(ConnectError):
            connections["default"]
        end()
    told = "".join(span.to_json() for span in telemetry.spans())
    assert told
    assert "canary-token" not in told


# --- the dashboard --------------------------------------------------------------------------


def exported(telemetry: Telemetry) -> dict[str, set[str]]:
    """Return the names of all metrics and their labels, as Prometheus sees them."""
    reader = PrometheusMetricReader()
    prometheus = CollectorRegistry()
    REGISTRY.unregister(reader._collector)
    prometheus.register(reader._collector)
    telemetry.meters = MeterProvider([reader], shutdown_on_exit=False)
    with fake_server() as server, listening(swallow) as silent:
        environ = {"ZILLIZ_URI": server.uri, "ZILLIZ_X_URI": f"http://{LOOPBACK}:{silent}"}
        with registry(**environ, ZILLIZ_X_TIMEOUT="0.3") as connections:
            end = telemetry.watch(connections)
            with pytest.raises(AutoconnectError):
                connections.autoconnect()
            samples = [sample for metric in prometheus.collect() for sample in metric.samples]
            end()
    names: dict[str, set[str]] = {}
    for sample in samples:
        names.setdefault(sample.name, set()).update(sample.labels)
    return names


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are(telemetry: Telemetry) -> None:
    dashboard = json.loads((REPOSITORY / "examples/grafana/zconfig.json").read_text())
    there = exported(telemetry)
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    queries = [target["expr"] for target in targets]
    queries += [each["query"] for each in dashboard["templating"]["list"] if "(" in each["query"]]
    asked = {name for query in queries for name in re.findall(r"\b(?:db|zconfig)_\w+", query)}
    labels = {"db_client_connection_pool_name", "db_client_connection_state"}
    assert asked - labels <= there.keys()
    assert labels <= set().union(*there.values())
    for target in targets:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= set().union(*there.values())
    assert {"db.client.connection.count", "zconfig.connection.failures"} <= {
        name.replace("_", ".").removesuffix(".total") for name in asked
    }


def test_every_panel_has_a_place_of_its_own() -> None:
    dashboard = json.loads((REPOSITORY / "examples/grafana/zconfig.json").read_text())
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    cells = [
        (column, row)
        for x, y, w, h in places
        for column in range(x, x + w)
        for row in range(y, y + h)
    ]
    assert len(cells) == len(set(cells))
    assert all(column < 24 for column, _ in cells)


def test_importing_zconfig_does_not_import_it_and_without_it_says_what_to_install() -> None:
    done = run_python(
        """
        import sys
        import zconfig
        assert not any(name.startswith("opentelemetry") for name in sys.modules)
        sys.modules["opentelemetry"] = None
        try:
            import zconfig.otel
        except zconfig.MissingExtraError as error:
            print(error)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "run: pip install 'opentelemetry-api>=1.27'" in done.stdout
