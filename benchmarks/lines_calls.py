"""What a call through our channel costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc

from benchmarks.answering import answering
from benchmarks.lines import Curves, Goal, Lab, Line, explained, interleave
from benchmarks.profiling import called, sampled
from benchmarks.traffic import authorization, rate
from tests.support.registries import registry
from zconfig._connection import Connection

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
TIMEOUT_S = 30
THREADS = (1, 16)
_SLICE_S, _ROUNDS = 0.05, 120
_CALLS, _ROUNDS_OF_CPU = 100, 45
_PROFILED_S = 1.0

_NOTE = """\
`GetVersion` through `connection.channel`. The floor is a bare stub on a bare channel, whose \
metadata, the same, is made beforehand. Another such channel is the measure of chance: it does \
what the floor does. Slices of {slice_s:g} s take turns."""

Call = Callable[[], object]


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure throughput on two servers, and the processor's time of a call."""
    with answering() as uri, calls(uri, lab.token) as programs:
        title = "a server that does nothing but answer"
        for threads in THREADS:
            yield throughput(lab, programs, threads, "answering", title)
        yield cpu_time(lab, programs)
    with calls(lab.uri, lab.token) as programs:
        for threads in THREADS:
            yield throughput(lab, programs, threads, "milvus", "Milvus")


@contextmanager
def calls(uri: str, token: str) -> Iterator[dict[str, Call]]:
    """Return, by program, what makes one call to a server."""
    address = uri.removeprefix("http://")
    with (
        registry(ZILLIZ_X_URI=uri, ZILLIZ_X_TOKEN=token) as connections,
        grpc.insecure_channel(address, [("benchmark.channel", 1)]) as one,
        grpc.insecure_channel(address, [("benchmark.channel", 2)]) as another,
    ):
        connection = connections["x"]
        ours: Any = connection.channel.unary_unary(GET_VERSION)
        metadata = _metadata(connection, token)
        yield {
            "zconfig": partial(ours, b"", timeout=TIMEOUT_S),
            "floor": _bare(one, metadata),
            "floor, another": _bare(another, metadata),
        }


def throughput(lab: Lab, programs: dict[str, Call], threads: int, server: str, title: str) -> Line:
    """Measure calls a second."""
    plural = "s" if threads > 1 else ""
    slices = {name: _a_slice(call, threads) for name, call in programs.items()}
    line = Line(
        name=f"calls-{server}-{threads}",
        title=f"Unary calls from {threads} thread{plural}, to {title}",
        unit="calls/s",
        samples=interleave(slices, lab.rounds(_ROUNDS)),
        goals=(Goal("zconfig", "floor", at_least=0.95),),
        note=_NOTE.format(slice_s=_SLICE_S),
    )
    return explained(line, lambda: _profile(programs["zconfig"], threads))


def cpu_time(lab: Lab, programs: dict[str, Call]) -> Line:
    """Measure what a call takes of the processor in this process, whatever the server does."""
    return Line(
        name="calls-cpu",
        title="What one unary call takes of the processor, in the calling process",
        unit="us",
        samples=interleave(
            {name: partial(_cpu_us, call) for name, call in programs.items()},
            lab.rounds(_ROUNDS_OF_CPU),
        ),
        note=f"A thread makes {_CALLS} calls in a row. gRPC's own threads are in it.",
    )


def _metadata(connection: Connection, token: str) -> tuple[tuple[str, str], ...]:
    """Return what each call carries: the credentials, and the session's number."""
    return authorization(token), ("identifier", str(connection.server.identifier))


def _bare(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> Call:
    stub: Any = channel.unary_unary(GET_VERSION)
    return partial(stub, b"", timeout=TIMEOUT_S, metadata=metadata)


def _a_slice(call: Call, threads: int) -> Callable[[], float]:
    return lambda: rate(call, threads, _SLICE_S)


def _cpu_us(call: Call) -> float:
    began = time.process_time()
    for _ in range(_CALLS):
        call()
    return (time.process_time() - began) / _CALLS * 1e6


def _profile(call: Call, threads: int) -> str:
    if threads > 1:
        return sampled(lambda: rate(call, threads, _PROFILED_S))

    def calls_in_a_row() -> None:
        end = time.monotonic() + _PROFILED_S
        while time.monotonic() < end:
            call()

    return called(calls_in_a_row)
