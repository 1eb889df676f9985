"""`zconfig init`: a first .env that only its owner can read."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.support.processes import REPOSITORY, call_zconfig
from zconfig._cli.app import zconfig
from zconfig._cli.generate import dotenv_line
from zconfig._sources.dotenv import read_dotenv
from zconfig.errors import ExitCode

TOKEN = "s3cret $t #x'y"


def init(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(zconfig, ["init", *arguments], input=answers)


def test_it_asks_and_writes_what_the_loader_reads_back(tmp_path: Path) -> None:
    done = init(answers=f"http://127.0.0.1:1\n{TOKEN}\n")
    assert done.exit_code == 0, done.output
    entries = {e.key: e.value.reveal() for e in read_dotenv(tmp_path / ".env", {}).entries}
    assert entries == {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": TOKEN}
    assert call_zconfig("--strict", "list", directory=tmp_path).returncode == 0


def test_a_token_is_not_echoed() -> None:
    assert TOKEN not in init(answers=f"http://127.0.0.1:1\n{TOKEN}\n").output


def test_only_the_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        init("--uri", "./x.db", "--no-token")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_what_the_file_holds_stays(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nOTHER=1")
    init("--alias", "EU-prod", "--uri", "./x.db", "--no-token")
    text = (tmp_path / ".env").read_text()
    assert text == "# mine\nOTHER=1\nZILLIZ_EU_PROD_URI=./x.db\n"


def test_an_alias_that_is_declared_already_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_URI=http://127.0.0.1:1\n")
    done = init("--uri", "./x.db", "--no-token")
    assert done.exit_code == 3
    assert "ZILLIZ_URI (.env:1)" in done.output
    assert (tmp_path / ".env").read_text() == "ZILLIZ_URI=http://127.0.0.1:1\n"


def test_a_uri_in_the_place_of_the_alias_is_to_be_passed_as_uri() -> None:
    done = init("--alias", "http://db:19530", "--no-token")
    assert done.exit_code == 3
    assert "not a URI; pass it with --uri" in done.output


def test_a_uri_that_is_wrong_is_refused_before_a_token_is_asked_for(tmp_path: Path) -> None:
    for arguments, answers in (((), "127.0.0.1:19530\nx\n"), (("--uri", "127.0.0.1:19530"), "x\n")):
        done = init(*arguments, answers=answers)
        assert (done.exit_code, "Token" in done.output) == (3, False)
        assert "the URI has no scheme" in done.stderr
    assert not (tmp_path / ".env").exists()


def test_what_takes_precedence_over_the_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZILLIZ_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("ZILLIZ_OTHER_TOKEN", "x")
    told = "takes precedence; remove it to use this value"
    assert f"ZILLIZ_URI (environment) {told}" in init("--uri", "./x.db", "--no-token").output
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("ZILLIZ_USER", "root")
    done = init("--uri", "./x.db", answers="key\n")
    assert f"ZILLIZ_URI (environment) and ZILLIZ_USER (environment) {told}" in done.output
    (tmp_path / ".env.local").write_text("ZILLIZ_C_URI=nonsense\n")
    done = init("--uri", "./x.db", "--alias", "c", "--no-token")
    assert f"ZILLIZ_C_URI (.env.local:1) {told}" in done.output
    monkeypatch.setenv("ZILLIZ_D_TOKEN_FILE", "nowhere")
    done = init("--uri", "./x.db", "--alias", "d", answers="key\n")
    assert f"ZILLIZ_D_TOKEN_FILE (environment) {told}" in done.output
    assert told not in init("--uri", "./x.db", "--alias", "e", "--no-token").output


@pytest.mark.parametrize(
    ("variable", "options", "files"),
    [
        ("off", (), ".env"),
        ("admin.env", (), ".env admin.env"),
        ("admin.env:other.env", (), ".env admin.env other.env"),
        (None, ("--env-file", "admin.env"), ".env admin.env"),
        (None, ("--file", "config/ci.env"), "config/ci.env .env.local"),
        (None, ("--file", ".env.ci"), ".env.ci .env.local"),
        (None, ("--file", "x.env", "--profile", "p"), "x.env .env.local .env.p"),
    ],
)
def test_that_the_file_is_not_read_is_said_with_what_makes_it_read_beside_the_others(
    variable: str | None,
    options: tuple[str, ...],
    files: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "config").mkdir()
    names = {"admin.env": "a", "other.env": "b", ".env.local": "c", ".env.p": "d"}
    for name, alias in names.items():
        (tmp_path / name).write_text(f"ZILLIZ_{alias}_URI=./{alias}.db\n")
        (tmp_path / name).chmod(0o600)
    if variable:
        monkeypatch.setenv("ZCONFIG_ENV_FILE", variable.replace(":", os.pathsep))
    done = init("--uri", "./x.db", "--no-token", *options)
    assert done.exit_code == 0
    path = os.pathsep.join(files.split())
    assert f"the file is not read; set ZCONFIG_ENV_FILE={path} to read it" in done.output
    assert "try:" not in done.output
    monkeypatch.setenv("ZCONFIG_ENV_FILE", path)
    listed = json.loads(CliRunner().invoke(zconfig, ["list", "--format", "json"]).output)
    expected = {"default", *(names[each] for each in files.split() if each in names)}
    assert {each["alias"] for each in listed["aliases"]} == expected


@pytest.mark.parametrize(
    ("variable", "options"),
    [
        ("./.env", ()),
        (f"other.env{os.pathsep}.env", ()),
        (None, ("--file", "{0}/.env")),
        (None, ("--file", ".env.local")),
        (None, ("--file", ".env.ci", "--profile", "ci")),
    ],
)
def test_a_file_that_is_read_is_to_be_tried(
    variable: str | None,
    options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv("ZCONFIG_ENV_FILE", variable)
    done = init("--uri", "./x.db", "--no-token", *(each.format(tmp_path) for each in options))
    assert "; try: zconfig check default" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "standard input ended before the URI; pass it with --uri"),
        (
            ("--alias", "prod", "--uri", "./x.db"),
            (
                "standard input ended before the TOKEN; pass it on standard input, use a terminal, "
                "or pass --no-token and set ZILLIZ_PROD_TOKEN"
            ),
        ),
    ],
)
@pytest.mark.parametrize("stdin", ["empty", "closed"])
def test_an_answer_that_is_missing_is_named_with_the_way_to_give_it(
    arguments: tuple[str, ...],
    message: str,
    stdin: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if stdin == "closed":
        monkeypatch.setattr("zconfig._cli.generate.sys", SimpleNamespace(stdin=None))
    done = init(*arguments)
    assert done.exit_code == ExitCode.USAGE
    assert message in done.stderr
    assert not (tmp_path / ".env").exists()


def test_an_answer_that_is_no_text_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(zconfig, ["init", "--uri", "http://127.0.0.1:1"], input=b"u:\xff\n")
    assert (done.exit_code, (tmp_path / ".env").exists()) == (ExitCode.CONFIGURATION, False)


def test_without_a_terminal_nothing_but_the_question_is_said(tmp_path: Path) -> None:
    start = "from zconfig._cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "init", "--uri", "./x.db"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        input=f"{TOKEN}\n",
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("Token (empty for none): \nadded alias 'default'")
    assert TOKEN not in done.stdout
    entries = {e.key: e.value.reveal() for e in read_dotenv(tmp_path / ".env", {}).entries}
    assert entries["ZILLIZ_TOKEN"] == TOKEN


@pytest.mark.parametrize(
    "arguments", [("--uri", "nonsense"), ("--uri", "./x.db", "--alias", "uri")]
)
def test_what_would_not_be_a_configuration_is_not_written(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    assert init(*arguments, "--no-token").exit_code == 3
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize(
    "before",
    [
        b"# mine\r\nOTHER='1'\r\n",
        b"\xef\xbb\xbfOTHER=1",
        b"ZILLIZ_B_URI=http://127.0.0.1:1\n\n\n",
        b'OTHER="open\n',
        b"ZILLIZ_URI=\nZILLIZ_TOKNE=x\n",
        "KEY='gr\u00fc\u00dfe'".encode(),
        b"",
    ],
)
def test_not_a_byte_of_the_file_is_lost(before: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(before)
    done = init("--uri", "./x.db", "--no-token")
    assert done.exit_code == 0, done.output
    after = (tmp_path / ".env").read_bytes()
    assert after.startswith(before)
    assert after.removeprefix(before).strip() == b"ZILLIZ_URI=./x.db"
    entries = {e.key: e.value.reveal() for e in read_dotenv(tmp_path / ".env", {}).entries}
    assert entries["ZILLIZ_URI"] == "./x.db"


def marks(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return what changes with what is in a directory; that it was read does not count."""
    stats = {path.name: path.lstat() for path in directory.iterdir()}
    return {
        name: (each.st_ino, each.st_mode, each.st_size, each.st_mtime_ns, each.st_ctime_ns)
        for name, each in stats.items()
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"OTHER=\xff\n"), "not UTF-8"),
        (lambda path: path.mkdir(), "directory"),
        (os.mkfifo, "not a file"),
        (lambda path: path.symlink_to(path.name), "loop"),
        (lambda path: path.write_text("ZILLIZ_URI='open\n"), "the alias is already configured"),
        (
            lambda path: path.write_text("zilliz.default.token=x\n"),
            "the alias is already configured",
        ),
    ],
    ids=["binary", "directory", "FIFO", "loop", "at fault", "declared"],
)
def test_a_file_that_cannot_be_added_to_is_left_as_it_is_and_nothing_is_asked(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    make(path)
    before = marks(tmp_path)
    done = init(answers="http://127.0.0.1:1\nx\n")
    assert (done.exit_code, "URI" in done.stdout) == (3, False)
    assert message in done.stderr
    assert marks(tmp_path) == before


def test_a_directory_that_is_not_there_is_said_to_be_missing() -> None:
    done = init("--file", "nowhere/.env", "--uri", "./x.db", "--no-token")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "nowhere/.env (dotenv): the file cannot be written (no such file" in done.stderr


def test_what_is_declared_in_a_file_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    arguments = ("--file", "config/ci.env", "--uri", "./x.db", "--no-token")
    assert [init(*arguments).exit_code for _ in range(2)] == [0, 3]
    assert (tmp_path / "config" / "ci.env").read_text() == "ZILLIZ_URI=./x.db\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "env").write_text("OTHER=1\n")
    (tmp_path / ".env").symlink_to("shared/env")
    init("--uri", "./x.db", "--no-token")
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "shared" / "env").read_text() == "OTHER=1\nZILLIZ_URI=./x.db\n"


