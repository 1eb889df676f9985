"""A directory of secrets: whose files are read, and what one bad file costs."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.test_sources_files import BAD, make_missing, nobody
from tests.test_sources_generation import Volume
from zconfig._origin import Origin
from zconfig._sources.base import FileStatus
from zconfig._sources.secrets_dir import read_secrets_dir

FIELDS = frozenset({"uri", "user", "password", "token", "db_name"})
SECRET = "s3cret-pa55"


@pytest.fixture
def open_directory():
    """A directory that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def write(path: Path, content: str = "x", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def read(path, **options):
    return read_secrets_dir(path, field_names=FIELDS, shown="/run/secrets", **options)


def values(reading):
    return {entry.key: str(entry.value.reveal()) for entry in reading.entries}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("zilliz_prod_token", "ZILLIZ_PROD_TOKEN"),
        ("ZILLIZ_PROD_TOKEN", "ZILLIZ_PROD_TOKEN"),
        ("zilliz-prod-token", "ZILLIZ_PROD_TOKEN"),
        ("zilliz.eu-prod.token", "ZILLIZ_EU_PROD_TOKEN"),
        ("Zilliz_token", "ZILLIZ_TOKEN"),
        ("prod/token", "ZILLIZ_PROD_TOKEN"),
        ("eu-prod/DB-NAME", "ZILLIZ_EU_PROD_DB_NAME"),
        ("zilliz-prod/token", "ZILLIZ_PROD_TOKEN"),
        ("zilliz/token", "ZILLIZ_ZILLIZ_TOKEN"),
    ],
)
def test_a_file_is_a_field(tmp_path, name, key):
    write(tmp_path / name, "value\n")

    reading = read(tmp_path)

    assert values(reading) == {key: "value"}
    assert reading.entries[0].origin == Origin("secrets directory", key, f"/run/secrets/{name}")
    assert (reading.name, reading.problems) == ("/run/secrets", ())
    assert reading.files == (
        FileStatus("/run/secrets", "read"),
        FileStatus(f"/run/secrets/{name}", "read"),
    )


def test_files_of_others_are_never_opened(tmp_path, monkeypatch):
    write(tmp_path / "zilliz_token", "ours")
    write(tmp_path / "prod" / "token", "ours")
    for name in ("db_password", "zilliz", "prod/other", "kubernetes.io/serviceaccount/token"):
        write(tmp_path / name, "theirs")
    write(tmp_path / ".zilliz_uri", "hidden")
    opened = []
    real_open = os.open

    def spy(path, *args, **kwargs):
        opened.append(Path(path).name)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", spy)

    assert values(read(tmp_path)) == {"ZILLIZ_TOKEN": "ours", "ZILLIZ_PROD_TOKEN": "ours"}
    assert sorted(opened) == ["token", "zilliz_token"]


def test_where_nobody_named_the_directory_those_in_it_are_left_alone(tmp_path):
    write(tmp_path / "postgres" / "password")

    assert read(tmp_path, named=False).entries == ()


