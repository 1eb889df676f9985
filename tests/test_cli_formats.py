"""What programs read: JSON by its documented schemas, JUnit XML, GitHub's annotations."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import grpc
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.support.faults import grpc_server, refused
from tests.support.processes import REPOSITORY
from zconfig._channel.messages import ConnectReply, ServerInfo, VersionReply
from zconfig._cli.app import zconfig
from zconfig._cli.generate import OF_COMMANDS, schema_of
from zconfig._cli.options import FORMATS
from zconfig._cli.render import annotation, render
from zconfig._cli.report import Failure, Report, Row
from zconfig._cli.schemas import json_schema_of, json_value
from zconfig.errors import ExitCode, Problem
from zconfig.testing import FakeServer, fake_server


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture(scope="module")
def down() -> Iterator[int]:
    with refused() as port:
        yield port


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    done = CliRunner(env=environ).invoke(zconfig, arguments)
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    return done


@pytest.fixture
def mixed(fake: FakeServer, down: int, tmp_path: Path) -> dict[str, str]:
    """One alias that works, and those that do not, for every reason there is a key for."""
    (tmp_path / ".env").write_text(
        f"ZILLIZ_URI={fake.uri}\n"
        "ZILLIZ_TOKEN=root:from-the-file\n"
        f"ZILLIZ_DOWN_URI=http://127.0.0.1:{down}\n"
        "ZILLIZ_BAD_URI=http://127.0.0.1:0\n"
        "ZILLIZ_EMPTY_URI=\n"
        "MILVUS_TOKEN=not-read-here\n"
    )
    return {
        "ZILLIZ_TOKEN": "root:from-the-environment",
        "ZILLIZ_DEFALT_TOKEN": "x",
        "ZILLIZ_EXTRA_URI": f"http://127.0.0.1:{down}",
        "ZILLIZ_EXTRA_REQUIRED": "false",
    }


# --- JSON ---------------------------------------------------------------------------------------


def closed(schema: Any) -> Any:
    """Return a schema that lets no key pass which it does not describe."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    described = {key: closed(each) for key, each in schema.items()}
    if "properties" in described:
        described["additionalProperties"] = False
    return described


@pytest.mark.parametrize("command", OF_COMMANDS)
def test_the_json_of_a_command_fits_its_schema_and_has_no_other_keys(
    command: str, mixed: dict[str, str]
) -> None:
    printed = run(command, "--format", "json", environ=mixed).stdout
    schema = json.loads(run("schema", "--of", command).stdout)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(closed(schema)).validate(json.loads(printed))


def test_the_json_of_a_watched_check_fits_the_same_schema(mixed: dict[str, str]) -> None:
    printed = run("check", "--watch", "1", "-n", "1", "--format", "json", environ=mixed).stdout
    Draft202012Validator(closed(schema_of("check"))).validate(json.loads(printed))


@pytest.mark.parametrize("command", ["check", "wait", "list", "doctor", "explain"])
def test_the_json_of_an_empty_configuration_fits_its_schema(command: str) -> None:
    printed = run(command, "--format", "json").stdout
    Draft202012Validator(closed(schema_of(command))).validate(json.loads(printed))


@pytest.mark.parametrize("command", OF_COMMANDS)
def test_a_schema_refuses_what_lacks_a_key(command: str, mixed: dict[str, str]) -> None:
    done = run(command, "--format", "json", environ=mixed)
    printed = json.loads(done.stdout)
    validator = Draft202012Validator(schema_of(command))
    for key in printed:
        without = copy.copy(printed)
        del without[key]
        assert not validator.is_valid(without), key


def test_a_field_is_described_by_its_type_and_by_the_docstring_alone() -> None:
    @dataclass(frozen=True)
    class Seen:
        """What was seen.

        Attributes:
            ok: Whether it is well.

        Args:
            took_ms: Milliseconds that it took;
                `None` if that is not known.
            state: How it is.
        """

        took_ms: float | None
        state: Literal["new", "old"]

        @property
        def ok(self) -> bool:
            return self.state == "new"

    properties = json_schema_of(Seen)["properties"]
    assert properties["ok"] == {"type": "boolean", "description": "Whether it is well."}
    told = "Milliseconds that it took; null if that is not known."
    number = {"type": ["number", "null"], "minimum": 0}
    assert properties["took_ms"] == {**number, "description": told}
    assert properties["state"]["enum"] == ["new", "old"]
    assert json_value(Seen(1.23456, "old")) == {"ok": False, "took_ms": 1.235, "state": "old"}


