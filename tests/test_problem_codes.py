"""Every code of a problem stands in the docs, and nothing else does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.processes import REPOSITORY
from zconfig._endpoint.model import FAULTS

# What makes a problem, and at which place its code stands; some take others first.
MAKERS = {
    "Problem": 0,
    "reject": 0,
    "InvalidName": 0,
    "ConfigProblem": 0,
    "_break": 2,
    "_file_error": 1,
}


def codes_in(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            place = MAKERS.get(ast.unparse(node.func).rpartition(".")[2])
            if place is not None:
                named = [word.value for word in node.keywords if word.arg == "code"]
                for value in (*node.args[place : place + 1], *named):
                    if isinstance(value, ast.Constant):
                        yield str(value.value)


def test_the_documented_codes_are_those_of_the_code() -> None:
    modules = (REPOSITORY / "zconfig").rglob("*.py")
    used = {code for m in modules for code in codes_in(m.read_text(encoding="utf-8"))}
    page = (REPOSITORY / "docs" / "problems.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert used | set(FAULTS) == documented


def warnings_in(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Problem":
            severities = [word.value for word in node.keywords if word.arg == "severity"]
            may_warn = any("'warning'" in ast.unparse(each) for each in severities)
            if may_warn and node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def test_the_page_says_which_problems_are_warnings() -> None:
    modules = (REPOSITORY / "zconfig").rglob("*.py")
    warnings = {code for m in modules for code in warnings_in(m.read_text(encoding="utf-8"))}
    page = (REPOSITORY / "docs" / "problems.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)", page, re.MULTILINE))
    told = {"group_writable", "readable_by_others", "unknown_name", "unknown_option"}
    assert {c for c in warnings | told if "a warning" not in rows[c]} == set()
