"""Every event as it stands in the application's log: the whole record, with its context."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.ears import Ears
from tests.support.faults import LOOPBACK, breakable_proxy, refused
from tests.support.registries import registry
from zconfig import events
from zconfig._connection import event_factories
from zconfig._log import log_event
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.errors import AutoconnectError, ConnectError, DatabaseMissingError
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION

Record = dict[str, Any]
ENVIRONMENT = "ZILLIZ_PROD_URI (environment)"
A_NUMBER = "a number of milliseconds"


class Log:
    """What came out at the end of an application's structlog pipeline."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __call__(self, _logger: Any, _method: str, record: Record) -> Record:
        self.records.append(dict(record))
        raise structlog.DropEvent

    def of(self, kind: type[events.Event]) -> Record:
        """Return the one record of a kind, with its times as nothing but numbers."""
        (record,) = [each for each in self.records if each["event"] == kind.name]
        return {
            name: A_NUMBER if name.endswith("_ms") and isinstance(value, float) else value
            for name, value in record.items()
        }


@pytest.fixture
def log() -> Iterator[Log]:
    """Set structlog up as applications do, with what is bound to the request."""
    seen = Log()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            seen,
        ]
    )
    with structlog.contextvars.bound_contextvars(request="r1"):
        yield seen
    structlog.reset_defaults()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.fixture(autouse=True)
