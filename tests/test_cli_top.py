"""`zconfig top`: what it shows of connections while it pings them, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.support.fake_milvus import PATIENCE_S, FakeMilvus, fake_milvus
from tests.support.faults import breakable_proxy, refused
from tests.support.registries import registry
from tests.test_cli_terminal import CONTROL_C, SEQUENCE, terminal
from zconfig._cli.app import zconfig
from zconfig._cli.options import Session
from zconfig._cli.report import Failure, Row
from zconfig._cli.snapshot import AliasSnapshot, Pulse, Sampler, Snapshot
from zconfig._cli.top import _is_drawn, watched
from zconfig._cli.top_view import WatchView, look_json, look_table
from zconfig._registry import Connections
from zconfig._registry.stats import AliasStats, RoundTrips
from zconfig.errors import ExitCode

ALTERNATE, USUAL = "\x1b[?1049h", "\x1b[?1049l"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAST_S = 0.05


@pytest.fixture
def fake() -> Iterator[FakeMilvus]:
    with fake_milvus() as server:
        yield server


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    arguments = ("top", "--interval", "0.1", *arguments)
    done = CliRunner(env=environ).invoke(zconfig, arguments)
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    return done


def lines(*arguments: str, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what `top --format json` prints, with the aliases of each line by name."""
    done = run("--format", "json", *arguments, environ=environ)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert reports[-1]["exit_code"] == done.exit_code
    for report in reports:
        report["aliases"] = {row["alias"]: row for row in report["aliases"]}
    return reports


@contextmanager
def watching(connections: Connections, *aliases: str) -> Iterator[Callable[..., Snapshot]]:
    """Ping aliases, and return what looks at them until it sees what it is to see."""
    observer = Sampler(connections, aliases)
    with Pulse(connections, observer.aliases, FAST_S) as pulse:

        def until(holds: Callable[[dict[str, AliasSnapshot]], object]) -> Snapshot:
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end:
                look = observer.look(pulse)
                if holds({each.row.alias: each for each in look.standings}):
                    return look
                time.sleep(0.01)
            raise AssertionError(look)

        yield until


def states(look: Snapshot) -> dict[str, str]:
    return {each.row.alias: each.row.state for each in look.standings}


# --- what is seen -------------------------------------------------------------------------------


def test_what_is_connected_is_pinged_again_and_again(fake: FakeMilvus) -> None:
    with registry(ZILLIZ_URI=fake.uri) as connections, watching(connections) as until:
        look = until(lambda by: (trips := by["default"].stats.round_trips) and trips.count >= 3)
    (standing,) = look.standings
    assert standing.row.state == "connected"
    assert standing.row.server_version == "2.6.1"
    assert standing.stats.connects == 1
    assert (look.exit_code, look.is_settled) == (ExitCode.OK, True)
    assert fake.count("Connect") == 1


def test_a_server_that_is_silent_or_dead_holds_up_no_other(fake: FakeMilvus) -> None:
    with fake_milvus() as held, refused() as port:
        held.hold()
        environ = {
            "ZILLIZ_HELD_URI": held.uri,
            "ZILLIZ_HELD_TIMEOUT": "600",
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_FINE_URI": fake.uri,
        }
        with registry(**environ) as connections, watching(connections) as until:
            held.wait_for(1)
            look = until(
                lambda by: (
                    by["down"].stats.failures.get("refused", 0) >= 2
                    and by["fine"].stats.round_trips
                    and by["fine"].stats.round_trips.count >= 3
                )
            )
        held.wait_until_cancelled()
    assert states(look) == {"held": "connecting", "down": "retrying", "fine": "connected"}
    failure = next(each.row.failure for each in look.standings if each.row.alias == "down")
    assert failure
    assert (failure.cause, failure.origin) == ("refused", "ZILLIZ_DOWN_URI (environment)")
    assert failure.message.startswith("down: connection refused: http://127.0.0.1:")