def test_a_file_that_others_could_read_is_the_owners_alone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("OTHER=1\n")
    path.chmod(0o644)
    owner = (path.stat().st_uid, path.stat().st_gid)
    init("--uri", "./x.db", "--no-token")
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)) == (0o600, owner)


STRANGER = 1234
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def given_away(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


@by_root
@pytest.mark.parametrize("planted", ["file", "link to a file of ours", "link to nothing"])
def test_a_file_that_another_user_put_there_is_refused_before_anything_is_asked(
    planted: str, tmp_path: Path
) -> None:
    (tmp_path / "ours").write_text("some config\n")
    path = tmp_path / ".env"
    if planted == "file":
        path.touch()
    else:
        path.symlink_to("ours" if "ours" in planted else "theirs")
    given_away(path)
    before = marks(tmp_path)
    done = init(answers="http://127.0.0.1:1\nx\n")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "another user owns the file, or the link to it" in done.stderr
    assert marks(tmp_path) == before


@by_root
def test_the_file_of_a_project_s_owner_stays_theirs(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    given_away(tmp_path)
    given_away(tmp_path / ".env")
    assert init("--uri", "./x.db", "--no-token").exit_code == 0
    assert (tmp_path / ".env").stat().st_uid == STRANGER


def test_an_interruption_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("OTHER=1\n")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    assert init("--uri", "./x.db", "--no-token").exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert (tmp_path / ".env").read_text() == "OTHER=1\n"


def test_on_a_terminal_what_is_wrong_is_asked_again_and_the_token_is_not_echoed(
    tmp_path: Path,
) -> None:
    start = "from zconfig._cli import main; main()"
    terminal, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", start, "init"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    shown = read_until(terminal, b"URI [./milvus.db]: ")
    os.write(terminal, b"127.0.0.1:19530\n")
    shown += read_until(terminal, b"URI [./milvus.db]: ")
    assert b"Error: the URI has no scheme" in shown
    os.write(terminal, b"./x.db\n")
    shown += read_until(terminal, b"Token (empty for none): ")
    os.write(terminal, f"{TOKEN}\n".encode())
    shown += read_until(terminal, b"try: zconfig check")
    assert child.wait(60) == 0
    os.close(terminal)
    os.close(theirs)
    assert TOKEN.encode() not in shown
    entries = {e.key: e.value.reveal() for e in read_dotenv(tmp_path / ".env", {}).entries}
    assert entries["ZILLIZ_TOKEN"] == TOKEN


def read_until(terminal: int, end: bytes) -> bytes:
    shown = b""
    while end not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 1024)
    return shown


# --- git ----------------------------------------------------------------------------------------


def git(*arguments: str) -> bool:
    return subprocess.run(["git", *arguments], check=False, capture_output=True).returncode == 0


@pytest.fixture(params=["git", "no git"])
def repository(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A repository, on a machine with git and on one without."""
    if request.param == "git":
        assert git("init")
    else:
        (tmp_path / ".git").mkdir()
        monkeypatch.setenv("PATH", "")
    return tmp_path


def test_git_is_told_to_leave_it_alone_once(repository: Path) -> None:
    (repository / ".gitignore").write_bytes(b"# \xe9\r\n*.log")
    done = init("--uri", "./x.db", "--no-token")
    init("--alias", "b", "--uri", "./y.db", "--no-token")
    assert (repository / ".gitignore").read_bytes() == b"# \xe9\r\n*.log\n.env\n"
    assert "added .env to .gitignore" in done.output


def test_the_file_that_git_leaves_alone_is_the_one_that_was_written(repository: Path) -> None:
    (repository / "service").mkdir()
    init("--file", "service/ci.env", "--uri", "./x.db", "--no-token")
    assert (repository / "service" / ".gitignore").read_text() == "ci.env\n"


@pytest.mark.parametrize("pattern", [".env", "/service/.env", ".env*", "**/.env", "service/"])
def test_what_git_ignores_already_is_not_added(pattern: str, tmp_path: Path) -> None:
    assert git("init")
    (tmp_path / ".gitignore").write_text(f"{pattern}\n")
    (tmp_path / "service").mkdir()
    done = init("--file", "service/.env", "--uri", "./x.db", "--no-token")
    assert [path.name for path in (tmp_path / "service").iterdir()] == [".env"]
    assert "gitignore" not in done.output


@pytest.mark.parametrize("pattern", [".env.local", "#.env", "*.env\n!.env", "/other/.env"])
def test_what_git_would_take_is_added(pattern: str, tmp_path: Path) -> None:
    assert git("init")
    (tmp_path / ".gitignore").write_text(f"{pattern}\n")
    init("--uri", "./x.db", "--no-token")
    assert (tmp_path / ".gitignore").read_text() == f"{pattern}\n.env\n"
    assert git("check-ignore", "--quiet", ".env")


def test_a_gitignore_that_cannot_be_added_to_is_left_alone(tmp_path: Path) -> None:
    assert git("init")
    os.mkfifo(tmp_path / ".gitignore")
    assert init("--uri", "./x.db", "--no-token").exit_code == 0


@by_root
def test_a_gitignore_that_another_user_put_there_leads_nowhere(tmp_path: Path) -> None:
    assert git("init")
    (tmp_path / "ours").write_text("some config\n")
    (tmp_path / ".gitignore").symlink_to("ours")
    given_away(tmp_path / ".gitignore")
    assert init("--uri", "./x.db", "--no-token").exit_code == 0
    assert (tmp_path / "ours").read_text() == "some config\n"


def test_without_git_no_gitignore_is_made(tmp_path: Path) -> None:
    init("--uri", "./x.db", "--no-token")
    assert not (tmp_path / ".gitignore").exists()


@given(st.text(st.characters(codec="ascii", min_codepoint=32), min_size=1, max_size=40))
def test_any_value_survives_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    path = tmp_path_factory.mktemp("env") / ".env"
    path.write_text(dotenv_line("ZILLIZ_TOKEN", value) + "\n")
    (entry,) = read_dotenv(path, {}).entries
    assert entry.value.reveal() == value