def keys_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        for each in schema.values():
            yield from keys_of(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from keys_of(each)


def test_every_key_is_documented() -> None:
    page = (REPOSITORY / "docs" / "command.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", page))
    keys = {key for command in OF_COMMANDS for key in keys_of(schema_of(command))}
    assert keys <= documented, keys - documented


def test_the_failure_says_in_which_file_and_line_the_value_at_fault_stands(
    mixed: dict[str, str],
) -> None:
    report = json.loads(run("check", "--format", "json", environ=mixed).stdout)
    failures = {row["alias"]: row["failure"] for row in report["aliases"] if row["failure"]}
    places = {alias: (each["file"], each["line"]) for alias, each in failures.items()}
    assert places["down"] == (".env", 3)
    assert places["bad"] == (".env", 4)
    assert places["extra"] == (None, None)
    (problem,) = (each for each in report["problems"] if each["alias"] == "bad")
    assert (problem["file"], problem["line"]) == (".env", 4)


def test_the_schema_of_the_variables_is_still_the_default() -> None:
    assert run("schema").stdout == run("schema", "--of", "variables").stdout
    assert "ZILLIZ_URI" in json.loads(run("schema").stdout)["properties"]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("command", ["check", "wait", "doctor"])
def test_what_keeps_an_alias_that_is_named_from_connecting_is_told_once(
    command: str, format_: str
) -> None:
    done = run(command, "cloud", "--format", format_, environ={"ZILLIZ_CLOUD_TOKEN": "x"})
    assert done.exit_code == ExitCode.CONFIGURATION
    if format_ == "json":
        report = json.loads(done.stdout)
        assert [each["severity"] for each in report["problems"]] == ["error"]
    else:
        assert done.stdout.count("ZILLIZ_CLOUD_TOKEN (environment)") == 1
        assert "warning" not in done.stdout


# --- JUnit --------------------------------------------------------------------------------------


def junit(text: str) -> ET.Element:
    return ET.fromstring(text.encode())  # noqa: S314 - it is our own


def outcome(case: ET.Element) -> str:
    return next((each.tag for each in case if each.tag != "system-out"), "passed")


@pytest.mark.parametrize("command", ["check", "wait"])
def test_junit_has_a_test_case_an_alias(command: str, mixed: dict[str, str]) -> None:
    arguments = ("default", "down") if command == "wait" else ()
    more = ("--timeout", "3") if command == "wait" else ()
    done = run(command, *arguments, *more, "--format", "junit", environ=mixed)
    suites = junit(done.stdout)
    cases = {case.get("name"): case for case in suites.iter("testcase")}
    assert {case.get("classname") for case in cases.values()} == {f"zconfig.{command}"}
    assert outcome(cases["default"]) == "passed"
    assert outcome(cases["down"]) == "failure"
    failure = cases["down"].find("failure")
    assert failure is not None
    assert failure.get("type") == "refused"
    assert "start the server" in (failure.text or "")
    assert cases["down"].get("file") == ".env"


def test_junit_counts_what_counts(mixed: dict[str, str]) -> None:
    suites = junit(run("check", "--format", "junit", environ=mixed).stdout)
    (suite,) = suites
    outcomes = [outcome(case) for case in suite]
    for element in (suites, suite):
        assert element.get("tests") == str(len(outcomes))
        assert element.get("failures") == str(outcomes.count("failure"))
        assert element.get("errors") == str(outcomes.count("error"))
        assert element.get("skipped") == str(outcomes.count("skipped"))
    optional = next(case for case in suite if case.get("name") == "extra")
    assert outcome(optional) == "skipped"


def test_junit_tells_what_concerns_no_alias() -> None:
    suites = junit(run("check", "--format", "junit").stdout)
    (case,) = suites.iter("testcase")
    assert (case.get("name"), outcome(case)) == ("configuration", "error")
    assert "set ZILLIZ_URI" in (case[0].text or "")