def test_a_server_that_is_lost_and_back_shows(fake: FakeMilvus) -> None:
    with breakable_proxy(fake.port) as proxy:
        uri = f"http://127.0.0.1:{proxy.port}"
        with registry(ZILLIZ_URI=uri) as connections, watching(connections) as until:
            until(lambda by: by["default"].stats.round_trips)
            proxy.cut()
            lost = until(lambda by: by["default"].row.state == "lost")
            proxy.heal()
            back = until(
                lambda by: by["default"].stats.reconnects and not by["default"].row.failure
            )
    failure = lost.standings[0].row.failure
    assert failure
    assert failure.exit_code == lost.exit_code == ExitCode.UNREACHABLE
    assert (back.standings[0].row.state, back.exit_code) == ("connected", ExitCode.OK)


def test_a_ping_that_is_not_answered_delays_no_other(fake: FakeMilvus) -> None:
    with fake_milvus() as held:
        environ = {
            "ZILLIZ_HELD_URI": held.uri,
            "ZILLIZ_HELD_TIMEOUT": "600",
            "ZILLIZ_FINE_URI": fake.uri,
        }
        with registry(**environ) as connections, watching(connections) as until:
            until(lambda by: all(each.is_settled for each in by.values()))
            held.hold()
            until(lambda by: (by["held"].waiting_s or 0) > 3 * FAST_S)
            pings = fake.count("GetVersion")
            look = until(lambda _: fake.count("GetVersion") > pings + 3)
    held_now = next(each for each in look.standings if each.row.alias == "held")
    assert held_now.waiting_s


def test_a_ping_that_is_not_answered_shows_while_it_waits_and_when_it_fails(
    fake: FakeMilvus,
) -> None:
    environ = {"ZILLIZ_URI": fake.uri, "ZILLIZ_TIMEOUT": "1"}
    with registry(**environ) as connections, watching(connections) as until:
        until(lambda by: by["default"].stats.round_trips)
        fake.hold()
        until(lambda by: (by["default"].waiting_s or 0) > 0.2)
        look = until(lambda by: by["default"].row.failure)
        assert look.exit_code == ExitCode.UNREACHABLE
        fake.let_go()
        until(lambda by: by["default"].row.state == "connected" and not by["default"].row.failure)


def test_credentials_that_are_refused_later_show_although_it_is_connected(
    fake: FakeMilvus,
) -> None:
    fake.secrets = {"root:Milvus"}
    environ = {"ZILLIZ_URI": fake.uri, "ZILLIZ_TOKEN": "root:Milvus"}
    with registry(**environ) as connections, watching(connections) as until:
        until(lambda by: by["default"].stats.round_trips)
        fake.secrets = {"root:other"}
        look = until(lambda by: by["default"].row.failure)
    assert look.exit_code == ExitCode.AUTHENTICATION


def test_a_rotation_is_followed_and_counted(fake: FakeMilvus, tmp_path: Path) -> None:
    fake.secrets = {"root:old", "root:new"}
    secret = tmp_path / "token"
    secret.write_text("root:old")
    secret.chmod(0o600)
    environ = {"ZILLIZ_URI": fake.uri, "ZILLIZ_TOKEN_FILE": str(secret)}
    with registry(**environ) as connections, watching(connections) as until:
        until(lambda by: by["default"].is_settled)
        secret.write_text("root:new")
        until(lambda by: by["default"].stats.rotations == 1)


def test_the_threads_end_with_the_look(fake: FakeMilvus) -> None:
    environ = {"ZILLIZ_A_URI": fake.uri, "ZILLIZ_B_URI": fake.uri}
    with registry(**environ) as connections:
        with watching(connections) as until:
            until(lambda by: all(each.is_settled for each in by.values()))
            fake.hold()
            until(lambda by: all(each.waiting_s for each in by.values()))
        assert not any(each.name == "zconfig-ping" for each in threading.enumerate())
        assert not any(connection for _, connection in connections.list_connections())
    fake.wait_until_cancelled()


