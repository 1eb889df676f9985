"""When more than one HTTP/2 connection behind an alias pays."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from benchmarks.lines import Curves, Lab, Line, interleave
from benchmarks.lines_calls import GET_VERSION, TIMEOUT_S
from benchmarks.traffic import rate
from tests.support.registries import registry

SIZES = (1, 2, 4, 8)
THREADS = (1, 4, 16, 64)
# A field that the request does not have, which the server reads and skips.
PAYLOADS = {"small": b"", "1 MB": b"\x7a\x80\x80\x40" + bytes(1 << 20)}
_SLICE_S, _ROUNDS = 0.3, 5


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure calls a second, by POOL_SIZE, threads and size of the messages."""
    environ: dict[str, str] = {}
    for size in SIZES:
        environ[f"ZILLIZ_P{size}_URI"] = lab.uri
        environ[f"ZILLIZ_P{size}_TOKEN"] = lab.token
        environ[f"ZILLIZ_P{size}_POOL_SIZE"] = str(size)
    with registry(**environ) as connections:
        opened = connections.autoconnect()
        stubs = {size: opened[f"p{size}"].channel.unary_unary(GET_VERSION) for size in SIZES}
        for name, payload in PAYLOADS.items():
            calls = {
                f"POOL_SIZE={size}": partial(stub, payload, timeout=TIMEOUT_S)
                for size, stub in stubs.items()
            }
            yield throughput(lab, name, calls)


def throughput(lab: Lab, message: str, calls: Mapping[str, Callable[[], object]]) -> Curves:
    """Measure one size of messages."""
    rates = [_medians(lab, calls, threads) for threads in THREADS]
    slug = message.lower().replace(" ", "-")
    return Curves(
        name=f"pool-{slug}",
        title=f"Calls through several HTTP/2 connections, {message} messages",
        x_label="threads",
        y_label="calls/s",
        x=THREADS,
        curves={name: tuple(each[name] for each in rates) for name in calls},
        note="`GetVersion` through `connection.channel` on Milvus, on the same machine.",
    )


def _medians(lab: Lab, calls: Mapping[str, Callable[[], object]], threads: int) -> dict[str, float]:
    slices = {name: partial(rate, call, threads, _SLICE_S) for name, call in calls.items()}
    measured = interleave(slices, lab.rounds(_ROUNDS, few=1))
    return {name: statistics.median(samples) for name, samples in measured.items()}
