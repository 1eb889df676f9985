"""The pages can be followed from their tops: every command runs, and prints what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import servers
from tests.support.pages import (
    PAGES,
    Command,
    TopologyCache,
    blocks_of,
    commands_of,
    follow,
    name_of,
)
from tests.support.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

# What the pages may have run here, besides what stays in the directory that it is run in.
PROGRAMS = {"zconfig", "python", "uvicorn", "gunicorn", "celery", "curl"} | {
    *("cat", "cd", "chmod", "echo", "export", "grep", "kill", "mkdir", "printf", "sleep", "wait"),
    "done",  # of a loop
}

# What no test can have; a command with one of these is checked, and not run.
NOT_RUN = {
    "cd": "follows a clone",
    "git": "needs the network",
    "make": "sets up environments; .ci/run runs these targets",
    "docker": "needs an engine, and images from elsewhere",
    "kubectl": "needs a cluster",
    "pip": "would change the environment that the tests run in",
    "sudo": "changes the machine",
}

# Pages whose commands need packages that the tests' environment does not have.
ELSEWHERE = {
    "docs/how-to/langchain.md": "tests/interop/test_langchain.py",
    "docs/how-to/source.md": "tests/test_sources_plugins.py",
}

# Pages that begin in an empty directory; elsewhere there is the first `.env` of the README.
FROM_NOTHING = {"docs/start.md"}

README_DOTENV = next(b.code for b in blocks_of(PAGES[0]) if b.language == "ini")


def commands(page: Path) -> list[Command]:
    return [command for block in blocks_of(page) for command in commands_of(block)]


FOLLOWED = [pytest.param(page, id=name_of(page)) for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", [each for each in FOLLOWED if each.id not in ELSEWHERE])
def test_a_page_can_be_followed_from_its_top(page: Path, follower: TopologyCache) -> None:
    with follower:
        follow(page, follower, run=PROGRAMS, not_run=NOT_RUN.keys())


@pytest.fixture
def follower(
    page: Path, programs: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> TopologyCache:
    text = "".join([c.code for c in commands(page)] + [b.code for b in blocks_of(page) if b.title])
    stand_ins = {}
    if "localhost:19530" in text:
        stand_ins["localhost:19530"] = f"127.0.0.1:{request.getfixturevalue('milvus').port}"
    if "8000" in text:
        stand_ins["8000"] = str(next(servers._free_ports))
    if "examples/" in text:
        shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    if name_of(page) not in FROM_NOTHING:
        (tmp_path / ".env").write_text(README_DOTENV, encoding="utf-8")
    return TopologyCache(tmp_path, stand_ins, programs)


@pytest.mark.parametrize("page", FOLLOWED)
def test_every_command_is_one_that_a_shell_can_read_and_may_run(page: Path) -> None:
    for command in commands(page):
        done = subprocess.run(["bash", "-n", "-c", command.code], capture_output=True, check=False)
        assert done.returncode == 0, command.code
        assert set(command.programs) <= PROGRAMS | NOT_RUN.keys(), command.code
        for path in re.findall(r"\bexamples/[\w./-]+", command.code):
            assert (REPOSITORY / path).exists(), command.code


def test_every_exception_is_one_that_is_needed() -> None:
    used = {program for page in PAGES for command in commands(page) for program in command.programs}
    assert NOT_RUN.keys() <= used
    pages = {name_of(page) for page in PAGES}
    assert ELSEWHERE.keys() | FROM_NOTHING <= pages
    for page, test in ELSEWHERE.items():
        assert page.rpartition("/")[2] in (REPOSITORY / test).read_text(encoding="utf-8")


def test_every_file_that_a_page_makes_is_used_on_it() -> None:
    for page in PAGES:
        files = [block for block in blocks_of(page) if block.title]
        for file in files:
            others = [block.code for block in files if block is not file]
            text = "\n".join([*others, *(command.code for command in commands(page))])
            assert re.search(used_as(file.title or ""), text), f"{file}: {file.title}"


def used_as(title: str) -> str:
    """Return what uses a file: its name, or the program that looks for it by that name."""
    looked_for = {".env": "zconfig|python", "Dockerfile": "docker build", "conftest.py": "pytest"}
    if title.endswith("/pyproject.toml"):
        return rf"pip install \./{title.partition('/')[0]}\b"
    if title.startswith("test_"):
        return "pytest"
    return looked_for.get(title) or rf"\b{title.partition('.')[0].rpartition('/')[2]}\b"
