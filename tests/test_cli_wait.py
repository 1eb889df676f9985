"""`zconfig wait`: what it waits for, and what ends it at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support import PATIENCE_S
from tests.support.faults import breakable_proxy, refused
from tests.support.processes import run_zconfig
from tests.support.registries import registry
from zconfig import events
from zconfig._cli.app import zconfig
from zconfig._cli.check import budget_s, wait_for_aliases
from zconfig.testing import FakeServer, fake_server

# What waits for it to pass fails.
FOREVER_S = 60.0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def wait(environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Return what `wait --format json` prints, with its aliases by name."""
    done = CliRunner(env=environ).invoke(zconfig, ["wait", "--format", "json", *arguments])
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    report = json.loads(done.stdout)
    assert report["exit_code"] == done.exit_code
    return {**report, "aliases": {row["alias"]: row for row in report["aliases"]}}


def test_what_is_there_is_reported_as_check_does(fake: FakeServer) -> None:
    report = wait({"ZILLIZ_URI": fake.uri})
    assert report["exit_code"] == 0
    assert report["aliases"]["default"]["state"] == "connected"
    assert report["aliases"]["default"]["server_version"] == "2.6.0"


def test_a_server_that_is_not_up_yet_is_waited_for(fake: FakeServer) -> None:
    with breakable_proxy(fake.port) as proxy:
        proxy.cut()
        seen: list[events.Event] = []

        def heal(event: events.Event) -> None:
            seen.append(event)
            if isinstance(event, events.ConnectionRetrying) and event.attempt > 1:
                proxy.heal()

        with registry(ZILLIZ_URI=f"http://127.0.0.1:{proxy.port}") as connections:
            connections.subscribe(heal)
            report = wait_for_aliases(connections, (), FOREVER_S)
    assert report.exit_code == 0
    assert any(isinstance(event, events.ConnectionRetrying) for event in seen)


def test_a_name_that_does_not_resolve_yet_is_waited_for() -> None:
    environ = {"ZILLIZ_URI": "http://not-there-yet.invalid:19530"}
    report = wait(environ, "--timeout", "1")
    failure = report["aliases"]["default"]["failure"]
    assert report["exit_code"] == 4
    assert failure["cause"] in {"name_not_found", "name_server_failed", "name_timeout"}
    assert not failure["permanent"]


def test_a_refused_password_ends_it_for_all(fake: FakeServer) -> None:
    with refused() as port, fake_server() as strict:
        strict.accept("root:Milvus")
        environ = {
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_WRONG_URI": strict.uri,
            "ZILLIZ_WRONG_TOKEN": "root:wrong",
            "ZILLIZ_FINE_URI": fake.uri,
        }
        report = wait(environ, "--timeout", str(FOREVER_S))
    states = {alias: row["state"] for alias, row in report["aliases"].items()}
    assert report["exit_code"] == 6
    assert states.pop("fine") in {"connected", "given up"}
    assert states == {"down": "given up", "wrong": "failed"}
    assert report["aliases"]["down"]["failure"] is None


@pytest.mark.parametrize(
    ("wrong", "aliases"),
    [
        pytest.param({"ZILLIZ_BAD_URI": "http://127.0.0.1:0"}, (), id="an alias"),
        pytest.param({"ZCONFIG_ENV_FILE": "nowhere.env"}, (), id="the loader"),
        pytest.param({}, ("fine", "unknown"), id="an unknown name"),
    ],
)
def test_a_wrong_configuration_ends_it_before_anything_is_dialed(
    wrong: Mapping[str, str], aliases: tuple[str, ...], fake: FakeServer
) -> None:
    before = len(fake.calls())
    report = wait({"ZILLIZ_FINE_URI": fake.uri, **wrong}, *aliases)
    assert report["exit_code"] == 3
    assert report["aliases"]["fine"]["state"] == "configured"
    assert len(fake.calls()) == before


