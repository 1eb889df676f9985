"""Every code block of the README and the docs runs, and prints what stands below it."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY, run, run_zconfig

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KNOWN = {"sh", "ini", "python", "text", "console", "diff"}


@dataclass(frozen=True)
class Step:
    language: str
    code: str
    output: str | None
    line: int


def steps_of(page: Path) -> list[Step]:
    text = page.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    steps = []
    for block, following in itertools.zip_longest(found, found[1:]):
        output = following[2] if following and following[1] == "text" else None
        line = text.count("\n", 0, block.start()) + 1
        if block[1] != "text":
            steps.append(Step(block[1], block[2], output, line))
    return steps


def test_every_block_is_of_a_kind_that_is_run() -> None:
    kinds = {b[1] for page in PAGES for b in BLOCK.finditer(page.read_text(encoding="utf-8"))}
    assert kinds <= KNOWN


PYTHON = [
    pytest.param(page, step, id=f"{page.name}:{step.line}")
    for page in PAGES
    for step in steps_of(page)
    if step.language == "python"
]


@pytest.mark.parametrize(("page", "step"), PYTHON)
def test_a_python_block_runs_with_the_first_dotenv_file_of_its_page(
    page: Path, step: Step, tmp_path: Path
) -> None:
    first = next(s for s in steps_of(REPOSITORY / "README.md") if s.language == "ini")
    (tmp_path / ".env").write_text(first.code, encoding="utf-8")
    done = run([sys.executable, "-W", "error", "-c", step.code], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    if step.output is not None:
        assert done.stdout.replace(str(tmp_path), "/app") == step.output


DOTENV = [
    pytest.param(step, id=f"{page.name}:{step.line}")
    for page in PAGES
    for step in steps_of(page)
    if step.language == "ini"
]


@pytest.mark.parametrize("step", DOTENV)
def test_a_dotenv_block_is_a_valid_configuration(step: Step, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(step.code, encoding="utf-8")
    password = tmp_path / "prod_password"
    password.write_text("not-a-secret\n")
    password.chmod(0o600)
    done = run_zconfig("--strict", "list", directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout


CONSOLE = [
    pytest.param(line.removeprefix("$ zconfig "), id=line)
    for page in PAGES
    for step in steps_of(page)
    if step.language == "console"
    for line in step.code.splitlines()
]


@pytest.mark.parametrize("arguments", CONSOLE)
def test_a_console_line_runs(arguments: str, tmp_path: Path) -> None:
    first = next(s for s in steps_of(REPOSITORY / "README.md") if s.language == "ini")
    (tmp_path / ".env").write_text(first.code, encoding="utf-8")
    done = run_zconfig(*shlex.split(arguments), directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_install_line_names_the_distribution_and_extras_that_exist() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [s.code for page in PAGES for s in steps_of(page) if s.language == "sh"]
    installs = re.findall(r"pip install '([\w-]+)\[(\w+)\]'", "".join(lines))
    assert installs
    for name, extra in installs:
        assert (name, extra in project["optional-dependencies"]) == (project["name"], True)


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_is_generated_is_current() -> None:
    script = REPOSITORY / "scripts" / "generate.py"
    done = run([sys.executable, str(script), "--check"])
    assert done.returncode == 0, done.stderr


def test_the_example_of_a_dotenv_file_is_valid(tmp_path: Path) -> None:
    done = run_zconfig(
        "--strict", "--env-file", str(REPOSITORY / ".env.example"), "list", directory=tmp_path
    )
    assert done.returncode == 0, done.stdout
