"""What the README and the docs say is so: their code runs, and prints what they say it prints."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import (
    PAGES,
    Block,
    Command,
    Follower,
    agrees,
    blocks_of,
    commands_of,
    name_of,
)
from tests.support.processes import REPOSITORY, run, run_zconfig

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
README_DOTENV = next(b.code for b in BLOCKS if b.language == "ini" and b.page == PAGES[0])

# What no test can have; the rest runs. What is not run is at least parsed.
NOT_RUN = {
    "pip": "would change the environment that the tests run in",
}

# Python that needs packages which no environment has together; it is parsed.
FRAMEWORKS = {"docs/frameworks.md"}


def of(*languages: str, titled: bool = False) -> list[pytest.param]:
    return [
        pytest.param(block, id=str(block))
        for block in BLOCKS
        if block.language in languages and bool(block.title) is titled
    ]


def commands(page: Path) -> list[Command]:
    blocks = (b for b in blocks_of(page) if b.language in {"sh", "console"} and not b.title)
    return [command for block in blocks for command in commands_of(block)]


# --- no block escapes -----------------------------------------------------------------------


def test_every_block_is_of_a_kind_that_is_run_or_checked() -> None:
    assert {block.language for block in BLOCKS} <= {
        "sh",
        "console",
        "python",
        "ini",
        "text",
        "diff",
    }


def test_every_fence_is_one_that_is_read_as_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), name_of(page)


def test_every_exception_is_used() -> None:
    programs = {command.program for page in PAGES for command in commands(page)}
    assert set(NOT_RUN) <= programs
    assert {b for b in FRAMEWORKS if (REPOSITORY / b).exists()} == FRAMEWORKS


# --- a page, followed from its top ----------------------------------------------------------


@pytest.fixture
def follower(request: pytest.FixtureRequest, tmp_path: Path) -> Follower:
    page = request.getfixturevalue("page")
    told = page.read_text(encoding="utf-8")
    stand_ins = {}
    if any("localhost:19530" in c.code for c in commands(page)) or titles(page, "localhost:19530"):
        stand_ins["localhost:19530"] = f"127.0.0.1:{request.getfixturevalue('milvus').port}"
    if "8000" in told:
        stand_ins["8000"] = str(free_port())
    if "examples/" in "".join(command.code for command in commands(page)):
        shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    (tmp_path / ".env").write_text(README_DOTENV, encoding="utf-8")
    return Follower(tmp_path, stand_ins)


def titles(page: Path, text: str) -> bool:
    return any(text in block.code for block in blocks_of(page) if block.title)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


FOLLOWED = [pytest.param(page, id=name_of(page)) for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed_from_its_top(page: Path, follower: Follower) -> None:
    with follower:
        for block in blocks_of(page):
            if block.title:
                follower.write(block)
            elif block.language in {"sh", "console"}:
                follow(follower, block)


def follow(follower: Follower, block: Block) -> None:
    for command in commands_of(block):
        if command.program not in NOT_RUN:
            output = follower.run(command.code)
            said = command.output
            assert said is None or agrees(output, said), f"{block}: {command.code}\n{output}"


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_command_that_is_not_run_is_one_that_a_shell_can_read(page: Path) -> None:
    for command in commands(page):
        done = subprocess.run(["bash", "-n", "-c", command.code], capture_output=True, check=False)
        assert done.returncode == 0, command.code
        for word in shlex.split(command.code):
            assert not word.startswith("examples/") or (REPOSITORY / word).exists(), command.code


# --- blocks that stand for themselves -------------------------------------------------------


@pytest.mark.parametrize("block", of("python"))
def test_a_python_block_runs_with_the_first_dotenv_file_of_the_readme(
    block: Block, tmp_path: Path
) -> None:
    if name_of(block.page) in FRAMEWORKS:
        ast.parse(block.code)
        return
    (tmp_path / ".env").write_text(README_DOTENV, encoding="utf-8")
    done = run([sys.executable, "-W", "error", "-c", block.code], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert done.stdout.replace(str(tmp_path), "/app") == block.output


@pytest.mark.parametrize("block", of("ini"))
def test_a_dotenv_block_is_a_valid_configuration(block: Block, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(block.code, encoding="utf-8")
    password = tmp_path / "prod_password"
    password.write_text("not-a-secret\n")
    password.chmod(0o600)
    done = run_zconfig("--strict", "list", directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout


def test_an_install_line_names_the_distribution_and_extras_that_exist() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (c.code for page in PAGES for c in commands(page) if c.program == "pip")
    installs = re.findall(r"'([\w-]+)\[([\w,]+)\]'", "\n".join(lines))
    assert installs
    for name, extras in installs:
        assert name == project["name"]
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_what_is_generated_is_current() -> None:
    script = REPOSITORY / "scripts" / "generate.py"
    done = run([sys.executable, str(script), "--check"])
    assert done.returncode == 0, done.stderr


def test_the_example_of_a_dotenv_file_is_valid(tmp_path: Path) -> None:
    done = run_zconfig(
        "--strict", "--env-file", str(REPOSITORY / ".env.example"), "list", directory=tmp_path
    )
    assert done.returncode == 0, done.stdout
