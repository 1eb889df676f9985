"""What a round trip of 40 ms leaves of the time to connect, and to get a client."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pymilvus
from pymilvus import MilvusClient

import zconfig
from benchmarks.lines import ROUND_TRIP_MS, Curves, Goal, Lab, Line, explained, interleave
from benchmarks.profiling import called
from benchmarks.traffic import authorization
from tests.support.registries import registry
from zconfig._channel.messages import CONNECT, ConnectRequest

_ALIASES = 20
_ROUNDS_OF_ALIASES, _ROUNDS_OF_CLIENTS = 7, 15
_ONE, _MANY = "1 alias", f"{_ALIASES} aliases"


def measure(lab: Lab) -> Iterator[Line | Curves]:
    """Measure."""
    yield aliases(lab)
    yield clients(lab)


def aliases(lab: Lab) -> Line:
    """Measure how long it takes to connect one alias, and many."""
    uris = lab.far_uris(_ALIASES)
    line = Line(
        name="aliases-far",
        title=f"{_ALIASES} aliases connected, at a round trip of {ROUND_TRIP_MS} ms",
        unit="ms",
        samples=interleave(
            {
                f"zconfig, {_MANY}": lambda: autoconnect_ms(uris, lab.token),
                f"zconfig, {_ONE}": lambda: autoconnect_ms(uris[:1], lab.token),
                f"pymilvus, {_MANY}": lambda: pymilvus_ms(uris, lab.token),
                f"pymilvus, {_ONE}": lambda: pymilvus_ms(uris[:1], lab.token),
                f"floor, {_MANY}": lambda: floor_ms(uris, lab.token),
                f"floor, {_ONE}": lambda: floor_ms(uris[:1], lab.token),
            },
            lab.rounds(_ROUNDS_OF_ALIASES),
        ),
        goals=(Goal(f"zconfig, {_MANY}", f"zconfig, {_ONE}", at_most=1.3),),
        note=(
            "Each alias has an address, and so a connection, of its own. `zconfig.autoconnect()`; "
            "with pymilvus a loop of `connections.connect`: it has nothing else. The floor is a "
            "bare channel and one Connect call, each in a thread: what it takes longer for many "
            "is gRPC's, the server's and the proxies'. A connect is three round trips: TCP, the "
            "settings of HTTP/2, the call."
        ),
    )
    return explained(line, lambda: _profile(uris, lab.token))


def autoconnect_ms(uris: Sequence[str], token: str) -> float:
    """Connect an alias for each URI, and return how long it took, in milliseconds."""
    with registry(**_environ(uris, token)) as connections:
        return _ms(connections.autoconnect)


def _profile(uris: Sequence[str], token: str) -> str:
    """Return what the threads that connect do while the others wait for the interpreter.

    Here one thread does it all, an alias after the other, and its waiting does not count.
    """
    with registry(**_environ(uris, token)) as connections:
        return called(lambda: [connections[alias] for alias in connections], time.thread_time)


def _environ(uris: Sequence[str], token: str) -> dict[str, str]:
    environ = {f"ZILLIZ_A{number}_URI": uri for number, uri in enumerate(uris)}
    return environ | {f"ZILLIZ_A{number}_TOKEN": token for number in range(len(uris))}


def pymilvus_ms(uris: Sequence[str], token: str) -> float:
    """Do the same with pymilvus."""
    connect, disconnect = pymilvus.connections.connect, pymilvus.connections.disconnect
    with warnings.catch_warnings(action="ignore"), ExitStack() as stack:

        def connect_all() -> None:
            for number, uri in enumerate(uris):
                connect(f"a{number}", uri=uri, token=token)
                stack.callback(disconnect, f"a{number}")

        return _ms(connect_all)


def floor_ms(uris: Sequence[str], token: str) -> float:
    """Do the same by hand."""
    request, metadata = ConnectRequest().encode(), (authorization(token),)
    with ExitStack() as stack:

        def connect(uri: str) -> None:
            channel = stack.enter_context(grpc.insecure_channel(uri.removeprefix("http://")))
            call: Any = channel.unary_unary(CONNECT)
            call(request, timeout=10, metadata=metadata)

        def connect_all() -> None:
            with ThreadPoolExecutor(len(uris)) as threads:
                for _ in threads.map(connect, uris):
                    pass

        return _ms(connect_all)


def clients(lab: Lab) -> Line:
    """Measure how long it takes to get the first client of an address."""
    rounds = lab.rounds(_ROUNDS_OF_CLIENTS)
    uris = iter(lab.far_uris(2 * (rounds + 1)))
    line = Line(
        name="client-far",
        title=f"A pymilvus client of an alias, at a round trip of {ROUND_TRIP_MS} ms",
        unit="ms",
        samples=interleave(
            {
                "zconfig": lambda: our_client_ms(next(uris), lab.token),
                "pymilvus": lambda: their_client_ms(next(uris), lab.token),
            },
            rounds,
        ),
        goals=(Goal("zconfig", "pymilvus", at_most=0.1),),
        note=(
            "`zconfig.client(alias)` of an alias that is connected, and pymilvus' "
            "`MilvusClient(uri, token)`, each the first of its address: more of them cost both "
            "next to nothing."
        ),
    )
    return explained(line, lambda: called(lambda: our_client_ms(lab.far_uri, lab.token)))


def our_client_ms(uri: str, token: str) -> float:
    """Connect an alias, and return how long it then takes to get its client, in milliseconds."""
    with zconfig.connections.override({"x": {"uri": uri, "token": token}}):
        zconfig.autoconnect("x")
        return _ms(lambda: zconfig.client("x"))


def their_client_ms(uri: str, token: str) -> float:
    """Return how long it takes to make pymilvus' client, in milliseconds."""
    made: list[MilvusClient] = []
    try:
        return _ms(lambda: made.append(MilvusClient(uri, token=token)))
    finally:
        for client in made:
            client.close()


def _ms(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e3
