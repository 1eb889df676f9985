"""What reading the configuration costs, as ratios in one run.

    python benchmarks/settings_cost.py

CPU time of `load`, the lowest of several interleaved runs: it grows in proportion to the number of
aliases, and a `.env` costs little more than the environment.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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
                "environment, 1,000": lambda: expect(FEW, few, empty),
                "environment, 10,000": lambda: expect(MANY, many, empty),
                ".env, 1,000": lambda: expect(FEW, {}, filled),
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


def expect(count: int, environ: dict[str, str], directory: Path) -> None:
    """Load, and make sure that everything was read: a fast mistake is no result."""
    configuration = load(environ, directory, system_secrets=str(directory / "none"), remote=False)
    if len(configuration.aliases) != count or configuration.problems:
        raise AssertionError(configuration.problems[:3])


def lowest_cpu_s(measured: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the lowest CPU time of each, in seconds; the runs take turns."""
    lowest = dict.fromkeys(measured, float("inf"))
    for _ in range(ROUNDS):
        for what, run in measured.items():
            gc.collect()
            started = time.process_time()
            run()
            lowest[what] = min(lowest[what], time.process_time() - started)
    return lowest


if __name__ == "__main__":
    main()