def test_milvus_lite_is_pinged_too(lite_uri: str) -> None:
    (report,) = lines("--iterations", "1", environ={"ZILLIZ_NOTES_URI": lite_uri})
    assert report["ok"]
    assert report["aliases"]["notes"]["round_trips"]["last_ms"] > 0


# --- how it ends, and what it prints -------------------------------------------------------------


def test_each_iteration_is_told_and_the_last_waits_for_first_answers(fake: FakeMilvus) -> None:
    fake.hold()
    seen: list[Snapshot] = []

    def tell(look: Snapshot) -> None:
        seen.append(look)
        fake.let_go()

    with registry(ZILLIZ_URI=fake.uri) as connections:
        observer = Sampler(connections, ())
        with Pulse(connections, observer.aliases, FAST_S) as pulse:
            last = watched(partial(observer.look, pulse), FAST_S, 2, tell)
    assert [each.exit_code for each in seen] == [ExitCode.UNREACHABLE, ExitCode.OK]
    assert [states(each)["default"] for each in seen] == ["connecting", "connected"]
    assert last is seen[1]
    assert last.standings[0].stats.round_trips


def test_json_is_a_line_an_iteration(fake: FakeMilvus) -> None:
    reports = lines("--iterations", "3", environ={"ZILLIZ_URI": fake.uri})
    assert len(reports) == 3
    assert reports[0]["at"] < reports[1]["at"] < reports[2]["at"]
    assert reports[2]["ok"]


def test_an_optional_alias_that_is_not_there_does_not_count(fake: FakeMilvus) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": fake.uri,
            "ZILLIZ_EXTRA_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_EXTRA_REQUIRED": "false",
        }
        (report,) = lines("--iterations", "1", environ=environ)
        (named,) = lines("extra", "--iterations", "1", environ=environ)
    assert report["exit_code"] == 0
    assert report["aliases"]["extra"]["failure"]["cause"] == "refused"
    assert report["aliases"]["extra"]["failures"]["refused"] >= 1
    assert (named["exit_code"], list(named["aliases"])) == (4, ["extra"])


def test_the_good_go_on_beside_those_that_are_configured_wrongly(fake: FakeMilvus) -> None:
    environ = {"ZILLIZ_GOOD_URI": fake.uri, "ZILLIZ_BAD_URI": "http://127.0.0.1:0"}
    (report,) = lines("good", "bad", "unknown", "--iterations", "1", environ=environ)
    assert report["exit_code"] == 3
    assert {a: row["state"] for a, row in report["aliases"].items()} == {
        "good": "connected",
        "bad": "failed",
        "unknown": "failed",
    }
    assert report["problems"][0]["code"] == "bad_port"


@pytest.mark.parametrize("environ", [{}, {"ZILLIZ_URI": "http://127.0.0.1:0"}])
def test_it_ends_at_once_where_there_is_nothing_to_ping(environ: Mapping[str, str]) -> None:
    done = run(environ=environ)
    assert done.exit_code == 3
    assert "ZILLIZ_URI" in done.stdout
    (report,) = lines(environ=environ)
    assert report["exit_code"] == 3


@pytest.mark.parametrize("interval", ["0", "nan", "1e300"])
def test_an_interval_that_is_none_is_refused(interval: str) -> None:
    done = run("--interval", interval, environ={"ZILLIZ_URI": "http://127.0.0.1:1"})
    assert done.exit_code in {2, 3}
    assert "interval" in done.stderr


