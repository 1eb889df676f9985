"""Lifecycle events: what they hold, and how they are delivered."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import refused
from zconfig import events
from zconfig._event_bus import Dispatcher
from zconfig._registry import Connections
from zconfig._settings.load import load


def connections_of(environ: dict[str, str], directory: Path) -> Connections:
    return Connections(lambda: load(environ, directory, system_secrets=str(directory / "none")))


def recorded(connections: Connections) -> list[events.Event]:
    seen: list[events.Event] = []
    connections.subscribe(seen.append)
    return seen


def without_times(event: events.Event) -> dict[str, object]:
    return {k: v for k, v in event.fields().items() if not k.endswith("_ms")}


def test_a_connect_that_succeeds_is_told_whole(lite_uri: str, tmp_path: Path) -> None:
    connections = connections_of({"ZILLIZ_URI": lite_uri}, tmp_path)
    seen = recorded(connections)
    version = connections.autoconnect()["default"].server.version
    connections.remove_connection("default")
    origin = "ZILLIZ_URI (environment)"
    named = {"alias": "default", "endpoint": lite_uri}
    assert [(event.name, without_times(event)) for event in seen] == [
        ("zconfig.config.loaded", {"aliases": ("default",), "files": (), "problems": 0}),
        ("zconfig.connection.configured", {**named, "origin": origin}),
        ("zconfig.connection.connecting", {**named, "origin": origin}),
        (
            "zconfig.connection.connected",
            {**named, "origin": origin, "server_version": version, "attempt": 1},
        ),
        ("zconfig.connection.closed", named),
        ("zconfig.connection.removed", named),
    ]


def test_a_connect_that_fails_is_told_whole(tmp_path: Path) -> None:
    with refused() as port:
        uri = f"http://127.0.0.1:{port}"
        connections = connections_of({"ZILLIZ_URI": uri}, tmp_path)
        seen = recorded(connections)
        with pytest.raises(Exception, match="refused") as caught:
            connections["default"]
    failed = seen[-1]
    assert without_times(failed) == {
        "alias": "default",
        "endpoint": uri,
        "origin": "ZILLIZ_URI (environment)",
        "cause": "refused",
        "stage": "TCP",
        "permanent": False,
        "attempt": 1,
        "problem": str(caught.value),
        "remedy": "start the server, or correct the port in ZILLIZ_URI",
    }
    assert failed.name == "zconfig.connection.failed"


def test_each_retry_is_told_with_its_number_and_pause(tmp_path: Path) -> None:
    with refused() as port:
        connections = connections_of({"ZILLIZ_URI": f"http://127.0.0.1:{port}"}, tmp_path)
        seen = recorded(connections)
        with pytest.raises(Exception, match="attempts"):
            connections.autoconnect(wait=1.5)
    retries = [event for event in seen if isinstance(event, events.ConnectionRetrying)]
    assert [event.attempt for event in retries] == list(range(1, len(retries) + 1))
    assert {event.cause for event in retries} == {"refused"}
    assert all(event.delay_ms >= 0 for event in retries)
    assert isinstance(seen[-1], events.ConnectionFailed)
    assert seen[-1].attempt == len(retries) + 1


def test_every_problem_of_the_configuration_is_told_once(tmp_path: Path) -> None:
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKNE": "x", "ZILLIZ_B_URI": "nope"}
    connections = connections_of(environ, tmp_path)
    seen = recorded(connections)
    for _ in range(2):
        with pytest.raises(Exception, match="ZILLIZ_B_URI"):
            connections.autoconnect()
    problems = [event for event in seen if isinstance(event, events.ConfigProblem)]
    assert [(p.code, p.severity, p.alias, p.origin) for p in problems] == [
        ("unknown_name", "warning", None, "ZILLIZ_TOKNE (environment)"),
        ("missing_scheme", "error", "b", "ZILLIZ_B_URI (environment)"),
    ]


def test_a_hook_that_raises_is_reported_and_harms_nothing(
    lite_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connections = connections_of({"ZILLIZ_URI": lite_uri}, tmp_path)

    def bad(event: events.Event) -> None:
        raise RuntimeError("from the hook")

    connections.subscribe(bad)
    seen = recorded(connections)
    with caplog.at_level(logging.ERROR, logger="zconfig"), connections["default"]:
        pass
    assert [event.name for event in seen][-1] == "zconfig.connection.closed"
    assert "a hook failed on zconfig.connection.connected" in caplog.text


def test_a_hook_hears_the_types_of_events_that_it_wants(lite_uri: str, tmp_path: Path) -> None:
    connections = connections_of({"ZILLIZ_URI": lite_uri}, tmp_path)
    closed: list[events.ConnectionClosed] = []
    ends: list[events.ConnectionConnected | events.ConnectionClosed] = []
    of_connections: list[events.ConnectionEvent] = []
    unsubscribe = connections.subscribe(closed.append, events.ConnectionClosed)
    connections.subscribe(ends.append, (events.ConnectionConnected, events.ConnectionClosed))
    connections.subscribe(of_connections.append, events.ConnectionEvent)
    connections.autoconnect()
    connections.close()
    unsubscribe()
    connections.autoconnect()
    connections.close()
    assert [type(event) for event in closed] == [events.ConnectionClosed]
    assert [type(event) for event in ends[:2]] == [
        events.ConnectionConnected,
        events.ConnectionClosed,
    ]
    assert len(ends) == 4
    assert len(of_connections) == 1 + 2 * 3


@pytest.mark.parametrize("wanted", ["connected", events, (events.ConnectionLost, str), 5])
def test_what_is_no_type_of_events_is_refused(wanted: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"classes of zconfig\.events"):
        connections_of({}, tmp_path).subscribe(print, wanted)


def test_an_unsubscribed_hook_hears_nothing_more() -> None:
    dispatcher, seen = Dispatcher(), []
    unsubscribe = dispatcher.subscribe(seen.append)
    event = events.ConnectionClosed(alias="a", endpoint="http://db:19530")
    dispatcher.publish(event)
    unsubscribe()
    dispatcher.publish(event)
    assert seen == [event]


def test_the_same_hook_subscribed_twice_is_taken_out_once() -> None:
    dispatcher, seen = Dispatcher(), []
    unsubscribe = dispatcher.subscribe(seen.append)
    dispatcher.subscribe(seen.append)
    unsubscribe()
    dispatcher.publish(events.ConnectionClosed(alias="a", endpoint="http://db:19530"))
    assert len(seen) == 1


def test_a_hook_may_use_the_registry(lite_uri: str, tmp_path: Path) -> None:
    connections = connections_of({"ZILLIZ_URI": lite_uri}, tmp_path)
    states: list[bool] = []
    connections.subscribe(lambda _: states.append(connections.has_connection("default")))
    connections.autoconnect()
    connections.close()
    assert states


EVENTS = [
    each
    for each in vars(events).values()
    if isinstance(each, type) and issubclass(each, events.Event)
]


@pytest.mark.parametrize("event", EVENTS)
def test_a_payload_is_frozen_and_its_times_have_a_unit(event: type[events.Event]) -> None:
    payload = event(**{field.name: "x" for field in dataclasses.fields(event)})
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(payload, field.name, "y")
    floats = [field.name for field in dataclasses.fields(event) if "float" in str(field.type)]
    assert all(name.endswith("_ms") for name in floats)


def test_the_names_that_were_released_are_still_there() -> None:
    assert {
        "zconfig.config.loaded",
        "zconfig.config.problem",
        "zconfig.connection.configured",
        "zconfig.connection.connecting",
        "zconfig.connection.retrying",
        "zconfig.connection.connected",
        "zconfig.connection.failed",
        "zconfig.connection.closed",
        "zconfig.connection.removed",
        "zconfig.process.forked",
    } <= {event.name for event in EVENTS}