def nothing_on_standard_output(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert capfd.readouterr().out == ""


def record(kind: type[events.Event], level: str, **fields: Any) -> Record:
    """Return a record of this thread, whose context the application's variables are in."""
    return {"event": kind.name, "level": level, "request": "r1", **fields}


def of_the_keeper(kind: type[events.Event], level: str, **fields: Any) -> Record:
    """Return a record of a thread in the background, which nobody's request is in."""
    return {"event": kind.name, "level": level, **fields}


def test_from_the_configuration_to_the_removal(
    log: Log, server: FakeServer, tmp_path: Path
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("ZILLIZ_PROD_TIMEOUT=5\nZILLIZ_OTHER_TOKEN=only-a-token\n")
    environ = {"ZILLIZ_PROD_URI": server.uri}
    connections = Connections(lambda: load(environ, tmp_path, system_secrets=str(tmp_path / "no")))
    connections.subscribe(log_event)
    assert connections["prod"]
    connections.remove_connection("prod")
    named = {"alias": "prod", "endpoint": server.uri}
    assert log.of(events.ConfigLoaded) == record(
        events.ConfigLoaded,
        "info",
        aliases=("prod",),
        files=(".env",),
        problems=1,
        elapsed_ms=A_NUMBER,
    )
    assert log.of(events.ConfigProblem) == record(
        events.ConfigProblem,
        "warning",
        code="missing_uri",
        problem="is set, but ZILLIZ_OTHER_URI is not",
        severity="error",
        remedy="set ZILLIZ_OTHER_URI",
        alias="other",
        origin="ZILLIZ_OTHER_TOKEN (.env:2)",
    )
    assert log.of(events.ConnectionConfigured) == record(
        events.ConnectionConfigured, "debug", **named, origin=ENVIRONMENT
    )
    assert log.of(events.ConnectionConnecting) == record(
        events.ConnectionConnecting, "debug", **named, origin=ENVIRONMENT
    )
    assert log.of(events.ConnectionConnected) == record(
        events.ConnectionConnected,
        "info",
        **named,
        origin=ENVIRONMENT,
        server_version=VERSION,
        attempt=1,
        elapsed_ms=A_NUMBER,
    )
    assert log.of(events.ConnectionClosed) == record(events.ConnectionClosed, "info", **named)
    assert log.of(events.ConnectionRemoved) == record(events.ConnectionRemoved, "debug", **named)


def test_a_retry_and_a_failure(log: Log) -> None:
    with refused() as port:
        uri = f"http://{LOOPBACK}:{port}"
        with registry(ZILLIZ_PROD_URI=uri) as connections:
            # One retry, however slow the machine is: the rest of the patience ends it.
            attempts: list[events.Event] = []
            connections.subscribe(attempts.append, events.ConnectionRetrying)
            connections.subscribe(log_event)
            with pytest.raises(AutoconnectError) as caught:
                connections.autoconnect("prod", wait=0.6)
    remedy = "start the server, or correct the port in ZILLIZ_PROD_URI"
    log.records = [each for each in log.records if each.get("attempt") in (1, len(attempts) + 1)]
    assert log.of(events.ConnectionRetrying) == record(
        events.ConnectionRetrying,
        "warning",
        alias="prod",
        endpoint=uri,
        attempt=1,
        cause="refused",
        remedy=remedy,
        delay_ms=A_NUMBER,
        elapsed_ms=A_NUMBER,
    )
    assert log.of(events.ConnectionFailed) == record(
        events.ConnectionFailed,
        "error",
        alias="prod",
        endpoint=uri,
        origin=ENVIRONMENT,
        cause="refused",
        stage="TCP",
        permanent=False,
        attempt=len(attempts) + 1,
        elapsed_ms=A_NUMBER,
        problem=str(caught.value.failures["prod"]),
        remedy=remedy,
    )


def test_a_loss_and_a_recovery(log: Log, server: FakeServer) -> None:
    with breakable_proxy(server.port) as path:
        uri = f"http://{LOOPBACK}:{path.port}"
        with registry(ZILLIZ_PROD_URI=uri) as connections:
            connections.subscribe(log_event)
            ears = Ears(connections)
            connection = connections["prod"]
            path.cut()
            ears.wait_for(events.ConnectionLost)
            with pytest.raises(ConnectError) as caught:
                connection.ping()
            path.heal()
            ears.wait_for(events.ConnectionRecovered)
    lost = log.of(events.ConnectionLost)
    assert caught.value.remedy in lost.pop("problem")
    assert lost == of_the_keeper(
        events.ConnectionLost,
        "warning",
        alias="prod",
        endpoint=uri,
        origin=ENVIRONMENT,
        cause="refused",
        stage="TCP",
        remedy="start the server, or correct the port in ZILLIZ_PROD_URI",
    )
    assert log.of(events.ConnectionRecovered) == of_the_keeper(
        events.ConnectionRecovered,
        "info",
        alias="prod",
        endpoint=uri,
        server_version=VERSION,
        elapsed_ms=A_NUMBER,
    )


def test_a_rotation(log: Log, server: FakeServer, tmp_path: Path) -> None:
    server.accept("key-1", "key-2")
    dotenv = tmp_path / ".env"

    def write(token: str) -> None:
        dotenv.write_text(f"ZILLIZ_PROD_URI={server.uri}\nZILLIZ_PROD_TOKEN={token}\n")

    write("key-1")
    connections = Connections(lambda: load({}, tmp_path, system_secrets=str(tmp_path / "no")))
    connections.subscribe(log_event)
    assert connections["prod"]
    write("key-2")
    connections.reload()
    connections.close()
    rotated = log.of(events.ConnectionRotated)
    rotated.pop("request", None)  # whoever came first, the keeper or we
    assert rotated == of_the_keeper(
        events.ConnectionRotated,
        "info",
        alias="prod",
        endpoint=server.uri,
        origin="ZILLIZ_PROD_TOKEN (.env:2)",
        elapsed_ms=A_NUMBER,
    )


def test_a_move(log: Log, server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        spec = connections.spec("prod")
    log_event(event_factories.moved(spec, "a:19530", "b:19530", started=0.0))
    assert log.of(events.ConnectionMoved) == record(
        events.ConnectionMoved,
        "info",
        alias="prod",
        endpoint=server.uri,
        previous="a:19530",
        target="b:19530",
        elapsed_ms=A_NUMBER,
    )


def test_a_child(log: Log, server: FakeServer) -> None:
    with registry(ZILLIZ_PROD_URI=server.uri) as connections:
        from zconfig._registry.config_events import forked

        connections.subscribe(log_event)
        for each in forked(("prod",)):
            connections._registry.publish(each)
    assert log.of(events.ProcessForked) == record(
        events.ProcessForked, "debug", pid=os.getpid(), aliases=("prod",)
    )


TOLD: set[str] = {
    "loaded", "problem", "configured", "connecting", "retrying", "connected", "failed", "lost",
    "recovered", "moved", "rotated", "closed", "removed", "forked",
}  # fmt: skip


def test_each_event_that_there_is_has_its_record_here() -> None:
    there_is = {
        each.name.rpartition(".")[2]
        for each in vars(events).values()
        if isinstance(each, type) and issubclass(each, events.Event) and each.name.count(".") == 2
    }
    assert there_is == TOLD


def test_a_database_that_is_missing_says_what_to_do(log: Log, server: FakeServer) -> None:
    server.databases = ()
    with registry(ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_DB_NAME="sales") as connections:
        connections.subscribe(log_event)
        with pytest.raises(DatabaseMissingError) as caught:
            assert connections["prod"]
    failed = log.of(events.ConnectionFailed)
    assert failed["problem"] == str(caught.value)
    assert (failed["cause"], failed["permanent"]) == ("database_missing", True)
