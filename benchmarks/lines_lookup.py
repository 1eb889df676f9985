"""What it costs to look up an alias that is connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from timeit import Timer
from typing import Any

from benchmarks.lines import Curves, Goal, Lab, Line, explained, interleave
from benchmarks.profiling import called
from tests.support.registries import registry

_IN_A_ROW, _TIMES, _ROUNDS = 20, 1000, 51
_STATEMENT = "; ".join(['it["x"]'] * _IN_A_ROW)


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure lookups."""
    with registry(ZILLIZ_X_URI=lab.uri, ZILLIZ_X_TOKEN=lab.token) as connections:
        plain = {"x": connections["x"]}
        programs = {"zconfig": _lookup_ns(connections), "dict": _lookup_ns(plain)}
        line = Line(
            name="lookup",
            title='`connections["x"]` of an alias that is connected',
            unit="ns",
            samples=interleave(programs, lab.rounds(_ROUNDS)),
            goals=(Goal("zconfig", "dict", at_most=5),),
            note=f"{_IN_A_ROW} lookups in a row, so that the loop around them counts for little.",
        )
        yield explained(line, lambda: called(programs["zconfig"]))


def _lookup_ns(mapping: Any) -> Callable[[], float]:
    """Return what measures a lookup, in nanoseconds."""
    timer = Timer(_STATEMENT, globals={"it": mapping})
    return lambda: timer.timeit(_TIMES) / (_TIMES * _IN_A_ROW) * 1e9
