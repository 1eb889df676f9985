"""How time and memory grow with the number of aliases."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.lines import Curves, Goal, Lab, Line, explained, interleave
from tests.support.processes import run

READ = (1_000, 10_000)
CONNECTED = (1, 10, 25, 50, 100)
FEW = 10  # of them; what fewer take is too little to go by
_ROUNDS = 7
_AT_MOST = 1.2
_NOTE = (
    "Each sample is of a fresh process, without what its first alias takes. Growth counts as "
    f"linear if an alias among the most takes at most {_AT_MOST:g} of what it takes among fewer."
)


@dataclass(frozen=True, slots=True)
class Case:
    """So many aliases, in a fresh process.

    Args:
        name: As it is shown.
        count: How many.
        arguments: What `benchmarks.growing` is told.
    """

    name: str
    count: int
    arguments: tuple[str, ...]


Taken = Mapping[Case, tuple[float, ...]]  # what all aliases of a case took together, by sample


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure aliases that are read, and aliases that are connected."""
    yield from read(lab)
    yield from connected(lab)


def read(lab: Lab) -> Iterator[Line]:
    """Measure what it takes to read many aliases."""
    few, many = (Case(f"{count:,} aliases", count, ("environment", str(count))) for count in READ)
    in_file = Case(f"{few.name} in a .env", few.count, ("dotenv", str(few.count)))
    ms, kb = take(lab, (few, many, in_file))
    yield an_alias("read-time", "An alias read, processor time", "ms", ms, few)
    yield an_alias("read-memory", "An alias read, memory", "kB", kb, few)


def connected(lab: Lab) -> Iterator[Line | Curves]:
    """Measure what it takes to connect several aliases, each by a connection of its own."""
    place = lab.uri, lab.token
    cases = tuple(
        Case(f"{count} connected", count, ("connected", str(count), *place)) for count in CONNECTED
    )
    few = cases[CONNECTED.index(FEW)]
    ms, kb = take(lab, cases)
    yield an_alias("connected-time", "An alias connected, time", "ms", ms, few)
    yield together("aliases-time", "Aliases connected, time", "ms", ms)
    yield an_alias("connected-memory", "An alias connected, memory", "kB", kb, few)
    yield together("aliases-memory", "Aliases connected, memory", "kB", kb)


def take(lab: Lab, cases: tuple[Case, ...]) -> tuple[Taken, Taken]:
    """Return the milliseconds and the kilobytes that each case takes."""
    kb: dict[Case, list[float]] = {case: [] for case in cases}

    def sample_ms(case: Case) -> float:
        sample = json.loads(grow(*case.arguments))
        kb[case].append(sample["kb"])
        ms: float = sample["ms"]
        return ms

    programs = {case.name: partial(sample_ms, case) for case in cases}
    ms = interleave(programs, lab.rounds(_ROUNDS, few=1))
    # The first of each did not count.
    return {case: ms[case.name] for case in cases}, {case: tuple(kb[case][1:]) for case in cases}


def grow(*arguments: str) -> str:
    """Run `benchmarks.growing` in a fresh process, and return what it prints."""
    with tempfile.TemporaryDirectory() as directory:
        program = [sys.executable, "-m", "benchmarks.growing", *arguments]
        done = run(program, directory=Path(directory))
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def an_alias(name: str, title: str, unit: str, taken: Taken, few: Case) -> Line:
    """Return what one alias takes, which must not grow with their number."""
    many = max(taken, key=lambda case: case.count)
    line = Line(
        name=name,
        title=title,
        unit=f"{unit} an alias",
        samples={
            case.name: tuple(sample / case.count for sample in samples)
            for case, samples in taken.items()
        },
        goals=(Goal(many.name, few.name, at_most=_AT_MOST),),
        note=_NOTE,
    )
    return explained(line, lambda: grow(*many.arguments, "--profile"))


def together(name: str, title: str, unit: str, taken: Taken) -> Curves:
    """Return what all aliases take together, beside what would grow like their number."""
    counts = tuple(float(case.count) for case in taken)
    totals = tuple(statistics.median(samples) for samples in taken.values())
    linear = tuple(totals[-1] / counts[-1] * count for count in counts)
    return Curves(
        name=name,
        title=title,
        x_label="aliases",
        y_label=unit,
        x=counts,
        curves={"zconfig": totals, "linear": linear},
    )
