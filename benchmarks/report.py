"""Write the table, and have the plots drawn, from `results.json` alone.

    python -m benchmarks.report

In the repository's directory. The table's essence goes into `docs/explanation/cost.md` as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.lines import Curves, Goal, Line, missed, ratio
from benchmarks.results import Results
from benchmarks.soak.values import Summary

NAME = "RESULTS.md"
EXPLAINED = results.HERE.parent / "docs/explanation/cost.md"

_HEAD = """\
# Benchmark results

Measured by `make bench` on {date}, in one run on one machine. `python -m benchmarks.report` makes
this page and its plots from `results.json`. Compare the ratios: the programs of a measurement take
turns, so that other load on the machine affects all of them alike. On another machine the times
differ.

{surroundings}

The **floor** is a program with the minimum of the same work, written by hand; the note of a
measurement describes it. A result is the ratio of two medians, or of the two least samples if the
measurement says so. The middle half is the range between the first and the third quartile.

{goals_head}
{goals}

{verdict}
"""

_SOAK_NOTE = """\
Threads, tasks and pymilvus' clients call two Milvus servers. Meanwhile the servers are killed,
frozen and cut off, their passwords are rotated, the configuration is changed and reloaded, aliases
are disconnected, and children are forked that make calls as well, at random from the seed {seed}.
A call may fail during an outage of its server, or after its connection was closed; any other
failed call is lost. At the end, at rest, there must not be more threads, descriptors and objects
than at the beginning, and memory must not grow steadily."""

_BEGIN, _END = "<!-- results -->", "<!-- end -->"
_GOALS_HEAD = "| measurement | goal | result | |\n| --- | --- | --- | --- |"


def main() -> None:
    """Make the table and the plots again."""
    make(results.HERE)


def make(directory: Path) -> None:
    """Write the table and the plots of the results in a directory."""
    from benchmarks import plots

    measured = results.read(directory)
    (directory / NAME).write_text(page(measured), encoding="utf-8")
    plots.draw(measured, directory / "plots")
    if directory == results.HERE:
        text = explained_with(EXPLAINED.read_text(encoding="utf-8"), measured)
        EXPLAINED.write_text(text, encoding="utf-8")


def page(measured: Results) -> str:
    """Return the table of a run, and below it each line."""
    head = _HEAD.format(
        date=measured.date,
        surroundings=table(
            ("name", "value"), [*measured.versions.items(), *measured.machine.items()]
        ),
        goals_head=_GOALS_HEAD,
        goals=goal_rows(measured),
        verdict=verdict(measured),
    )
    soaked = [soak_section(measured.soak)] if measured.soak else []
    return "\n".join([head, *map(section, measured.measured), *soaked])


def explained_with(text: str, measured: Results) -> str:
    """Return the explanation's page with the goals and results of a run."""
    said = f"Measured on {measured.date}, {versions(measured)}. {verdict(measured)}"
    links = "(../../benchmarks/RESULTS.md#"
    new = f"{_GOALS_HEAD}\n{goal_rows(measured)}\n\n{said}".replace("(#", links)
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{new}\n{_END}{rest.partition(_END)[2]}"


def versions(measured: Results) -> str:
    """Return the versions of what was measured, in a row."""
    return ", ".join(f"{name} {version}" for name, version in measured.versions.items())


def goal_rows(measured: Results) -> str:
    """Return a row for each goal."""
    rows = [goal_row(each, goal) for each in measured.measured for goal in each.goals]
    return "\n".join([*rows, *([soak_row(measured.soak)] if measured.soak else [])])


def verdict(measured: Results) -> str:
    """Return how many goals were missed."""
    soak = measured.soak
    count = sum(len(each.goals) for each in measured.measured) + (soak is not None)
    links = [f"[{each.title}](#{each.name})" for each in measured.measured if missed(each)]
    if soak and soak.faults:
        links.append(soak_link(soak))
    if not links:
        return f"All {count} goals are met."
    return f"Of {count} goals, these are missed; each has a profile: {', '.join(links)}."


def goal_row(measured: Line | Curves, goal: Goal) -> str:
    """Return a goal's row of the table."""
    result = ratio(measured, goal)
    link = f"[{measured.title}](#{measured.name})"
    return row(link, wanted(goal), f"{result:.2f}", met(goal.met_by(result)))


