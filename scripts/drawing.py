"""Boxes, arrows and text as SVG.

A picture has its own background, so that it can be read on a light page and on a dark one, and
follows what the reader prefers where the viewer tells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
  .page { fill: #ffffff; stroke: #d5d9e2 } .box { fill: #eef2ff; stroke: #5b6ee1 }
  .quiet { fill: #f6f7f9; stroke: #9aa3b2 } .good { fill: #e7f6ec; stroke: #2f9e57 }
  .bad { fill: #fdecea; stroke: #d1495b } .end { fill: #f6f7f9; stroke: #6b7280 }
  .name { fill: #1b2333; font-weight: 600 } .note { fill: #55607a; font-size: 12px }
  .said { fill: #37415a; font-size: 12px }
  .head { fill: #55607a; font-weight: 600; font-size: 12px }
  .line { fill: none; stroke: #6b7690; stroke-width: 1.5 } .tip { fill: #6b7690 }
  .halo { stroke: #ffffff; stroke-width: 5; stroke-linejoin: round; paint-order: stroke }
  @media (prefers-color-scheme: dark) {
    .page { fill: #171b26; stroke: #333a4d } .box { fill: #232a4a; stroke: #8593f5 }
    .quiet { fill: #212634; stroke: #5d6780 } .good { fill: #17331f; stroke: #4cc27a }
    .bad { fill: #3d1f24; stroke: #f0808e } .end { fill: #212634; stroke: #8b95aa }
    .name { fill: #eef1f8 } .note, .head { fill: #a3adc2 } .said { fill: #c6cee0 }
    .line { stroke: #8b95aa } .tip { fill: #8b95aa } .halo { stroke: #171b26 }
  }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a name, and a line of explanation below it."""

    x: int
    y: int
    width: int
    height: int
    name: str
    note: str = ""
    kind: str = "box"

    @property
    def middle(self) -> int:
        """The horizontal middle."""
        return self.x + self.width // 2

    @property
    def centre(self) -> int:
        """The vertical middle."""
        return self.y + self.height // 2

    @property
    def right(self) -> int:
        """The right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The lower edge."""
        return self.y + self.height

    def drawn(self) -> str:
        """Return it as SVG."""
        shape = (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" '
            f'height="{self.height}" rx="7"/>'
        )
        lift = 8 if self.note else 0
        parts = [shape, text(self.middle, self.centre + 5 - lift, self.name, "name")]
        if self.note:
            parts.append(text(self.middle, self.centre + 14, self.note, "note"))
        return "".join(parts)


def text(x: float, y: float, said: str, kind: str, anchor: str = "middle") -> str:
    """Return a line of text as SVG."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(said)}</text>'


def arrow(path: str) -> str:
    """Return a line with a tip at its end as SVG."""
    return f'<path class="line" d="{path}" marker-end="url(#tip)"/>'


def line(path: str) -> str:
    """Return a line as SVG."""
    return f'<path class="line" d="{path}"/>'


def label(x: float, y: float, lines: Iterable[str], anchor: str = "middle") -> str:
    """Return what stands at an arrow as SVG, a line below the other."""
    return "".join(
        text(x, y + 15 * number, line, "said halo", anchor) for number, line in enumerate(lines)
    )


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """Return a whole SVG."""
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" \
font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="14px">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" \
orient="auto-start-reverse"><path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>
<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>
{body}
</svg>
"""
