"""The site builds without a network, and what it links to is there."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import zconfig
from tests.support.pages import PAGES, name_of
from tests.support.processes import REPOSITORY, run

NOBODY = "http://127.0.0.1:9"
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOBODY)

# Where a browser loads from by itself, in contrast to where a reader may go.
LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


@dataclass
class Html(HTMLParser):
    """What a page can be linked by, links to, and loads."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.ids.add(value)
            elif name in {"href", "src"} and value:
                (self.loads if (tag, name) in LOADED else self.links).append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(directory)]
    environ = {"NO_MKDOCS_2_WARNING": "1", **OFFLINE}
    done = run(build, environ=environ, directory=REPOSITORY, timeout_s=180)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return directory


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    found = {}
    for path in site.rglob("*.html"):
        found[path] = page = Html()
        page.feed(path.read_text(encoding="utf-8"))
    return found


def test_every_link_and_anchor_within_the_site_leads_somewhere(
    site: Path, pages: dict[Path, Html]
) -> None:
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            target, anchor = urldefrag(link)
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            base = site if target.startswith("/") else path.parent
            file = Path(os.path.normpath(base / unquote(target).lstrip("/"))) if target else path
            file = file / "index.html" if file.is_dir() else file
            is_there = file in pages and (not anchor or unquote(anchor) in pages[file].ids)
            if not is_there and (anchor or not file.exists()):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_a_page_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Html]) -> None:
    loads = {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}
    assert loads == set()
    for style in (*site.rglob("*.css"), *site.rglob("*.svg")):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", text), style


def test_links_that_leave_the_site_have_the_shape_of_one(pages: dict[Path, Html]) -> None:
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert parts.scheme in {"https", "http", "mailto"}, f"{path}: {link}"
                assert re.fullmatch(r"[\w.:-]+", parts.netloc), f"{path}: {link}"


def test_links_of_the_repository_s_own_pages_lead_somewhere(
    site: Path, pages: dict[Path, Html]
) -> None:
    """As on a host of repositories, where a page is a file among files."""
    for page in PAGES:
        for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            target, anchor = urldefrag(link)
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), f"{name_of(page)}: {link}"
            if anchor and file.is_relative_to(REPOSITORY / "docs"):
                built = (site / file.relative_to(REPOSITORY / "docs")).with_suffix(".html")
                assert anchor in pages[built].ids, f"{name_of(page)}: {link}"


def test_the_reference_has_every_public_name_and_no_other(
    site: Path, pages: dict[Path, Html]
) -> None:
    named = {i for path, page in pages.items() if path.parent == site / "api" for i in page.ids}
    public = set(zconfig.__all__) - {"__version__", "events"}  # events have a page of their own
    shown = {name.rpartition(".")[2] for name in named if name.startswith("zconfig.")}
    assert public <= shown
    assert not {name for name in shown if name.startswith("_")}
