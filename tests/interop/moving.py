"""Applications that move over to zconfig by what docs/frameworks.md says, and do the same then."""

from __future__ import annotations

import re

from tests.support import fork_server
from tests.support.processes import REPOSITORY, run

APPS = REPOSITORY / "tests" / "interop" / "apps"
PAGE = REPOSITORY / "docs" / "frameworks.md"


def moved(framework: str) -> str:
    """Return the source of an application, changed as the page's `diff` block for it says."""
    source = (APPS / f"{framework.lower()}.py").read_text(encoding="utf-8")
    for old, new in _changes(framework):
        assert old in source, f"{PAGE.name} changes what the application does not have: {old}"
        source = source.replace(old, new, 1)
    return source


def _changes(framework: str) -> list[tuple[str, str]]:
    """Return, in order, the lines that are replaced and those that replace them."""
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"\n## {framework}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [(_side(hunk, "-"), _side(hunk, "+")) for hunk in block.split(" ...\n")]


def _side(hunk: str, sign: str) -> str:
    return "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in f" {sign}")


def both_answer(framework: str, uri: str, token: str, name: str) -> tuple[str, str]:
    """Return what an application prints before and after it moved over.

    Args:
        framework: Whose application, as the page's heading has it.
        uri: Where the server is.
        token: What it wants to see.
        name: A collection of the application's own.
    """
    before = (APPS / f"{framework.lower()}.py").read_text(encoding="utf-8")
    old = {"VECTORS_URI": uri, "VECTORS_TOKEN": token}
    new = {"ZILLIZ_URI": uri, "ZILLIZ_TOKEN": token}
    return (
        _printed(before, {**old, "COLLECTION": f"{name}_before"}),
        _printed(moved(framework), {**new, "COLLECTION": f"{name}_after"}),
    )


def _printed(source: str, environ: dict[str, str]) -> str:
    done = run([str(fork_server.programs / "python"), "-c", source], environ=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout
