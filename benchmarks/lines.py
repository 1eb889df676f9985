"""What a benchmark yields, and what all benchmarks share.

A module of lines has `measure(lab: Lab) -> Iterator[Line | Curves]`, and is listed in
`benchmarks.__main__`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from tests.support.processes import REPOSITORY
from tests.support.servers import CREDENTIALS, RealMilvus

ROUND_TRIP_MS = 40
Statistic = Literal["median", "least"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a program is held to, as a ratio to another one.

    Args:
        program: Whose samples.
        against: To whose.
        at_most: The ratio's upper bound.
        at_least: Its lower bound.
    """

    program: str
    against: str
    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, ratio: float) -> bool:
        """Whether a ratio is within the bounds.

        Example:
            >>> Goal("zconfig", "floor", at_most=1.25).met_by(1.26)
            False
        """
        low = self.at_least is None or ratio >= self.at_least
        return low and (self.at_most is None or ratio <= self.at_most)


@dataclass(frozen=True, slots=True)
class Line:
    """Several programs that do the same, measured by turns.

    Args:
        name: A slug, e.g. `cold-connect`.
        title: What they do.
        unit: Of the samples, e.g. `ms`.
        samples: By program, e.g. `zconfig`, `pymilvus`, `floor`: see `interleave`.
        goals: What the issue asks for.
        note: What one should know to read the figures.
        profile: Where the time goes, if a goal was missed: see `explained`.
        statistic: Which of a program's samples counts. The least of several processor times hardly
            moves on a shared machine.
    """

    name: str
    title: str
    unit: str
    samples: Mapping[str, tuple[float, ...]]
    goals: tuple[Goal, ...] = ()
    note: str = ""
    profile: str = ""
    statistic: Statistic = "median"

    def typical(self, program: str) -> float:
        """Return the sample of a program that counts."""
        samples = self.samples[program]
        return min(samples) if self.statistic == "least" else statistics.median(samples)


@dataclass(frozen=True, slots=True)
class Curves:
    """How something grows.

    Args:
        name: A slug.
        title: What grows.
        x_label: What `x` is, with its unit.
        y_label: What the curves are, with their unit.
        x: Where it was measured.
        curves: What was measured there, by what it is.
        goals: What the issue asks for; of a curve the median of its values counts.
        note: As for `Line`.
        profile: As for `Line`.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    curves: Mapping[str, tuple[float, ...]]
    goals: tuple[Goal, ...] = ()
    note: str = ""
    profile: str = ""

    @property
    def samples(self) -> Mapping[str, tuple[float, ...]]:
        """The curves, under the name that a line's samples have."""
        return self.curves

    def typical(self, program: str) -> float:
        """Return the median of a curve's values."""
        return statistics.median(self.curves[program])


Measured = TypeVar("Measured", Line, Curves)


def ratio(measured: Line | Curves, goal: Goal) -> float:
    """Return the ratio that a goal is about.

    Example:
        >>> line = Line("a", "A", "ms", {"zconfig": (3, 9, 1), "floor": (2, 2, 2)})
        >>> ratio(line, Goal("zconfig", "floor", at_most=2))
        1.5
    """
    return measured.typical(goal.program) / measured.typical(goal.against)


def missed(measured: Line | Curves) -> tuple[Goal, ...]:
    """Return the goals that were not met."""
    return tuple(goal for goal in measured.goals if not goal.met_by(ratio(measured, goal)))


def explained(measured: Measured, profile: Callable[[], str]) -> Measured:
    """Return it with a profile, which is made only if a goal was missed."""
    return replace(measured, profile=profile().strip()) if missed(measured) else measured


def interleave(
    programs: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, tuple[float, ...]]:
    """Measure programs by turns, so that what else the machine does falls on all alike.

    Before the first round each runs once, uncounted. From round to round another one begins, and
    the order turns about.

    Args:
        programs: By name what runs one, and returns what it measured.
        rounds: How often each is measured.

    Example:
        >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, rounds=2)
        {'a': (1.0, 1.0), 'b': (2.0, 2.0)}
    """
    names = list(programs)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        programs[name]()
    for number in range(rounds):
        first = number % len(names)
        order = names[first:] + names[:first]
        for name in reversed(order) if number % 2 else order:
            samples[name].append(programs[name]())
    return {name: tuple(values) for name, values in samples.items()}


@dataclass(frozen=True)
class Lab:
    """What the benchmarks share; it is made when it is asked for, and taken down by `lab`.

    Args:
        quick: Whether an indication is enough: a few rounds.
    """

    quick: bool = False
    token: str = CREDENTIALS
    python: str = sys.executable
    _stack: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def rounds(self, many: int, few: int = 3) -> int:
        """Return how many rounds to measure."""
        return few if self.quick else many

    @cached_property
    def server(self) -> RealMilvus:
        """A real server that demands credentials, ready."""
        server = RealMilvus(self.directory / "milvus")
        self._stack.callback(server.stop)
        server.start()
        server.wait_ready()
        return server

    @property
    def uri(self) -> str:
        """Where the real server is; it accepts `token`."""
        return self.server.uri

    @cached_property
    def far_uri(self) -> str:
        """Where the same server is, at a round trip of `ROUND_TRIP_MS`."""
        (uri,) = self.far_uris(1)
        return uri

    def far_uris(self, count: int) -> tuple[str, ...]:
        """Return so many more endpoints that lead to it, each at `ROUND_TRIP_MS`."""
        arguments = [str(self.server.port), str(ROUND_TRIP_MS / 2), str(count)]
        proxies = self._stack.enter_context(
            subprocess.Popen(  # noqa: S603 - our own source, by our own interpreter
                [self.python, "-m", "benchmarks.distance", *arguments],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert proxies.stdout  # noqa: S101 - it is a pipe
        return tuple(f"http://127.0.0.1:{port}" for port in proxies.stdout.readline().split())

    @cached_property
    def directory(self) -> Path:
        """A directory outside the repository, without a `.env`; programs run in it."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory()))


@contextmanager
def lab(*, quick: bool = False) -> Iterator[Lab]:
    """Make a lab, and take it down."""
    with ExitStack() as stack:
        yield Lab(quick, _stack=stack)