@pytest.mark.parametrize("name", ["zilliz_prod_token", "prod/token"])
@pytest.mark.parametrize("make", [make for make in BAD if make is not make_missing])
def test_one_bad_file_is_one_problem_and_the_others_are_read(tmp_path, make, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    write(tmp_path / "zilliz_prod_uri", "good")

    reading = read(tmp_path)

    assert values(reading)["ZILLIZ_PROD_URI"] == "good"
    [problem] = [p for p in reading.problems if p.severity == "error"]
    assert problem.code in {BAD[make], "outside_directory"}
    assert problem.origin == Origin(
        "secrets directory", "ZILLIZ_PROD_TOKEN", f"/run/secrets/{name}"
    )
    assert FileStatus(f"/run/secrets/{name}", "refused") in reading.files
    assert SECRET not in repr(reading)


def test_a_symlink_that_leaves_the_directory_is_one_problem(tmp_path):
    directory = tmp_path / "secrets"
    write(tmp_path / "outside", SECRET)
    write(directory / "zilliz_uri", "good")
    (directory / "zilliz_token").symlink_to("../outside")

    reading = read(directory)

    assert values(reading) == {"ZILLIZ_URI": "good"}
    assert [p.code for p in reading.problems] == ["outside_directory"]
    assert SECRET not in repr(reading)


def test_symlinks_inside_the_directory_are_followed(tmp_path):
    write(tmp_path / "store" / "one", "value")
    (tmp_path / "zilliz_token").symlink_to("store/one")
    (tmp_path / "prod").mkdir()
    (tmp_path / "prod" / "token").symlink_to("../store/one")

    assert values(read(tmp_path)) == {"ZILLIZ_TOKEN": "value", "ZILLIZ_PROD_TOKEN": "value"}


def test_the_directory_itself_may_be_a_symlink(tmp_path):
    write(tmp_path / "real" / "zilliz_token", "value")
    (tmp_path / "secrets").symlink_to("real")

    assert values(read(tmp_path / "secrets")) == {"ZILLIZ_TOKEN": "value"}


def test_a_kubernetes_volume_is_read_under_its_own_path_and_without_a_warning(tmp_path):
    Volume(tmp_path).rotate({"zilliz_token": "a", "prod/token": "b", "other": "c"})

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_TOKEN": "a", "ZILLIZ_PROD_TOKEN": "b"}
    assert [entry.origin.path for entry in reading.entries] == [
        "/run/secrets/prod/token",
        "/run/secrets/zilliz_token",
    ]
    assert reading.problems == ()


def test_a_secret_that_others_may_read_is_a_warning_of_its_key(tmp_path):
    write(tmp_path / "zilliz_token", "value ", 0o644)

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_TOKEN": "value "}
    assert [(p.code, p.severity, p.origin) for p in reading.problems] == [
        ("readable_by_others", "warning", reading.entries[0].origin)
    ]


def test_an_absent_directory_is_no_problem(tmp_path):
    reading = read(tmp_path / "nowhere")

    assert (reading.entries, reading.problems) == ((), ())
    assert reading.files == (FileStatus("/run/secrets", "absent"),)


def test_a_file_in_its_place_is_a_problem(tmp_path):
    reading = read(write(tmp_path / "file"))

    [problem] = reading.problems
    assert str(problem) == (
        "/run/secrets (secrets directory): this is not a directory; use a directory"
    )
    assert reading.files == (FileStatus("/run/secrets", "refused"),)


def test_a_directory_that_never_stands_still_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr("zconfig._sources.secrets_dir.ATTEMPTS", 0)
    write(tmp_path / "zilliz_token")

    assert [p.code for p in read(tmp_path).problems] == ["changing"]


def test_an_alias_directory_that_never_stands_still_is_a_problem(tmp_path, monkeypatch):
    write(tmp_path / "zilliz_token", "value")
    volume = Volume(tmp_path / "prod")
    volume.rotate({"token": "x"})
    monkeypatch.setattr(
        "zconfig._sources.secrets_dir._Tree._fields",
        lambda *_: volume.rotate({"token": "x"}),
    )

    reading = read(tmp_path)

    assert values(reading) == {"ZILLIZ_TOKEN": "value"}
    assert [(p.code, p.origin.key) for p in reading.problems] == [("changing", "/run/secrets/prod")]


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_directory_that_this_user_may_not_use_is_told_of(open_directory, mode):
    directory = open_directory / "secrets"
    write(directory / "zilliz_token", SECRET)
    directory.chmod(mode)

    with nobody():
        reading = read(directory)

    assert reading.entries == ()
    assert [p.code for p in reading.problems] == ["unreadable"]


def test_a_directory_of_others_that_this_user_may_not_list_is_theirs(open_directory):
    write(open_directory / "zilliz_uri", "value", 0o644)
    write(open_directory / "postgres" / "password", SECRET)
    (open_directory / "postgres").chmod(0o700)

    with nobody():
        reading = read(open_directory)

    assert values(reading) == {"ZILLIZ_URI": "value"}
    assert [p.code for p in reading.problems] == ["readable_by_others"]
    assert FileStatus("/run/secrets/postgres", "refused") in reading.files


def test_a_directory_of_ours_that_this_user_may_not_list_is_a_problem(open_directory):
    write(open_directory / "zilliz-prod" / "token", SECRET)
    (open_directory / "zilliz-prod").chmod(0o700)

    with nobody():
        [problem] = read(open_directory).problems

    assert (problem.code, problem.origin.key) == ("unreadable", "/run/secrets/zilliz-prod")


def test_a_name_that_would_disturb_a_terminal_is_escaped(tmp_path):
    write(tmp_path / "zilliz_\x1b[31m", "value")

    reading = read(tmp_path)

    assert repr(reading).isprintable()
    assert str(reading.entries[0].origin).isprintable()
