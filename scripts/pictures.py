"""Draw the pictures of the documentation: two diagrams, and terminals with real output.

python scripts/pictures.py           writes docs/pictures
python scripts/pictures.py --check   fails if one of them shows what is not so any more
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from diagrams import flow, states
from screens import drawn, screens

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def pictures() -> dict[str, str]:
    """Return every picture as SVG, by name."""
    terminals = {name: drawn(name, seen) for name, seen in screens().items()}
    return {"flow": flow(), "states": states(), **terminals}


def substance(svg: str) -> str:
    """Return what a picture shows: of a terminal its text, without what each run has otherwise."""
    described = re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL)
    if described is None:
        return svg
    text = re.sub(r"< 0\.1 ms|\d+\.\d ms", "1.0 ms", described[1].replace("&lt;", "<"))
    text = re.sub(r"(?<=/run/secrets: )\w+", "absent", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(re.sub("[\u2500-\u257f]+", "─", line) for line in lines)


def main() -> int:
    """Write the pictures, or with `--check` compare them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, svg in pictures().items():
        path = DIRECTORY / f"{name}.svg"
        shown = path.read_text(encoding="utf-8") if path.exists() else ""
        if substance(shown) == substance(svg):
            continue  # also where times differ: a picture is not drawn anew for that
        stale.append(name)
        if not check:
            path.write_text(svg, encoding="utf-8")
    if check and stale:
        print(f"stale: {', '.join(stale)}; run python scripts/pictures.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
