"""Measure, and write the table and its plots.

    python -m benchmarks                     # everything, into benchmarks/
    python -m benchmarks --only processes    # one subject, or several
    python -m benchmarks --quick             # few rounds: an indication

In the repository's directory; `make bench` makes the environment for it. What is partial or quick
goes into `build/benchmarks` instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    lines_calls,
    lines_far,
    lines_growth,
    lines_lookup,
    lines_pool,
    lines_processes,
    report,
    results,
)
from benchmarks.lines import Curves, Lab, Line, lab

ELSEWHERE = Path("build/benchmarks")

Measure = Callable[[Lab], Iterator[Line | Curves]]

SUBJECTS: dict[str, Measure] = {
    "processes": lines_processes.measure,
    "far": lines_far.measure,
    "calls": lines_calls.measure,
    "lookup": lines_lookup.measure,
    "growth": lines_growth.measure,
    "pool": lines_pool.measure,
}
"""What is measured, by name, in the order of the table."""


def main() -> None:
    """Measure what was asked for, and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure.")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(SUBJECTS),
        metavar="NAME",
        help=f"of {', '.join(SUBJECTS)}",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: an indication")
    chosen = parser.parse_args()
    measured = []
    with lab(quick=chosen.quick) as shared:
        for name in chosen.only or SUBJECTS:
            for each in SUBJECTS[name](shared):
                print(report.summary(each), flush=True)
                measured.append(each)
    directory = ELSEWHERE if chosen.only or chosen.quick else results.HERE
    results.write(results.results_of(tuple(measured)), directory)
    report.make(directory)
    print(f"written to {directory}")


if __name__ == "__main__":
    main()
