"""Draw the lines and curves of a run, as PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.lines import Curves, Goal, Line, missed
from benchmarks.report import figure as number
from benchmarks.report import middle_half, wanted
from benchmarks.results import Results

# Okabe and Ito's colours, which people with any colour vision tell apart.
_KNOWN = {"zconfig": "#0072B2", "pymilvus": "#D55E00", "floor": "#767676"}
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX*"
_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    # Text stays text: small, sharp, and searchable. Identifiers are the same each time.
    "svg.fonttype": "none",
    "svg.hashsalt": "zconfig",
}


def draw(results: Results, directory: Path) -> None:
    """Draw everything, and remove what was drawn before."""
    mpl.use("Agg")  # nothing is shown
    directory.mkdir(parents=True, exist_ok=True)
    for old in (*directory.glob("*.svg"), *directory.glob("*.png")):
        old.unlink()
    with mpl.rc_context(_STYLE):
        for measured in results.measured:
            picture = bars(measured) if isinstance(measured, Line) else graphs(measured)
            save(picture, directory / measured.name)


def save(picture: Any, path: Path) -> None:
    """Save a picture in both formats, without a date or the program's version in it."""
    picture.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    picture.savefig(path.with_suffix(".png"), dpi=100, metadata={"Software": None})
    plt.close(picture)


def bars(line: Line) -> Any:
    """Draw what counts of a line, with the middle half of the samples, and its goals."""
    programs = list(line.samples)
    picture, axes = plt.subplots(figsize=(7, 1.2 + 0.4 * len(programs) + 0.25 * len(line.goals)))
    typical = [line.typical(program) for program in programs]
    reach = [middle_half(line.samples[program]) for program in programs]
    low = [max(value - each[0], 0) for value, each in zip(typical, reach, strict=True)]
    high = [each[1] - value for value, each in zip(typical, reach, strict=True)]
    axes.barh(
        programs,
        typical,
        xerr=[low, high],
        color=[colour(program, at) for at, program in enumerate(programs)],
        error_kw={"capsize": 3, "elinewidth": 1, "ecolor": "#333333"},
    )
    for at, (value, each) in enumerate(zip(typical, reach, strict=True)):
        axes.annotate(number(value), (each[1], at), (6, 0), textcoords="offset points", va="center")
    for goal in line.goals:
        mark(axes, line, goal, programs.index(goal.program))
    axes.invert_yaxis()
    furthest = [each[1] for each in reach]
    furthest += [bound for goal in line.goals for bound in bounds(line, goal)]
    axes.set_xlim(0, max(furthest) * 1.15)
    axes.set_xlabel(line.unit)
    axes.set_title(plain(line.title))
    if line.goals:
        picture.legend(loc="outside lower left", fontsize=8, frameon=False)
    return picture


def mark(axes: Any, line: Line, goal: Goal, at: int) -> None:
    """Draw where a goal's bound is, across the bar of the program that it is for."""
    dashes = ("-", "--", ":")[line.goals.index(goal) % 3]
    label = wanted(goal) + (", missed" if goal in missed(line) else "")
    for bound in bounds(line, goal):
        axes.plot([bound, bound], [at - 0.48, at + 0.48], "k", ls=dashes, label=label)


def bounds(line: Line, goal: Goal) -> list[float]:
    """Return between which values, in the line's unit, a goal wants the median to be."""
    base = line.typical(goal.against)
    return [bound * base for bound in (goal.at_most, goal.at_least) if bound is not None]


def graphs(curves: Curves) -> Any:
    """Draw curves."""
    picture, axes = plt.subplots(figsize=(7, 4))
    for at, (name, values) in enumerate(curves.curves.items()):
        marker = _MARKERS[at % len(_MARKERS)]
        axes.plot(curves.x, values, label=name, marker=marker, color=colour(name, at))
    if spans_decades(curves.x):
        axes.set_xscale("log")
        axes.set_xticks(curves.x, [f"{x:,g}" for x in curves.x])
        axes.minorticks_off()
    if all(spans_decades(values) for values in curves.curves.values()):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(curves.x_label)
    axes.set_ylabel(curves.y_label)
    axes.set_title(plain(curves.title))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return picture


def spans_decades(values: tuple[float, ...]) -> bool:
    """Whether values are better seen on a logarithmic scale."""
    return min(values) > 0 and max(values) / min(values) >= 10  # noqa: PLR2004 - one decade


def colour(program: str, at: int) -> str:
    """Return the colour of a program: the same in every picture for those in most of them."""
    return _KNOWN.get(program.partition(",")[0], _OTHERS[at % len(_OTHERS)])


def plain(title: str) -> str:
    """Return a title without what Markdown makes code of."""
    return title.replace("`", "")
