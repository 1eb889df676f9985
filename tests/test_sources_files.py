"""One file: what is read, what is refused, and what is never told."""

import os
import pickle
import socket
import stat
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

from zconfig.origin import Origin
from zconfig.redaction import Hidden
from zconfig.sources.files import FileError, located, read_secret, read_text
from zconfig.sources.permissions import is_mounted_secret, permission_verdict

SECRET = "s3cret-pa55"


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def make_fifo(path):
    os.mkfifo(path)


def make_directory(path):
    path.mkdir()


def make_socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may be no longer than some 100 bytes
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path.name)
    os.chdir(here)


def make_device(path):
    path.symlink_to("/dev/zero")


def make_missing(path):
    pass


def make_dangling(path):
    path.symlink_to("nowhere")


def make_beneath_a_file(path):
    path.symlink_to(write(path.parent / "plain", "x") / "below")


def make_loop(path):
    path.symlink_to(path.name)


def make_huge(path):
    write(path, b"")
    os.truncate(path, 200 * 1024 * 1024)


def make_slightly_too_large(path):
    write(path, "x" * (64 * 1024 + 1))


def make_binary(path):
    write(path, SECRET.encode() + b"\xff\xfe")


def make_latin(path):
    write(path, f"{SECRET}é".encode("latin-1"))


def make_utf16(path):
    write(path, SECRET.encode("utf-16"))


def make_utf16_without_mark(path):
    write(path, SECRET.encode("utf-16-le"))


def make_nul(path):
    write(path, f"{SECRET}\0")


def make_encoded_surrogate(path):
    write(path, SECRET.encode() + b"\xed\xa0\x80")


def make_world_writable(path):
    write(path, SECRET, 0o602)


def make_group_writable(path):
    write(path, SECRET, 0o620)


def make_writable_behind_a_link(path):
    path.symlink_to(write(path.parent / "target", SECRET, 0o666))


BAD = {
    make_fifo: "not_regular",
    make_directory: "not_regular",
    make_socket: "not_regular",
    make_device: "not_regular",
    make_missing: "missing",
    make_dangling: "missing",
    make_beneath_a_file: "missing",
    make_loop: "loop",
    make_huge: "too_large",
    make_slightly_too_large: "too_large",
    make_binary: "not_text",
    make_latin: "not_text",
    make_utf16: "not_text",
    make_utf16_without_mark: "not_text",
    make_nul: "not_text",
    make_encoded_surrogate: "not_text",
    make_world_writable: "world_writable",
    make_group_writable: "world_writable",
    make_writable_behind_a_link: "world_writable",
}


@pytest.mark.parametrize(
    ("make", "code"), BAD.items(), ids=lambda case: getattr(case, "__name__", case)
)
def test_a_bad_file_is_refused_by_its_code_and_nothing_of_it_is_told(tmp_path, make, code):
    path = tmp_path / "token"
    make(path)

    with pytest.raises(FileError) as caught:
        read_secret(path)

    assert caught.value.code == code
    assert caught.value.__context__ is None
    told = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert SECRET not in told
    assert str(path) not in str(caught.value)


@contextmanager
def nobody():
    """Run as a user whom permission bits do stop."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_directory():
    """A directory that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_file_that_this_user_may_not_read_is_unreadable(open_directory):
    path = write(open_directory / "token", SECRET, 0o000)

    with (
        nobody(),
        pytest.raises(FileError, match=r"it cannot be read \(permission denied\)") as caught,
    ):
        read_secret(path)

    assert caught.value.code == "unreadable"


def test_a_read_error_is_unreadable(tmp_path, monkeypatch):
    path = write(tmp_path / "token", SECRET)

    def fail(*_args, **_kwargs):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(FileError) as caught:
        read_secret(path)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("path", ["with\0nul", "with\ud800surrogate"])
def test_a_path_that_no_file_can_have_is_missing(path):
    with pytest.raises(FileError) as caught:
        read_secret(path)
    assert caught.value.code == "missing"


def test_no_descriptor_is_left_open(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    write(tmp_path / "good", SECRET)
    make_binary(tmp_path / "bad")

    read_secret(tmp_path / "good")
    with pytest.raises(FileError):
        read_secret(tmp_path / "bad")

    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("content", "value", "had_line_end"),
    [
        ("abc", "abc", False),
        ("abc\n", "abc", True),
        ("abc\r\n", "abc", True),
        ("abc\n\n", "abc\n", True),
        ("abc\r", "abc\r", False),
        ("", "", False),
        ("\n", "", True),
        ("\ufeffabc\n", "abc", True),
        (" abc ", " abc ", False),
        ("grüße\n", "grüße", True),
    ],
)
def test_one_trailing_line_end_is_not_part_of_a_secret(tmp_path, content, value, had_line_end):
    secret = read_secret(write(tmp_path / "token", content))

    assert (secret.value, secret.had_line_end) == (value, had_line_end)
    assert isinstance(secret.value, Hidden)


