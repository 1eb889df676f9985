"""What `load` makes of a configuration: every problem at once, and the good aliases are there."""

from __future__ import annotations

import base64
import os
import pickle
import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr, ValidationError

from tests.support.registries import registry
from zconfig._cli.report import list_aliases
from zconfig._origin import Origin
from zconfig._registry.specs import spec_of
from zconfig._settings.arguments import from_arguments, hide
from zconfig._settings.configuration import Configuration
from zconfig._settings.fields import ConnectionSettings
from zconfig._settings.load import load
from zconfig._settings.names import VOCABULARY
from zconfig._settings.options import LoaderOptions
from zconfig._settings.orphan_credentials import ALONE, soften_orphans
from zconfig._settings.precedence import FieldKey, Setting, group, resolve_layers
from zconfig._settings.validation import validate
from zconfig._sources.environment import read_environment
from zconfig.errors import ConfigurationError, Problem

Read = Callable[..., Configuration]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads the configuration of `tmp_path` and an environment."""

    def read(environ: Mapping[str, str] | None = None, **given: object) -> Configuration:
        none = str(tmp_path / "none")
        return load(environ or {}, tmp_path, given=given, system_secrets=none)

    return read


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


# --- everything that can be wrong ---------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """One thing that is wrong with an alias, which has a good URI unless it says otherwise."""

    fields: Mapping[str, str]
    code: str
    at: str
    message: str
    remedy: str
    uri: str = "http://db:19530"


TLS = "https://db"
PLAIN_CLOUD = "http://in03-ab12.serverless.aws-eu-central-1.vectordb.zillizcloud.com"

BAD = {
    "no_scheme": Bad({}, "missing_scheme", "URI", "no scheme", "https://", uri="db.example"),
    "scheme": Bad({}, "bad_scheme", "URI", "scheme", "https://", uri="ftp://db"),
    "port_zero": Bad({}, "bad_port", "URI", "port", "digits", uri="http://db:0"),
    "port_high": Bad({}, "bad_port", "URI", "1 to 65535", "digits", uri="http://db:65536"),
    "spaced": Bad({}, "whitespace", "URI", "white space", "remove", uri="http://db "),
    "cloud": Bad({}, "plaintext_cloud", "URI", "TLS", "https://", uri=PLAIN_CLOUD),
    "token_line": Bad({"TOKEN": "key\n"}, "line_end", "TOKEN", "line end", "one line"),
    "token_bom": Bad({"TOKEN": "\ufeffkey"}, "not_printable", "TOKEN", "ASCII", "byte order mark"),
    "pass_line": Bad({"USER": "a", "PASSWORD": "x\ny"}, "line_end", "PASSWORD", "line end", "line"),
    "user_line": Bad({"USER": "a\n", "PASSWORD": "x"}, "line_end", "USER", "line end", "one line"),
    "colon": Bad({"USER": "a:b", "PASSWORD": "x"}, "colon_in_user", "USER", "colon", "without"),
    "user_alone": Bad(
        {"USER": "a"}, "half_credentials", "USER", "without {}_PASSWORD", "set {}_PASSWORD"
    ),
    "pass_alone": Bad(
        {"PASSWORD": "a"}, "half_credentials", "PASSWORD", "without {}_USER", "set {}_USER"
    ),
    "both": Bad(
        {"TOKEN": "t", "USER": "a"},
        "two_credentials",
        "USER",
        "so does {}_TOKEN",
        "remove {}_TOKEN",
    ),
    "spellings": Bad({"TOKEN": "t", "API_KEY": "u"}, "conflict", "API_KEY", "differs", "keep one"),
    "no_file": Bad({"TOKEN_FILE": "/nowhere"}, "missing", "TOKEN_FILE", "not exist", "create"),
    "no_regular": Bad({"TOKEN_FILE": "/"}, "is_directory", "TOKEN_FILE", "not a file", "regular"),
    "db": Bad(
        {"DB_NAME": "a"}, "database_conflict", "DB_NAME", "different", "one", uri="http://db/b"
    ),
    "db_line": Bad({"DB_NAME": "a\n"}, "line_end", "DB_NAME", "line end", "one line"),
    "no_time": Bad({"TIMEOUT": "0"}, "bad_timeout", "TIMEOUT", "greater than 0", "TIMEOUT=10"),
    "negative": Bad({"TIMEOUT": "-1"}, "bad_timeout", "TIMEOUT", "greater than 0", "TIMEOUT=10"),
    "no_password": Bad(
        {}, "missing_password", "URI", "without a password", "user:password", uri="http://root:@h"
    ),
    "endless": Bad({"TIMEOUT": "inf"}, "bad_timeout", "TIMEOUT", "seconds", "TIMEOUT=10"),
    "not_a_number": Bad({"TIMEOUT": "nan"}, "bad_timeout", "TIMEOUT", "seconds", "TIMEOUT=10"),
    "unit": Bad({"TIMEOUT": "10s"}, "bad_timeout", "TIMEOUT", "seconds", "TIMEOUT=10"),
    "pings": Bad(
        {"KEEPALIVE": "9.9"}, "bad_keepalive", "KEEPALIVE", "at least 10", "0, or at least 10"
    ),
    "less_pings": Bad({"KEEPALIVE": "-30"}, "bad_keepalive", "KEEPALIVE", "at least 10", "0"),
    "pings_word": Bad({"KEEPALIVE": "on"}, "bad_keepalive", "KEEPALIVE", "seconds", "KEEPALIVE=30"),
    "no_pool": Bad({"POOL_SIZE": "0"}, "bad_pool_size", "POOL_SIZE", "1 to 64", "POOL_SIZE=1"),
    "big_pool": Bad({"POOL_SIZE": "65"}, "bad_pool_size", "POOL_SIZE", "1 to 64", "POOL_SIZE=1"),
    "half_pool": Bad({"POOL_SIZE": "1.5"}, "bad_pool_size", "POOL_SIZE", "whole", "POOL_SIZE=1"),
    "maybe": Bad({"REQUIRED": "maybe"}, "bad_required", "REQUIRED", "true or", "REQUIRED=true"),
    "ca": Bad(
        {"TLS_CA": "ca"}, "tls_on_plaintext", "TLS_CA", "{}_URI is not https", "remove {}_TLS_CA"
    ),
    "name": Bad(
        {"TLS_SERVER_NAME": "x"}, "tls_on_plaintext", "TLS_SERVER_NAME", "not https", "use"
    ),
    "socket": Bad(
        {"TLS_CA": "ca"}, "tls_on_plaintext", "TLS_CA", "not https", "use", uri="unix:/x"
    ),
    "name_line": Bad({"TLS_SERVER_NAME": "x\n"}, "line_end", "TLS_SERVER_NAME", "end", "one", TLS),
    "no_key": Bad(
        {"TLS_CERT": "c"}, "tls_pair", "TLS_CERT", "without {}_TLS_KEY", "set {}_TLS_KEY", TLS
    ),
    "no_cert": Bad(
        {"TLS_KEY": "k"}, "tls_pair", "TLS_KEY", "without {}_TLS_CERT", "set {}_TLS_CERT", TLS
    ),
    "socks": Bad({"PROXY": "socks5://p:1"}, "bad_proxy", "PROXY", "proxy", "http://host:port"),
}

FIELD = {"API_KEY": "token", "TOKEN_FILE": "token"}
# What is said of the half that is missing stands where the other half is.
ABSENT = {"user_alone": "password", "pass_alone": "user", "no_key": "tls_key"}


def variables(alias: str, bad: Bad) -> dict[str, str]:
    fields = {"URI": bad.uri, **bad.fields}
    return {f"ZILLIZ_{alias.upper()}_{field}": value for field, value in fields.items()}


def field_of(alias: str, bad: Bad) -> str:
    if bad.code == "two_credentials":
        return "token"
    return ABSENT.get(alias, FIELD.get(bad.at, bad.at.lower()))


def everything_bad() -> dict[str, str]:
    good = {"ZILLIZ_GOOD_URI": "https://db.example", "ZILLIZ_GOOD_TOKEN": "key"}
    bad = [variables(alias, each) for alias, each in BAD.items()]
    return good | {name: value for each in bad for name, value in each.items()}


def test_everything_that_is_wrong_is_told_in_one_go(read: Read) -> None:
    configuration = read(everything_bad())
    found = {(p.alias, p.code) for p in configuration.problems}
    assert found == {(alias, bad.code) for alias, bad in BAD.items()}
    assert len(configuration.problems) == len(BAD)
    assert list(configuration.aliases) == ["good"]


@pytest.mark.parametrize("alias", BAD.keys())
def test_a_problem_says_what_where_and_how_to_mend_it(alias: str, read: Read) -> None:
    bad = BAD[alias]
    good = {"ZILLIZ_GOOD_URI": "https://db.example"}
    configuration = read(good | variables(alias, bad))
    [problem] = configuration.problems
    assert (problem.code, problem.alias, problem.field) == (bad.code, alias, field_of(alias, bad))
    assert problem.origin is not None
    assert problem.origin.key == f"ZILLIZ_{alias.upper()}_{bad.at}"
    assert problem.severity == "error"
    prefix = f"ZILLIZ_{alias.upper()}"
    assert bad.message.replace("{}", prefix) in problem.message
    assert bad.remedy.replace("{}", prefix) in problem.remedy
    assert configuration.errors == configuration.errors_of(alias) == (problem,)
    assert list(configuration.aliases) == ["good"]


BARE = re.compile(rf"(?<!ZILLIZ_)\b({'|'.join(word.upper() for word in VOCABULARY)})\b")


def test_no_problem_names_a_field_where_it_means_a_variable(read: Read) -> None:
    told = [str(each) for each in read(everything_bad()).problems]
    assert [text for text in told if set(BARE.findall(text)) - {"URI"}] == []


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"user": "a"}, "set the parameter password there, or use only the parameter token"),
        ({"client_pem_path": "c"}, "set the parameter tls_key too, or remove the parameter client"),
        ({"ca_pem_path": "c", "secure": False}, "remove the parameter ca_pem_path"),
        ({"timeout": "5s"}, "timeout (connections.connect): '5s' is not a number of seconds"),
    ],
)
def test_a_problem_of_what_code_gave_names_the_parameter(
    parameters: dict[str, object], told: str, read: Read
) -> None:
    uri = "http://db" if "secure" in parameters else "https://db"
    with pytest.raises(ConfigurationError) as caught:
        from_arguments("prod", hide({"uri": uri, **parameters}), "connections.connect")
    assert told in str(caught.value)


def test_half_a_pair_of_pymilvus_variables_names_the_other_one(read: Read) -> None:
    [problem] = read({"MILVUS_URI": "https://db", "MILVUS_USER": "root"}).problems
    assert "is set without MILVUS_PASSWORD" in problem.message


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (
            "ZILLIZ_TIMEOUT",
            "5s",
            "'5s' is not a number of seconds greater than 0 and at most 86400",
        ),
        (
            "ZILLIZ_TIMEOUT",
            "86401",
            "'86401' is not a number of seconds greater than 0 and at most",
        ),
        ("ZILLIZ_REQUIRED", "maybe", "'maybe' is not true or false"),
        ("ZILLIZ_POOL_SIZE", "1.5", "'1.5' is not a whole number"),
        ("ZILLIZ_KEEPALIVE", "on", "'on' is not 0 or a number of seconds"),
        ("ZILLIZ_KEEPALIVE", "5", "5 is neither 0 nor at least 10"),
        ("ZCONFIG_WAIT", "5s", "'5s' is not a number of seconds from 0"),
        # As long as the shortest password: it may be one, in the wrong variable.
        ("ZILLIZ_TIMEOUT", "secret", "is not a number of seconds"),
    ],
)
def test_a_value_that_can_be_no_secret_is_shown(
    name: str, value: str, shown: str, read: Read
) -> None:
    [problem] = read({"ZILLIZ_URI": "http://db", name: value}).problems
    assert problem.message.startswith(shown)


@pytest.mark.parametrize("alias", BAD.keys())
def test_a_problem_in_a_file_says_which_and_where(alias: str, read: Read, tmp_path: Path) -> None:
    bad = BAD[alias]
    lines = [f"{name}='{value}'" for name, value in variables(alias, bad).items()]
    write(tmp_path / ".env", "\n".join(["# comment", *lines]))
    [problem] = read().problems
    line = ["URI", *bad.fields].index(bad.at) + 2
    path = bad.fields.get(bad.at) if bad.at.endswith("_FILE") else None
    key = f"ZILLIZ_{alias.upper()}_{bad.at}"
    # A path that leads nowhere may be the secret itself, and is not shown.
    shown = path if path and os.path.lexists(path) else None
    assert problem.origin == Origin("dotenv", key, ".env", line, shown)


def test_one_alias_may_have_several_problems(read: Read) -> None:
    configuration = read(
        {
            "ZILLIZ_URI": "http://db:0",
            "ZILLIZ_TIMEOUT": "0",
            "ZILLIZ_POOL_SIZE": "0",
            "ZILLIZ_TOKEN": "key\n",
        }
    )
    codes = [problem.code for problem in configuration.problems]
    assert sorted(codes) == ["bad_pool_size", "bad_port", "bad_timeout", "line_end"]


def test_a_bad_alias_costs_no_other_whatever_is_wrong_with_it(read: Read, tmp_path: Path) -> None:
    lines = (
        "ZILLIZ_A_URI=http://a\nZILLIZ_B_URI=http://b:0\nZILLIZ_C_TOKEN='x\nZILLIZ_C_URI=http://c\n"
    )
    write(tmp_path / ".env", lines)
    configuration = read({"ZILLIZ_D_URI": "http://d", "ZILLIZ_D_USER": "x"})
    assert list(configuration.aliases) == ["a"]
    assert {p.alias for p in configuration.errors} == {"b", "c", "d"}


# --- names --------------------------------------------------------------------------------------


def test_a_field_without_a_uri_names_both(read: Read) -> None:
    [problem] = read({"ZILLIZ_PROD_TOKEN": "key", "ZILLIZ_OTHER_URI": "http://db"}).problems
    assert (problem.code, problem.alias, problem.field) == ("missing_uri", "prod", "uri")
    assert str(problem) == (
        "prod: ZILLIZ_PROD_TOKEN (environment): is set, but ZILLIZ_PROD_URI is not; "
        "set ZILLIZ_PROD_URI"
    )


def test_a_field_of_a_misspelt_alias_gets_the_name_that_was_meant(read: Read) -> None:
    configuration = read({"ZILLIZ_PROD_URI": "http://db", "ZILLIZ_PORD_TOKEN": "key"})
    [problem] = configuration.problems
    assert (problem.code, problem.alias) == ("missing_uri", "pord")
    assert problem.remedy == "did you mean ZILLIZ_PROD_TOKEN?"
    assert list(configuration.aliases) == ["prod"]


def test_an_alias_that_has_the_field_in_another_place_may_have_been_meant(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", "ZILLIZ_PROD_URI=https://db\nZILLIZ_PROD_TOKEN=old\n")
    write(tmp_path / ".env.local", "ZILLIZ_PORD_TOKEN=new\n")
    [problem] = read().problems
    assert problem.remedy == "did you mean ZILLIZ_PROD_TOKEN?"


def test_an_alias_that_has_the_field_already_was_not_meant(read: Read) -> None:
    environ = {
        "ZILLIZ_PROD1_URI": "https://db",
        "ZILLIZ_PROD1_TOKEN": "a",
        "ZILLIZ_PROD2_TOKEN": "b",
    }
    [problem] = read(environ).problems
    assert problem.remedy == "set ZILLIZ_PROD2_URI"


def test_among_many_aliases_none_is_guessed(read: Read) -> None:
    environ = {f"ZILLIZ_A{i}_URI": "http://db" for i in range(200)}
    [problem] = read({**environ, "ZILLIZ_A_TOKEN": "key"}).problems
    assert problem.remedy == "set ZILLIZ_A_URI"


class Counting(dict[FieldKey, Setting]):
    """Counts how often it is looked through from its beginning to its end."""

    times = 0

    def __iter__(self) -> Iterator[FieldKey]:
        self.times += 1
        return super().__iter__()

    def keys(self) -> KeysView[FieldKey]:
        self.times += 1
        return super().keys()

    def items(self) -> ItemsView[FieldKey, Setting]:
        self.times += 1
        return super().items()


@pytest.mark.parametrize("field", ["TOKEN", "TIMEOUT", "TLS_CERT"])
@pytest.mark.parametrize("uri", [{}, {"ZILLIZ_URI": "http://db"}], ids=["no URI", "a URI"])
def test_what_is_set_is_looked_through_once_however_many_variables_are_wrong(
    field: str, uri: dict[str, str]
) -> None:
    def times(count: int) -> int:
        stray = {f"ZILLIZ_A{i}_{field}": "5" for i in range(count)}
        half = {f"ZILLIZ_B{i}_URI": "http://db" for i in range(count)}
        half |= {f"ZILLIZ_B{i}_TLS_CERT": "x" for i in range(count)}
        layer, _ = group(read_environment({**uri, **stray, **half}), strict=False)
        resolution = resolve_layers([layer], lambda entry: (entry, ()))
        counting = Counting(resolution.provenance)
        resolution = resolution._replace(provenance=counting)
        _, problems = validate(resolution)
        soften_orphans(problems, resolution, strict=False)
        return counting.times

    assert times(1) == times(20)


@pytest.mark.parametrize(
    ("name", "code", "remedy"),
    [
        ("ZILLIZ_TOKEN_URI", "reserved_alias", "choose another alias"),
        ("ZILLIZ_A/B_URI", "bad_alias", "choose another alias"),
        ("ZILLIZ_A__B_URI", "bad_alias", "did you mean ZILLIZ_A_B_URI?"),
        ("ZILLIZ__URI", "bad_alias", "did you mean ZILLIZ_URI?"),
        ("ZILLIZ_PROD__TOKEN_FILE", "bad_alias", "did you mean ZILLIZ_PROD_TOKEN_FILE?"),
    ],
)
def test_a_name_whose_alias_cannot_be_one_is_an_error_of_that_alias(
    name: str, code: str, remedy: str, read: Read
) -> None:
    configuration = read({name: "http://db", "ZILLIZ_GOOD_URI": "http://db"})
    [problem] = configuration.problems
    assert (problem.code, problem.severity) == (code, "error")
    assert str(problem.origin) == f"{name} (environment)"
    assert problem.remedy == remedy
    assert configuration.errors_required == (problem,)
    assert list(configuration.aliases) == ["good"]


def test_an_alias_that_cannot_be_one_is_not_lost(tmp_path: Path) -> None:
    environ = {"ZILLIZ_TOKEN_URI": "http://db", "ZILLIZ_TOKEN_TOKEN": "x"}
    with registry(**environ, ZILLIZ_GOOD_URI="http://db") as connections:
        for refused in (
            connections.autoconnect,
            lambda: connections.autoconnect("token"),
            lambda: connections["token"],
        ):
            with pytest.raises(ConfigurationError) as caught:
                refused()
            assert [each.origin.key for each in caught.value.problems if each.origin] == [*environ]
        report = list_aliases(connections)
        assert [(row.alias, row.state) for row in report.aliases][1] == ("token", "failed")
        assert all(name in report.summary() for name in environ)
        assert len(connections.explain("token").aliases[0].problems) == 2


@pytest.mark.parametrize(("strict", "severity"), [("0", "warning"), ("1", "error")])
def test_a_typo_is_a_warning_and_an_error_if_one_is_strict(
    strict: str, severity: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", "ZILLIZ_PROD_TOKNE=key\n")
    environ = {"ZILLIZ_PROD_URI": "http://db", "ZILLIZ_TIMEUOT": "3", "ZCONFIG_STRICT": strict}
    configuration = read(environ)
    assert [str(problem) for problem in configuration.problems] == [
        "ZILLIZ_TIMEUOT (environment): is not a known name; did you mean ZILLIZ_TIMEOUT?",
        "ZILLIZ_PROD_TOKNE (.env:1): is not a known name; did you mean ZILLIZ_PROD_TOKEN?",
    ]
    assert {problem.severity for problem in configuration.problems} == {severity}
    assert list(configuration.aliases) == ["prod"]


def test_an_api_key_without_a_uri_configures_nothing_and_is_noted(read: Read) -> None:
    configuration = read({"ZILLIZ_API_KEY": "key", "ZILLIZ_PROD_URI": "http://db"})
    assert configuration.problems == ()
    assert list(configuration.aliases) == ["prod"]
    assert [field_key for field_key in configuration.provenance if field_key[0] == "default"] == []
    [note] = configuration.notes
    assert str(note.origin) == "ZILLIZ_API_KEY (environment)"
    assert note.message == f"{ALONE}; the token of `prod` is ZILLIZ_PROD_TOKEN"


def test_an_api_key_with_a_uri_is_the_token(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_URI=https://db.example\n")
    configuration = read({"ZILLIZ_API_KEY": "key"})
    assert (configuration.notes, configuration.problems) == ((), ())
    token = configuration.aliases["default"].token
    assert token is not None
    assert token.get_secret_value() == "key"


@pytest.mark.parametrize(
    "environ",
    [
        {"ZILLIZ_TOKEN": "key"},
        {"ZILLIZ_API_KEY": "key", "ZILLIZ_URI_FILE": "/nowhere"},
    ],
)
def test_other_credentials_without_a_uri_are_an_error(
    environ: Mapping[str, str], read: Read
) -> None:
    configuration = read(environ)
    assert configuration.notes == ()
    assert [problem.alias for problem in configuration.errors] == ["default"]


# --- required -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "optional"),
    [("false", True), ("0", True), ("off", True), ("True", False), ("yes", False), ("", False)],
)
def test_an_alias_may_be_optional(value: str, optional: bool, read: Read) -> None:
    configuration = read({"ZILLIZ_A_URI": "http://db", "ZILLIZ_A_REQUIRED": value})
    assert configuration.aliases["a"].required is not optional
    assert ("a" in configuration.optional) is optional


def test_the_errors_of_an_optional_alias_are_not_required_ones(read: Read) -> None:
    configuration = read(
        {
            "ZILLIZ_A_URI": "http://db:0",
            "ZILLIZ_A_REQUIRED": "false",
            "ZILLIZ_B_URI_FILE": "/nowhere",
            "ZILLIZ_B_REQUIRED": "false",
            "ZILLIZ_C_URI": "http://db:0",
        }
    )
    assert configuration.optional == {"a", "b"}
    assert {problem.alias for problem in configuration.errors} == {"a", "b", "c"}
    assert [problem.alias for problem in configuration.errors_required] == ["c"]


def test_an_alias_that_is_unclear_about_it_is_required(read: Read) -> None:
    configuration = read({"ZILLIZ_A_URI": "http://db", "ZILLIZ_A_REQUIRED": "maybe"})
    assert configuration.optional == frozenset()
    assert [problem.alias for problem in configuration.errors_required] == ["a"]


# --- the loader's options -----------------------------------------------------------------------


def test_options_have_defaults(read: Read) -> None:
    configuration = read()
    assert configuration.options == LoaderOptions()
    assert configuration.problems == ()


def test_options_are_read_from_the_environment_and_from_files(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "secrets" / "zilliz_uri", "http://db")
    lines = f"zconfig-strict=yes\nZCONFIG_WAIT=5\nZCONFIG_SECRETS_DIR={tmp_path}/secrets\n"
    write(tmp_path / ".env", lines)
    configuration = read({"ZCONFIG_WAIT": "7.5", "ZCONFIG_LOG_FORMAT": "JSON"})
    assert configuration.problems == ()
    options = configuration.options
    assert (options.wait, options.strict, options.log_format) == (7.5, True, "json")
    assert options.secrets_dir == (f"{tmp_path}/secrets",)
    assert list(configuration.aliases) == ["default"]


def test_options_of_the_command_line_stand_above_all(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env.ci", "ZILLIZ_URI=http://db\n")
    configuration = read({"ZCONFIG_PROFILE": "prod", "ZCONFIG_WAIT": "3"}, profile="ci", wait=9)
    assert list(configuration.aliases) == ["default"]
    assert configuration.options.wait == 9.0


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("PROFILE", "../etc", "a name of letters"),
        ("WAIT", "-1", "a number of seconds"),
        ("WAIT", "inf", "a number of seconds"),
        ("STRICT", "perhaps", "true or false"),
        ("LOG_FORMAT", "xml", "json, console or none"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
    ],
)
def test_a_bad_option_is_an_error_and_its_default_counts(
    option: str, value: str, expected: str, read: Read
) -> None:
    environ = {f"ZCONFIG_{option}": value, "ZILLIZ_URI": "http://db"}
    configuration = read(environ)
    [problem] = configuration.problems
    assert (problem.code, problem.alias) == (f"bad_{option.lower()}", None)
    assert str(problem.origin) == f"ZCONFIG_{option} (environment)"
    assert expected in problem.message
    assert f"ZCONFIG_{option}=" in problem.remedy
    assert configuration.options == LoaderOptions()
    assert list(configuration.aliases) == ["default"]


def test_one_bad_option_costs_no_other(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZCONFIG_WAIT=soon\nZCONFIG_LOG_LEVEL=debug\n")
    configuration = read({"ZCONFIG_DEFAULT_ALIAS": "token", "ZCONFIG_STRICT": "1"})
    assert [(p.code, str(p.origin)) for p in configuration.problems] == [
        ("reserved_alias", "ZCONFIG_DEFAULT_ALIAS (environment)"),
        ("bad_wait", "ZCONFIG_WAIT (.env:1)"),
    ]
    assert configuration.options == LoaderOptions(log_level="debug", strict=True)


@pytest.mark.parametrize(("strict", "severity"), [("0", "warning"), ("1", "error")])
def test_an_unknown_option_names_the_known_ones(strict: str, severity: str, read: Read) -> None:
    [problem] = read({"ZCONFIG_ENVFILE": "x", "ZCONFIG_STRICT": strict}).problems
    assert (problem.code, problem.severity) == ("unknown_option", severity)
    assert str(problem.origin) == "ZCONFIG_ENVFILE (environment)"
    assert "ZCONFIG_ENV_FILE" in problem.remedy


@pytest.mark.parametrize("option", ["ZCONFIG_ENV_FILE", "ZCONFIG_PROFILE"])
def test_which_files_to_read_cannot_be_said_in_one(option: str, read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", f"{option}=ci\nZCONFIG_STRICT=1\n")
    [problem] = read().problems
    assert (problem.code, problem.severity) == ("option_too_late", "warning")
    assert str(problem.origin) == f"{option} (.env:1)"


@pytest.mark.parametrize(
    ("environ", "line", "origin"),
    [
        ({"ZCONFIG_ENV_FILE": "no.env"}, "", "ZCONFIG_ENV_FILE (environment, file no.env)"),
        ({"ZCONFIG_SECRETS_DIR": "/no/a"}, "", "ZCONFIG_SECRETS_DIR (environment, file /no/a)"),
        ({}, "ZCONFIG_SECRETS_DIR=/no/b", "ZCONFIG_SECRETS_DIR (.env:1, file /no/b)"),
    ],
)
def test_a_file_or_directory_that_was_named_must_exist(
    environ: Mapping[str, str], line: str, origin: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", line)
    [problem] = read(environ).problems
    assert (problem.code, problem.severity, problem.alias) == ("missing_file", "error", None)
    assert str(problem.origin) == origin


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"env_file": ("no.env",)}, "--env-file (command line, file no.env): names a path that"),
        ({"secrets_dir": ("no",)}, "--secrets-dir (command line, file no): names a path that"),
        ({"profile": "no"}, "--profile (command line): names a profile without files"),
        ({"profile": "a/b"}, "--profile (command line): 'a/b' is not a name of letters, "),
    ],
)
def test_a_problem_of_an_option_of_the_command_line_names_the_option(
    given: dict[str, object], told: str, read: Read
) -> None:
    [problem] = read(**given).problems
    assert str(problem).startswith(told)
    assert problem.code != "bad_profile" or problem.remedy == "write e.g. --profile=production"


def test_the_default_alias_is_folded(read: Read) -> None:
    environ = {"ZCONFIG_DEFAULT_ALIAS": "EU-Prod", "ZILLIZ_EU_PROD_URI": "http://db"}
    configuration = read(environ)
    assert configuration.options.default_alias == "eu_prod"
    assert configuration.problems == ()


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [({}, "set ZILLIZ_PROD_URI"), ({"ZILLIZ_B_URI": "http://db", "ZILLIZ_A_URI": "x"}, "a, b")],
)
def test_a_default_alias_that_nothing_configures_is_a_warning(
    environ: Mapping[str, str], remedy: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", "ZCONFIG_DEFAULT_ALIAS=prod\n")
    *_, problem = read(environ).problems
    assert (problem.code, problem.severity) == ("unknown_default_alias", "warning")
    assert str(problem.origin) == "ZCONFIG_DEFAULT_ALIAS (.env:1)"
    assert remedy in problem.remedy


def test_a_default_alias_that_is_wrongly_configured_is_a_known_one(read: Read) -> None:
    environ = {"ZCONFIG_DEFAULT_ALIAS": "prod", "ZILLIZ_PROD_URI_FILE": "/nowhere"}
    assert [problem.code for problem in read(environ).problems] == ["missing"]


# --- secrets ------------------------------------------------------------------------------------

CANARY = "c4nary+S3cret/of?ours"
FORMS = (
    CANARY,
    "S3cret",
    quote(CANARY, safe=""),
    base64.b64encode(CANARY.encode()).decode()[:-4],
    base64.b64encode(f"root:{CANARY}".encode()).decode()[8:-4],
)
ENCODED = quote(CANARY, safe="")
CANARIES = {
    "ZILLIZ_A_URI": "http://db",
    "ZILLIZ_A_TOKEN": CANARY,
    "ZILLIZ_B_URI": f"https://root:{ENCODED}@db",
    "ZILLIZ_C_URI": f"https://root:{CANARY}@db",
    "ZILLIZ_D_URI": f"https://root:{ENCODED}@db:0",
    "ZILLIZ_E_URI": CANARY,
    "ZILLIZ_F_URI": "http://db",
    "ZILLIZ_F_TOKEN": f"{CANARY}\n",
    "ZILLIZ_F_TIMEOUT": CANARY,
    "ZILLIZ_F_POOL_SIZE": CANARY,
    "ZILLIZ_F_REQUIRED": CANARY,
    "ZILLIZ_F_KEEPALIVE": CANARY,
    "ZILLIZ_F_PROXY": CANARY,
    "ZILLIZ_G_URI": "http://db",
    "ZILLIZ_G_TOKEN": CANARY,
    "ZILLIZ_G_API_KEY": f"{CANARY}2",
    "ZILLIZ_H_URI": "http://db",
    "ZILLIZ_H_PASSWORD": CANARY,
    "ZILLIZ_I_TOKEN": CANARY,
    "ZILLIZ_J_TOKNE": CANARY,
    "ZILLIZ_TOKEN_URI": CANARY,
    "ZILLIZ_K_URI": "https://db",
    "ZILLIZ_K_PROXY": f"http://root:{ENCODED}@proxy:3128",
    "ZILLIZ_API_KEY": CANARY,
    "ZCONFIG_WAIT": CANARY,
    "ZCONFIG_STRICT": CANARY,
    "ZCONFIG_NONSENSE": CANARY,
    "ZCONFIG_DEFAULT_ALIAS": CANARY,
}


def assert_hidden(*shown: str) -> None:
    for text in shown:
        assert [form for form in FORMS if form in text] == []


def test_no_secret_is_shown_by_the_configuration_or_its_problems(
    read: Read, tmp_path: Path
) -> None:
    lines = [f"{name}='{value.strip()}'" for name, value in CANARIES.items()]
    broken = [
        f'ZILLIZ_M_TOKEN="{CANARY}',
        f"ZILLIZ_N_TOKEN={CANARY}${{",
        f"ZILLIZ_O_TOKEN:{CANARY}",
    ]
    write(tmp_path / ".env", "\n".join([*lines, *broken]))
    write(tmp_path / "token", f"{CANARY}\nand more\n")
    environ = {**CANARIES, "ZILLIZ_P_URI": "http://db", "ZILLIZ_P_TOKEN_FILE": f"{tmp_path}/token"}
    for configuration in (read(environ), read()):
        assert {"a", "b", "k"} <= configuration.aliases.keys()
        error = ConfigurationError(configuration.errors)
        assert_hidden(
            repr(configuration),
            str(configuration),
            *map(str, configuration.problems),
            str(error),
            repr(error),
            repr(pickle.dumps(error)),
            repr(pickle.dumps(configuration.problems)),
            repr(pickle.dumps(configuration.options)),
        )


def test_settings_show_no_secret_and_are_not_pickled(read: Read) -> None:
    settings = read(CANARIES).aliases
    for alias in ("a", "b", "k"):
        assert_hidden(
            repr(settings[alias]), str(settings[alias]), settings[alias].model_dump_json()
        )
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(settings[alias])
    proxy = settings["k"].proxy
    assert proxy is not None
    assert proxy.get_secret_value().endswith(f"{ENCODED}@proxy:3128")


@pytest.mark.parametrize("field", ["uri", "token", "user", "timeout", "required", "proxy"])
def test_not_even_pydantics_own_error_shows_a_value(field: str) -> None:
    values = {"uri": "http://db", field: f"{CANARY}\n"}
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings.model_validate(values)
    assert_hidden(str(caught.value), repr(caught.value))


# --- no effects ---------------------------------------------------------------------------------


def test_loading_writes_no_environment(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_URI=http://db\nFOREIGN=1\n")
    before = dict(os.environ)
    environ = {"ZILLIZ_TOKEN": "key"}
    read(environ)
    assert dict(os.environ) == before
    assert environ == {"ZILLIZ_TOKEN": "key"}


def test_the_environment_of_the_process_is_not_read(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZILLIZ_URI", "http://db")
    monkeypatch.setenv("CONNECTIONS", '{"a": {"uri": "http://db"}}')
    monkeypatch.setenv("TIMEOUT", "3")
    assert dict(read().aliases) == {}


def test_a_configuration_cannot_be_changed(read: Read) -> None:
    configuration = read({"ZILLIZ_URI": "http://db"})
    with pytest.raises(TypeError):
        configuration.aliases["x"] = configuration.aliases["default"]  # type: ignore[index]  # on purpose
    with pytest.raises(ValidationError):
        configuration.aliases["default"].timeout = 3


def test_nothing_configured_is_no_problem_yet(read: Read) -> None:
    configuration = read({"PATH": "/bin", "ZILLIZ": "x", "ZCONFIG": "y"})
    assert (dict(configuration.aliases), configuration.problems) == ({}, ())
    assert dict(configuration.provenance) == {}


def test_settings_have_the_documented_defaults(read: Read) -> None:
    settings = read({"ZILLIZ_URI": "http://db"}).aliases["default"]
    assert settings == ConnectionSettings.model_validate({"uri": settings.uri})
    assert (settings.timeout, settings.required, settings.pool_size) == (10.0, True, 1)
    assert (settings.keepalive, settings.db_name, settings.proxy) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("timeout", "0.5", 0.5),
        ("timeout", " 3 ", 3.0),
        ("keepalive", "0", 0.0),
        ("keepalive", "10", 10.0),
        ("pool_size", "1", 1),
        ("pool_size", "64", 64),
        ("required", "no", False),
        ("proxy", "OFF", SecretStr("off")),
        ("proxy", "http://proxy:3128", SecretStr("http://proxy:3128")),
        ("db_name", "sales", "sales"),
        ("tls_ca", "/a b/ca.pem", "/a b/ca.pem"),
        ("tls_server_name", "milvus.internal", "milvus.internal"),
    ],
)
def test_a_value_becomes_what_it_means(field: str, text: str, value: object, read: Read) -> None:
    configuration = read({"ZILLIZ_URI": "https://db", f"ZILLIZ_{field.upper()}": text})
    assert configuration.problems == ()
    assert getattr(configuration.aliases["default"], field) == value


def test_a_problem_of_an_alias_reads_well() -> None:
    origin = Origin("dotenv", "ZILLIZ_PROD_TIMEOUT", ".env", 3)
    problem = Problem("bad_timeout", "is not a number", "write 10", "prod", "timeout", origin)
    text = "prod: ZILLIZ_PROD_TIMEOUT (.env:3): is not a number; write 10"
    assert str(ConfigurationError([problem])) == text


# --- a prefix that is misspelt ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ZILIZ_PROD_URI", "ZILLZ_PROD_URI", "ZILLIS_PROD_URI"])
def test_a_misspelt_prefix_is_a_warning_with_the_name_that_was_meant(read: Read, name: str) -> None:
    (problem,) = read({name: "http://db:19530"}).problems
    assert (problem.code, problem.severity) == ("misspelt_prefix", "warning")
    assert (str(problem.origin), problem.remedy) == (
        f"{name} (environment)",
        "did you mean ZILLIZ_PROD_URI?",
    )


def test_a_misspelt_prefix_is_an_error_in_strict_mode(read: Read) -> None:
    (problem,) = read({"ZILIZ_URI": "http://db:19530"}, strict=True).errors
    assert problem.code == "misspelt_prefix"


@pytest.mark.parametrize("name", ["ZILIZ_HOME", "ZILIZ", "SILLY_URI", "MILVUS_URL", "ZLIB_URI"])
def test_what_merely_resembles_the_prefix_is_left_alone(read: Read, name: str) -> None:
    assert read({name: "x"}).problems == ()


def test_a_misspelt_name_beside_the_right_one_is_left_alone(read: Read) -> None:
    environ = {"ZILIZ_URI": "http://db:1", "ZILLIZ_URI": "http://db:19530"}
    assert read(environ).problems == ()


def test_a_misspelt_prefix_in_a_file_is_found_with_its_line(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "OTHER=1\nZILIZ_PROD_URI=http://db:19530\n")
    (problem,) = read().problems
    assert (problem.code, str(problem.origin)) == ("misspelt_prefix", "ZILIZ_PROD_URI (.env:2)")


# --- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["", "./", "~/"])
def test_every_path_starts_where_the_configuration_was_read_whatever_the_directory_is_now(
    start: str, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "conf.env": "ZILLIZ_DOTENV_URI=http://a",
        "token": "key",
        "secrets/zilliz_secret_uri": "http://b",
        "bindings/bound/type": "milvus",
        "bindings/bound/uri": "https://c",
        "bindings/bound/ca.crt": "",
        "elsewhere/token": "another key",
    }.items():
        write(tmp_path / name, text)
    environ = {
        "ZCONFIG_ENV_FILE": "conf.env",
        "ZCONFIG_SECRETS_DIR": "secrets",
        "SERVICE_BINDING_ROOT": "bindings",
        "ZILLIZ_TOKEN_FILE": "token",
        "ZILLIZ_TLS_CA": "ca.pem",
        "ZILLIZ_TLS_CERT": "c.pem",
        "ZILLIZ_TLS_KEY": "c.key",
        "ZILLIZ_LITE_URI": "x.db",
    }
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    configuration = read(
        {name: start + path for name, path in environ.items()} | {"ZILLIZ_URI": TLS}
    )
    assert not configuration.problems
    assert set(configuration.aliases) == {"dotenv", "secret", "bound", "default", "lite"}
    spec = spec_of("default", configuration)
    assert spec.credentials
    assert spec.credentials.secret == "key"
    assert spec.origins["token"].via == f"{start}token"
    assert spec.tls[:3] == tuple(str(tmp_path / name) for name in ("ca.pem", "c.pem", "c.key"))
    assert spec_of("lite", configuration).endpoint.path == str(tmp_path / "x.db")
    bound = spec_of("bound", configuration)
    assert bound.tls.ca == str(tmp_path / "bindings/bound/ca.crt")
    assert bound.origins["uri"].path == str(Path(f"{start}bindings/bound/uri"))