def test_a_log_gets_a_table_an_iteration_a_row_a_line_and_no_control_sequences(
    fake: FakeMilvus,
) -> None:
    environ = {"ZILLIZ_LONG_URI": f"{fake.uri}/{'d' * 150}"}
    fake.databases = ("default", "d" * 150)
    done = run("--iterations", "2", environ=environ)
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.count(" of 1 connected, round trips in ms") == 2
    header = done.stdout.splitlines()[2].split()
    assert header[:7] == ["alias", "endpoint", "state", "since", "last", "p50", "p99"]
    assert header[7:] == ["connects", "failures", "reconnects", "rotations"]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(" long ")]
    assert [row[1] for row in rows] == [f"{fake.uri}/{'d' * 150}"] * 2
    assert rows[1][2] == "connected"


def test_a_log_that_claims_to_have_colours_gets_no_control_sequences(fake: FakeMilvus) -> None:
    environ = {"ZILLIZ_URI": fake.uri, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = run("--iterations", "2", environ=environ)
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.count(" of 1 connected") == 2


def test_quiet_prints_nothing_but_what_is_wrong_at_the_end(fake: FakeMilvus) -> None:
    fine = run("--quiet", "--iterations", "2", environ={"ZILLIZ_URI": fake.uri})
    assert (fine.exit_code, fine.output) == (0, "")
    with refused() as port:
        uri = f"http://127.0.0.1:{port}"
        done = run("--quiet", "--iterations", "2", environ={"ZILLIZ_URI": uri})
    assert (done.exit_code, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_is_an_end_like_another_and_belongs_to_others_afterwards() -> None:
    look = Snapshot(NOON, (), (), 0.0)
    seen: list[Snapshot] = []

    def tell(each: Snapshot) -> None:
        seen.append(each)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert watched(lambda: look, 0.001, None, tell) is look
    assert len(seen) == 2
    assert signal.getsignal(signal.SIGINT) is before


# --- on a terminal ------------------------------------------------------------------------------


def test_a_terminal_shows_it_live_and_keeps_the_last_table_after_ctrl_c(fake: FakeMilvus) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": fake.uri,
            "ZILLIZ_EU_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_EU_REQUIRED": "false",
        }
        with terminal("top", environ=environ, columns=80) as shown:
            shown.read_until("1 of 2 connected")
            shown.read_until("connection refused")
            shown.type(CONTROL_C)
            assert shown.wait() == 0
    live, _, after = shown.output.partition(USUAL)
    assert ALTERNATE in live
    assert "interrupted" not in after
    last = SEQUENCE.sub("", after)
    assert re.search(r"^ default +http\S+ +connected ", last, re.MULTILINE)
    assert re.search(r"^optional: eu: connection refused: http", last, re.MULTILINE)
    frames = re.split(r"\x1b\[H|\r\n|\^C", live)  # the terminal itself shows what is typed
    assert max(len(SEQUENCE.sub("", line)) for line in frames) <= 80


def test_a_log_on_the_same_terminal_is_not_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    session = Session()
    with click.Context(zconfig):
        assert _is_drawn(session)
        session.chosen["verbose"] = True
        assert not _is_drawn(session)
        monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
        assert _is_drawn(session)
        session.chosen["quiet"] = True
        assert not _is_drawn(session)


# --- how it looks -------------------------------------------------------------------------------


def standing(alias: str = "prod", *, waiting_s: float | None = None, **stats: Any) -> AliasSnapshot:
    """Return how an alias stands that has been connected for two and a half minutes."""
    stats = {"connects": 1, "round_trips": RoundTrips(3, 2.25, 2.0, 3.0, 1234.5), **stats}
    row = Row(alias, f"http://{alias}.example.com:19530", "default", state="connected")
    found = AliasStats("connected", NOON - timedelta(seconds=150), required=True, **stats)
    trips = found.round_trips
    row = Row(**{**_fields(row), "round_trip_ms": trips.last_ms if trips else None})
    return AliasSnapshot(row, found, waiting_s)


def failing(alias: str = "eu") -> AliasSnapshot:
    """Return how an alias stands whose server was lost."""
    failure = Failure(
        "refused",
        f"{alias}: connection refused: http://{alias} (what was seen), set by a variable; start it",
        ExitCode.UNREACHABLE,
        "TCP",
        remedy="start it",
        problem="connection refused",
        origin="a variable",
    )
    row = Row(alias, f"http://{alias}.example.com", state="lost", required=False, failure=failure)
    return AliasSnapshot(row, AliasStats("lost", NOON - timedelta(hours=5), required=False))


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def drawn(*standings: AliasSnapshot, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, file=StringIO(), record=True)
    console.print(WatchView(lambda: Snapshot(NOON, standings, (), 0.0), "; Ctrl-C ends it"))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_table_has_how_long_what_took_and_what_waits() -> None:
    text = drawn(standing(), standing("slow", waiting_s=8.4), failing())
    assert text[0] == "2026-01-01 12:00:00Z  2 of 3 connected, round trips in ms; Ctrl-C ends it"
    assert "connected   2 min   2.2     2.0   1234" in text[4]
    assert "> 8 s" in text[5]
    assert text[6].split() == ["eu", "http://eu.example.com", "lost", "5", "h"]


def test_a_narrow_terminal_has_below_the_table_what_has_no_room_in_it() -> None:
    busy = standing(reconnects=2, rotations=1, failures={"refused": 3, "server_silent": 1})
    told = "connects 1, reconnects 2, rotations 1, failures refused 3, server_silent 1"
    narrow, wide = drawn(busy, standing("calm")), drawn(busy, standing("calm"), width=160)
    assert f"prod: {told}" in " ".join(narrow)
    assert "connects" not in narrow[2]
    assert not any(line.startswith("calm:") for line in narrow)
    assert wide[2].split()[7:] == ["connects", "failures", "reconnects", "rotations"]
    assert wide[4].split()[8:] == ["1", "refused", "3,", "server_silent", "1", "2", "1"]
    assert not any(line.startswith("prod:") for line in wide)


def test_what_is_wrong_is_told_in_short_while_it_is_live_and_whole_at_the_end() -> None:
    assert "optional: eu: connection refused, set by a variable; start it" in drawn(failing())
    table = look_table(Snapshot(NOON, (failing(),), (), 0.0))
    assert "optional: eu: connection refused: http://eu (what was seen), set by" in table


@pytest.mark.parametrize("width", [40, 60, 80, 129, 130, 200])
def test_a_row_is_a_line_at_any_width(width: int) -> None:
    rows = [standing(f"{name}{'x' * 60}", failures={"refused": 1}) for name in "abc"]
    text = drawn(*rows, width=width, height=60)
    assert max(map(len, text)) <= width
    firsts = [line[1] for line in text[4:7]]
    assert firsts == ["a", "b", "c"]


def test_where_not_all_have_room_those_that_are_not_well_come_first() -> None:
    rows = [*(standing(f"a{number}") for number in range(40)), failing("worst")]
    text = drawn(*rows, height=16)
    assert text[4].split()[0] == "worst"
    assert "and 32 more, for which there is no room" in text
    assert len(drawn(*rows, height=100)) > 44


def test_the_json_of_a_look_is_one_line() -> None:
    line = look_json(Snapshot(NOON, (standing(waiting_s=1.5), failing()), (), 12.3456))
    assert "\n" not in line
    report = json.loads(line)
    assert (report["at"], report["elapsed_ms"]) == ("2026-01-01T12:00:00.000Z", 12.346)
    prod, eu = report["aliases"]
    assert (prod["since"], prod["waiting_ms"]) == ("2026-01-01T11:57:30.000Z", 1500.0)
    assert prod["round_trips"] == {
        "count": 3,
        "last_ms": 2.25,
        "p50_ms": 2.0,
        "p95_ms": 3.0,
        "p99_ms": 1234.5,
    }
    assert (eu["round_trips"], eu["failure"]["exit_code"]) == (None, 4)
