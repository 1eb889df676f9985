"""The command; see the package."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.soak.driver import StuckError
from benchmarks.soak.report import report, rows
from benchmarks.soak.soak import Plan, soak, two_servers
from benchmarks.soak.troubles import KINDS
from benchmarks.soak.values import Summary
from benchmarks.soak.verdict import broken
from tests.support.processes import REPOSITORY

_MOST_LINES = 40
_KEPT_LOGS = REPOSITORY / "build" / "soak"
"""Where the log of an application is kept whose soak failed, with the stacks of what was stuck."""


def main() -> int:
    """Run a soak, and return its exit code."""
    plan, summary = _arguments()
    options = f"--minutes {plan.seconds / 60:g} --seed {plan.seed} --threads {plan.threads}"
    options += " --lite" * plan.with_lite
    again = f"python -m benchmarks.soak {options}"
    _say(f"{again}\n")
    with tempfile.TemporaryDirectory(prefix="soak-") as name, two_servers(Path(name)) as servers:
        directory = Path(name) / "application"
        directory.mkdir()
        try:
            record = soak(plan, directory, servers, _say)
        except StuckError as error:
            happened, faults = [], [str(error)]
        else:
            happened, faults = list(rows(record)), broken(record)
            _say(f"\n{report(record)}")
        log = directory / "application.log"
        kept = _keep(log, plan.seed) if faults else log
    if summary:
        _write(summary, Summary(plan.seconds / 60, plan.seed, tuple(happened), tuple(faults)))
    if faults:
        _say(f"\n{len(faults)} faults:")
        for fault in faults[:_MOST_LINES]:
            _say(f"    {fault}")
        _say(f"\nthe application's log: {kept}\nto repeat it: {again}")
    else:
        _say("\nnothing was lost, nothing has grown")
    return 1 if faults else 0


def _arguments() -> tuple[Plan, Path | None]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="after the warm-up")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--threads", type=int, default=6, help="as many tasks call besides")
    parser.add_argument("--lite", action="store_true", help="Milvus Lite besides, and no forks")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write it there, as JSON")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if not (given.lite and kind == "fork")]
    plan = Plan(60 * given.minutes, given.seed, given.threads, kinds, given.lite)
    return plan, given.summary


def _write(path: Path, summary: Summary) -> None:
    path.write_text(json.dumps(asdict(summary)), encoding="utf-8")


def _keep(log: Path, seed: int) -> Path:
    _KEPT_LOGS.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(log, _KEPT_LOGS / f"{seed}.log"))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