def test_junit_of_the_doctor_has_the_stages(fake: FakeServer) -> None:
    suites = junit(run("doctor", "--format", "junit", environ={"ZILLIZ_URI": fake.uri}).stdout)
    (case,) = suites.iter("testcase")
    assert outcome(case) == "passed"
    stages = [line.split("  ")[:2] for line in (case.findtext("system-out") or "").splitlines()]
    assert ["configuration", "ok"] in stages
    assert ["database", "ok"] in stages


@given(st.text(), st.text())
def test_junit_is_well_formed_whatever_a_server_says(alias: str, said: str) -> None:
    failure = Failure("refused", said, ExitCode.UNREACHABLE, file=said, problem=said)
    rows = (Row(alias, state="failed", failure=failure), Row("b", required=False, failure=failure))
    general = Problem("x", said, said)
    text = render(Report(rows, (general,), 1.0), "junit", "check", outputs={alias: said})
    assert len(list(junit(text).iter("testcase"))) == 3


def test_junit_shows_control_characters_as_something_else() -> None:
    failure = Failure("refused", "\x1b[31mred\x00\udc80", ExitCode.UNREACHABLE)
    text = render(Report((Row("a", failure=failure),), (), 1.0), "junit", "check")
    assert junit(text).findtext(".//failure") == "\ufffd[31mred\ufffd\ufffd"


# --- GitHub ---------------------------------------------------------------------------------------


def test_a_failure_is_annotated_where_its_value_stands(mixed: dict[str, str]) -> None:
    lines = run("check", "--format", "github", environ=mixed).stdout.splitlines()
    assert any(
        line.startswith("::error file=.env,line=3::down: connection refused") for line in lines
    )
    assert any(line.startswith("::error file=.env,line=4::bad:") for line in lines)
    assert any(line.startswith("::warning::extra: connection refused") for line in lines)
    assert any(line.startswith("default: connected to") for line in lines)
    assert sum("bad:" in line for line in lines) == 1


