"""How soon after a server's return calls succeed again, and the return is reported.

    python -m benchmarks.recovery [outages]

In the repository's directory. A real Milvus is killed and started again; its start is not ours, so
time counts from the first answer that a fresh channel gets. Promised are 2 s at most.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from tests.support.ears import Ears
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig import events

OUTAGES = 5
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


def main() -> None:
    """Measure, and print a table."""
    outages = int(sys.argv[1]) if len(sys.argv) > 1 else OUTAGES
    with tempfile.TemporaryDirectory() as directory:
        server = RealMilvus(Path(directory))
        server.start()
        try:
            server.wait_ready()
            measure(server, outages)
        finally:
            server.stop()


def measure(server: RealMilvus, outages: int) -> None:
    """Have the server go and return several times, each outage longer than the one before."""
    environ = {"ZILLIZ_PROD_URI": server.uri, "ZILLIZ_PROD_TOKEN": CREDENTIALS}
    print(f"{'outage s':>10}{'call ms':>10}{'event ms':>10}")
    with registry(**environ) as connections:
        ears = Ears(connections)
        stub: Any = connections["prod"].channel.unary_unary(GET_VERSION)
        for number in range(1, outages + 1):
            server.stop()
            began = time.monotonic()
            ears.wait_for(events.ConnectionLost, number)
            time.sleep(2.0 ** (number - 1))
            server.start()
            called = Waiter(stub)
            server.wait_ready()
            back = time.monotonic()
            ears.wait_for(events.ConnectionRecovered, number)
            told_ms = (time.monotonic() - back) * 1e3
            called_ms = (called.succeeded_at() - back) * 1e3
            print(f"{back - began:>10.1f}{called_ms:>10.0f}{told_ms:>10.0f}", flush=True)


class Waiter:
    """Calls again and again in a thread until a call succeeds.

    Args:
        stub: Makes a call.
    """

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._at = 0.0
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def succeeded_at(self) -> float:
        """Wait for the first success, and return its monotonic instant."""
        self._thread.join()
        return self._at

    def _call(self) -> None:
        while not self._at:
            try:
                self._stub(b"", timeout=0.5)
            except grpc.RpcError:
                time.sleep(0.01)
            else:
                self._at = time.monotonic()


if __name__ == "__main__":
    main()
