"""`zconfig check --watch`: what it shows of connections check by check, and how it ends."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console, Group

from tests.support import PATIENCE_S
from tests.support.faults import breakable_proxy, refused
from tests.support.registries import registry
from tests.test_cli_terminal import CONTROL_C, SEQUENCE, terminal
from zconfig._cli.app import zconfig
from zconfig._cli.check import repeat_checks, show_each
from zconfig._cli.options import Session
from zconfig._cli.render import watch_parts
from zconfig._cli.report import Failure, Report, Row, check_aliases
from zconfig._registry import Connections
from zconfig._registry.stats import AliasStats, RoundTrips
from zconfig.errors import ExitCode
from zconfig.testing import FakeServer, fake_server

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

ALTERNATE, USUAL = "\x1b[?1049h", "\x1b[?1049l"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    done = CliRunner(env=environ).invoke(zconfig, ("check", "--watch", "0.1", *arguments))
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    return done


def lines(*arguments: str, environ: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return what `check --watch --format json` prints, with the aliases of each line by name."""
    done = run("--format", "json", *arguments, environ=environ)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert reports[-1]["exit_code"] == done.exit_code
    for report in reports:
        report["aliases"] = {row["alias"]: row for row in report["aliases"]}
    return reports


def checks(connections: Connections, timeout: float | None = None) -> Iterator[Report]:
    once = partial(check_aliases, connections, (), wait=None, timeout=timeout)
    return repeat_checks(connections, once, 0.01, None)


def row_of(report: Report, alias: str = "default") -> tuple[Row, AliasStats]:
    row = next(each for each in report.aliases if each.alias == alias)
    assert row.stats
    return row, row.stats


# --- what is seen -------------------------------------------------------------------------------


def test_a_connection_stays_open_and_each_check_pings_it(fake: FakeServer) -> None:
    with registry(ZILLIZ_URI=fake.uri) as connections:
        reports = checks(connections)
        row, stats = row_of([next(reports) for _ in range(3)][-1])
    assert (row.state, row.server_version) == ("connected", "2.6.0")
    assert (stats.connects, stats.round_trips and stats.round_trips.count) == (1, 3)
    assert len(fake.calls("Connect")) == 1


def test_a_server_that_is_lost_and_back_shows(fake: FakeServer) -> None:
    with breakable_proxy(fake.port) as proxy:
        uri = f"http://127.0.0.1:{proxy.port}"
        with registry(ZILLIZ_URI=uri) as connections:
            reports = checks(connections, timeout=PATIENCE_S)
            assert next(reports).exit_code == ExitCode.OK
            proxy.cut()
            lost = next(report for report in reports if row_of(report)[1].state == "lost")
            proxy.heal()
            back = next(report for report in reports if row_of(report)[1].reconnects)
    assert lost.exit_code == ExitCode.UNREACHABLE
    assert row_of(lost)[0].state == "failed"
    assert back.exit_code == ExitCode.OK
    assert row_of(back)[1].losses == 1


def test_servers_that_do_not_answer_are_waited_for_at_the_same_time(fake: FakeServer) -> None:
    environ = {f"ZILLIZ_A{number}_URI": fake.uri for number in range(16)}
    with registry(**environ) as connections:
        reports = checks(connections, timeout=2.0)
        next(reports)
        fake.hold()
        report = next(reports)
    assert report.exit_code == ExitCode.UNREACHABLE
    assert all(row.failure and row.failure.cause == "server_silent" for row in report.aliases)
    assert report.elapsed_ms < PATIENCE_S * 1e3, "one timeout, not sixteen"


def test_credentials_that_are_refused_later_show_although_it_is_connected(
    fake: FakeServer,
) -> None:
    fake.accept("root:Milvus")
    with registry(ZILLIZ_URI=fake.uri, ZILLIZ_TOKEN="root:Milvus") as connections:
        reports = checks(connections)
        assert next(reports).exit_code == ExitCode.OK
        fake.accept("root:other")
        assert next(reports).exit_code == ExitCode.AUTHENTICATION


