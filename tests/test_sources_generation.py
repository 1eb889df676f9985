"""Kubernetes' `..data` layout: one generation is read, never parts of two."""

import itertools
import os
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from zconfig._sources.base import SourceResult
from zconfig._sources.files import FileError
from zconfig._sources.secrets_dir import ATTEMPTS, list_names, read_generation, read_secrets_dir
from zconfig._sources.service_binding import read_service_bindings

FIELDS = frozenset({"uri", "user", "password", "token"})
READS = 500


class Volume:
    """A Kubernetes volume, rotated as the kubelet does it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count()
        path.mkdir(parents=True, exist_ok=True)

    def rotate(self, files: dict[str, str]) -> None:
        """Write a generation, point `..data` to it in one step, delete the one before."""
        generation = self.path / f"..2024_05_01_10_00_00.{next(self._numbers)}"
        for name, content in files.items():
            file = generation / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        link = self.path / "..data"
        before = link.readlink() if link.is_symlink() else None
        (self.path / "..data_tmp").symlink_to(generation.name)
        (self.path / "..data_tmp").rename(link)
        for name in {name.partition("/")[0] for name in files}:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        if before is not None:
            shutil.rmtree(self.path / before)


@contextmanager
def rotating(volume, make_files):
    """Rotate a volume as fast as it goes."""
    volume.rotate(make_files(0))
    done = threading.Event()

    def rotate():
        for number in itertools.count(1):
            if done.is_set():
                return
            volume.rotate(make_files(number))

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def flat(number):
    return {"zilliz_prod_user": f"user-{number}", "zilliz_prod_password": f"pass-{number}"}


def nested(number):
    return {"prod/user": f"user-{number}", "prod/password": f"pass-{number}"}


def binding(number):
    return {"type": "milvus", "username": f"user-{number}", "password": f"pass-{number}"}


def read_secrets(root):
    return read_secrets_dir(root, field_names=FIELDS)


@pytest.mark.parametrize(
    ("below", "make_files", "read"),
    [
        ("", flat, read_secrets),
        ("", nested, read_secrets),
        (
            "prod",
            lambda number: {n.partition("/")[2]: v for n, v in nested(number).items()},
            read_secrets,
        ),
        ("prod", binding, read_service_bindings),
    ],
    ids=["files", "directory in a volume", "volume in a directory", "binding"],
)
def test_a_rotation_in_mid_read_never_gives_half_of_two_generations(
    tmp_path, below, make_files, read
):
    generations = set()
    with rotating(Volume(tmp_path / below), make_files):
        for _ in range(READS):
            reading = read(tmp_path)
            assert reading.problems == ()
            parts = [entry.value.reveal().partition("-") for entry in reading.entries]
            assert sorted(part[0] for part in parts) == ["pass", "user"]
            assert len({part[2] for part in parts}) == 1
            generations.add(parts[0][2])
    assert len(generations) > 1


def test_a_generation_that_changes_while_it_is_read_is_read_again(tmp_path):
    volume = Volume(tmp_path)
    volume.rotate({"a": "old", "b": "old"})
    seen = []

    def read(current):
        first = (current / "a").read_text()
        if not seen:
            volume.rotate({"a": "new", "b": "new"})
        seen.append(first)
        return SourceResult(first)

    assert read_generation(tmp_path, read).name == "new"
    assert seen == ["old", "new"]


def test_an_error_in_a_generation_that_is_gone_does_not_count(tmp_path):
    volume = Volume(tmp_path)
    volume.rotate({"a": "old"})
    rotations = iter([{"a": "new"}])

    def read(current):
        for files in rotations:
            volume.rotate(files)
        return SourceResult(",".join(list_names(current)))

    assert read_generation(tmp_path, read).name == "a"


def test_a_directory_that_never_stands_still_is_given_up(tmp_path):
    volume = Volume(tmp_path)
    volume.rotate({"zilliz_token": "x"})
    attempts = []

    def read(current):
        attempts.append(current)
        volume.rotate({"zilliz_token": "x"})
        return SourceResult("")

    with pytest.raises(FileError) as caught:
        read_generation(tmp_path, read)

    assert (caught.value.reason.code, len(attempts)) == ("changing", ATTEMPTS)


def test_a_plain_directory_is_read_once_where_it_is(tmp_path):
    read = [].append

    assert read_generation(tmp_path, lambda current: read(current) or SourceResult("x")).name == "x"
    assert read.__self__ == [tmp_path]


def test_names_are_in_order_and_hidden_ones_left_out(tmp_path):
    for name in ("b", "a", ".hidden", "..data"):
        (tmp_path / name).touch()

    assert list_names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(("name", "code"), [("nowhere", "missing"), ("file", "not_directory")])
def test_what_is_no_directory_is_an_error(tmp_path, name, code):
    (tmp_path / "file").touch()

    with pytest.raises(FileError) as caught:
        list_names(tmp_path / name)

    assert caught.value.reason.code == code
    assert caught.value.__context__ is None


def test_the_volume_of_these_tests_is_laid_out_as_kubernetes_does(tmp_path):
    Volume(tmp_path).rotate({"token": "x"})

    assert os.readlink(tmp_path / "token") == "..data/token"  # noqa: PTH115 - the text counts
    assert (tmp_path / "token").read_text() == "x"
