"""The pictures of the documentation show what is so."""

from __future__ import annotations

import inspect
import re
import sys
from html import unescape

from tests.support.pages import PAGES
from tests.support.processes import REPOSITORY, run
from zconfig import events
from zconfig._connection import State

PICTURES = REPOSITORY / "docs" / "pictures"

# What happens to an alias that has no connection yet, or none any more.
WITHOUT_A_CONNECTION = {"configured", "removed"}


def texts(name: str, kind: str) -> set[str]:
    """Return texts of a picture: `name` is that of a box, `said` stands at an arrow."""
    svg = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    return {unescape(text) for text in re.findall(rf'<text class="{kind}\b[^>]*>([^<]*)<', svg)}


def test_pictures_are_what_the_script_draws_now() -> None:
    script = str(REPOSITORY / "scripts" / "pictures.py")
    done = run([sys.executable, "-B", script, "--check"], timeout_s=180)
    assert done.returncode == 0, done.stderr


def test_the_picture_of_the_states_has_every_state_and_every_event_of_a_connection() -> None:
    assert texts("states", "name") == {str(state) for state in State}
    kinds = [each for each in vars(events).values() if inspect.isclass(each)]
    names = {each.name for each in kinds if issubclass(each, events.ConnectionEvent)}
    happens = {name.rpartition(".")[2] for name in names if name.startswith("zconfig.connection.")}
    said = {word.strip(",") for text in texts("states", "said") for word in text.split()}
    assert happens - WITHOUT_A_CONNECTION <= said


def test_a_picture_says_in_words_what_it_shows_and_loads_nothing() -> None:
    for path in PICTURES.glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        assert "<title>" in svg, path.name
        assert "url(http" not in svg.replace('"', ""), path.name


def test_every_picture_is_on_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = set(re.findall(r"pictures/(\w+)\.svg", pages))
    assert {path.stem for path in PICTURES.glob("*.svg")} == shown