def test_a_rotation_is_followed_and_counted(fake: FakeServer, tmp_path: Path) -> None:
    fake.accept("root:old")
    secret = tmp_path / "token"
    secret.write_text("root:old")
    secret.chmod(0o600)
    with registry(ZILLIZ_URI=fake.uri, ZILLIZ_TOKEN_FILE=str(secret)) as connections:
        reports = checks(connections)
        next(reports)
        secret.write_text("root:new")
        fake.accept("root:new")
        rotated = next(report for report in reports if row_of(report)[1].rotations)
    assert rotated.exit_code == ExitCode.OK


def test_milvus_lite_is_checked_too(lite_uri: str) -> None:
    (report,) = lines("--iterations", "1", environ={"ZILLIZ_NOTES_URI": lite_uri})
    assert report["ok"]
    assert report["aliases"]["notes"]["stats"]["round_trips"]["last_ms"] > 0


# --- how it ends, and what it prints -------------------------------------------------------------


def test_json_is_a_line_a_check_and_counts_what_happened(fake: FakeServer) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": fake.uri,
            "ZILLIZ_EXTRA_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_EXTRA_REQUIRED": "false",
        }
        reports = lines("--iterations", "3", environ=environ)
        (named,) = lines("extra", "-n", "1", environ=environ)
    assert reports[0]["at"] < reports[1]["at"] < reports[2]["at"]
    assert [each["exit_code"] for each in reports] == [0, 0, 0]
    counted = [each["aliases"]["extra"]["stats"]["failures"] for each in reports]
    assert counted == [{"refused": 1}, {"refused": 2}, {"refused": 3}]
    assert (named["exit_code"], list(named["aliases"])) == (4, ["extra"])


@pytest.mark.parametrize("environ", [{}, {"ZILLIZ_URI": "http://127.0.0.1:0"}])
def test_it_ends_at_once_where_there_is_nothing_to_connect(environ: Mapping[str, str]) -> None:
    (report,) = lines(environ=environ)
    assert report["exit_code"] == 3


