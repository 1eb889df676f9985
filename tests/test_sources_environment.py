"""The environment, and what is left of pymilvus' in it."""

import pytest

from zconfig.redaction import Secret
from zconfig.sources.environment import read_environment
from zconfig.sources.milvus_env import read_milvus_fallback
from zconfig.sources.names import fold, is_key, is_variable, printable


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


@pytest.mark.parametrize("value", ['"quoted"', "'quoted'", '""', "''"])
def test_quotes_around_a_value_are_kept_and_reported(value):
    reading = read_environment({"ZILLIZ_TOKEN": value})

    assert reading.entries[0].value == value
    [problem] = reading.problems
    assert (problem.code, problem.severity, problem.alias) == ("quoted_value", "warning", None)
    assert problem.origin == reading.entries[0].origin
    assert "docker --env-file" in problem.remedy


@pytest.mark.parametrize("value", ['"', "'", "\"a'", 'a"', '"a', "it's", ""])
def test_other_quotes_are_nothing_to_report(value):
    assert read_environment({"ZILLIZ_TOKEN": value}).problems == ()


@pytest.mark.parametrize("value", ["s3cret\udcff", "\udc80"])
def test_a_value_that_is_not_text_is_a_problem_and_the_others_are_read(value):
    reading = read_environment({"ZILLIZ_TOKEN": value, "ZILLIZ_URI": "x"})

    assert [entry.key for entry in reading.entries] == ["ZILLIZ_URI"]
    [problem] = reading.problems
    assert (problem.code, problem.severity) == ("not_text", "error")
    assert "s3cret" not in str(problem)


def test_a_name_that_is_not_text_can_be_shown():
    reading = read_environment({"ZILLIZ_\udcff_URI": "x"})

    assert reading.entries[0].key.encode() == rb"ZILLIZ_\udcff_URI"
    assert str(reading.entries[0].origin).encode()


def test_a_mapping_is_asked_for_our_values_only():
    class Recorded(dict):
        asked: list[str] = []  # noqa: RUF012 - one instance

        def __getitem__(self, key):
            self.asked.append(key)
            return super().__getitem__(key)

    environ = Recorded({"PASSWORD": "x", "ZILLIZ_URI": "y"})
    read_environment(environ)

    assert environ.asked == ["ZILLIZ_URI"]


def test_the_variables_of_pymilvus_become_fields_of_the_default_alias():
    reading = read_milvus_fallback(
        {
            "MILVUS_URI": "http://localhost:19530",
            "MILVUS_TOKEN": "root:Milvus",
            "MILVUS_DB_NAME": "sales",
            "MILVUS_PORT": "tcp://10.0.0.1:19530",
            "ZILLIZ_URI": "x",
        }
    )

    assert {entry.key: entry.value for entry in reading.entries} == {
        "ZILLIZ_URI": "http://localhost:19530",
        "ZILLIZ_TOKEN": "root:Milvus",
        "ZILLIZ_DB_NAME": "sales",
    }
    assert [entry.origin.key for entry in reading.entries] == [
        "MILVUS_URI",
        "MILVUS_TOKEN",
        "MILVUS_DB_NAME",
    ]


def test_without_them_there_is_nothing():
    reading = read_milvus_fallback({"HOME": "/root"})

    assert (reading.entries, reading.problems) == ((), ())


def test_their_problems_concern_the_default_alias():
    [problem] = read_milvus_fallback({"MILVUS_URI": '"http://localhost"'}).problems

    assert problem.alias == "default"
    assert str(problem.origin) == "MILVUS_URI (environment)"


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
    assert fold("zilliz-eu.prod_token") == "ZILLIZ_EU_PROD_TOKEN"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\udcff", "a\tb"])
def test_a_name_that_would_disturb_a_terminal_is_escaped(name):
    assert printable(name).isprintable()
