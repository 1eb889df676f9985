"""Measure, and write the table and its plots.

    python -m benchmarks                     # everything, into benchmarks/
    python -m benchmarks --only processes    # one subject, or several
    python -m benchmarks --quick             # few rounds, and no soak: an indication

In the repository's directory; `make bench` makes the environment for it. What is partial or quick
goes into `build/benchmarks` instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
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
from benchmarks.soak.values import Summary
from tests.support.processes import REPOSITORY

SOAK = "soak"
SOAK_MINUTES = 10
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
        choices=[*SUBJECTS, SOAK],
        metavar="NAME",
        help=f"of {', '.join(SUBJECTS)}, {SOAK}",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: an indication")
    chosen = parser.parse_args()
    names = chosen.only or [*SUBJECTS, *([] if chosen.quick else [SOAK])]
    measured = tuple(_measure([name for name in names if name in SUBJECTS], quick=chosen.quick))
    soak = _soak() if SOAK in names else None
    directory = ELSEWHERE if chosen.only or chosen.quick else results.HERE
    results.write(results.results_of(measured, soak), directory)
    report.make(directory)
    print(f"written to {directory}")


def _measure(names: list[str], *, quick: bool) -> Iterator[Line | Curves]:
    if not names:
        return
    with lab(quick=quick) as shared:
        for name in names:
            for each in SUBJECTS[name](shared):
                print(report.summary(each), flush=True)
                yield each


def _soak() -> Summary:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        summary = Path(name) / "summary.json"
        arguments = ["--minutes", str(SOAK_MINUTES), "--summary", str(summary)]
        command = [sys.executable, "-m", "benchmarks.soak", *arguments]
        subprocess.run(command, cwd=REPOSITORY, check=False)  # noqa: S603 - ours; faults are told
        return results.summary_of(json.loads(summary.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
