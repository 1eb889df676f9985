"""What the README and the docs say is so: their code runs, and prints what they say it prints."""

from __future__ import annotations

import doctest
import re
import sys
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
import yaml

from tests.support.pages import (
    PAGES,
    Block,
    blocks_of,
    name_of,
)
from tests.support.processes import REPOSITORY, call_zconfig, run

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
README_DOTENV = next(b.code for b in BLOCKS if b.language == "ini" and b.page == PAGES[0])


def of(*languages: str, titled: bool = False) -> list[pytest.param]:
    return [
        pytest.param(block, id=str(block))
        for block in BLOCKS
        if block.language in languages and bool(block.title) is titled
    ]


# --- docstrings -----------------------------------------------------------------------------


MODULES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(REPOSITORY.glob("zconfig/**/*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


# --- no block escapes -----------------------------------------------------------------------


def test_every_block_is_of_a_kind_that_is_run_or_checked() -> None:
    files = {"python", "ini", "toml", "yaml", "dockerfile"}
    assert {block.language for block in BLOCKS if block.title} <= files
    others = {"console", "sh", "python", "ini", "text", "diff"}
    assert {block.language for block in BLOCKS if not block.title} <= others


def test_a_file_that_no_command_of_its_page_runs_can_be_read() -> None:
    for block in BLOCKS:
        if block.title and block.language == "yaml":
            assert isinstance(yaml.safe_load(block.code), dict), block
        elif block.title and block.language == "toml":
            assert tomllib.loads(block.code), block
        elif block.title and block.language == "dockerfile":
            lines = block.code.replace("\\\n", "").splitlines()
            assert all(re.match(r"[A-Z]+ \S", line) for line in lines), block


def test_the_server_of_the_tutorial_is_that_of_the_example() -> None:
    shown = next(b.code for b in BLOCKS if b.title == "milvus.yaml")
    ours = yaml.safe_load(shown)
    example = yaml.safe_load((REPOSITORY / "examples" / "docker" / "compose.yaml").read_text())
    assert ours["services"]["milvus"].pop("ports") == ["127.0.0.1:19530:19530"]
    for part in ("configs", "volumes"):
        assert ours[part] == example[part]
    assert ours["services"]["milvus"] == example["services"]["milvus"]


def test_every_fence_is_one_that_is_read_as_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), name_of(page)


# --- blocks that stand for themselves -------------------------------------------------------


@pytest.mark.parametrize("block", of("python"))
def test_a_python_block_runs_with_the_first_dotenv_file_of_the_readme(
    block: Block, programs: Path, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(README_DOTENV, encoding="utf-8")
    # pymilvus warns of its own ORM, each time.
    warnings = "default" if "from pymilvus import utility" in block.code else "error"
    done = run([str(programs / "python"), "-W", warnings, "-c", block.code], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert done.stdout.replace(str(tmp_path), "/app") == block.output


@pytest.mark.parametrize("block", of("ini"))
def test_a_dotenv_block_is_a_valid_configuration(block: Block, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(block.code, encoding="utf-8")
    password = tmp_path / "prod_password"
    password.write_text("not-a-secret\n")
    password.chmod(0o600)
    done = call_zconfig("--strict", "list", directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout


def test_of_the_dotenv_blocks_of_the_readme_the_first_alone_is_headed_as_the_file() -> None:
    blocks = [block for block in BLOCKS if block.language == "ini" and block.page == PAGES[0]]
    heads = [block.code.partition("\n")[0] for block in blocks]
    assert heads[0] == "# .env"
    assert "# .env" not in heads[1:]
    assert all(head.startswith("# ") for head in heads), heads


def test_a_user_that_cannot_be_made_leaves_the_password_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = tmp_path / "password"
    password.write_text("of-another-run")
    client = Mock(**{"list_users.return_value": [], "create_user.side_effect": OSError})
    monkeypatch.setattr("zconfig.client", lambda _: client)
    monkeypatch.setattr(sys, "argv", ["make_user.py", "shop", str(password)])
    script = next(block.code for block in BLOCKS if block.title == "make_user.py")
    with pytest.raises(OSError):
        exec(script, {})  # noqa: S102 - our own page
    assert password.read_text() == "of-another-run"


def test_what_is_generated_is_current() -> None:
    script = REPOSITORY / "scripts" / "generate.py"
    done = run([sys.executable, str(script), "--check"])
    assert done.returncode == 0, done.stderr


def test_the_example_of_a_dotenv_file_is_valid(tmp_path: Path) -> None:
    done = call_zconfig(
        "--strict", "--env-file", str(REPOSITORY / ".env.example"), "list", directory=tmp_path
    )
    assert done.returncode == 0, done.stdout