def soak_link(soak: Summary) -> str:
    """Return a link to what is told of a soak."""
    return f"[{soak.minutes:g} minutes of injected faults under load](#soak)"


def soak_row(soak: Summary) -> str:
    """Return a soak's row of the table."""
    goal = "no call lost beyond the outages, no growth of memory, threads or descriptors"
    return row(soak_link(soak), goal, f"{len(soak.faults)} violations", met(not soak.faults))


def soak_section(soak: Summary) -> str:
    """Return what is told of a soak: what happened, and what went wrong."""
    title = f'<a id="soak"></a>\n## {soak.minutes:g} minutes of injected faults under load'
    note = _SOAK_NOTE.format(seed=soak.seed)
    happened = "\n".join(f"{name:<30}{value}".rstrip() for name, value in soak.rows)
    faults = "\n".join(each.partition("\n")[0] for each in soak.faults)
    shown = f"{happened}\n\n{faults}".strip()
    return f"{title}\n\n{note}\n\n```text\n{shown}\n```\n"


def met(is_met: bool) -> str:  # noqa: FBT001 - it is what the word is of
    """Return how a table says whether a goal was met."""
    return "met" if is_met else "**missed**"


def wanted(goal: Goal) -> str:
    """Return a goal in words.

    Example:
        >>> wanted(Goal("zconfig", "pymilvus", at_most=0.45))
        'zconfig at most 0.45 of pymilvus'
    """
    bounds = {"at most": goal.at_most, "at least": goal.at_least}
    said = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    return f"{goal.program} {said} of {goal.against}"


def section(measured: Line | Curves) -> str:
    """Return what is said of a line: its figures, its plot, and why a goal was missed."""
    figures = of_line(measured) if isinstance(measured, Line) else of_curves(measured)
    parts = [f'<a id="{measured.name}"></a>\n## {measured.title}', measured.note, figures]
    parts.append(f"![{measured.title}](plots/{measured.name}.svg)")
    if missed(measured):
        goals = "; ".join(wanted(goal) for goal in missed(measured))
        parts.append(f"Missed: {goals}. Profile:\n\n```text\n{measured.profile}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def of_line(line: Line) -> str:
    """Return the medians of a line's programs, and how they spread."""
    first = next(iter(line.samples))
    base = line.typical(first)
    rows = []
    for program, samples in line.samples.items():
        typical = line.typical(program)
        low, high = middle_half(samples)
        spread = f"{figure(low)}-{figure(high)}"
        rows.append((program, figure(typical), spread, f"{typical / base:.2f}", len(samples)))
    names = ("", f"{line.statistic}, {line.unit}", "middle half", f"to {first}", "samples")
    return table(names, rows)


def of_curves(curves: Curves) -> str:
    """Return the points of curves."""
    rows = [
        (f"{x:g}", *map(figure, values))
        for x, *values in zip(curves.x, *curves.curves.values(), strict=True)
    ]
    return f"{curves.y_label}:\n\n{table((curves.x_label, *curves.curves), rows)}"


def middle_half(samples: Sequence[float]) -> tuple[float, float]:
    """Return between which values the middle half of samples is.

    Example:
        >>> middle_half((1, 2, 3, 4, 5))
        (2.0, 4.0)
    """
    if len(samples) == 1:
        return samples[0], samples[0]
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def figure(value: float) -> str:
    """Return a number with three digits that count.

    Example:
        >>> figure(0.12345), figure(12.345), figure(12345.6)
        ('0.123', '12.3', '12,346')
    """
    if abs(value) >= 100:  # noqa: PLR2004 - from there on all digits before the point count
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def summary(measured: Line | Curves) -> str:
    """Return what is shown while more is measured."""
    goals = [f"    {goal_row(measured, goal)}" for goal in measured.goals]
    typical = (f"{name} {figure(measured.typical(name))}" for name in measured.samples)
    return "\n".join([f"{measured.name}: {', '.join(typical)}", *goals])


def table(names: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    return "\n".join([row(*names), row(*("---" for _ in names)), *(row(*each) for each in rows)])


def row(*cells: object) -> str:
    """Return a row of it."""
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
