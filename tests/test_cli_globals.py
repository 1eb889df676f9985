"""What all commands share: global options, help, completion; and `version`."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from tests.support.processes import run as run_program
from tests.support.processes import run_python
from zconfig import __version__
from zconfig._cli.app import COMMANDS, zconfig
from zconfig._log import configure_logging
from zconfig.testing import fake_server

NOWHERE = {"ZILLIZ_URI": "http://127.0.0.1:1"}


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    done = CliRunner(env=environ).invoke(zconfig, arguments)
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    return done


def listed(*arguments: str) -> list[str]:
    done = run(*arguments, "--format", "json")
    return [row["alias"] for row in json.loads(done.stdout)["aliases"]]


# --- global options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (("--env-file", "one.env"), ["one"]),
        (("--profile", "ci"), ["ci"]),
        (("--secrets-dir", "secrets"), ["s"]),
    ],
)
def test_what_is_read_is_chosen_before_and_after_the_command(
    option: tuple[str, str], expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "one.env").write_text("ZILLIZ_ONE_URI=http://127.0.0.1:1\n")
    (tmp_path / ".env.ci").write_text("ZILLIZ_CI_URI=http://127.0.0.1:2\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "zilliz_s_uri").write_text("http://127.0.0.1:3")
    assert listed(*option, "list") == expected
    assert listed("list", *option) == expected


@pytest.mark.parametrize("arguments", [("--strict", "list"), ("list", "--strict")])
def test_strict_stands_before_and_after_the_command(arguments: tuple[str, ...]) -> None:
    environ = {**NOWHERE, "ZILLIZ_TOKNE": "x"}
    assert run("list", environ=environ).exit_code == 0
    assert run(*arguments, environ=environ).exit_code == 3


@pytest.mark.parametrize("arguments", [("--format", "json", "list"), ("list", "--format", "json")])
def test_the_format_stands_before_and_after_the_command(arguments: tuple[str, ...]) -> None:
    assert json.loads(run(*arguments, environ=NOWHERE).stdout)["ok"] is True


@pytest.mark.parametrize("arguments", [("--quiet", "list"), ("list", "-q")])
def test_quiet_stands_before_and_after_the_command(arguments: tuple[str, ...]) -> None:
    fine = run(*arguments, environ=NOWHERE)
    wrong = run(*arguments, environ={"ZILLIZ_URI": "http://127.0.0.1:0"})
    assert (fine.exit_code, fine.output) == (0, "")
    assert (wrong.exit_code, wrong.stdout, len(wrong.stderr.splitlines())) == (3, "", 1)


@pytest.mark.parametrize("arguments", [("--verbose", "check"), ("check", "-v")])
def test_verbose_stands_before_and_after_the_command(arguments: tuple[str, ...]) -> None:
    with fake_server() as fake:
        done = run(*arguments, environ={"ZILLIZ_URI": fake.uri})
    configure_logging("none")
    assert "zconfig.connection.connected" in done.stderr
    assert "zconfig._connection" not in done.stdout


def test_what_stands_after_the_command_replaces_what_stands_before_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.env").write_text(f"ZILLIZ_{name.upper()}_URI=http://127.0.0.1:1\n")
    assert listed("--env-file", "one.env", "list", "--env-file", "two.env") == ["two"]
    done = run("--format", "github", "list", "--format", "json", environ=NOWHERE)
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize("command", ["explain", "version"])
def test_a_format_that_a_command_does_not_have_is_a_wrong_use(command: str) -> None:
    before = run("--format", "junit", command, environ=NOWHERE)
    after = run(command, "--format", "junit", environ=NOWHERE)
    assert (before.exit_code, after.exit_code) == (2, 2)
    assert f"`{command}` does not support junit; use table or json" in before.stderr


def test_a_command_without_formats_passes_over_the_format() -> None:
    assert run("--format", "json", "env-example").stdout == run("env-example").stdout


@pytest.mark.parametrize(
    ("environ", "code", "lines"),
    [(NOWHERE, 0, 0), ({"ZILLIZ_URI": "http://127.0.0.1:0"}, 3, 1)],
)
def test_explain_can_be_quiet(environ: Mapping[str, str], code: int, lines: int) -> None:
    done = run("explain", "--quiet", environ=environ)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (code, "", lines)


def test_init_can_be_quiet(tmp_path: Path) -> None:
    done = run("init", "--quiet", "--uri", "./x.db", "--no-token")
    assert (done.exit_code, done.output) == (0, "")
    assert (tmp_path / ".env").exists()


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_examples_that_stand_a_line_each(command: str) -> None:
    help_ = run(command, "--help").stdout
    assert "\\b" not in help_
    examples = help_.partition("Example")[2].splitlines()[1:]
    assert f"zconfig {command}" in examples[0]
    connects = command in {"check", "wait", "doctor", "exec"}
    reads = command not in {"completion", "env-example", "schema", "version"}
    assert ("\n    8  the database does not exist\n" in help_) is connects
    assert ("\n    3  invalid configuration\n" in help_) is reads
    for option in ("--env-file", "--profile", "--secrets-dir", "--strict", "--quiet", "--verbose"):
        assert (f"{option} " in help_) is reads
    assert run(command, "-h").stdout == help_


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_in_the_help_are_understood(command: str) -> None:
    lines = run(command, "--help").stdout.partition("Example")[2].splitlines()
    examples = [line.split() for line in lines if line.strip().startswith("zconfig ")]
    assert examples
    for _, name, *words in examples:
        own = itertools.takewhile(lambda word: word not in {">", "&&"}, words)
        context = click.Context(zconfig)
        command_ = zconfig.get_command(context, name)
        assert command_
        command_.make_context(name, [*own], parent=context)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_own_help_says(command: str) -> None:
    found = zconfig.get_command(click.Context(zconfig), command)
    assert found
    assert found.name == command
    assert found.get_short_help_str(limit=200) == COMMANDS[command][1]


def test_a_misspelt_command_is_answered_with_the_one_that_is_meant() -> None:
    done = run_program([sys.executable, "-m", "zconfig", "chek"])
    assert done.returncode == 2
    assert "'check'" in done.stderr


def test_help_imports_neither_grpc_nor_rich() -> None:
    code = """