def test_what_is_wrong_with_another_alias_does_not_end_it(fake: FakeServer) -> None:
    environ = {"ZILLIZ_FINE_URI": fake.uri, "ZILLIZ_BAD_URI": "http://127.0.0.1:0"}
    report = wait(environ, "fine")
    assert report["exit_code"] == 0
    assert list(report["aliases"]) == ["fine"]


def test_an_optional_alias_gets_one_attempt(fake: FakeServer) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": fake.uri,
            "ZILLIZ_EXTRA_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_EXTRA_REQUIRED": "false",
        }
        report = wait(environ, "--timeout", str(FOREVER_S))
    assert report["exit_code"] == 0
    assert "attempts" not in report["aliases"]["extra"]["failure"]["message"]


def test_an_optional_alias_that_is_wrong_does_not_end_it(fake: FakeServer) -> None:
    environ = {
        "ZILLIZ_URI": fake.uri,
        "ZILLIZ_EXTRA_URI": "http://127.0.0.1:0",
        "ZILLIZ_EXTRA_REQUIRED": "false",
    }
    report = wait(environ)
    assert report["exit_code"] == 0
    assert report["aliases"]["default"]["state"] == "connected"


def test_an_optional_alias_that_is_named_is_waited_for(fake: FakeServer) -> None:
    with breakable_proxy(fake.port) as proxy:
        proxy.cut()
        environ = {
            "ZILLIZ_EXTRA_URI": f"http://127.0.0.1:{proxy.port}",
            "ZILLIZ_EXTRA_REQUIRED": "false",
        }

        def heal(event: events.Event) -> None:
            if isinstance(event, events.ConnectionRetrying):
                proxy.heal()

        with registry(**environ) as connections:
            connections.subscribe(heal)
            report = wait_for_aliases(connections, ["extra"], FOREVER_S)
    assert report.exit_code == 0


def test_a_time_that_is_over_exits_4_however_long_an_attempt_may_take(fake: FakeServer) -> None:
    with fake_server() as silent:
        silent.hold()
        report = wait({"ZILLIZ_URI": silent.uri, "ZILLIZ_TIMEOUT": "600"}, "--timeout", "0.5")
    assert report["exit_code"] == 4
    assert report["aliases"]["default"]["failure"]["cause"] == "server_silent"


def test_nothing_configured_exits_3_at_once() -> None:
    report = wait({})
    assert report["exit_code"] == 3
    assert report["problems"][0]["code"] == "nothing_configured"


@pytest.mark.parametrize(
    ("environ", "timeout", "expected"),
    [
        pytest.param({}, None, 60.0, id="usual"),
        pytest.param({"ZCONFIG_WAIT": "7"}, None, 7.0, id="ZCONFIG_WAIT"),
        pytest.param({"ZCONFIG_WAIT": "0"}, None, 0.0, id="ZCONFIG_WAIT of none"),
        pytest.param({"ZCONFIG_WAIT": "7"}, 9.0, 9.0, id="an option"),
    ],
)
def test_how_long_it_waits(
    environ: Mapping[str, str], timeout: float | None, expected: float
) -> None:
    with registry(**environ) as connections:
        assert budget_s(connections, timeout) == expected


def test_without_time_to_wait_each_gets_one_attempt() -> None:
    with refused() as port:
        environ = {"ZILLIZ_URI": f"http://127.0.0.1:{port}", "ZCONFIG_WAIT": "0"}
        report = wait(environ)
    assert report["exit_code"] == 4
    assert report["aliases"]["default"]["failure"]["cause"] == "refused"


def test_a_process_that_waits_ends_when_the_server_comes(fake: FakeServer, tmp_path: Path) -> None:
    with breakable_proxy(fake.port) as proxy:
        proxy.cut()
        timer = threading.Timer(0.5, proxy.heal)
        timer.start()
        environ = {"ZILLIZ_URI": f"http://127.0.0.1:{proxy.port}"}
        done = run_zconfig("wait", "--timeout", str(PATIENCE_S * 2), environ=environ)
        timer.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert "connected" in done.stdout
