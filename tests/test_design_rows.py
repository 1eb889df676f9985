"""Limits and refusals of the configuration contract that no other test is near enough to see."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.support.processes import run
from zconfig._redaction import SHORTEST
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load


def read(directory: Path, fields: Mapping[str, str]) -> Configuration:
    environ = {f"ZILLIZ_{field}": value for field, value in fields.items()}
    return load(environ, directory, system_secrets=str(directory / "none"))


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("TIMEOUT", "86401", "bad_timeout"),
        ("KEEPALIVE", "inf", "bad_keepalive"),
        ("KEEPALIVE", "3000000", "bad_keepalive"),
        ("KEEPALIVE", "nan", "bad_keepalive"),
        ("PROXY", "http://proxy:3128/path", "bad_proxy"),
        ("PROXY", "https://proxy:3128", "bad_proxy"),
        ("PROXY", "socks5://proxy:3128", "bad_proxy"),
        ("PROXY", "proxy:3128", "bad_proxy"),
        ("PROXY", "http://proxy:99999", "bad_proxy"),
        ("PROXY", "http://proxy:0", "bad_proxy"),
        ("PROXY", "http://u:p@", "bad_proxy"),
        ("PROXY", "http://u:p@:3128", "bad_proxy"),
        ("PROXY", "http://u:p#x@proxy:3128", "bad_proxy"),
        ("TOKEN", "cl\u00e9-secr\u00e8te", "not_printable"),
        ("TOKEN", "root:it\u2019s", "not_printable"),
    ],
)
def test_a_value_beyond_its_limit_is_refused(
    field: str, value: str, code: str, tmp_path: Path
) -> None:
    configuration = read(tmp_path, {"URI": "https://db", field: value})
    assert [(each.field, each.code) for each in configuration.problems] == [(field.lower(), code)]
    # A number is shown if it is shorter than any password.
    assert (value in str(configuration.problems)) is (len(value) < SHORTEST)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("TIMEOUT", "86400", 86_400.0),
        ("PROXY", "HTTP://u:p%23x@proxy", SecretStr("HTTP://u:p%23x@proxy")),
        ("PROXY", "http://proxy:3128/", SecretStr("http://proxy:3128/")),
    ],
)
def test_a_value_at_its_limit_is_taken(
    field: str, value: str, expected: object, tmp_path: Path
) -> None:
    configuration = read(tmp_path, {"URI": "https://db", field: value})
    assert configuration.problems == ()
    assert getattr(configuration.aliases["default"], field.lower()) == expected


@pytest.mark.parametrize("uri", ["http://db", "tcp://db", "grpc://db", "unix:/x", "./x.db"])
def test_every_tls_field_of_a_uri_without_tls_is_a_problem_of_its_own(
    uri: str, tmp_path: Path
) -> None:
    fields = {"TLS_CA": "a", "TLS_CERT": "c", "TLS_KEY": "k", "TLS_SERVER_NAME": "n"}
    problems = read(tmp_path, {"URI": uri, **fields}).problems
    assert {each.code for each in problems} == {"tls_on_plaintext"}
    assert [each.field for each in problems] == [field.lower() for field in fields]


@pytest.mark.parametrize(
    ("proxy", "exceptions", "codes"),
    [
        ("http://proxy:3128", {"no_proxy": ".test"}, ["exempt_proxy"]),
        ("http://proxy:3128", {"no_grpc_proxy": "db.test"}, ["exempt_proxy"]),
        ("http://proxy:3128", {"no_proxy": ".test", "no_grpc_proxy": ""}, []),
        ("http://proxy:3128", {"NO_PROXY": ".test"}, []),
        ("off", {"no_proxy": ".test"}, []),
    ],
)
def test_a_proxy_that_no_proxy_exempts_the_host_from_is_a_warning(
    proxy: str, exceptions: dict[str, str], codes: list[str], tmp_path: Path
) -> None:
    environ = {"ZILLIZ_PROD_URI": "https://db.test", "ZILLIZ_PROD_PROXY": proxy, **exceptions}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert [each.code for each in configuration.problems] == codes
    for each in configuration.problems:
        assert (each.alias, each.field, each.severity) == ("prod", "proxy", "warning")
        assert each.remedy.endswith("or remove ZILLIZ_PROD_PROXY")


@pytest.mark.parametrize("uri", ["./x.db", "unix:/run/milvus.sock"])
def test_a_proxy_for_a_path_is_a_warning(uri: str, tmp_path: Path) -> None:
    for proxy, told in {"http://proxy:3128": ["remove ZILLIZ_PROXY"], "off": []}.items():
        problems = read(tmp_path, {"URI": uri, "PROXY": proxy}).problems
        assert [each.remedy for each in problems] == told


@pytest.mark.parametrize(
    ("environ", "code", "remedy"),
    [
        ({"ZCONFIG_STIRCT": "1"}, "unknown_option", "did you mean ZCONFIG_STRICT?"),
        ({"ZCONFG_STRICT": "1"}, "misspelt_prefix", "did you mean ZCONFIG_STRICT?"),
        ({"ZCONFIG_PROFILE": "prodution"}, "unknown_profile", "correct the profile"),
        (
            {"ZCONFIG_PROFILE": "ci", "ZCONFIG_ENV_FILE": "off"},
            "unused_profile",
            "name .env.ci in ZCONFIG_ENV_FILE, or remove ZCONFIG_PROFILE",
        ),
        ({"SERVICE_BINDING_ROOT": "/no/such/place"}, "missing_file", "correct the path"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_an_option_that_does_nothing_is_a_warning(
    environ: dict[str, str], code: str, remedy: str, tmp_path: Path
) -> None:
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert [(each.code, each.severity) for each in configuration.problems] == [(code, "warning")]
    assert configuration.problems[0].remedy.startswith(remedy)


@pytest.mark.parametrize("line", ["ZILLIZ_TOKEN-s3cret", "ZILLIZ_TOKEN=a${s3cret}b"])
def test_a_part_of_a_secret_in_a_line_that_is_wrong_is_not_shown(line: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{line}\n")
    configuration = load({}, tmp_path, system_secrets=str(tmp_path / "none"))
    assert configuration.problems
    assert "s3cret" not in " ".join(map(str, configuration.problems))


def test_a_secret_in_place_of_a_path_is_not_called_unreadable(tmp_path: Path) -> None:
    configuration = read(tmp_path, {"URI": "https://db", "TOKEN_FILE": "s3cret" * 60})
    (problem,) = configuration.problems
    assert problem.remedy == "write the path of a file"
    assert "s3cret" not in str(problem)


def test_the_package_runs_as_the_command(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "zconfig", "--version"], directory=tmp_path)
    assert (done.returncode, done.stdout[:8]) == (0, "zconfig,")
