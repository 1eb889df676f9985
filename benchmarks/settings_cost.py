"""What reading the configuration costs, as ratios in one run.

    python benchmarks/settings_cost.py

CPU time of what `import zconfig` does for an application besides importing: it reads the sources,
and makes the table of the connections. It grows in proportion to the number of aliases, and a
`.env` costs little more than the environment.

The lowest of several rounds counts. In each, everything is measured for about as long: where
others use the machine as well, a short run has the better chance of being left alone.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from zconfig.registry.table import Table
from zconfig.settings.load import load

ROUNDS = 9
FEW, MANY = 1_000, 10_000


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        empty, filled = directory / "empty", directory / "filled"
        for each in (empty, filled):
            each.mkdir()
        few, many = variables(FEW), variables(MANY)
        text = "".join(f"{key}={value}\n" for key, value in few.items())
        (filled / ".env").write_text(text, encoding="utf-8")
        costs = lowest_cpu_s(
            {
                "environment, 1,000": (lambda: read(FEW, few, empty), MANY // FEW),
                "environment, 10,000": (lambda: read(MANY, many, empty), 1),
                ".env, 1,000": (lambda: read(FEW, {}, filled), MANY // FEW),
            }
        )
    base = costs["environment, 1,000"]
    print(f"{'aliases':24}{'CPU ms':>10}{'ratio':>10}")
    for what, cost in costs.items():
        print(f"{what:24}{cost * 1e3:>10.1f}{cost / base:>10.2f}")


def variables(count: int) -> dict[str, str]:
    """Return the environment of so many aliases, each with a URI and a token."""
    uris = {f"ZILLIZ_A{n}_URI": f"https://db{n}.example:19530" for n in range(count)}
    return uris | {f"ZILLIZ_A{n}_TOKEN": f"user:password-{n}" for n in range(count)}


def read(count: int, environ: dict[str, str], directory: Path) -> Table:
    """Read, and make sure that everything was: a fast mistake is no result."""
    table = Table(load(environ, directory, system_secrets=str(directory / "none"), remote=False))
    if len(table) != count or table.configuration.problems:
        raise AssertionError(table.configuration.problems[:3])
    return table


def lowest_cpu_s(measured: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Return the lowest CPU time of each, in seconds.

    Args:
        measured: By name what is run, and how often in each round.
    """
    lowest = dict.fromkeys(measured, float("inf"))
    for _ in range(ROUNDS):
        for what, (run, times) in measured.items():
            lowest[what] = min(lowest[what], sum(cpu_s(run) for _ in range(times)) / times)
    return lowest


def cpu_s(run: Callable[[], object]) -> float:
    """Return the CPU time of one run, in seconds, without that of taking its result down."""
    gc.collect()
    started = time.process_time()
    result = run()
    spent = time.process_time() - started
    del result
    return spent


if __name__ == "__main__":
    main()