@pytest.mark.parametrize("command", ["check", "wait", "list", "doctor"])
def test_every_command_that_reports_annotates(command: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nZILLIZ_URI=http://127.0.0.1:0\n")
    done = run(command, "--format", "github")
    assert done.exit_code == 3
    assert done.stdout.startswith("::error file=.env,line=2::")


def test_an_unknown_alias_is_annotated_too(fake: FakeServer) -> None:
    done = run("check", "nope", "--format", "github", environ={"ZILLIZ_URI": fake.uri})
    assert done.exit_code == 3
    assert done.stdout.startswith("::error::nope: the alias is not configured")


def test_the_doctor_annotates_its_warnings(fake: FakeServer) -> None:
    environ = {"ZILLIZ_URI": fake.uri, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    done = run("doctor", "--format", "github", environ=environ)
    assert done.exit_code == 0
    assert "::warning::default: GRPC_ENABLE_FORK_SUPPORT=0 can make gRPC hang" in done.stdout


def test_a_path_is_told_from_the_root_of_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "service"
    below.mkdir()
    (below / ".env").write_text("ZILLIZ_URI=http://127.0.0.1:0\n")
    monkeypatch.chdir(below)
    done = run("list", "--format", "github", environ={"GITHUB_WORKSPACE": str(tmp_path)})
    assert done.stdout.startswith("::error file=service/.env,line=1::")


@given(st.text(), st.text(min_size=1))
def test_an_annotation_is_one_line_that_a_runner_reads_back(message: str, file: str) -> None:
    line = annotation("error", message, file, 7)
    assert "\n" not in line
    assert "\r" not in line
    head, _, rest = line.removeprefix("::").partition("::")
    name, _, properties = head.partition(" ")
    values = dict(each.split("=", 1) for each in properties.split(","))
    assert (name, unescaped(values["file"]), values["line"]) == ("error", file, "7")
    assert unescaped(rest) == message


def unescaped(text: str) -> str:
    """Return a text as GitHub's runner does, `%25` last."""
    pairs = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
    for code, char in pairs:
        text = text.replace(code, char)
    return text


@pytest.mark.parametrize("format_", FORMATS)
def test_no_format_shows_a_secret_that_the_server_repeats(format_: str) -> None:
    def echo(_: bytes, context: grpc.ServicerContext) -> bytes:
        sent = str(dict(context.invocation_metadata())["authorization"])
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not {base64.b64decode(sent).decode()}")

    with grpc_server({"Connect": echo}) as port:
        environ = {"ZILLIZ_URI": f"http://127.0.0.1:{port}", "ZILLIZ_TOKEN": "root:s3cret-canary"}
        done = run("check", "--format", format_, environ=environ)
    assert done.exit_code == 6
    assert "rejected" in done.output
    assert "s3cret-canary" not in done.output


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_no_format_lets_a_server_write_more_than_a_word(command: str, format_: str) -> None:
    said = (
        "v2.3\n::error::forged root:s3cret-canary ##[warning]forged ##vso[x]\r\x1b[2K" + "x" * 999
    )
    server = ServerInfo(build_tags=said, deploy_mode=said)
    methods = {
        "Connect": lambda *_: ConnectReply(server_info=server).encode(),
        "GetVersion": lambda *_: VersionReply(version=said).encode(),
    }
    with grpc_server(methods) as port:
        environ = {"ZILLIZ_URI": f"http://127.0.0.1:{port}", "ZILLIZ_TOKEN": "root:s3cret-canary"}
        done = run(command, "--format", format_, environ=environ)
    assert done.exit_code == 0
    assert (format_, command) == ("junit", "check") or (
        "v2.3 : :error: :forged ******** # #[warning]forged # #vso[x] ?[2K" in done.stdout
    )
    for forbidden in ("s3cret", "\x1b[2K", "\r", "x" * 200, "##[", "##vso["):
        assert forbidden not in done.output
    assert not any(line.strip().startswith("::") for line in done.output.splitlines())


@pytest.mark.parametrize(
    ("command", "format_"),
    [("explain", "table"), ("explain", "json"), ("list", "table"), ("list", "github")]
    + [(command, format_) for command in ("check", "doctor") for format_ in FORMATS],
)
def test_no_format_shows_a_control_character_or_a_command_of_the_configuration(
    command: str, format_: str, tmp_path: Path, down: int
) -> None:
    odd = tmp_path / "odd\r\n::error::forged\x1b[31m##[error]forged ##vso[x]"
    (odd / "secrets").mkdir(parents=True)
    for name, text in (("uri", f"https://127.0.0.1:{down}"), (".env", "ZILLIZ_BAD_URI=nowhere")):
        (odd / name).write_text(text)
        (odd / name).chmod(0o600)
    environ = {
        "ZILLIZ_URI_FILE": str(odd / "uri"),
        "ZILLIZ_TOKEN_FILE": str(odd),
        "ZILLIZ_TLS_CA": str(odd / "ca.pem"),
        "ZILLIZ_GONE_URI": f"http://127.0.0.1:{down}",
        "ZILLIZ_GONE_DB_NAME": "::error::forged##[x]",
        "ZILLIZ_GONE_USER_FILE": str(odd / "uri"),
        "ZILLIZ_NEAR_URI": f"http://127.0.0.1:{down}",
        "ZILLIZ_NEAR_DB_NAME": "::error::forged##[x]",
        "ZILLIZ_GONE_PASSWORD": "s3cret",
        "ZCONFIG_SECRETS_DIR": f"{odd / 'secrets'}{os.pathsep}{odd / 'gone'}",
        "ZCONFIG_ENV_FILE": f"{odd / '.env'}{os.pathsep}{odd / 'gone'}",
    }
    done = run(command, "--format", format_, environ=environ)
    assert "forged" in done.stdout
    assert not re.search(r"\x1b|\r|^\s*::error::forged|##\w*\[", done.output, re.MULTILINE)


def test_a_report_with_nothing_wrong_has_no_annotation() -> None:
    row = Row("a", "http://db:19530", "default", state="connected", server_version="2.6")
    assert (
        render(Report((row,), (), 1.0), "github", "check")
        == "a: connected to http://db:19530 (2.6)"
    )


@pytest.mark.parametrize("command", ["check", "wait", "doctor"])
@pytest.mark.parametrize(("format_", "times"), [("table", 1), ("github", 1), ("json", 3)])
def test_a_warning_that_a_failure_quotes_is_told_once(
    command: str, format_: str, times: int
) -> None:
    with fake_server() as strict:
        strict.accept("root:right")
        environ = {"ZILLIZ_URI": strict.uri, "ZILLIZ_TOKNE": "root:right", "COLUMNS": "300"}
        done = run(command, "--format", format_, environ=environ)
    assert done.exit_code not in {0, 3}
    assert done.stdout.count("ZILLIZ_TOKNE (environment)") == times
