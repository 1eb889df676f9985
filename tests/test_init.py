"""`zconfig init`: a first .env that only its owner can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.support.processes import run_zconfig
from zconfig.cli.app import zconfig
from zconfig.cli.initialise import dotenv_line
from zconfig.sources.dotenv import read_dotenv

TOKEN = "s3cret $t #x'y"


def init(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(zconfig, ["init", *arguments], input=answers)


def test_it_asks_and_writes_what_the_loader_reads_back(tmp_path: Path) -> None:
    done = init(answers=f"http://127.0.0.1:1\n{TOKEN}\n")
    assert done.exit_code == 0, done.output
    entries = {e.key: str(e.value) for e in read_dotenv(tmp_path / ".env", {}).entries}
    assert entries == {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": TOKEN}
    assert run_zconfig("--strict", "list", directory=tmp_path).returncode == 0


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


@pytest.mark.parametrize(
    "arguments", [("--uri", "nonsense"), ("--uri", "./x.db", "--alias", "uri")]
)
def test_what_would_not_be_a_configuration_is_not_written(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    assert init(*arguments, "--no-token").exit_code == 3
    assert not (tmp_path / ".env").exists()


def test_git_is_told_to_leave_it_alone_once(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log")
    init("--uri", "./x.db", "--no-token")
    init("--alias", "b", "--uri", "./y.db", "--no-token")
    assert (tmp_path / ".gitignore").read_text() == "*.log\n.env\n"


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
    assert str(entry.value) == value
