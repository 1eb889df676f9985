"""`zconfig exec`: another program, with one alias' values as environment variables."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support import PATIENCE_S
from tests.support.faults import breakable_proxy, refused
from tests.support.processes import REPOSITORY, call_zconfig, run, run_python, run_zconfig
from tests.support.registries import registry
from zconfig._cli import exec as exec_command
from zconfig._cli.app import zconfig
from zconfig._cli.exec import execute
from zconfig._cli.programs import BY_DEFAULT, FIELDS, environment_with
from zconfig._sources.base import MILVUS
from zconfig._spec import ConnectionSpec
from zconfig.testing import fake_server

SECRET = "s3cret-canary"
PROD = {
    "ZILLIZ_PROD_URI": "https://db.example/sales",
    "ZILLIZ_PROD_TOKEN": f"root:{SECRET}",
    "ZILLIZ_PROD_TLS_CA": "/etc/ca.pem",
    "ZILLIZ_PROD_TIMEOUT": "2.5",
}


def spec(environ: Mapping[str, str]) -> ConnectionSpec:
    with registry(**environ) as connections:
        return connections.spec("prod")


def child(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source)


# --- values, without a process ----------------------------------------------------------------


def values_of(connection: ConnectionSpec) -> dict[str, str | None]:
    return {field: value(connection) for field, value in FIELDS.items()}


def test_the_fields_are_what_a_connection_is_made_of() -> None:
    values = values_of(spec(PROD))
    assert values == {
        "URI": "https://db.example:443",
        "URI_DB_NAME": "https://db.example:443/sales",
        "ADDRESS": "db.example:443",
        "HOST": "db.example",
        "PORT": "443",
        "TOKEN": f"root:{SECRET}",
        "API_KEY": None,
        "USER": "root",
        "PASSWORD": SECRET,
        "DB_NAME": "sales",
        "TIMEOUT": "2.5",
        "TLS_CA": "/etc/ca.pem",
        "TLS_CERT": None,
        "TLS_KEY": None,
        "TLS_SERVER_NAME": None,
        "PROXY": None,
        "CONTROL_PLANE": None,
    }


def test_an_api_key_has_neither_user_nor_password() -> None:
    values = values_of(spec({**PROD, "ZILLIZ_PROD_TOKEN": SECRET}))
    assert (values["TOKEN"], values["API_KEY"]) == (SECRET, SECRET)
    assert values["USER"] is values["PASSWORD"] is None


def test_a_password_keeps_its_colons() -> None:
    values = values_of(spec({**PROD, "ZILLIZ_PROD_TOKEN": "root:a:b"}))
    assert (values["USER"], values["PASSWORD"]) == ("root", "a:b")


def test_milvus_lite_is_a_path(tmp_path: Path) -> None:
    values = values_of(spec({"ZILLIZ_PROD_URI": "./x.db"}))
    assert values["URI"] == str(tmp_path / "x.db")
    assert values["HOST"] is values["PORT"] is values["TOKEN"] is None


def test_what_another_server_left_behind_does_not_go_with_this_one() -> None:
    before = {"MILVUS_TOKEN": "another", "PATH": "/bin"}
    bare = spec({"ZILLIZ_PROD_URI": "http://db.example"})
    after = environment_with(before, bare, BY_DEFAULT)
    assert after == {
        "PATH": "/bin",
        "MILVUS_URI": "http://db.example:19530",
        "MILVUS_DB_NAME": "default",
        "MILVUS_DB": "default",
        "MILVUS_DATABASE": "default",
    }
    assert before["MILVUS_TOKEN"] == "another"


def test_the_help_names_every_field() -> None:
    words = CliRunner().invoke(zconfig, ["exec", "--help"]).output.replace(",", " ").split()
    variables = {variable for _, variable in BY_DEFAULT}
    assert {*FIELDS, *variables} <= {word.rstrip(".") for word in words}


def test_a_program_that_uses_zconfig_gets_the_same_connection() -> None:
    given = spec(PROD)
    inherited = dict.fromkeys(MILVUS, "of-another-server")
    with registry(**environment_with(inherited, given, BY_DEFAULT)) as connections:
        same = connections.spec()
        assert connections.configuration.errors == ()
    assert (same.endpoint.address, same.db_name) == (given.endpoint.address, given.db_name)
    assert same.credentials == given.credentials


# --- what is wrong, without a process ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(("--map", "NOPE=X"), "use one of URI, URI_DB_NAME", id="unknown field"),
        pytest.param(("--map", "URI"), "URI requires the name of a variable", id="no variable"),
        pytest.param(("--map", "URI=A=B"), "URI requires the name of a variable", id="not a name"),
        pytest.param(("--map", "URI=1A"), "URI requires the name of a variable", id="a digit"),
        pytest.param(("--map", "URI=A", "--map", "TOKEN=A"), "--map sets A twice", id="twice"),
    ],
)
def test_a_wrong_mapping_is_a_wrong_use(arguments: tuple[str, ...], told: str) -> None:
    done = CliRunner(env=PROD).invoke(zconfig, ["exec", "prod", *arguments, "--", "true"])
    assert done.exit_code == 2
    assert told in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("prod", "true"), ("prod", "ls", "--color"), ("prod", "true", "--", "x"), ("prod",), ()],
    ids=" ".join,
)
def test_the_dashes_are_asked_for(arguments: tuple[str, ...]) -> None:
    done = CliRunner(env=PROD).invoke(zconfig, ["exec", *arguments])
    assert done.exit_code == 2
    assert "-- must precede the command to run" in done.stderr


def test_a_missing_command_is_a_wrong_use() -> None:
    for arguments in (["prod", "--"], ["--"], ["prod", "--", ""], ["--", "", "x"]):
        done = CliRunner(env=PROD).invoke(zconfig, ["exec", *arguments])
        assert done.exit_code == 2
        assert "the command to run is missing; put it after --" in done.stderr


def test_without_an_alias_the_default_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Mapping[str, str]] = []
    monkeypatch.setattr("zconfig._cli.exec.execute", lambda _, environ: ran.append(environ))
    environ = {**PROD, "ZILLIZ_URI": "http://127.0.0.1", "ZILLIZ_TEST_URI": "http://127.0.0.2"}
    for chosen in ({}, {"ZCONFIG_DEFAULT_ALIAS": "test"}):
        done = CliRunner(env={**environ, **chosen}).invoke(zconfig, ["exec", "--", "true"])
        assert done.exit_code == 0, done.output
    uris = [each["MILVUS_URI"] for each in ran]
    assert uris == ["http://127.0.0.1:19530", "http://127.0.0.2:19530"]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("./x.db", "a path of Milvus Lite"),
        ("unix:/tmp/milvus.sock", "a Unix socket"),
        ("http://[::1]:19530", "an IPv6 address"),
    ],
)
def test_a_uri_with_which_pymilvus_cannot_be_imported_is_not_set(
    uri: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Mapping[str, str]] = []
    monkeypatch.setattr("zconfig._cli.exec.execute", lambda _, environ: ran.append(environ))
    runner = CliRunner(env={"ZILLIZ_URI": uri, "MILVUS_URI": "http://db.example"})
    done = runner.invoke(zconfig, ["exec", "--", "true"])
    assert "MILVUS_URI" not in ran[0]
    assert ran[0]["MILVUS_DB"] == "default"
    assert f"MILVUS_URI is not set: pymilvus cannot be imported with {told}" in done.stderr
    assert runner.invoke(zconfig, ["exec", "-q", "--", "true"]).stderr == ""
    mapped = runner.invoke(zconfig, ["exec", "--map", "URI=MILVUS_URI", "--", "true"])
    assert (mapped.stderr, "MILVUS_URI" in ran[2]) == ("", True)


def test_a_missing_alias_exits_3_with_the_usual_message() -> None:
    done = CliRunner(env=PROD).invoke(zconfig, ["exec", "nope", "--", "true"])
    assert done.exit_code == 3
    assert "the alias is not configured (configured: prod)" in done.stderr


def test_an_alias_that_is_wrong_exits_3_with_its_problem() -> None:
    environ = {"ZILLIZ_BAD_URI": "http://127.0.0.1:0"}
    done = CliRunner(env=environ).invoke(zconfig, ["exec", "bad", "--", "true"])
    assert done.exit_code == 3
    assert "the port is not a number from 1 to 65535" in done.stderr


# --- processes ----------------------------------------------------------------------------------


def test_the_command_gets_its_variables_arguments_and_exit_code() -> None:
    show = child("import json, os, sys; print(json.dumps([dict(os.environ), sys.argv])); exit(7)")
    arguments = ("-q", "--map", "--", "$HOME")
    done = run_zconfig("exec", "--", *show, *arguments, environ={**PROD, "OTHER": "kept"})
    assert (done.returncode, done.stderr) == (7, "")
    environ, argv = json.loads(done.stdout)
    assert argv[1:] == list(arguments)
    assert {name: environ.get(name) for _, name in BY_DEFAULT} == {
        "MILVUS_URI": "https://db.example:443",
        "MILVUS_TOKEN": f"root:{SECRET}",
        "MILVUS_USER": "root",
        "MILVUS_PASSWORD": SECRET,
        "MILVUS_DB_NAME": "sales",
        "MILVUS_DB": "sales",
        "MILVUS_DATABASE": "sales",
    }
    assert environ["OTHER"] == "kept"
    assert "GRPC_VERBOSITY" not in environ


def test_the_secret_is_on_no_command_line() -> None:
    show = child("import sys; print(sys.orig_argv)")
    wanted = ("--map", "token=KEY", "--map", "PASSWORD=PW", "--", *show)
    done = run_zconfig("exec", "prod", *wanted, environ=PROD)
    assert done.returncode == 0, done.stderr
    assert "orig_argv" in done.stdout
    assert SECRET not in done.stdout


def test_only_what_is_mapped_is_set() -> None:
    show = child("import os; print(os.environ['DB'], 'MILVUS_URI' in os.environ)")
    done = run_zconfig("exec", "prod", "--map", "URI=DB", "--", *show, environ=PROD)
    assert done.stdout == "https://db.example:443 False\n"


def test_signals_are_the_command_s_own() -> None:
    source = """