@pytest.mark.parametrize("content", [" abc", "abc\t\n", "abc\n\n", "\n\nabc", " \n"])
def test_other_white_space_around_a_secret_is_kept_and_reported(tmp_path, content):
    secret = read_secret(write(tmp_path / "token", content))

    assert secret.value == content.removesuffix("\n")
    assert [(w.code, w.severity) for w in secret.warnings] == [("surrounding_space", "warning")]


def test_a_file_of_exactly_the_limit_is_read(tmp_path):
    path = write(tmp_path / "token", "x" * 64 * 1024)

    assert len(read_secret(path).value) == 64 * 1024


def test_a_symlink_may_lead_to_another_file_of_the_directory(tmp_path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below" / "real", SECRET)
    (tmp_path / "token").symlink_to("below/real")

    assert read_secret(tmp_path / "token", directory=tmp_path).value == SECRET


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "../inside-not/x"])
def test_a_symlink_must_not_lead_out_of_the_directory(tmp_path, target):
    directory = tmp_path / "inside"
    directory.mkdir()
    (tmp_path / "inside-not").mkdir()
    write(tmp_path / "outside", SECRET)
    write(tmp_path / "inside-not" / "x", SECRET)
    (directory / "token").symlink_to(target)

    with pytest.raises(FileError) as caught:
        read_secret(directory / "token", directory=directory)

    assert caught.value.code == "outside_directory"


def test_a_loop_in_a_directory_is_a_loop(tmp_path):
    make_loop(tmp_path / "token")

    with pytest.raises(FileError) as caught:
        read_secret(tmp_path / "token", directory=tmp_path)

    assert caught.value.code == "loop"


def test_a_symlink_may_lead_anywhere_if_no_directory_is_given(tmp_path):
    (tmp_path / "inside").mkdir()
    write(tmp_path / "outside", SECRET)
    (tmp_path / "inside" / "token").symlink_to("../outside")

    assert read_secret(tmp_path / "inside" / "token").value == SECRET


def status_of(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "mounted", "expected"),
    [
        (0o600, 1000, False, None),
        (0o400, 1000, False, None),
        (0o640, 1000, False, "readable_by_others"),
        (0o604, 1000, False, "readable_by_others"),
        (0o640, 0, False, None),
        (0o440, 0, False, None),
        (0o644, 0, False, "readable_by_others"),
        (0o444, 0, True, None),
        (0o644, 1000, True, None),
        (0o711, 1000, False, None),
        (0o660, 0, True, "world_writable"),
        (0o602, 0, True, "world_writable"),
        (0o666, 1000, False, "world_writable"),
    ],
)
def test_permissions_of_a_secret(mode, uid, mounted, expected):
    verdict = permission_verdict(status_of(mode, uid), kind="secret", mounted=mounted)

    assert (verdict.code if verdict else None) == expected
    assert verdict is None or (verdict.severity == "error") == (expected == "world_writable")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o600, None),
        (0o644, None),
        (0o664, ("group_writable", "warning")),
        (0o646, ("world_writable", "error")),
        (0o666, ("world_writable", "error")),
    ],
)
def test_permissions_of_a_dotenv_file(mode, expected):
    verdict = permission_verdict(status_of(mode, 1000), kind="dotenv")

    assert (verdict and (verdict.code, verdict.severity)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/run/secrets/zilliz_token", True),
        ("/var/run/secrets/zilliz_token", True),
        ("/etc/zilliz/..2024_05_01_10_00_00.123/token", True),
        ("/home/me/run/secrets/token", False),
        ("/run/secrets2/token", False),
        ("/home/me/.secrets/token", False),
    ],
)
def test_a_container_runtime_is_known_by_where_it_mounts(path, expected):
    assert is_mounted_secret(path) is expected


def test_a_secret_that_others_may_read_is_read_with_a_warning(tmp_path):
    origin = Origin("code", "ZILLIZ_TOKEN", via="token")

    secret = read_secret(write(tmp_path / "token", SECRET, 0o644))
    [warning] = located(secret.warnings, origin)

    assert secret.value == SECRET
    assert (warning.code, warning.severity, warning.origin) == (
        "readable_by_others",
        "warning",
        origin,
    )


def test_a_dotenv_file_may_be_larger_than_a_secret(tmp_path):
    path = write(tmp_path / ".env", "x" * 100_000, 0o644)

    text = read_text(path, limit_bytes=200_000, kind="dotenv")

    assert (len(text.value), text.warnings) == (100_000, ())


def test_a_file_error_becomes_a_problem_and_survives_pickling():
    error = FileError("missing", "the file does not exist", "create it")
    origin = Origin("environment", "ZILLIZ_TOKEN_FILE")

    assert str(error.problem(origin)) == (
        "ZILLIZ_TOKEN_FILE (environment): the file does not exist; create it"
    )
    assert str(pickle.loads(pickle.dumps(error))) == "the file does not exist; create it"  # noqa: S301 - our own bytes
