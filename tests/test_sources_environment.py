"""The environment, and what is left of pymilvus' in it."""

import pytest

from zconfig._origin import printable
from zconfig._redaction import Secret
from zconfig._sources.base import is_key, is_variable, normalize_key
from zconfig._sources.dotenv import read_dotenv
from zconfig._sources.environment import read_environment, split_milvus


def test_only_our_variables_are_read_in_any_case_of_letters():
    reading = read_environment(
        {
            "HOME": "/root",
            "ZILLIZ_URI": "a",
            "zilliz_prod_uri": "b",
            "ZCONFIG_STRICT": "1",
            "ZILLIZ": "c",
            "MY_ZILLIZ_URI": "d",
            "ZILLIZ-URI": "e",
        }
    )

    assert [(entry.key, entry.value) for entry in reading.entries] == [
        ("ZILLIZ_URI", "a"),
        ("zilliz_prod_uri", "b"),
        ("ZCONFIG_STRICT", "1"),
    ]
    assert (reading.name, reading.problems, reading.files) == ("environment", (), ())


def test_values_are_hidden_and_name_their_variable():
    [entry] = read_environment({"ZILLIZ_TOKEN": "s3cret"}).entries

    assert isinstance(entry.value, Secret)
    assert "s3cret" not in repr(entry)
    assert str(entry.origin) == "ZILLIZ_TOKEN (environment)"


def test_an_empty_value_is_handed_on():
    assert read_environment({"ZILLIZ_TOKEN": ""}).entries[0].value == ""


@pytest.mark.parametrize("value", ["s3cret\udcff", "\udc80"])
def test_a_value_that_is_not_text_is_a_problem_and_the_others_are_read(value):
    reading = read_environment({"ZILLIZ_TOKEN": value, "ZILLIZ_URI": "x"})

    assert [entry.key for entry in reading.entries] == ["ZILLIZ_URI"]
    [problem] = reading.problems
    assert (problem.code, problem.severity) == ("not_text", "error")
    assert "s3cret" not in str(problem)


def test_a_name_that_is_not_text_can_be_shown():
    reading = read_environment({"ZILLIZ_\udcff_URI": "x"})

    assert str(reading.entries[0].origin).encode() == rb"ZILLIZ_\udcff_URI (environment)"


def test_a_mapping_is_asked_for_our_values_only():
    class Recorded(dict):
        asked: list[str] = []  # noqa: RUF012 - one instance

        def __getitem__(self, key):
            self.asked.append(key)
            return super().__getitem__(key)

    environ = Recorded({"PASSWORD": "x", "ZILLIZ_URI": "y"})
    read_environment(environ)

    assert environ.asked == ["ZILLIZ_URI"]


MILVUS = {
    "MILVUS_URI": "http://localhost:19530",
    "MILVUS_TOKEN": "root:Milvus",
    "MILVUS_DB_NAME": "sales",
    "MILVUS_DB": "sales",
    "MILVUS_DATABASE": "sales",
    "MILVUS_PORT": "tcp://10.0.0.1:19530",
    "MILVUS_HOST": "10.0.0.1",
    "ZILLIZ_URI": "x",
}


def from_a_file(environ, directory):
    path = directory / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
    path.chmod(0o600)
    return read_dotenv(path, {}, shown=".env")


@pytest.mark.parametrize("place", [lambda environ, _: read_environment(environ), from_a_file])
def test_the_variables_of_pymilvus_become_fields_of_the_default_alias(place, tmp_path):
    rest, milvus = split_milvus(place(MILVUS, tmp_path))

    assert [entry.key for entry in rest.entries] == ["ZILLIZ_URI"]
    assert [(entry.key, entry.origin.key, entry.value) for entry in milvus.entries] == [
        ("ZILLIZ_URI", "MILVUS_URI", "http://localhost:19530"),
        ("ZILLIZ_TOKEN", "MILVUS_TOKEN", "root:Milvus"),
        ("ZILLIZ_DB_NAME", "MILVUS_DB_NAME", "sales"),
        ("ZILLIZ_DB_NAME", "MILVUS_DB", "sales"),
        ("ZILLIZ_DB_NAME", "MILVUS_DATABASE", "sales"),
    ]
    assert milvus.name == f"MILVUS_* variables{'' if rest.name == 'environment' else ' in .env'}"


@pytest.mark.parametrize(
    ("token", "keys"),
    [
        ("root:pass:word", ["ZILLIZ_TOKEN"]),
        ("root:pass", ["ZILLIZ_TOKEN", "ZILLIZ_USER", "ZILLIZ_PASSWORD"]),
        ("", ["ZILLIZ_TOKEN", "ZILLIZ_USER", "ZILLIZ_PASSWORD"]),
    ],
)
def test_a_token_that_says_the_same_as_user_and_password_is_enough(token, keys):
    environ = {"MILVUS_TOKEN": token, "MILVUS_USER": "root", "MILVUS_PASSWORD": "pass:word"}

    _, milvus = split_milvus(read_environment(environ))

    assert [entry.key for entry in milvus.entries] == keys


def test_without_them_there_is_nothing():
    rest, milvus = split_milvus(read_environment({"HOME": "/root", "milvus_uri": "x"}))

    assert (rest.entries, milvus.entries, milvus.problems) == ((), (), ())


@pytest.mark.parametrize(("name", "field"), [("MILVUS_URI", "uri"), ("MILVUS_DATABASE", "db_name")])
def test_their_problems_concern_the_default_alias(name, field):
    rest, milvus = split_milvus(read_environment({name: "\udcff"}))

    [problem] = milvus.problems
    assert (rest.problems, problem.alias, problem.field) == ((), "default", field)
    assert str(problem.origin) == f"{name} (environment)"


def test_a_line_of_a_file_that_does_not_assign_one_of_them_is_a_problem(tmp_path):
    reading = from_a_file({"set MILVUS_USER": "root", "set MILVUS_HOST": "x"}, tmp_path)

    [problem] = split_milvus(reading)[1].problems
    assert (problem.alias, problem.field, problem.code) == ("default", "user", "bad_line")
    assert problem.remedy.startswith("write MILVUS_USER=…")


@pytest.mark.parametrize(
    ("name", "variable", "key"),
    [
        ("ZILLIZ_URI", True, True),
        ("zconfig_strict", True, True),
        ("zilliz-uri", False, True),
        ("ZILLIZ.URI", False, True),
        ("ZILLIZ", False, False),
        ("ZILLIZURI", False, False),
        ("z\u0131ll\u0131z_uri", False, False),
        ("", False, False),
    ],
)
def test_names_of_ours(name, variable, key):
    assert (is_variable(name), is_key(name)) == (variable, key)


def test_the_name_of_a_file_becomes_that_of_a_variable():
    assert normalize_key("zilliz-eu.prod_token") == "ZILLIZ_EU_PROD_TOKEN"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\udcff", "a\tb"])
def test_a_name_that_would_disturb_a_terminal_is_escaped(name):
    assert printable(name).isprintable()
