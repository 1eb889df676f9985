"""Tell whether this tree may be published under a tag: python scripts/check_release.py v1.2.3."""

from __future__ import annotations

import re
import sys

from generate import INSTALLED_FROM, ROOT

from zconfig import __version__


def problems(tag: str, changelog: str, installed_from: str) -> list[str]:
    """Return what is still to be done before the release that a tag names."""
    found = []
    if tag != f"v{__version__}":
        found.append(f"the tag is {tag}, but zconfig/_version.py says {__version__}")
    if not re.search(
        rf"^## {re.escape(__version__)} - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        found.append(f"CHANGELOG.md has no heading `## {__version__} - YYYY-MM-DD`")
    if installed_from != "zilliz-zconfig":
        found.append(
            f"the pages install {installed_from}: see INSTALLED_FROM in scripts/generate.py"
        )
    return found


if __name__ == "__main__":
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sys.exit("\n".join(problems(sys.argv[1], text, INSTALLED_FROM)))
