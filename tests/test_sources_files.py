"""One file: what is read, what is refused, and what is never told."""

import builtins
import errno
import functools
import os
import pickle
import socket
import stat
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from zconfig._origin import Origin
from zconfig._redaction import Hidden
from zconfig._sources.files import (
    FileError,
    Mount,
    is_mounted_secret,
    located,
    mount_of,
    permission_verdict,
    read_secret,
    read_text,
)
from zconfig.errors import Problem

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
    make_directory: "is_directory",
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

    assert caught.value.reason.code == code
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

    assert caught.value.reason.code == "unreadable"


def test_a_read_error_is_unreadable(tmp_path, monkeypatch):
    path = write(tmp_path / "token", SECRET)

    def fail(*_args, **_kwargs):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(FileError) as caught:
        read_secret(path)
    assert caught.value.reason.code == "unreadable"


def test_a_file_that_would_block_is_not_regular(tmp_path, monkeypatch):
    path = write(tmp_path / "token", SECRET)
    monkeypatch.setattr("builtins.open", mock.MagicMock())
    builtins.open.return_value.__enter__.return_value.read.return_value = None  # as /proc/kmsg

    with pytest.raises(FileError) as caught:
        read_secret(path)
    assert caught.value.reason.code == "not_regular"


def test_a_file_whose_server_forgot_it_is_unreadable(tmp_path):
    path = write(tmp_path / "token", SECRET)

    def fail(_):
        raise OSError(errno.ESTALE, "Stale file handle")

    with pytest.raises(FileError) as caught, mock.patch.object(os, "fstat", fail):
        read_secret(path)
    assert caught.value.reason.code == "unreadable"


@pytest.mark.parametrize("path", ["with\0nul", "with\ud800surrogate"])
def test_a_path_that_no_file_can_have_is_missing(path):
    with pytest.raises(FileError) as caught:
        read_secret(path)
    assert caught.value.reason.code == "missing"


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
def test_other_white_space_around_a_secret_is_kept(tmp_path, content):
    secret = read_secret(write(tmp_path / "token", content))

    assert secret.value == content.removesuffix("\n")


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

    assert caught.value.reason.code == "outside_directory"


def test_a_directory_that_becomes_a_link_to_the_outside_is_found_out(tmp_path, monkeypatch):
    directory, outside = tmp_path / "secrets", tmp_path / "outside"
    (directory / "prod").mkdir(parents=True)
    outside.mkdir()
    write(directory / "prod" / "token", "inside")
    write(outside / "token", SECRET)
    real_open = os.open

    def open_during_exchange(*args, **kwargs):
        (directory / "prod").rename(directory / "before")
        (directory / "prod").symlink_to(outside)
        descriptor = real_open(*args, **kwargs)
        (directory / "prod").unlink()
        (directory / "before").rename(directory / "prod")  # the path leads inside again
        return descriptor

    monkeypatch.setattr(os, "open", open_during_exchange)
    with pytest.raises(FileError) as caught:
        read_secret(directory / "prod" / "token", directory=directory)

    assert caught.value.reason.code == "outside_directory"


def test_where_there_is_no_proc_a_link_still_must_not_lead_out(tmp_path, monkeypatch):
    directory = tmp_path / "secrets"
    directory.mkdir()
    write(tmp_path / "outside", SECRET)
    write(directory / "uri", "http://db")
    (directory / "token").symlink_to("../outside")

    def fail(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Path, "readlink", fail)
    assert read_secret(directory / "uri", directory=directory).value == "http://db"
    with pytest.raises(FileError) as caught:
        read_secret(directory / "token", directory=directory)
    assert caught.value.reason.code == "outside_directory"


def test_a_loop_in_a_directory_is_a_loop(tmp_path):
    make_loop(tmp_path / "token")

    with pytest.raises(FileError) as caught:
        read_secret(tmp_path / "token", directory=tmp_path)

    assert caught.value.reason.code == "loop"


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


STRANGER = 1234
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def codes(text):
    return [(warning.code, warning.severity) for warning in text.warnings]


@pytest.fixture(params=["dotenv", "secret"])
def read_file(request):
    """Read a file that was found, or named."""
    return functools.partial(read_text, limit_bytes=100, kind=request.param)


@by_root
def test_a_file_of_a_stranger_is_refused_where_it_was_found_and_told_of_where_named(
    tmp_path, read_file
):
    path = write(tmp_path / "file", SECRET)
    os.chown(path, STRANGER, STRANGER)

    with pytest.raises(FileError, match="another user owns it") as caught:
        read_file(path, named=False)

    assert caught.value.reason.code == "foreign_owner"
    assert codes(read_file(path)) == [("foreign_owner", "warning")]


