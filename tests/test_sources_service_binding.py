"""Service bindings: which are ours, and what their entries become."""

import os

import pytest

from tests.test_sources_files import nobody, open_directory, write
from tests.test_sources_generation import Volume
from zconfig._origin import Origin
from zconfig._sources.base import FileStatus
from zconfig._sources.service_binding import read_service_bindings

__all__ = ["open_directory"]  # a fixture

SECRET = "s3cret-pa55"


@pytest.fixture
def bind(tmp_path):
    def bind(name="prod", **files):
        directory = tmp_path / name
        directory.mkdir()
        for entry, content in ({"type": "milvus"} | files).items():
            file = directory / entry.replace("__", ".").replace("_", "-")
            if content is not None:
                file.write_text(content)
                file.chmod(0o600)
        return directory

    return bind


def read(root):
    return read_service_bindings(root, shown="/bindings")


def values(reading):
    return {entry.key: str(entry.value.reveal()) for entry in reading.entries}


@pytest.mark.parametrize("kind", ["milvus", "zilliz", "Milvus\n", " ZILLIZ "])
def test_a_binding_of_our_type_is_an_alias(tmp_path, bind, kind):
    bind(
        "eu-prod.db",
        type=kind,
        provider="acme",
        uri="https://db.example\n",
        username="root",
        password=SECRET,
        database="sales",
        connection_count="3",
    )

    reading = read(tmp_path)

    assert values(reading) == {
        "ZILLIZ_EU_PROD_DB_DATABASE": "sales",
        "ZILLIZ_EU_PROD_DB_PASSWORD": SECRET,
        "ZILLIZ_EU_PROD_DB_URI": "https://db.example",
        "ZILLIZ_EU_PROD_DB_USERNAME": "root",
    }
    assert reading.problems == ()
    assert reading.entries[2].origin == Origin(
        "service binding", "ZILLIZ_EU_PROD_DB_URI", "/bindings/eu-prod.db/uri"
    )
    assert reading.files[0] == FileStatus("/bindings", "read")
    assert SECRET not in repr(reading)


@pytest.mark.parametrize(
    ("entry", "key"), [("token", "TOKEN"), ("api_key", "API_KEY"), ("endpoint", "ENDPOINT")]
)
def test_other_entries_of_ours(tmp_path, bind, entry, key):
    bind(**{entry: "value"})

    assert values(read(tmp_path)) == {f"ZILLIZ_PROD_{key}": "value"}


@pytest.mark.parametrize("entry", ["ca.crt", "tls.crt", "tls.key"])
def test_a_certificate_that_leads_out_of_the_root_is_refused_as_a_token_is(tmp_path, bind, entry):
    pem = {"ca__crt": "", "tls__crt": "", "tls__key": ""}
    (tmp_path / "root").mkdir()
    binding = bind("root/prod", uri="https://db", **pem)
    outside = tmp_path / "outside"
    outside.touch(mode=0o600)
    (binding / entry).unlink()
    (binding / entry).symlink_to(outside)

    reading = read(tmp_path / "root")

    (problem,) = reading.problems
    assert problem.code == "outside_directory"
    assert problem.origin.path == f"/bindings/prod/{entry}"
    assert problem.origin.key not in values(reading)
    assert len(values(reading)) == 3


@pytest.mark.parametrize("kind", ["mysql", "", "milvus2", None])
def test_other_bindings_are_left_alone(tmp_path, bind, kind):
    bind("other", type=kind, uri="mysql://x", password=SECRET)
    bind("prod", token="ours")
    (tmp_path / "README").touch()

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_PROD_TOKEN": "ours"}
    assert reading.problems == ()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"ca__crt": "pem"}, {"TLS_CA": "ca.crt"}),
        ({"certificates": "pem"}, {"TLS_CA": "certificates"}),
        ({"ca__crt": "pem", "certificates": "pem"}, {"TLS_CA": "ca.crt"}),
        (
            {"tls__crt": "pem", "tls__key": "pem"},
            {"TLS_CERT": "tls.crt", "TLS_KEY": "tls.key"},
        ),
        ({"tls__crt": "pem"}, {}),
        ({"tls__key": "pem"}, {}),
        ({"private_key": "pem"}, {}),
    ],
)
def test_certificates_are_handed_on_as_paths(tmp_path, bind, files, expected):
    directory = bind(uri="https://x", **files)

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_PROD_URI": "https://x"} | {
        f"ZILLIZ_PROD_{field}": str(directory / name) for field, name in expected.items()
    }


def test_the_path_of_a_certificate_outlives_a_rotation(tmp_path):
    volume = Volume(tmp_path / "prod")
    volume.rotate({"type": "milvus", "uri": "https://x", "ca.crt": "pem"})

    path = values(read(tmp_path))["ZILLIZ_PROD_TLS_CA"]

    assert path == str(tmp_path / "prod" / "ca.crt")


