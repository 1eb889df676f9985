"""The command: what it prints where, and its exit codes; once each through a real process."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.certificates import Certificates
from tests.support.faults import answering, failing, grpc_server, listening, refused
from tests.support.processes import call_zconfig, run_zconfig
from tests.support.servers import RealMilvus
from zconfig._cli.app import zconfig
from zconfig._cli.exit import _outcome
from zconfig._connection import transport
from zconfig.testing import fake_server


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """Have a server that starts at once, where any will do."""
    with fake_server() as fake:
        yield fake.uri


def test_check_exits_0_when_every_alias_is_fine(milvus: RealMilvus, lite_uri: str) -> None:
    environ = {
        "ZILLIZ_URI": milvus.uri,
        "ZILLIZ_TOKEN": "root:Milvus",
        "ZILLIZ_NOTES_URI": lite_uri,
    }
    done = run_zconfig("check", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["alias", "endpoint"]
    assert [line.split()[0] for line in lines[2:]] == ["default", "notes"]
    assert milvus.version[:6] in lines[2]
    assert "connected" in lines[3]


def test_check_exits_1_for_the_unexplained() -> None:
    with grpc_server({"Connect": failing(grpc.StatusCode.DATA_LOSS, "odd")}) as port:
        done = call_zconfig("check", environ={"ZILLIZ_URI": f"http://127.0.0.1:{port}"})
    assert done.returncode == 1, done.stdout


def test_check_exits_2_for_a_wrong_use() -> None:
    done = run_zconfig("check", "--no-such-option")
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing configured"),
        pytest.param({"ZILLIZ_URI": "http://127.0.0.1:0"}, id="a bad port"),
        pytest.param({"ZILLIZ_TOKEN": "x"}, id="no URI"),
        pytest.param(
            {"ZILLIZ_URI": "./x.db", "ZCONFIG_ENV_FILE": "nowhere.env"}, id="a missing file"
        ),
        pytest.param(
            {"ZILLIZ_URI": "./x.db", "ZILLIZ_TOKNE": "x", "ZCONFIG_STRICT": "1"}, id="strict"
        ),
    ],
)
def test_check_exits_3_for_a_wrong_configuration(environ: dict[str, str]) -> None:
    done = call_zconfig("check", environ=environ)
    assert done.returncode == 3
    assert done.stderr == ""


def test_nothing_configured_says_which_variable_to_set() -> None:
    done = call_zconfig("check")
    assert "set ZILLIZ_URI in the environment or in a .env file" in done.stdout


def test_an_unknown_alias_lists_the_known_ones(lite_uri: str) -> None:
    done = call_zconfig("check", "prod", environ={"ZILLIZ_NOTES_URI": lite_uri})
    assert done.returncode == 3
    assert "configured: notes" in done.stdout


def test_check_exits_4_when_the_server_is_down() -> None:
    with refused() as port:
        done = run_zconfig("check", environ={"ZILLIZ_URI": f"http://127.0.0.1:{port}"})
    assert done.returncode == 4
    assert "connection refused" in done.stdout


def test_check_exits_5_when_tls_fails(milvus_tls: RealMilvus) -> None:
    done = call_zconfig("check", environ={"ZILLIZ_URI": milvus_tls.uri})
    assert done.returncode == 5
    assert "set ZILLIZ_TLS_CA" in done.stdout


def test_check_exits_0_over_tls_with_its_authority(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    environ = {
        "ZILLIZ_URI": milvus_tls.uri,
        "ZILLIZ_TOKEN": "root:Milvus",
        "ZILLIZ_TLS_CA": str(certificates.ca),
    }
    assert call_zconfig("check", environ=environ).returncode == 0


@pytest.mark.parametrize("token", ["root:wrong", None])
def test_check_exits_6_for_wrong_or_missing_credentials(
    milvus: RealMilvus, token: str | None
) -> None:
    environ = {"ZILLIZ_URI": milvus.uri} | ({"ZILLIZ_TOKEN": token} if token else {})
    assert call_zconfig("check", environ=environ).returncode == 6


def test_check_exits_7_for_something_else() -> None:
    with listening(answering(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        done = call_zconfig("check", environ={"ZILLIZ_URI": f"http://127.0.0.1:{port}"})
    assert done.returncode == 7, done.stdout


def test_check_exits_8_for_a_missing_database(milvus: RealMilvus) -> None:
    environ = {"ZILLIZ_URI": f"{milvus.uri}/nowhere", "ZILLIZ_TOKEN": "root:Milvus"}
    assert call_zconfig("check", environ=environ).returncode == 8


def test_several_failures_exit_with_the_first_of_the_documented_order(milvus: RealMilvus) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_WRONG_URI": milvus.uri,
            "ZILLIZ_WRONG_TOKEN": "root:wrong",
        }
        assert call_zconfig("check", environ=environ).returncode == 6
        environ |= {"ZILLIZ_BAD_URI": "http://127.0.0.1:0"}
        done = call_zconfig("check", environ=environ)
    assert done.returncode == 3
    assert all(cause in done.stdout for cause in ("refused", "rejected credentials", "bad port"))


def test_an_optional_alias_that_fails_does_not_count(uri: str) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": uri,
            "ZILLIZ_EXTRA_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_EXTRA_REQUIRED": "false",
        }
        done = call_zconfig("check", environ=environ)
        named = call_zconfig("check", "extra", environ=environ)
    assert done.returncode == 0
    assert "failed (optional): refused" in done.stdout
    assert named.returncode == 4


def test_quiet_prints_nothing_for_success_and_a_line_for_failure(uri: str) -> None:
    fine = call_zconfig("check", "--quiet", environ={"ZILLIZ_URI": uri})
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, "", "")
    with refused() as port:
        done = call_zconfig("check", "-q", environ={"ZILLIZ_URI": f"http://127.0.0.1:{port}"})
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_json_has_everything_and_nothing_else_is_on_standard_output(
    milvus: RealMilvus, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"\nZILLIZ_PROD_URI={milvus.uri}\nZILLIZ_B_URI=nope\n")
    environ = {"ZILLIZ_PROD_TOKEN": "root:Milvus", "ZCONFIG_LOG_FORMAT": "json"}
    done = run_zconfig("check", "--format", "json", environ=environ, directory=tmp_path)
    report = json.loads(done.stdout)
    assert (report["ok"], report["exit_code"], done.returncode) == (False, 3, 3)
    prod, b = report["aliases"]
    assert prod.pop("round_trip_ms") > 0
    assert prod == {
        "alias": "prod",
        "endpoint": milvus.uri,
        "db_name": "default",
        "required": True,
        "origin": "ZILLIZ_PROD_URI (.env:2)",
        "state": "connected",
        "server_version": prod["server_version"],
        "failure": None,
        "stats": None,
    }
    assert b["failure"]["cause"] == "missing_scheme"
    assert report["problems"][0]["origin"] == "ZILLIZ_B_URI (.env:3)"
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert "zconfig.connection.connected" in events


def test_github_annotations_point_to_the_file_and_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nZILLIZ_URI=http://127.0.0.1:0\n")
    done = call_zconfig("check", "--format", "github", directory=tmp_path)
    assert done.stdout.startswith("::error file=.env,line=2::")


def test_list_connects_nothing_and_shows_where_values_come_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_URI=http://127.0.0.1:1/sales\n")
    done = run_zconfig("list", directory=tmp_path)
    assert done.returncode == 0
    row = done.stdout.splitlines()[-1].split()
    assert row == [
        "default",
        "http://127.0.0.1:1/sales",
        "sales",
        "configured",
        "ZILLIZ_URI",
        "(.env:1)",
    ]


def test_list_exits_3_and_shows_the_good_ones_beside_the_bad(tmp_path: Path) -> None:
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_B_URI": "http://127.0.0.1:99999"}
    done = call_zconfig("list", "--format", "json", environ=environ)
    states = {row["alias"]: row["state"] for row in json.loads(done.stdout)["aliases"]}
    assert done.returncode == 3
    assert states == {"default": "configured", "b": "failed"}


def test_options_of_the_command_choose_the_files(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("ZILLIZ_URI=http://127.0.0.1:1\n")
    (tmp_path / ".env.ci").write_text("ZILLIZ_CI_URI=http://127.0.0.1:2\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "zilliz_s_uri").write_text("http://127.0.0.1:3")

    def listed(*arguments: str) -> list[str]:
        done = call_zconfig(*arguments, "list", "--format", "json", directory=tmp_path)
        return [row["alias"] for row in json.loads(done.stdout)["aliases"]]

    assert listed("--env-file", "one.env") == ["default"]
    assert listed("--profile", "ci") == ["ci"]
    assert listed("--secrets-dir", str(secrets)) == ["s"]


def test_verbose_shows_the_events_on_standard_error(uri: str) -> None:
    done = run_zconfig("--verbose", "check", environ={"ZILLIZ_URI": uri})
    assert "zconfig.connection.connecting" in done.stderr
    assert "zconfig._connection" not in done.stdout


def test_a_log_gets_no_colour_and_no_trailing_blanks(uri: str) -> None:
    done = call_zconfig("check", environ={"ZILLIZ_URI": uri})
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


def test_env_example_and_schema_are_printed() -> None:
    assert "ZILLIZ_URI=" in run_zconfig("env-example").stdout
    assert "ZILLIZ_URI" in json.loads(run_zconfig("schema").stdout)["properties"]


def test_version_and_help() -> None:
    assert run_zconfig("--version").stdout.startswith("zconfig, version ")
    help_ = run_zconfig("check", "--help").stdout
    assert "Examples:" in help_
    assert "Exit codes:" in help_


def test_checking_one_alias_is_not_spoilt_by_another(uri: str) -> None:
    environ = {"ZILLIZ_GOOD_URI": uri, "ZILLIZ_BAD_URI": "http://127.0.0.1:0"}
    done = call_zconfig("check", "good", environ=environ)
    assert done.returncode == 0, done.stdout
    assert "bad" not in done.stdout


def test_spellings_of_one_alias_are_checked_once(uri: str) -> None:
    environ = {"ZILLIZ_EU_X_URI": uri}
    done = call_zconfig("check", "EU-X", "eu.x", "eu_x", "--format", "json", environ=environ)
    assert [row["alias"] for row in json.loads(done.stdout)["aliases"]] == ["eu_x"]


def test_brackets_in_values_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "[").mkdir()
    environ = {"ZILLIZ_URI": "./[/x].db", "ZILLIZ_DB_NAME": "[red]sales"}
    done = call_zconfig("list", environ=environ, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[/x].db" in done.stdout
    assert "[red]sales" in done.stdout


@pytest.mark.parametrize("timeout", ["nan", "inf", "1e300"])
@pytest.mark.parametrize("command", ["check", "doctor", "wait"])
def test_a_timeout_that_cannot_be_waited_for_is_refused(command: str, timeout: str) -> None:
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1"}
    done = call_zconfig(command, "--timeout", timeout, environ=environ)
    assert done.returncode == 2
    assert "Invalid value for '--timeout'" in done.stderr


def test_a_timeout_is_about_servers_not_about_starting_milvus_lite(
    lite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, acquire = time.monotonic, transport.acquire

    def start_for_an_hour(path: Path) -> object:
        lease = acquire(path)
        monkeypatch.setattr(time, "monotonic", lambda: now() + 3600)
        return lease

    monkeypatch.setattr(transport, "acquire", start_for_an_hour)
    done = call_zconfig("check", environ={"ZILLIZ_URI": lite_uri})
    assert done.returncode == 0, done.stdout
    assert time.monotonic is not now


def test_a_secret_that_the_server_repeats_is_not_shown() -> None:
    def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
        sent = str(dict(context.invocation_metadata())["authorization"])
        plain = base64.b64decode(sent).decode()
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"bad authorization {sent} = {plain}")

    with grpc_server({"Connect": echo}) as port:
        environ = {
            "ZILLIZ_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_TOKEN": "root:s3cret-canary",
            "ZCONFIG_LOG_FORMAT": "json",
        }
        done = run_zconfig("check", environ=environ)
    assert done.returncode == 6
    shown = done.stdout + done.stderr
    assert "bad authorization" in shown
    assert "s3cret-canary" not in shown
    assert base64.b64encode(b"root:s3cret-canary").decode() not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "--format", "json"],
        ["explain"],
        ["doctor"],
        ["wait"],
        ["init", "--uri", "./x.db", "--no-token", "--alias"],
        ["list"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_a_uri_in_the_place_of_an_alias_is_not_repeated(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "https://root:S3cret-pw@db.example"
    monkeypatch.setattr(sys, "argv", ["zconfig", *arguments, uri])
    code = _outcome(zconfig)
    shown = "".join(capsys.readouterr())
    assert code in (2, 3)
    assert "S3cret" not in shown
    if code == 3:
        assert "an alias must be a name, not a URI" in shown