import signal, sys, time
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print("ready", flush=True)
while True:  # a signal just before a pause would be heard of when that has ended
    time.sleep(0.1)
"""
    arguments = ["-m", "zconfig", "exec", "prod", "--", *child(source)]
    environ = {**PROD, "PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, *arguments], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 5


def test_a_closed_pipe_ends_the_command_as_it_would_without_us() -> None:
    # Python ignores SIGPIPE; a program that inherits that goes on writing for ever.
    command = f"{shlex.quote(sys.executable)} -m zconfig exec prod -- yes"
    line = f"{command} | head -1; echo ${{PIPESTATUS[0]}}"
    done = run(["bash", "-c", line], environ=PROD)
    assert (done.stdout, done.stderr) == (f"y\n{128 + signal.SIGPIPE}\n", "")


@pytest.mark.parametrize(
    ("is_there", "code", "reason"),
    [(False, 127, "command not found"), (True, 126, "permission denied")],
)
def test_a_command_that_cannot_run_exits_as_shells_do(
    is_there: bool, code: int, reason: str, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    if is_there:
        program.touch(mode=0o644)
    done = run_zconfig("exec", "prod", "--", str(program), environ=PROD)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"zconfig: {program}: {reason}\n"


def test_with_check_the_command_runs_only_if_the_server_accepts_us() -> None:
    arguments = ("exec", "prod", "--check", "--", "echo", "ran")
    with fake_server() as fake, refused() as port:
        fine = run_zconfig(*arguments, environ={"ZILLIZ_PROD_URI": fake.uri})
        environ = {**PROD, "ZILLIZ_PROD_URI": f"http://127.0.0.1:{port}"}
        environ.pop("ZILLIZ_PROD_TLS_CA")
        failed = run_zconfig(*arguments, environ=environ)
        assert len(fake.calls("Connect")) == 1
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, "ran\n", "")
    assert (failed.returncode, failed.stdout) == (4, "")
    assert "connection refused" in failed.stderr
    assert SECRET not in failed.stderr


def test_the_connection_of_a_check_is_closed_before_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fake_server() as fake, breakable_proxy(fake.port) as path:
        monkeypatch.setattr(exec_command, "execute", lambda *_: path.wait_for_peers(0))
        environ = {"ZILLIZ_PROD_URI": f"http://127.0.0.1:{path.port}"}
        done = call_zconfig("exec", "prod", "--check", "--", "echo", environ=environ)
        assert done.returncode == 0, done.stderr
        assert fake.calls("Connect")


def test_what_was_written_before_the_command_precedes_its_output() -> None:
    source = "import os; from zconfig._cli.exec import execute; print(1); execute(%r, os.environ)"
    done = run_python(source % (["echo", "2"],))
    assert done.stdout == "1\n2\n"


def test_on_windows_the_command_is_a_child_that_is_searched_in_its_own_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit $1\n")
    program.chmod(0o755)
    started: list[str] = []
    run_program = subprocess.run

    def spy(command: list[str], **options: Any) -> Any:
        started.append(command[0])
        return run_program(command, **options)

    monkeypatch.delattr(os, "fork")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(subprocess, "run", spy)
    with pytest.raises(SystemExit) as ended:
        execute(["program", "7"], {"PATH": str(tmp_path)})
    assert (ended.value.code, started) == (7, [str(program)])


def test_a_value_that_cannot_be_put_into_a_variable_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        execute(["true"], {"MILVUS_TOKEN": f"{SECRET}\0"})
    assert ended.value.code == 126
    assert (
        capsys.readouterr().err
        == "zconfig: true: a value cannot be stored in an environment variable\n"
    )
