"""Check that the package, pages and examples use the project's terms: `python scripts/prose.py`.

The phrases that are not used are the last column of the table "Words" in CONTRIBUTING.md. Of
"what", "whoever" and "whatever" at most two in a thousand words are accepted: a sentence that
begins with one of them hides its subject.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/**/*.md")
EXAMPLES = ("**/*.y*ml", "**/*.txt", "**/*.service", "**/Dockerfile", "**/.env", "**/.dockerignore")
MOST_RELATIVE = 2  # in a thousand words
RELATIVE = re.compile(r"\b(?:what|whoever|whatever)\b", re.IGNORECASE)


def main() -> int:
    """Print every finding, and return the exit code."""
    patterns = (*PAGES, *(f"examples/{pattern}" for pattern in EXAMPLES))
    pages = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    modules = sorted((*ROOT.glob("zconfig/**/*.py"), *ROOT.glob("examples/**/*.py")))
    unwanted = phrases((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    texts = [(path, line, text) for path in pages for line, text in lines_of(path)]
    texts += [(path, line, text) for path in modules for line, text in strings_of(path)]
    findings = [
        f"{path.relative_to(ROOT)}:{line}: {found[0]!r} is not one of our words"
        for path, line, text in texts
        for found in unwanted.finditer(text)
    ]
    pages_rate = rate(text for path, _, text in texts if path.suffix == ".md")
    package_rate = rate(text for path, _, text in texts if path.suffix == ".py")
    for name, found in (("pages", pages_rate), ("package", package_rate)):
        if found > MOST_RELATIVE:
            findings.append(f"{name}: {found:.1f} of a thousand words are what, whoever, whatever")
    print("\n".join(findings))
    return 1 if findings else 0


def phrases(page: str) -> re.Pattern[str]:
    """Return what finds the quoted phrases of the last column of the table "Words"."""
    _, _, after = page.partition("\n## Words\n")
    table, _, _ = after.partition("\n## ")
    rows = [line.rsplit("|", 2)[-2] for line in table.splitlines() if line.startswith("|")]
    quoted = [phrase for row in rows for phrase in re.findall(r'"([^"]+)"', row)]
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, quoted))})\b", re.IGNORECASE)


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page that are prose: no code block, no table of words."""
    in_code = in_words = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        if line.startswith("## "):
            in_words = line == "## Words"
        if not in_code and not in_words:
            yield number, line


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings, messages and comments of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def rate(texts: Iterator[str]) -> float:
    """Return how many of a thousand words are relative pronouns that hide a subject."""
    text = " ".join(texts)
    return 1000 * len(RELATIVE.findall(text)) / max(len(text.split()), 1)


if __name__ == "__main__":
    sys.exit(main())
