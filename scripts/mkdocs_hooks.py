"""What the documentation site needs beside its pages: a page for each example that one links to.

On a repository's page a link to `../examples/app.py` leads to the file. The site has no such file,
so it gets a page that shows it; a directory becomes a page of links to what is in it. The plots of
the benchmarks come along as they are. The cells of tables are labelled, because a narrow screen
shows them one below the other.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SHOWN = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    ".env.example",
    "benchmarks/RESULTS.md",
)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)(?=[)#])")
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_HEAD = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".service": "ini", ".toml": "toml"}
_LEFT_OUT = {"__pycache__", ".pytest_cache", "secrets"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every example, and for the other files that pages link to."""
    for path in (*examples(ROOT / "examples"), *(ROOT / name for name in SHOWN)):
        name = path.relative_to(ROOT).as_posix()
        text = listing(path) if path.is_dir() else shown(path)
        files.append(File.generated(config, page_of(name), content=text))
    for path in sorted((ROOT / "benchmarks/plots").glob("*.svg")):
        name = page_of(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead a link to a file of the repository to the page that shows it."""
    del config, files
    here = PurePosixPath(page.file.src_uri).parent
    directory = source_of(page.file.src_uri).parent

    def lead(link: re.Match[str]) -> str:
        target = os.path.normpath(directory / link[1])
        if not (ROOT / target).exists():
            return link[1]  # which is reported as broken
        return os.path.relpath(page_of(target), here)

    return _LINK.sub(lead, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Label the cells of the tables; see extra.css."""
    del page, config, files
    return _TABLE.sub(lambda table: labelled(table[0]), html)


def labelled(table: str) -> str:
    """Return a table whose cells name their column, except for the first of a row.

    Examples:
        >>> labelled("<th>key</th><th>use</th><td>a</td><td>b</td>")
        '<th>key</th><th>use</th><td>a</td><td data-label="use">b</td>'
    """
    _, *others = (_TAG.sub("", head) for head in _HEAD.findall(table))
    cells = itertools.cycle(["<td", *(f'<td data-label="{name}"' for name in others)])
    return re.sub("<td(?=[ >])", lambda _: next(cells), table)


def page_of(name: str) -> str:
    """Return where the site has a file of the repository.

    Examples:
        >>> page_of("docs/variables.md"), page_of("README.md"), page_of("examples/app.py")
        ('variables.md', 'index.md', 'files/examples/app.py.md')
    """
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name.endswith(".svg"):
        return f"files/{name}"
    return "index.md" if name == "README.md" else f"files/{name}.md".replace("/.", "/dot")


def source_of(page: str) -> PurePosixPath:
    """Return which file of the repository a page of the site is, or shows."""
    if page.startswith("files/"):
        return PurePosixPath(page.removeprefix("files/").removesuffix(".md"))
    return PurePosixPath("docs", page)


def examples(directory: Path) -> Iterator[Path]:
    """Yield a directory and what is below it, without what running it leaves behind."""
    yield directory
    for path in sorted(directory.iterdir()):
        if path.name in _LEFT_OUT or path.suffix in {".db", ".pyc"} or path.name == ".env":
            continue
        if path.is_dir():
            yield from examples(path)
        else:
            yield path


def listing(directory: Path) -> str:
    """Return a page with links to what a directory holds."""
    name = directory.relative_to(ROOT).as_posix()
    inside = [path for path in examples(directory) if path.parent == directory]
    links = [f"- [`{each.name}`]({link_between(directory, each)})" for each in inside]
    return f"# `{name}/`\n\n" + "\n".join(links) + "\n"


def link_between(directory: Path, path: Path) -> str:
    """Return the link from a directory's page to that of what is in it."""
    here, there = (page_of(each.relative_to(ROOT).as_posix()) for each in (directory, path))
    return os.path.relpath(there, PurePosixPath(here).parent)


def shown(path: Path) -> str:
    """Return a page that shows a file."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    language = _LANGUAGES.get(path.suffix, "dockerfile" if path.name == "Dockerfile" else "text")
    return f"# `{name}`\n\n````{language}\n{text}````\n"
