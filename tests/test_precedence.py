"""Which of several values counts, source by source and layer by layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from zconfig._origin import Origin
from zconfig._redaction import Secret
from zconfig._settings.configuration import Configuration
from zconfig._settings.fields import ConnectionSettings, endpoint_of
from zconfig._settings.load import EMPTY, load
from zconfig._settings.precedence import group, resolve_layers
from zconfig._sources import remote
from zconfig._sources.base import Entry, SourceResult
from zconfig._sources.remote import read_mapping
from zconfig.errors import Problem

URI = "https://db.example:19530"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Configuration]:
    """Return a function that reads the configuration of `tmp_path` and an environment."""

    def read(**environ: str) -> Configuration:
        return load(environ, tmp_path, system_secrets=str(tmp_path / "system"))

    return read


Read = Callable[..., Configuration]


def good(configuration: Configuration, alias: str = "default") -> ConnectionSettings:
    """Return the settings of an alias in a configuration without problems."""
    assert [each for each in configuration.problems if not each.code.endswith("_profile")] == []
    return configuration.aliases[alias]


def only_error(configuration: Configuration, alias: str = "default") -> Problem:
    """Return the one problem of a configuration, which costs one alias."""
    [problem] = configuration.problems
    assert problem.severity == "error"
    assert problem.alias == alias
    assert alias not in configuration.aliases
    return problem


def revealed(settings: ConnectionSettings) -> tuple[str | None, str | None, str | None]:
    """Return token, user and password."""
    token, password = settings.token, settings.password
    return (
        token.get_secret_value() if token else None,
        settings.user,
        password.get_secret_value() if password else None,
    )


# --- the sources, highest first -----------------------------------------------------------------

Place = Callable[[Path, dict[str, str], str], object]


def in_environment(_: Path, environ: dict[str, str], value: str) -> None:
    environ["ZILLIZ_DB_NAME"] = value


def in_dotenv(name: str) -> Place:
    return lambda directory, _, value: write(directory / name, f"ZILLIZ_DB_NAME={value}\n")


def in_secrets(name: str) -> Place:
    return lambda directory, _, value: write(directory / name / "zilliz_db_name", f"{value}\n")


def in_binding(directory: Path, environ: dict[str, str], value: str) -> None:
    environ["SERVICE_BINDING_ROOT"] = str(directory / "bindings")
    write(directory / "bindings" / "default" / "type", "milvus")
    write(directory / "bindings" / "default" / "database", value)


def in_milvus_variables(_: Path, environ: dict[str, str], value: str) -> None:
    environ["MILVUS_DB_NAME"] = value


def in_milvus_variables_of_a_file(directory: Path, _: dict[str, str], value: str) -> None:
    file = directory / ".env"
    first = file.read_text().splitlines()[:1] if file.exists() else [""]
    write(file, "\n".join([*first, f"MILVUS_DATABASE={value}"]))


def in_manager(_: Path, environ: dict[str, str], value: str) -> None:
    environ["ZCONFIG_AWS_SECRET"] = value


def in_plugin(_: Path, environ: dict[str, str], value: str) -> None:
    environ["PLUGIN"] = value


def read_manager(subjects: Mapping[str, str], _: object) -> tuple[SourceResult, ...]:
    """Stand in for the secret managers: what is asked for is what it holds."""
    names = {"ZCONFIG_AWS_SECRET": "ZILLIZ_DB_NAME"}
    variables = {names[option]: subject for option, subject in subjects.items()}
    return (read_mapping(variables, source="AWS Secrets Manager", path="prod"),)


def read_plugin(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {"ZILLIZ_DB_NAME": environ["PLUGIN"]} if "PLUGIN" in environ else {}


@pytest.fixture
def _from_afar(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint("acme", "tests.test_precedence:read_plugin", remote.GROUP)
    monkeypatch.setattr(remote, "entry_points", lambda **_: (found,))
    monkeypatch.setattr("zconfig._sources.remote.manager_readings", read_manager)


SOURCES: dict[str, tuple[Place, str]] = {
    "the environment": (in_environment, "ZILLIZ_DB_NAME (environment)"),
    ".env.ci.local": (in_dotenv(".env.ci.local"), "ZILLIZ_DB_NAME (.env.ci.local:1)"),
    ".env.local": (in_dotenv(".env.local"), "ZILLIZ_DB_NAME (.env.local:1)"),
    ".env.ci": (in_dotenv(".env.ci"), "ZILLIZ_DB_NAME (.env.ci:1)"),
    ".env": (in_dotenv(".env"), "ZILLIZ_DB_NAME (.env:1)"),
    "a secrets directory": (in_secrets("one"), "ZILLIZ_DB_NAME ({}/one/zilliz_db_name)"),
    "the next one": (in_secrets("two"), "ZILLIZ_DB_NAME ({}/two/zilliz_db_name)"),
    "the system's": (in_secrets("system"), "ZILLIZ_DB_NAME ({}/system/zilliz_db_name)"),
    "a service binding": (in_binding, "ZILLIZ_DEFAULT_DATABASE ({}/bindings/default/database)"),
    "a secret manager": (in_manager, "ZILLIZ_DB_NAME (AWS Secrets Manager prod)"),
    "a plugin": (in_plugin, "ZILLIZ_DB_NAME (plugin acme)"),
    "MILVUS_*": (in_milvus_variables, "MILVUS_DB_NAME (environment)"),
    "MILVUS_* in a file": (in_milvus_variables_of_a_file, "MILVUS_DATABASE (.env:2)"),
}


@pytest.mark.usefixtures("_from_afar")
@pytest.mark.parametrize("highest", range(len(SOURCES)), ids=SOURCES.keys())
def test_a_source_stands_above_all_that_follow(highest: int, read: Read, tmp_path: Path) -> None:
    environ = {"ZILLIZ_URI": URI, "MILVUS_URI": URI, "ZCONFIG_PROFILE": "ci"}
    environ["ZCONFIG_SECRETS_DIR"] = f"{tmp_path}/one:{tmp_path}/two"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    there = list(SOURCES.items())[highest:]
    for name, (place, _) in there:
        place(tmp_path, environ, f"db_of_{list(SOURCES).index(name)}")

    configuration = read(**environ)

    assert good(configuration).db_name == f"db_of_{highest}"
    provenance = configuration.provenance["default", "db_name"]
    found = [str(each.origin) for each in (provenance, *provenance.shadowed)]
    assert found == [origin.format(tmp_path) for _, (_, origin) in there]


def test_a_directory_among_the_systems_secrets_is_no_alias(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "system" / "postgres" / "password", "theirs")
    write(tmp_path / "system" / "zilliz_uri", URI)
    configuration = read()
    assert (list(configuration.aliases), configuration.problems) == (["default"], ())


def test_without_a_profile_two_dotenv_files_are_read(read: Read, tmp_path: Path) -> None:
    for name in (".env.ci.local", ".env.ci"):
        write(tmp_path / name, f"ZILLIZ_URI={URI}\n")
    configuration = read()
    assert dict(configuration.aliases) == {}
    assert [seen.path for seen in configuration.files[:-1]] == [".env.local", ".env"]


def test_the_files_that_were_looked_for_are_noted_with_what_became_of_them(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env.local", f"ZILLIZ_URI={URI}\n")
    (tmp_path / ".env.ci").mkdir()
    configuration = read(ZCONFIG_PROFILE="ci")
    assert [(seen.path, seen.state) for seen in configuration.files] == [
        (".env.ci.local", "absent"),
        (".env.local", "read"),
        (".env.ci", "refused"),
        (".env", "absent"),
        (str(tmp_path / "system"), "absent"),
    ]


def test_the_first_of_the_named_dotenv_files_wins_and_the_usual_ones_are_not_read(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", "ZILLIZ_TIMEOUT=1\nZILLIZ_POOL_SIZE=1\nZILLIZ_KEEPALIVE=11\n")
    write(tmp_path / "a.env", f"ZILLIZ_URI={URI}\nZILLIZ_TIMEOUT=2\n")
    write(tmp_path / "b.env", "ZILLIZ_TIMEOUT=3\nZILLIZ_POOL_SIZE=3\n")
    found = good(read(ZCONFIG_ENV_FILE="a.env:b.env", ZCONFIG_PROFILE="ci"))
    assert (found.timeout, found.pool_size, found.keepalive) == (2.0, 3, None)


def test_a_named_dotenv_file_may_be_an_absolute_path(read: Read, tmp_path: Path) -> None:
    path = write(tmp_path / "elsewhere" / "x.env", f"ZILLIZ_URI={URI}\n")
    assert endpoint_of(good(read(ZCONFIG_ENV_FILE=str(path)))).host == "db.example"


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_dotenv_files_can_be_turned_off(word: str, read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", f"ZILLIZ_URI={URI}\n")
    configuration = read(ZCONFIG_ENV_FILE=word)
    assert dict(configuration.aliases) == {}
    assert [seen.path for seen in configuration.files] == [str(tmp_path / "system")]


def test_parent_directories_are_never_searched(tmp_path: Path) -> None:
    write(tmp_path / ".env", f"ZILLIZ_URI={URI}\n")
    (tmp_path / "child").mkdir()
    configuration = load({}, tmp_path / "child", system_secrets=str(tmp_path / "system"))
    assert dict(configuration.aliases) == {}


def test_a_field_of_a_higher_layer_leaves_the_other_fields_of_lower_ones(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env.local", "ZILLIZ_PROD_DB_NAME=local\n")
    write(tmp_path / ".env", f"ZILLIZ_PROD_URI={URI}\nZILLIZ_PROD_DB_NAME=shared\n")
    found = good(read(ZILLIZ_PROD_TIMEOUT="3"), "prod")
    assert (endpoint_of(found).host, found.db_name, found.timeout) == ("db.example", "local", 3.0)


def test_an_invalid_value_below_a_valid_one_is_no_problem(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_TIMEOUT=never\nZILLIZ_URI=nonsense\n")
    assert good(read(ZILLIZ_URI=URI, ZILLIZ_TIMEOUT="3")).timeout == 3.0


def test_an_invalid_value_above_a_valid_one_is_not_passed_over(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_TIMEOUT=3\n")
    assert only_error(read(ZILLIZ_URI=URI, ZILLIZ_TIMEOUT="never")).code == "bad_timeout"


# --- empty means unset --------------------------------------------------------------------------


def test_empty_means_unset_and_the_search_goes_on(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env.local", "ZILLIZ_TIMEOUT=\n")
    write(tmp_path / ".env", "ZILLIZ_TIMEOUT=3\nZILLIZ_TOKEN=key\n")
    configuration = read(ZILLIZ_URI=URI, ZILLIZ_TIMEOUT="", ZILLIZ_TOKEN="")
    assert good(configuration).timeout == 3.0
    assert revealed(good(configuration))[0] == "key"
    assert [(str(note.origin), note.message) for note in configuration.notes] == [
        ("ZILLIZ_TIMEOUT (environment)", EMPTY),
        ("ZILLIZ_TOKEN (environment)", EMPTY),
        ("ZILLIZ_TIMEOUT (.env.local:1)", EMPTY),
    ]


def test_an_empty_secret_file_means_unset(read: Read, tmp_path: Path) -> None:
    path = write(tmp_path / "token", "\n")
    configuration = read(ZILLIZ_URI=URI, ZILLIZ_TOKEN_FILE=str(path))
    assert revealed(good(configuration)) == (None, None, None)
    [note] = configuration.notes
    assert str(note.origin) == f"ZILLIZ_TOKEN_FILE (environment, file {path})"


def test_what_is_all_empty_declares_no_alias(read: Read) -> None:
    configuration = read(ZILLIZ_PROD_URI="", ZILLIZ_PROD_TOKEN="")
    assert (dict(configuration.aliases), configuration.problems) == ({}, ())


def test_an_empty_spelling_does_not_count_beside_another(read: Read) -> None:
    assert revealed(good(read(ZILLIZ_URI=URI, ZILLIZ_TOKEN="", ZILLIZ_API_KEY="key")))[0] == "key"


def test_an_empty_value_is_not_shadowed(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_TIMEOUT=\n")
    configuration = read(ZILLIZ_URI=URI, ZILLIZ_TIMEOUT="3")
    assert configuration.provenance["default", "timeout"].shadowed == ()
    assert configuration.notes == ()


# --- two spellings ------------------------------------------------------------------------------

SPELLINGS = [
    ("ZILLIZ_URI", "ZILLIZ_DEFAULT_URI", ("https://one", "https://two")),
    ("ZILLIZ_URI", "ZILLIZ_ENDPOINT", ("https://one", "https://two")),
    ("ZILLIZ_TOKEN", "ZILLIZ_API_KEY", ("one", "two")),
    ("ZILLIZ_TOKEN", "zilliz_token", ("one", "two")),
    ("ZILLIZ_DB_NAME", "ZILLIZ_DATABASE", ("one", "two")),
    ("ZILLIZ_EU_PROD_URI", "ZILLIZ_EU-PROD_URI", ("https://one", "https://two")),
    ("ZILLIZ_EU.PROD_TIMEOUT", "ZILLIZ_EU-PROD_TIMEOUT", ("1", "2")),
]


@pytest.fixture
def located(tmp_path: Path) -> None:
    """Have a URI for both aliases, in the lowest layer."""
    write(tmp_path / "system" / "zilliz_uri", URI)
    write(tmp_path / "system" / "zilliz_eu_prod_uri", URI)


@pytest.mark.usefixtures("located")
@pytest.mark.parametrize(("one", "two", "values"), SPELLINGS)
def test_two_spellings_in_one_layer_must_agree(
    one: str, two: str, values: tuple[str, str], read: Read
) -> None:
    assert read(**{one: values[0], two: values[0]}).problems == ()
    [problem] = read(**{one: values[0], two: values[1]}).problems
    assert (problem.code, problem.severity) == ("conflict", "error")
    assert str(problem.origin) == f"{two} (environment)"
    assert problem.message == f"differs from {one} (environment)"


@pytest.mark.usefixtures("located")
@pytest.mark.parametrize(("one", "two", "values"), SPELLINGS)
def test_of_two_spellings_in_two_layers_the_higher_wins(
    one: str, two: str, values: tuple[str, str], read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"{two}={values[1]}\n")
    configuration = read(**{one: values[0]})
    assert configuration.problems == ()
    [winner] = [p for p in configuration.provenance.values() if p.origin.key == one]
    assert winner.shadowed[0].origin.key == two


# --- the _FILE forms ----------------------------------------------------------------------------


def test_a_variable_and_its_file_form_must_agree(read: Read, tmp_path: Path) -> None:
    path = write(tmp_path / "token", "key\n")
    same = read(ZILLIZ_URI=URI, ZILLIZ_TOKEN="key", ZILLIZ_TOKEN_FILE=str(path))
    assert revealed(good(same))[0] == "key"
    problem = only_error(read(ZILLIZ_URI=URI, ZILLIZ_TOKEN="other", ZILLIZ_TOKEN_FILE=str(path)))
    assert (problem.code, problem.field) == ("conflict", "token")
    assert str(problem.origin) == f"ZILLIZ_TOKEN_FILE (environment, file {path})"
    assert problem.message == "differs from ZILLIZ_TOKEN (environment)"


@pytest.mark.parametrize(
    ("variable", "text", "field"),
    [
        ("ZILLIZ_PROD_URI_FILE", "https://other:1\n", "uri"),
        ("ZILLIZ_PROD_ENDPOINT_FILE", "https://other:1\n", "uri"),
        ("ZILLIZ_PROD_TOKEN_FILE", "key\r\n", "token"),
        ("ZILLIZ_PROD_API_KEY_FILE", "key", "token"),
    ],
)
def test_a_file_form_gives_the_files_text(
    variable: str, text: str, field: str, read: Read, tmp_path: Path
) -> None:
    path = write(tmp_path / "secret", text)
    uri = {} if field == "uri" else {"ZILLIZ_PROD_URI": "https://other:1"}
    configuration = read(**uri, **{variable: str(path)})
    found = good(configuration, "prod")
    assert endpoint_of(found).host == "other"
    assert revealed(found)[0] == (None if field == "uri" else "key")
    assert configuration.provenance["prod", field].origin.via == str(path)


def test_user_and_password_may_stand_in_files(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_USER_FILE=user\nZILLIZ_PASSWORD_FILE=password\n")
    write(tmp_path / "user", "root\n")
    write(tmp_path / "password", "Milvus\n")
    assert revealed(good(read(ZILLIZ_URI=URI))) == (None, "root", "Milvus")


def test_a_questionable_file_is_reported_where_it_was_named(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", f"\nZILLIZ_TOKEN_FILE={tmp_path}/token\n")
    write(tmp_path / "token", " key\n")
    configuration = read(ZILLIZ_URI=URI)
    [problem] = configuration.problems
    assert (problem.code, problem.severity) == ("surrounding_space", "warning")
    assert (problem.alias, problem.field) == ("default", "token")
    assert str(problem.origin) == f"ZILLIZ_TOKEN_FILE (.env:2, file {tmp_path}/token)"
    assert revealed(configuration.aliases["default"])[0] == " key"


@pytest.mark.parametrize(
    "higher",
    [{"ZILLIZ_TOKEN": "key"}, {"ZILLIZ_USER": "root", "ZILLIZ_PASSWORD": "Milvus"}],
    ids=["a token", "a pair"],
)
def test_the_file_of_a_shadowed_variable_is_never_opened(
    higher: Mapping[str, str], read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", "ZILLIZ_TOKEN_FILE=/nowhere/token\nZILLIZ_URI_FILE=/nowhere/uri\n")
    configuration = read(ZILLIZ_URI=URI, **higher)
    assert endpoint_of(good(configuration)).host == "db.example"
    shadowed = [s.origin.key for p in configuration.provenance.values() for s in p.shadowed]
    assert sorted(shadowed) == ["ZILLIZ_TOKEN_FILE", "ZILLIZ_URI_FILE"]


def test_a_missing_file_does_not_let_a_lower_layer_through(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", "ZILLIZ_TOKEN=lower\n")
    write(tmp_path / "system" / "zilliz_user_file", "/nowhere/user")
    configuration = read(ZILLIZ_URI=URI, ZILLIZ_TOKEN_FILE="/nowhere/token")
    problem = only_error(configuration)
    assert list(configuration.provenance) == [("default", "uri")]
    assert (problem.code, problem.field) == ("missing", "token")
    assert str(problem.origin) == "ZILLIZ_TOKEN_FILE (environment)"


def test_a_missing_file_is_an_error_beside_a_value_of_the_same_layer(read: Read) -> None:
    configuration = read(ZILLIZ_URI=URI, ZILLIZ_TOKEN="key", ZILLIZ_TOKEN_FILE="/nowhere/token")
    assert only_error(configuration).code == "missing"
    assert list(configuration.provenance) == [("default", "uri")]


# --- what a source could not read ---------------------------------------------------------------


def test_a_bad_secret_file_does_not_let_a_lower_layer_through(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "one" / "zilliz_token", "x" * 70_000)
    write(tmp_path / "system" / "zilliz_token", "lower\n")
    problem = only_error(read(ZILLIZ_URI=URI, ZCONFIG_SECRETS_DIR=str(tmp_path / "one")))
    assert (problem.code, problem.field) == ("too_large", "token")


@pytest.mark.parametrize(
    "higher",
    [{"ZILLIZ_TOKEN": "key"}, {"ZILLIZ_USER": "root", "ZILLIZ_PASSWORD": "Milvus"}],
    ids=["a token", "a pair"],
)
def test_a_bad_secret_file_is_only_a_warning_below_the_value_that_counts(
    higher: Mapping[str, str], read: Read, tmp_path: Path
) -> None:
    write(tmp_path / "system" / "zilliz_token", "x" * 70_000)
    configuration = read(ZILLIZ_URI=URI, **higher)
    [problem] = configuration.problems
    assert (problem.code, problem.severity) == ("too_large", "warning")
    assert "default" in configuration.aliases


def test_a_bad_variable_of_pymilvus_is_only_a_warning_below_the_value_that_counts(
    read: Read,
) -> None:
    configuration = read(ZILLIZ_URI=URI, MILVUS_URI="https://\udcff")
    assert [(p.code, p.severity) for p in configuration.problems] == [("not_text", "warning")]
    assert list(configuration.aliases) == ["default"]


def test_a_bad_variable_of_pymilvus_is_an_error_where_it_counts(read: Read) -> None:
    assert only_error(read(MILVUS_URI="https://\udcff")).code == "not_text"


def test_a_bad_line_costs_its_own_field_alone(read: Read, tmp_path: Path) -> None:
    write(tmp_path / ".env", f"ZILLIZ_URI={URI}\nZILLIZ_A_URI={URI}\nZILLIZ_A_TOKEN='x\n")
    configuration = read()
    problem = only_error(configuration, "a")
    assert (problem.code, problem.field) == ("unbalanced_quote", "token")
    assert str(problem.origin) == "ZILLIZ_A_TOKEN (.env:3)"
    assert list(configuration.aliases) == ["default"]


# --- credentials are one value ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("higher", "lower", "expected"),
    [
        ("ZILLIZ_TOKEN=key", "ZILLIZ_USER=root\nZILLIZ_PASSWORD=pw", ("key", None, None)),
        ("ZILLIZ_USER=root\nZILLIZ_PASSWORD=pw", "ZILLIZ_TOKEN=key", (None, "root", "pw")),
        ("ZILLIZ_TOKEN=key", "ZILLIZ_TOKEN=other", ("key", None, None)),
        ("ZILLIZ_TOKEN=key", f"ZILLIZ_URI={URI.replace('//', '//u:p@')}", ("key", None, None)),
        ("ZILLIZ_TOKEN=", "ZILLIZ_USER=root\nZILLIZ_PASSWORD=pw", (None, "root", "pw")),
        ("ZILLIZ_URI=https://u:p@db", "ZILLIZ_TOKEN=key", (None, "u", "p")),
        ("ZILLIZ_URI=https://u:p@db", "ZILLIZ_USER=root\nZILLIZ_PASSWORD=pw", (None, "u", "p")),
        ("ZILLIZ_URI=https://db", "ZILLIZ_URI=https://u:p@db", (None, None, None)),
    ],
)
def test_the_highest_layer_with_any_credentials_supplies_all(
    higher: str,
    lower: str,
    expected: tuple[str | None, str | None, str | None],
    read: Read,
    tmp_path: Path,
) -> None:
    write(tmp_path / ".env.local", f"{higher}\n")
    write(tmp_path / ".env", f"{lower}\n")
    write(tmp_path / "system" / "zilliz_uri", URI)
    assert revealed(good(read())) == expected


@pytest.mark.parametrize(
    ("environ", "origin"),
    [
        ({"TOKEN": "key", "USER": "root", "PASSWORD": "pw"}, "ZILLIZ_USER (environment)"),
        ({"TOKEN": "key", "USER": "root"}, "ZILLIZ_USER (environment)"),
        ({"TOKEN": "key", "PASSWORD": "pw"}, "ZILLIZ_PASSWORD (environment)"),
        ({"API_KEY": "key", "URI": "https://u:p@db"}, "ZILLIZ_URI (environment)"),
    ],
)
def test_two_forms_of_credentials_in_one_layer_are_an_error(
    environ: Mapping[str, str], origin: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"ZILLIZ_URI={URI}\nZILLIZ_TOKEN=lower\n")
    problem = only_error(read(**{f"ZILLIZ_{name}": value for name, value in environ.items()}))
    assert (problem.code, str(problem.origin)) == ("two_credentials", origin)


@pytest.mark.parametrize(
    ("environ", "missing", "origin"),
    [
        ({"USER": "root"}, "PASSWORD", "ZILLIZ_USER (environment)"),
        ({"PASSWORD": "pw"}, "USER", "ZILLIZ_PASSWORD (environment)"),
        ({"USER": "root", "PASSWORD": ""}, "PASSWORD", "ZILLIZ_USER (environment)"),
    ],
)
def test_half_of_a_pair_is_an_error_and_no_lower_layer_completes_it(
    environ: Mapping[str, str], missing: str, origin: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"ZILLIZ_URI={URI}\nZILLIZ_USER=a\nZILLIZ_PASSWORD=b\n")
    problem = only_error(read(**{f"ZILLIZ_{name}": value for name, value in environ.items()}))
    assert (problem.code, str(problem.origin)) == ("half_credentials", origin)
    assert f"without ZILLIZ_{missing} " in problem.message


def test_userinfo_without_a_password_is_a_token(read: Read) -> None:
    settings = read(ZILLIZ_URI="https://my-k%65y@db").aliases["default"]
    assert settings.token is not None
    assert settings.token.get_secret_value() == "my-key"
    assert settings.user is None


def test_userinfo_without_a_password_is_the_user_of_a_password_beside_it(read: Read) -> None:
    settings = read(ZILLIZ_URI="https://root@db", ZILLIZ_PASSWORD="pw").aliases["default"]
    assert (settings.user, settings.token) == ("root", None)
    assert settings.password is not None


def test_userinfo_is_percent_decoded_and_taken_out_of_the_uri(read: Read) -> None:
    found = good(read(ZILLIZ_URI="https://db%5Fadmin:p%40ss%3Aw%2Frd@db.example/sales"))
    assert revealed(found) == (None, "db_admin", "p@ss:w/rd")
    assert found.uri == "https://db.example:443/sales"


def test_userinfo_must_agree_with_the_pair_beside_it(read: Read) -> None:
    pair = {"ZILLIZ_USER": "root", "ZILLIZ_PASSWORD": "a@b"}
    assert revealed(good(read(ZILLIZ_URI="https://root:a%40b@db", **pair)))[1:] == ("root", "a@b")
    problem = only_error(read(ZILLIZ_URI="https://root:other@db", **pair))
    assert (problem.code, problem.field) == ("conflict", "password")


def test_a_user_in_the_uri_may_have_its_password_beside_it(read: Read) -> None:
    found = good(read(ZILLIZ_URI="https://root@db", ZILLIZ_PASSWORD="pw"))
    assert revealed(found) == (None, "root", "pw")


def test_userinfo_that_is_not_encoded_costs_the_alias_not_its_secret(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"ZILLIZ_URI={URI}\n")
    problem = only_error(read(ZILLIZ_URI="https://root:c4nary/x@db"))
    assert (problem.code, problem.field) == ("unescaped_userinfo", "uri")
    assert "c4nary" not in repr(problem)


# --- credentials and their endpoint -------------------------------------------------------------

SERVER = "https://milvus.example"


def told(configuration: Configuration) -> list[str]:
    return [f"{note.origin} {note.message}" for note in configuration.notes]


@pytest.mark.parametrize(
    ("uri", "besides", "expected"),
    [
        (SERVER, {"MILVUS_TOKEN": "root:Milvus"}, ("root:Milvus", None, None)),
        (SERVER.replace("//", "//root:pw@"), {}, (None, "root", "pw")),
        (SERVER, {}, (None, None, None)),
    ],
)
def test_a_control_plane_key_is_never_sent_to_the_endpoint_of_pymilvus_variable(
    uri: str,
    besides: dict[str, str],
    expected: tuple[str | None, str | None, str | None],
    read: Read,
) -> None:
    configuration = read(MILVUS_URI=uri, ZILLIZ_API_KEY="account", **besides)
    assert revealed(good(configuration)) == expected
    assert told(configuration) == [
        (
            "ZILLIZ_API_KEY (environment) is not sent to MILVUS_URI (environment), since other "
            "tools use it for the control plane"
        )
    ]
    assert "account" in configuration.secrets


def bound(directory: Path, **fields: str) -> dict[str, str]:
    """Write a service binding `default`, and return the variable that has it read."""
    for name, text in ({"type": "milvus", "uri": SERVER} | fields).items():
        write(directory / "bindings" / "default" / name, text)
    return {"SERVICE_BINDING_ROOT": str(directory / "bindings")}


@pytest.mark.parametrize("own", ["pair", "api_key", "nothing"])
@pytest.mark.parametrize("place", ["environment", "a file", "a _FILE", ".env"])
def test_a_control_plane_key_is_never_sent_to_the_endpoint_of_a_service_binding(
    own: str, place: str, read: Read, tmp_path: Path
) -> None:
    fields = {"pair": {"username": "root", "password": "pw"}, "api_key": {"api_key": "its"}}
    environ = bound(tmp_path, **fields.get(own, {}))
    if place == "a file":
        environ["ZCONFIG_SECRETS_DIR"] = str(tmp_path / "secrets")
        write(tmp_path / "secrets" / "zilliz_api_key", "account")
    elif place == ".env":
        write(tmp_path / ".env", "ZILLIZ_API_KEY=account\n")
    else:
        key = str(write(tmp_path / "key", "account")) if place == "a _FILE" else "account"
        environ["ZILLIZ_API_KEY" + "_FILE" * (place == "a _FILE")] = key
    configuration = read(**environ)
    expected = {"pair": (None, "root", "pw"), "api_key": ("its", None, None)}
    assert revealed(good(configuration)) == expected.get(own, (None, None, None))
    [note] = told(configuration)
    assert "is not sent to ZILLIZ_DEFAULT_URI (" in note
    assert note.endswith(", since other tools use it for the control plane")


def test_a_control_plane_key_counts_where_a_source_of_a_third_party_gives_the_uri() -> None:
    for source in ("AWS Secrets Manager", "plugin acme"):
        uri = Entry("ZILLIZ_URI", Secret(URI), Origin(source, "ZILLIZ_URI", "prod"))
        key = Entry("ZILLIZ_API_KEY", Secret("key"), Origin("environment", "ZILLIZ_API_KEY"))
        results = (SourceResult("environment", (key,)), SourceResult(source, (uri,)))
        layers = [group(each, strict=False)[0] for each in results]
        resolution = resolve_layers(layers, lambda *_: (None, ()))
        assert ("default", "token") in resolution.provenance


def test_another_token_goes_to_the_endpoint_of_pymilvus_variable(read: Read) -> None:
    assert revealed(good(read(MILVUS_URI=SERVER, ZILLIZ_TOKEN="key")))[0] == "key"


@pytest.mark.parametrize("place", ["environment", "a file", "a secret"])
def test_a_control_plane_key_counts_where_a_source_of_ours_gives_the_uri(
    place: str, read: Read, tmp_path: Path
) -> None:
    environ = {"ZILLIZ_URI": URI} if place == "environment" else {}
    if place == "a file":
        write(tmp_path / ".env", f"ZILLIZ_URI={URI}\n")
    if place == "a secret":
        environ["ZCONFIG_SECRETS_DIR"] = str(tmp_path / "secrets")
        write(tmp_path / "secrets" / "default" / "uri", URI)
    found = good(read(MILVUS_URI=SERVER, ZILLIZ_API_KEY="key", **environ))
    assert (revealed(found)[0], endpoint_of(found).host) == ("key", "db.example")


def test_credentials_of_pymilvus_variables_go_to_their_own_endpoint_alone(read: Read) -> None:
    configuration = read(ZILLIZ_URI=URI, MILVUS_URI=SERVER, MILVUS_TOKEN="root:Milvus")
    assert revealed(good(configuration)) == (None, None, None)
    assert told(configuration) == [
        (
            "MILVUS_TOKEN (environment) is only for the endpoint in MILVUS_URI, but "
            "ZILLIZ_URI (environment) is used; set ZILLIZ_TOKEN"
        )
    ]
    configuration = read(MILVUS_TOKEN="root:Milvus")
    assert (dict(configuration.aliases), configuration.problems) == ({}, ())
    assert told(configuration) == [
        "MILVUS_TOKEN (environment) is only for the endpoint in MILVUS_URI, which is not set"
    ]


@pytest.mark.parametrize("file", ["", "MILVUS_URI", "MILVUS_USER MILVUS_PASSWORD", "all"])
def test_an_application_on_pymilvus_moves_over_as_it_is(
    file: str, read: Read, tmp_path: Path
) -> None:
    environ = {"MILVUS_URI": SERVER, "MILVUS_USER": "root", "MILVUS_PASSWORD": "Milvus"}
    environ |= {"MILVUS_TOKEN": "", "MILVUS_DB": "sales"}
    in_file = list(environ) if file == "all" else file.split()
    write(tmp_path / ".env", "".join(f"{name}={environ.pop(name)}\n" for name in in_file))
    configuration = read(**environ)
    assert configuration.problems == ()
    assert revealed(good(configuration)) == (None, "root", "Milvus")
    assert configuration.aliases["default"].db_name == "sales"


def test_pymilvus_variables_of_the_environment_stand_above_those_of_files(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"MILVUS_URI={SERVER}\nMILVUS_TOKEN=of-the-file\n")
    configuration = read(MILVUS_URI=SERVER, MILVUS_TOKEN="of-the-environment")
    assert revealed(good(configuration))[0] == "of-the-environment"
    assert endpoint_of(good(read(ZILLIZ_URI=URI))).host == "db.example"
    assert revealed(good(read(ZILLIZ_URI=URI))) == (None, None, None)


def test_pymilvus_variables_count_where_their_endpoint_is_the_one_that_counts(read: Read) -> None:
    theirs = {"MILVUS_TOKEN": "key", "MILVUS_DB": "sales"}
    same = good(read(ZILLIZ_URI=SERVER, MILVUS_URI=f"{SERVER}/", **theirs))
    other = good(read(ZILLIZ_URI=URI, MILVUS_URI=SERVER, **theirs))
    alone = read(ZILLIZ_PROD_URI=URI, MILVUS_DB="a", MILVUS_DATABASE="b")
    assert (revealed(same)[0], same.db_name) == ("key", "sales")
    assert (revealed(other)[0], other.db_name) == (None, None)
    assert ([*alone.aliases], alone.problems) == (["prod"], ())


def test_a_file_with_the_control_plane_key_is_not_sent_to_pymilvus_endpoint_either(
    read: Read, tmp_path: Path
) -> None:
    file = write(tmp_path / "key", "account")
    environ = {"MILVUS_URI": SERVER, "MILVUS_TOKEN": "theirs", "ZILLIZ_API_KEY_FILE": str(file)}
    assert revealed(good(read(**environ)))[0] == "theirs"


def test_two_databases_in_pymilvus_variables_are_a_conflict(read: Read) -> None:
    found = only_error(read(MILVUS_URI=SERVER, MILVUS_DB="a", MILVUS_DB_NAME="b"))
    assert (found.code, found.alias, found.field) == ("conflict", "default", "db_name")


def test_credentials_of_pymilvus_variables_in_a_file_are_for_the_endpoint_in_it(
    read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"MILVUS_URI={SERVER}\nMILVUS_TOKEN=root:Milvus\n")
    assert revealed(good(read()))[0] == "root:Milvus"
    assert revealed(good(read(MILVUS_URI=SERVER)))[0] == "root:Milvus"
    configuration = read(MILVUS_URI=URI)
    assert revealed(good(configuration)) == (None, None, None)
    assert [note.origin.key for note in configuration.notes] == ["MILVUS_TOKEN"]


def in_a_dotenv(directory: Path, uri: str) -> dict[str, str]:
    write(directory / ".env", f"ZILLIZ_PROD_URI={uri}\nZILLIZ_PROD_TOKEN=key\n")
    return {}


def in_a_binding(directory: Path, uri: str) -> dict[str, str]:
    binding = directory / "bindings" / "prod"
    for name, text in {"type": "milvus", "uri": uri, "token": "key"}.items():
        write(binding / name, text)
    return {"SERVICE_BINDING_ROOT": str(binding.parent)}


@pytest.mark.parametrize("strict", ["0", "1"])
@pytest.mark.parametrize("place", [in_a_dotenv, in_a_binding])
def test_credentials_beside_another_endpoint_are_warned_about_and_refused_in_strict_mode(
    place: Callable[[Path, str], dict[str, str]], strict: str, read: Read, tmp_path: Path
) -> None:
    environ = place(tmp_path, SERVER)
    configuration = read(ZILLIZ_PROD_URI=URI, ZCONFIG_STRICT=strict, **environ)
    [problem] = configuration.problems
    assert (problem.code, problem.alias) == ("credentials_of_another_endpoint", "prod")
    assert problem.origin is not None
    assert problem.origin.key == "ZILLIZ_PROD_TOKEN"
    assert problem.message.startswith("is sent to the endpoint in ZILLIZ_PROD_URI (environment), ")
    assert problem.severity == ("error" if strict == "1" else "warning")
    if strict == "1":
        assert dict(configuration.aliases) == {}
    else:
        assert revealed(configuration.aliases["prod"])[0] == "key"


@pytest.mark.parametrize("uri", [URI, f"{URI}/sales", URI.replace("//", "//u:p@")])
def test_credentials_beside_the_same_endpoint_or_none_are_no_problem(
    uri: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env.local", "ZILLIZ_PROD_USER=root\nZILLIZ_PROD_PASSWORD=pw\n")
    write(tmp_path / ".env", f"ZILLIZ_PROD_URI={uri}\n")
    assert revealed(good(read(ZILLIZ_PROD_URI=URI), "prod")) == (None, "root", "pw")
    (tmp_path / ".env.local").unlink()
    if "@" not in uri:
        in_a_dotenv(tmp_path, uri)
        assert revealed(good(read(ZILLIZ_PROD_URI=URI), "prod"))[0] == "key"


@pytest.mark.parametrize(
    "lost",
    [
        "URI_FILE=/nowhere",
        "URI=nonsense",
        "URI=https://db.example:19530",
        "URI=https://${NOWHERE}",
        "URI='https://other.example",
        "URI https://other.example",
    ],
)
def test_an_endpoint_that_is_not_read_is_bad_or_has_tls_counts_as_another(
    lost: str, read: Read, tmp_path: Path
) -> None:
    write(tmp_path / ".env", f"ZILLIZ_{lost}\nZILLIZ_TOKEN=key\n")
    codes = [each.code for each in read(ZILLIZ_URI="http://db.example:19530").problems]
    assert "credentials_of_another_endpoint" in codes


@pytest.mark.parametrize(
    ("uri", "token", "warned"),
    [
        ("http://db.example", "key", True),
        ("http://10.0.0.1:19530", "root:Milvus", True),
        ("http://root:pw@db.example", "", True),
        ("http://db.example", "", False),
        ("https://db.example", "key", False),
        ("http://localhost", "key", False),
        ("http://[::1]", "key", False),
        ("unix:/run/milvus.sock", "key", False),
    ],
)
def test_credentials_sent_to_another_host_without_tls_are_warned_about(
    uri: str, token: str, warned: bool, read: Read
) -> None:
    configuration = read(ZILLIZ_PROD_URI=uri, ZILLIZ_PROD_TOKEN=token)
    found = [str(each) for each in configuration.problems]
    host = "10.0.0.1" if "10.0" in uri else "db.example"
    expected = (
        f"prod: ZILLIZ_PROD_URI (environment): the credentials are sent to {host} without TLS; "
        "use https:// in ZILLIZ_PROD_URI if the server has TLS"
    )
    assert found == ([expected] if warned else [])
    assert [each for each in configuration.problems if each.severity == "error"] == []
    assert list(configuration.aliases) == ["prod"]


# --- against a model ----------------------------------------------------------------------------

ALIASES = ("default", "prod", "eu_prod")
FIELDS = ("db_name", "tls_ca", "tls_server_name", "proxy")
LAYERS = ("environment", ".env.local", ".env", "one", "system")
Slot = tuple[str, str]


def layers() -> st.SearchStrategy[list[dict[Slot, str]]]:
    """What each layer says of each field: a value, nothing, or that it is empty."""
    slots = st.tuples(st.sampled_from(ALIASES), st.sampled_from(FIELDS))
    values = st.sampled_from(["", "a", "b", "c"])
    return st.lists(
        st.dictionaries(slots, values, max_size=6), min_size=len(LAYERS), max_size=len(LAYERS)
    )


def variable(slot: Slot) -> str:
    return f"ZILLIZ_{slot[0]}_{slot[1]}".upper()


def text_of(slot: Slot, value: str) -> str:
    return f"http://{value}" if value and slot[1] == "proxy" else value


def shown(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def lay_out(said: list[dict[Slot, str]], directory: Path) -> dict[str, str]:
    """Write the layers where they belong, and return the environment."""
    texts = [{variable(s): text_of(s, v) for s, v in layer.items()} for layer in said]
    for name, lines in zip((".env.local", ".env"), texts[1:3], strict=True):
        write(directory / name, "".join(f"{key}={value}\n" for key, value in lines.items()))
    for name, files in zip(("one", "system"), texts[3:], strict=True):
        (directory / name).mkdir()
        for key, value in files.items():
            write(directory / name / key.lower(), value)
    uris = {variable((alias, "uri")): "https://db.example" for alias in ALIASES}
    return {**texts[0], **uris, "ZCONFIG_SECRETS_DIR": str(directory / "one")}


def winners(said: list[dict[Slot, str]]) -> Iterator[tuple[Slot, str, str, int]]:
    """The model: of each slot the first value that is not empty, and how many it shadows."""
    for slot in {slot for layer in said for slot in layer}:
        found = [
            (name, layer[slot]) for name, layer in zip(LAYERS, said, strict=True) if layer.get(slot)
        ]
        if found:
            yield slot, found[0][1], found[0][0], len(found) - 1


@settings(max_examples=60, deadline=None)
@given(layers())
def test_the_highest_layer_that_has_a_value_wins(said: list[dict[Slot, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        environ = lay_out(said, directory)
        configuration = load(environ, directory, system_secrets=str(directory / "system"))
        assert configuration.problems == ()
        expected: dict[Slot, Any] = {}
        for slot, value, layer, shadows in winners(said):
            expected[slot] = text_of(slot, value)
            provenance = configuration.provenance[slot]
            assert Path(provenance.layer).name == layer
            assert len(provenance.shadowed) == shadows
        found = {
            (alias, field): getattr(configuration.aliases[alias], field)
            for alias in ALIASES
            for field in FIELDS
        }
        found = {slot: value for slot, value in found.items() if value is not None}
        assert {slot: shown(value) for slot, value in found.items()} == expected
