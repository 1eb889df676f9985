"""How zconfig is installed is said alike everywhere: from a clone, until it is on the index."""

from __future__ import annotations

import re
import tomllib

import pytest
from generate import INSTALLED_FROM, INSTALLING

import zconfig
from tests.support.processes import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# The lines that only an installation from a clone needs; a release takes them out.
OF_A_CLONE = {
    "README.md": "git clone ",
    "docs/start.md": "git clone ",
    "docs/production.md": "COPY zconfig zconfig\n",
    "docs/how-to/testing.md": "pytest also collects the tests of the clone",
    "examples/docker/Dockerfile": "COPY --from=zconfig ",
    "examples/docker/compose.yaml": "additional_contexts:",
    "examples/ci/github-actions.yml": "submodules: true",
    "examples/ci/gitlab-ci.yml": "GIT_SUBMODULE_STRATEGY",
}


def test_every_install_line_names_the_one_place_and_extras_that_exist() -> None:
    extras = set()
    for path in INSTALLING:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r".*pip install.*zconfig.*", text):
            found = re.search(rf" '?{re.escape(INSTALLED_FROM)}(?:\[([\w,]+)\])?'?(?= |$)", line)
            assert found, f"{path}: {line}"
            extras |= set((found[1] or "lite").split(","))
    assert {"lite", "pymilvus", "langchain", "otel"} <= extras
    assert extras <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize(("name", "line"), OF_A_CLONE.items())
def test_what_only_a_clone_needs_is_there_as_long_as_that_is_installed(
    name: str, line: str
) -> None:
    is_there = line in (REPOSITORY / name).read_text(encoding="utf-8")
    assert is_there == INSTALLED_FROM.startswith("./")


def test_the_extras_are_listed_on_one_page_all_of_them() -> None:
    page = (REPOSITORY / "docs" / "start.md").read_text(encoding="utf-8")
    table = page.partition("| extra |")[2].partition("\n\n")[0]
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == PROJECT["optional-dependencies"].keys()


def test_the_changelog_begins_with_this_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    [first, *_] = re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert first == zconfig.__version__