def test_the_good_go_on_beside_those_that_are_configured_wrongly(fake: FakeServer) -> None:
    environ = {"ZILLIZ_GOOD_URI": fake.uri, "ZILLIZ_BAD_URI": "http://127.0.0.1:0"}
    _, report = lines("good", "bad", "-n", "2", environ=environ)
    states = {alias: row["state"] for alias, row in report["aliases"].items()}
    assert (report["exit_code"], states) == (3, {"good": "connected", "bad": "failed"})
    assert report["aliases"]["bad"]["stats"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--watch", "0"), "'0' is not a number of seconds, at least 0.1 and at most 86400"),
        (("--watch", "x"), "'x' is not a number of seconds, at least 0.1 and at most 86400"),
        (("--watch", "nan"), "'nan' is not a number of seconds"),
        (("--watch", "1e300"), "'1e300' is not a number of seconds"),
        (("--timeout", "0"), "'0' is not a number of seconds, more than 0 and at most 86400"),
        (("--timeout", "inf"), "'inf' is not a number of seconds"),
        (("--wait", "-1"), "'-1' is not a number of seconds, at least 0 and at most 86400"),
        (("--iterations", "2"), "--iterations requires --watch"),
        (
            ("--watch", "1", "--format", "junit"),
            "`check --watch` does not support junit; use table or",
        ),
    ],
)
def test_options_that_are_wrong_or_do_not_go_together_are_refused(
    arguments: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(zconfig, ("check", *arguments))
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_log_gets_a_table_a_check_a_row_a_line_and_no_control_sequences(
    fake: FakeServer,
) -> None:
    name = "d" * 150
    fake.databases = ("default", name)
    environ = {"ZILLIZ_LONG_URI": f"{fake.uri}/{name}", "FORCE_COLOR": "1", "TERM": "xterm"}
    done = run("--iterations", "2", environ=environ)
    assert done.exit_code == 0
    assert "\x1b[?" not in done.stdout
    assert done.stdout.count("1 of 1 connected\n") == 2


def test_quiet_prints_nothing_but_failures_a_line_a_check(fake: FakeServer) -> None:
    fine = run("--quiet", "--iterations", "2", environ={"ZILLIZ_URI": fake.uri})
    assert (fine.exit_code, fine.output) == (0, "")
    with refused() as port:
        uri = f"http://127.0.0.1:{port}"
        done = run("--quiet", "--iterations", "2", environ={"ZILLIZ_URI": uri})
    assert (done.exit_code, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 2


def test_ctrl_c_is_an_end_like_another_and_belongs_to_others_afterwards() -> None:
    first, second = Report((), (), 0.0, NOON), Report((), (), 1.0, NOON)
    session = Session()
    session.chosen["quiet"] = True

    def reports() -> Iterator[Report]:
        yield second
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert show_each(session, reports(), first, "json") is second
    assert signal.getsignal(signal.SIGINT) is before


# --- on a terminal ------------------------------------------------------------------------------


def test_a_terminal_shows_it_live_and_keeps_the_last_table_after_ctrl_c(fake: FakeServer) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": fake.uri,
            "ZILLIZ_EU_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_EU_REQUIRED": "false",
        }
        with terminal("check", "--watch", "0.1", environ=environ, columns=80) as shown:
            shown.read_until("1 of 2 connected; press Ctrl-C to end")
            shown.read_until("refused 3")
            shown.type(CONTROL_C)
            assert shown.wait() == 0
    live, _, after = shown.output.partition(ALTERNATE)[2].partition(USUAL)
    assert "interrupted" not in after
    last = SEQUENCE.sub("", after)
    assert re.search(r"^ default +http\S+ +connected ", last, re.MULTILINE)
    assert re.search(r"^eu: connection refused: http", last, re.MULTILINE)
    frames = re.split(r"\x1b\[H|\r\n|\^C", live)  # the terminal itself shows what is typed
    assert max(len(SEQUENCE.sub("", line)) for line in frames) <= 80


def test_ctrl_c_does_not_wait_for_a_server_that_does_not_answer(fake: FakeServer) -> None:
    environ = {"ZILLIZ_URI": fake.uri, "ZILLIZ_TIMEOUT": "600"}
    with terminal("check", "--watch", "0.1", environ=environ) as shown:
        shown.read_until("1 of 1 connected; press Ctrl-C to end")
        pings = len(fake.calls("GetVersion"))
        fake.hold()
        fake.wait_for("GetVersion", pings + 1)
        shown.type(CONTROL_C)
        assert shown.wait() == 0, "as the last check that ended said"
    assert "Traceback" not in shown.text


def test_a_row_has_the_last_round_trip_their_median_and_what_happened() -> None:
    trips = RoundTrips(3, 2.25, 2.0, 3.0, 1234.5)
    counts = {"failures": {"refused": 3}, "losses": 2, "reconnects": 1, "rotations": 1}
    stats = AliasStats("connected", NOON, required=True, connects=1, round_trips=trips, **counts)
    well = Row("prod", "http://prod", state="connected", round_trip_ms=2.25, stats=stats)
    failure = Failure("refused", "eu: connection refused", ExitCode.UNREACHABLE)
    bad = Row("eu", None, required=False, state="failed", failure=failure)
    console = Console(width=140, file=StringIO(), record=True)
    console.print(Group(*watch_parts(Report((well, bad), (), 1.0, NOON))))
    text = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert text[0] == "2026-01-01 12:00:00Z 1 of 2 connected"
    assert text[2] == "alias endpoint state last p50 so far"
    told = "refused 3, lost 2, recovered 1, rotated 1"
    assert text[4] == f"prod http://prod connected 2.2 ms 2.0 ms {told}"
    assert text[5] == "eu failed (optional): refused"
    assert text[-1] == "eu: connection refused"