@by_root
def test_a_link_of_a_stranger_is_one_of_his_files(tmp_path, read_file):
    path = tmp_path / "file"
    path.symlink_to(write(tmp_path / "mine", SECRET))
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)

    with pytest.raises(FileError) as caught:
        read_file(path, named=False)

    assert caught.value.reason.code == "foreign_owner"


@by_root
def test_a_file_is_not_vouched_for_by_the_directory_that_its_link_leads_to(tmp_path, read_file):
    (tmp_path / "theirs").mkdir()
    os.chown(write(tmp_path / "theirs" / "file", SECRET), STRANGER, STRANGER)
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)
    (tmp_path / "file").symlink_to("theirs/file")

    with pytest.raises(FileError) as caught:
        read_file(tmp_path / "file", named=False)

    assert caught.value.reason.code == "foreign_owner"


@by_root
def test_a_project_that_has_one_owner_throughout_is_fine(open_directory, read_file):
    for path in (write(open_directory / "file", SECRET), open_directory):
        os.chown(path, STRANGER, STRANGER)
    (open_directory / "link").symlink_to("file")  # of root

    assert codes(read_file(open_directory / "file", named=False)) == []
    assert codes(read_file(open_directory / "link", named=False)) == []


@by_root
def test_files_of_root_and_of_this_user_are_fine(open_directory, read_file):
    open_directory.chmod(0o1777)
    os.chown(open_directory, STRANGER, STRANGER)
    write(open_directory / "of root", SECRET, 0o644)
    os.chown(write(open_directory / "own", SECRET), 65534, 65534)

    with nobody():
        assert read_file(open_directory / "of root", named=False).value == SECRET
        assert codes(read_file(open_directory / "own", named=False)) == []


@by_root
def test_a_file_that_is_a_mount_of_its_own_was_named_by_who_mounted_it(
    tmp_path, read_file, monkeypatch
):
    path = write(tmp_path / "file", SECRET)
    os.chown(path, STRANGER, STRANGER)
    mount = Mount(os.path.realpath(path), "ext4", has_modes=True)
    monkeypatch.setattr("zconfig._sources.files.mount_of", lambda _: mount)

    assert codes(read_file(path, named=False)) == [("foreign_owner", "warning")]


def test_a_mode_that_chmod_cannot_change_is_a_warning(tmp_path, read_file, monkeypatch):
    path = write(tmp_path / "file", SECRET, 0o777)
    mount = Mount("/mnt/c", "9p", has_modes=False)
    monkeypatch.setattr("zconfig._sources.files.mount_of", lambda _: mount)

    text = read_file(path, named=False)

    assert (text.value, codes(text)) == (SECRET, [("no_file_modes", "warning")])


WSL = r"9p C:\ rw,dirsync,aname=drvfs;path=C:\;uid=1000;gid=1000;symlinkroot=/mnt/,access=client"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("36 25 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw", ("/", "ext4", True)),
        (rf"36 25 0:46 / /mnt/c rw,noatime - {WSL}", ("/mnt/c", "9p", False)),
        ("36 25 0:9 / / rw - 9p none rw,trans=fd,access=any", ("/", "9p", True)),
        ("36 25 0:9 /Users/me /app rw - fakeowner /host rw", ("/app", "fakeowner", False)),
        ("36 25 0:9 / /my\\040files rw master:1 - vboxsf x rw", ("/my files", "vboxsf", False)),
        ("360 25 8:1 / / rw - ext4 /dev/sda1 rw", None),
    ],
)
def test_a_mount_is_found_by_the_number_that_the_descriptor_has(tmp_path, line, expected):
    (tmp_path / "fdinfo").mkdir()
    (tmp_path / "fdinfo" / "7").write_text("pos:\t0\nflags:\t0100000\nmnt_id:\t36\nino:\t9\n")
    (tmp_path / "mountinfo").write_text(f"25 1 0:5 / /proc rw - proc proc rw\n{line}\n")

    assert mount_of(7, tmp_path) == expected
    assert mount_of(8, tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell")
def test_the_mount_of_a_file_of_this_system_is_found():
    with Path("/proc/version").open() as file:
        assert mount_of(file.fileno()) == Mount("/proc", "proc", has_modes=True)


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
    error = FileError(Problem("missing", "the file does not exist", "create it"))
    origin = Origin("environment", "ZILLIZ_TOKEN_FILE")

    assert str(error.problem(origin)) == (
        "ZILLIZ_TOKEN_FILE (environment): the file does not exist; create it"
    )
    assert str(pickle.loads(pickle.dumps(error))) == "the file does not exist; create it"  # noqa: S301 - our own bytes
