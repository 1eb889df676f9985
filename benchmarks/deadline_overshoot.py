"""How far a connect that fails goes over its deadline, for each way to fail.

    python -m benchmarks.deadline_overshoot [rounds]

In the repository's directory. Each cell of the matrix in `tests/support/matrix.py` is dialed with a
timeout of half a second, once without and once with a wait of one second for what may pass; what is
promised is that none takes a quarter of a second more. The worst of several rounds is shown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from tests.support.certificates import Certificates, write_certificates
from tests.support.matrix import CELLS, Cell
from tests.support.registries import registry

ROUNDS = 3
TIMEOUT_S, WAIT_S = 0.5, 1.0
PROMISED_MS = 250.0


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        certificates = write_certificates(Path(directory))
        worst_ms = max(show(cell, certificates, rounds) for cell in CELLS)
    print(f"\nworst overshoot {worst_ms:.0f} ms; promised are {PROMISED_MS:.0f} ms at most")


def show(cell: Cell, certificates: Certificates, rounds: int) -> float:
    """Measure a cell, print its row, and return its worst overshoot in milliseconds."""
    taken_s = [
        max(elapsed_s(cell, certificates, wait_s) for _ in range(rounds))
        for wait_s in (0.0, WAIT_S)
    ]
    ends_s = (TIMEOUT_S, WAIT_S)
    over_ms = [max(0.0, taken - end) * 1e3 for taken, end in zip(taken_s, ends_s, strict=True)]
    row = [
        f"{taken * 1e3:>8.0f} ms{over:>+7.0f}" for taken, over in zip(taken_s, over_ms, strict=True)
    ]
    print(f"{cell.name:45}{cell.error.cause:24}{''.join(row)}", flush=True)
    return max(over_ms)


def elapsed_s(cell: Cell, certificates: Certificates, wait_s: float) -> float:
    """Return how many seconds a connect takes to fail as it should."""
    with cell.environ(certificates, TIMEOUT_S) as environ, registry(**environ) as connections:
        began = time.monotonic()
        outcome = connections.attempt("prod", wait=wait_s)["prod"]
        elapsed = time.monotonic() - began
    if type(outcome) is not cell.error:
        print(f"{cell.name}: {outcome!r}", file=sys.stderr)
    return elapsed


if __name__ == "__main__":
    # What the servers of the matrix say of their peers is not the point.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    main()
