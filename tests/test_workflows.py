"""The workflows run what `make` runs here, and a release waits until everything is ready for it."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from check_release import problems

from tests.conftest import ON_WINDOWS
from tests.support.example_files import compose
from tests.support.processes import REPOSITORY, run
from zconfig import __version__

WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((REPOSITORY / ".github" / "workflows").iterdir())
}
TESTS, RELEASE = WORKFLOWS["tests"]["jobs"], WORKFLOWS["release"]["jobs"]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps() -> list[dict[str, Any]]:
    return [
        step
        for workflow in WORKFLOWS.values()
        for job in workflow["jobs"].values()
        for step in job.get("steps", ())
    ]


def commands() -> set[str]:
    targets = TESTS["others"]["strategy"]["matrix"]["target"]
    said = [step["run"] for step in steps() if "run" in step]
    return {each.replace("${{ matrix.target }}", target) for each in said for target in targets}


def test_every_command_makes_a_target() -> None:
    for command in commands():
        target = re.fullmatch(r"make ([\w-]+)", command)
        assert target, command
        done = run(["make", "--dry-run", target[1]], directory=REPOSITORY)
        assert done.returncode == 0, done.stderr


def test_each_command_of_the_continuous_integration_is_among_them() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    ours = set(re.findall(r"^make (?:-\S+ )*(\w+)$", script, re.MULTILINE))
    assert ours == {"lint", "test", "stress", "matrix"}
    assert {f"make {target}" for target in ours} <= commands()


def test_each_version_of_python_is_tested_on_each_system() -> None:
    matrix = TESTS["test"]["strategy"]["matrix"]
    numbered = r"Programming Language :: Python :: (3\.\d+)"
    classifiers = "\n".join(PROJECT["classifiers"])
    assert matrix["python"] == re.findall(numbered, classifiers)
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_what_is_tested_on_windows_is_there_and_needs_nothing_of_posix() -> None:
    needs = re.compile(
        r"\b(fcntl|pty|termios|resource|os\.fork|milvus_lite|lite_uri|milvus)\b(?!-)"
    )
    for name in ON_WINDOWS:
        source = (REPOSITORY / "tests" / f"{name}.py").read_text(encoding="utf-8")
        imports = "\n".join(re.findall(r"^(?:import|from) .*", source, re.MULTILINE))
        assert not needs.search(imports), name


def test_the_server_is_that_of_the_examples() -> None:
    ours, example = TESTS["milvus"]["services"]["milvus"], compose()["services"]["milvus"]
    assert ours["image"] == example["image"]
    assert ours["command"].split() == example["command"]
    assert ours["env"].items() <= example["environment"].items()
    assert TESTS["milvus"]["env"] == {"ZILLIZ_TEST_URI": "http://localhost:19530"}


def test_a_workflow_may_read_and_its_actions_have_versions() -> None:
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    used = {step["uses"] for step in steps() if "uses" in step}
    assert {name for name in used if not re.search(r"@(v\d+|release/v1)$", name)} == set()
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_only_what_was_tested_is_published_and_without_a_token_that_is_kept() -> None:
    publish = RELEASE["publish"]
    assert publish["needs"] == ["test", "build"]
    assert RELEASE["test"]["uses"] == "./.github/workflows/tests.yml"
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["with"] == {"attestations": True}
    assert "secrets." not in repr(WORKFLOWS)


@pytest.mark.parametrize(
    ("tag", "heading", "source", "wrong"),
    [
        (f"v{__version__}", f"## {__version__} - 2026-12-01", "zilliz-zconfig", 0),
        ("v9.9.9", f"## {__version__} - 2026-12-01", "zilliz-zconfig", 1),
        (f"v{__version__}", f"## {__version__}, unreleased", "zilliz-zconfig", 1),
        (f"v{__version__}", f"## {__version__} - 2026-12-01", "./zconfig", 1),
        ("", "", "./zconfig", 3),
    ],
)
def test_a_release_is_refused_until_everything_is_ready(
    tag: str, heading: str, source: str, wrong: int
) -> None:
    assert len(problems(tag, f"# Changelog\n\n{heading}\n", source)) == wrong


def test_the_hooks_before_a_commit_are_linters_of_make_lint() -> None:
    text = (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    [local] = yaml.safe_load(text)["repos"]
    linters = run(["make", "--dry-run", "lint"], directory=REPOSITORY).stdout
    for hook in local["hooks"]:
        assert hook["entry"].replace(" --force-exclude", "") in linters