@pytest.mark.parametrize(
    ("files", "uri"),
    [
        ({"host": "db", "port": "19530"}, "http://db:19530"),
        ({"host": "db\n", "port": "19530\n"}, "http://db:19530"),
        ({"host": "db"}, "http://db"),
        ({"type": "zilliz", "host": "db"}, "https://db"),
        ({"host": "db", "ca__crt": "pem"}, "https://db"),
        ({"host": "db", "port": "1", "uri": "https://other"}, "https://other"),
        ({"host": "fd00::1", "port": "19530"}, "http://[fd00::1]:19530"),
        ({"host": "fd00::1\n"}, "http://[fd00::1]"),
        ({"host": "[::1]", "port": "1"}, "http://[::1]:1"),
        ({"port": "19530"}, None),
    ],
)
def test_host_and_port_make_a_uri_where_there_is_none(tmp_path, bind, files, uri):
    bind(**files)

    reading = read(tmp_path)

    assert values(reading).get("ZILLIZ_PROD_URI") == uri
    assert reading.problems == ()


@pytest.mark.parametrize("host", ["https://db.example", " http://root:s3cret-pa55@db:1\n"])
@pytest.mark.parametrize("port", ["443", None])
def test_a_host_that_is_a_uri_is_told_to_be_one(tmp_path, bind, host, port):
    bind(host=host, port=port)

    reading = read(tmp_path)

    [problem] = reading.problems
    assert (reading.entries, problem.code) == ((), "bad_host")
    assert str(problem) == (
        "ZILLIZ_PROD_URI (/bindings/prod/host): the host is a URI; "
        "use the key uri instead of host and port"
    )


@pytest.mark.parametrize("bad", ["host", "port"])
def test_a_bad_host_or_port_makes_no_uri(tmp_path, bind, bad):
    directory = bind(host="db", port="1")
    (directory / bad).write_bytes(b"\xff")

    reading = read(tmp_path)

    assert reading.entries == ()
    assert [(p.code, p.origin.path) for p in reading.problems] == [
        ("not_text", f"/bindings/prod/{bad}")
    ]


def test_one_bad_file_is_one_problem_and_the_others_are_read(tmp_path, bind):
    directory = bind(uri="https://x")
    os.mkfifo(directory / "password")

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_PROD_URI": "https://x"}
    [problem] = reading.problems
    assert (problem.code, problem.severity) == ("not_regular", "error")
    assert problem.origin == Origin(
        "service binding", "ZILLIZ_PROD_PASSWORD", "/bindings/prod/password"
    )


def test_a_type_that_cannot_be_read_is_a_warning_since_the_binding_may_be_of_others(tmp_path, bind):
    directory = bind(type=None, uri="https://x")
    os.mkfifo(directory / "type")

    reading = read(tmp_path)

    assert reading.entries == ()
    assert [(p.code, p.severity, p.origin.key) for p in reading.problems] == [
        ("not_regular", "warning", "/bindings/prod/type")
    ]


def test_a_binding_that_this_user_may_not_list_is_a_warning(open_directory):
    for name in ("good", "locked"):
        (open_directory / name).mkdir()
        write(open_directory / name / "type", "milvus", 0o444)
        write(open_directory / name / "uri", "http://db", 0o444)
    (open_directory / "locked").chmod(0o700)
    (open_directory / "file").touch()

    with nobody():
        reading = read(open_directory)

    assert values(reading) == {"ZILLIZ_GOOD_URI": "http://db"}
    told = [(p.code, p.severity, p.origin.key) for p in reading.problems if p.origin.key[0] == "/"]
    assert told == [("unreadable", "warning", "/bindings/locked")]
    assert FileStatus("/bindings/locked", "refused") in reading.files


def test_a_binding_that_never_stands_still_is_a_problem(tmp_path, bind, monkeypatch):
    bind("good", token="value")
    volume = Volume(tmp_path / "prod")
    volume.rotate({"type": "milvus"})
    rotate = {"type": "milvus"}
    original = read_service_bindings.__globals__["list_names"]

    def list_and_rotate(directory, wanted):
        names = original(directory, wanted)
        if directory.parent == volume.path:
            volume.rotate(rotate)
        return names

    monkeypatch.setattr("zconfig._sources.service_binding.list_names", list_and_rotate)

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_GOOD_TOKEN": "value"}
    assert [(p.code, p.origin.key) for p in reading.problems] == [("changing", "/bindings/prod")]


def test_an_absent_root_is_no_problem(tmp_path):
    reading = read_service_bindings(tmp_path / "nowhere")

    assert (reading.entries, reading.problems) == ((), ())
    assert reading.files == (FileStatus(str(tmp_path / "nowhere"), "absent"),)
