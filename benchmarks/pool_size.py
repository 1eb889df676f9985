"""When more than one HTTP/2 connection behind an alias pays: throughput by POOL_SIZE and threads.

    python -m benchmarks.pool_size [seconds]

In the repository's directory. Calls are made on a real Milvus through `connection.channel`, small
ones and ones of 1 MB, over pools of 1, 2, 4 and 8 connections; sizes take turns in each of several
rounds, so that what else the machine does falls on all alike. Shown is the median of each size's
throughput, as a ratio to a pool of one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus

SECONDS = 0.5
ROUNDS = 5
SIZES = (1, 2, 4, 8)
THREADS = (1, 4, 16, 64)
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
# A field that the request does not have, which the server reads and skips.
PAYLOADS = {"small": b"", "1 MB": b"\x7a\x80\x80\x40" + bytes(1 << 20)}


def main() -> None:
    """Measure, and print a table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as directory:
        server = RealMilvus(Path(directory))
        server.start()
        try:
            server.wait_ready()
            compare(server.uri, seconds)
        finally:
            server.stop()


def compare(uri: str, seconds: float) -> None:
    """Print a row for each size of message and number of threads."""
    environ: dict[str, str] = {}
    for size in SIZES:
        environ[f"ZILLIZ_P{size}_URI"] = uri
        environ[f"ZILLIZ_P{size}_TOKEN"] = CREDENTIALS
        environ[f"ZILLIZ_P{size}_POOL_SIZE"] = str(size)
    print(f"{'message':>8}{'threads':>9}{'calls/s':>9}" + "".join(f"{s:>8}" for s in SIZES))
    with registry(**environ) as connections:
        connections.autoconnect()
        stubs: dict[int, Any] = {
            s: connections[f"p{s}"].channel.unary_unary(GET_VERSION) for s in SIZES
        }
        for name, payload in PAYLOADS.items():
            for threads in THREADS:
                rates = dict.fromkeys(SIZES, 0.0)
                rounds = [
                    {size: rate(stubs[size], payload, threads, seconds) for size in SIZES}
                    for _ in range(ROUNDS)
                ]
                rates = {size: statistics.median(r[size] for r in rounds) for size in SIZES}
                ratios = "".join(f"{rates[size] / rates[1]:>8.2f}" for size in SIZES)
                print(f"{name:>8}{threads:>9}{rates[1]:>9.0f}{ratios}", flush=True)


def rate(stub: Any, payload: bytes, threads: int, seconds: float) -> float:
    """Return calls a second of so many threads."""
    counts = [0] * threads
    ends = time.monotonic() + seconds

    def call(number: int) -> None:
        while time.monotonic() < ends:
            stub(payload, timeout=30)
            counts[number] += 1

    workers = [threading.Thread(target=call, args=[number]) for number in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