import atexit, sys
atexit.register(lambda: print({"grpc", "rich", "pydantic_settings"} & sys.modules.keys()))
sys.argv = ["zconfig", "--help"]
from zconfig._cli import main
main()
"""
    assert run_python(code).stdout.splitlines()[-1] == "set()"


def test_the_help_lists_every_command_and_global_option() -> None:
    help_ = run("--help").stdout
    commands = "check wait list explain doctor exec init schema env-example completion version"
    for name in commands.split():
        assert f"\n  {name} " in help_
    for option in ("env-file", "profile", "secrets-dir", "strict", "format", "quiet", "verbose"):
        assert f"--{option}" in help_
    assert "..." not in help_.partition("Commands:")[2]  # on a terminal of 80 columns


# --- completion ---------------------------------------------------------------------------------


def completed(*arguments: str) -> list[str]:
    *before, incomplete = arguments
    shell = ShellComplete(zconfig, {}, "zconfig", "_ZCONFIG_COMPLETE")
    return [item.value for item in shell.get_completions(before, incomplete)]


@pytest.fixture
def _two_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZILLIZ_EU_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("ZILLIZ_BAD_URI", "http://127.0.0.1:0")


@pytest.mark.usefixtures("_two_aliases")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", ""),
        ("wait", ""),
        ("doctor", ""),
        ("explain", ""),
        ("exec", ""),
        ("check", "--alias", ""),
    ],
)
def test_aliases_complete_also_those_that_are_wrong(arguments: tuple[str, ...]) -> None:
    assert completed(*arguments) == ["eu", "bad"]


@pytest.mark.usefixtures("_two_aliases")
def test_completion_goes_on_from_what_was_typed_and_heeds_the_options(tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("ZILLIZ_ELSE_URI=http://127.0.0.1:1\n")
    assert completed("check", "e") == ["eu"]
    assert set(completed("--env-file", "other.env", "check", "e")) == {"eu", "else"}
    assert completed("chec") == ["check"]
    assert completed("check", "--format", "j") == ["json", "junit"]


def test_completion_reads_nothing_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("zconfig._sources.remote.manager_readings", refuse)
    monkeypatch.setenv("ZCONFIG_AWS_SECRET", "prod/zilliz")
    monkeypatch.setenv("ZILLIZ_EU_URI", "http://127.0.0.1:1")
    assert completed("check", "") == ["eu"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert f"_ZCONFIG_COMPLETE={shell}_complete" in done.stdout


def test_bash_completes_an_alias(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "zconfig"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m zconfig "$@"\n')
    program.chmod(0o755)
    script = """
eval "$(zconfig completion bash)"
COMP_WORDS=(zconfig check e) COMP_CWORD=2
_zconfig_completion zconfig
echo "${COMPREPLY[@]}"
"""
    path = f"{program.parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "ZILLIZ_EU_URI": "http://127.0.0.1:1"}
    done = run_program(["bash", "-c", script], environ=environ)
    assert (done.stdout, done.stderr) == ("eu\n", "")


# --- version --------------------------------------------------------------------------------------


def test_version_tells_what_is_there() -> None:
    lines = dict(line.split() for line in run("version").stdout.splitlines())
    assert lines["zconfig"] == __version__
    assert lines["python"] == ".".join(map(str, sys.version_info[:3]))
    assert lines["grpcio"][0].isdigit()


def test_version_leaves_out_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "grpcio":
            return "1.60.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr("zconfig._cli.inspect.version_of", version)
    assert "pymilvus" not in run("version").stdout
    found = json.loads(run("version", "--format", "json").stdout)
    assert (found["grpcio"], found["pymilvus"], found["milvus_lite"]) == ("1.60.0", None, None)


@pytest.mark.parametrize("arguments", [("version",), ("schema",), ("env-example",)])
def test_what_needs_no_configuration_reads_none(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the configuration was read")

    monkeypatch.setattr("zconfig._cli.options.load", refuse)
    assert run(*arguments).exit_code == 0
