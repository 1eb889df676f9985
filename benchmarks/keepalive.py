"""Whether a server punishes the pings that an idle connection sends.

    python -m benchmarks.keepalive [seconds]

In the repository's directory. A real Milvus, and a gRPC server that tolerates what gRPC's own
default does, one ping in five minutes without a call, are each left alone for some minutes by
connections with the keepalive that they get by default, and with the shortest that can be set. A
server that minds answers GOAWAY, `too_many_pings`, which shows as another TCP connection.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.ears import Ears
from tests.support.registries import registry
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig import events
from zconfig.testing import fake_server

SECONDS = 130.0


@contextmanager
def real_milvus() -> Iterator[str]:
    """Serve a real Milvus, and return its URI."""
    with tempfile.TemporaryDirectory() as directory:
        server = RealMilvus(Path(directory))
        server.start()
        try:
            server.wait_ready()
            yield server.uri
        finally:
            server.stop()


def main() -> None:
    """Wait, and print what happened."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with ExitStack() as stack:
        uri = stack.enter_context(real_milvus())
        strict = stack.enter_context(fake_server())
        environ = {
            "ZILLIZ_MILVUS_URI": uri,
            "ZILLIZ_MILVUS_10_URI": uri,
            "ZILLIZ_MILVUS_10_KEEPALIVE": "10",
            "ZILLIZ_STRICT_300_URI": strict.uri,
            "ZILLIZ_STRICT_300_KEEPALIVE": "300",
            "ZILLIZ_STRICT_10_URI": strict.uri,
            "ZILLIZ_STRICT_10_KEEPALIVE": "10",
        }
        environ |= {f"ZILLIZ_{a}_TOKEN": CREDENTIALS for a in ("MILVUS", "MILVUS_10")}
        connections = stack.enter_context(registry(**environ))
        ears = Ears(connections)
        opened = connections.autoconnect()
        before = len(strict.peers())
        time.sleep(seconds)
        lost = [event.alias for event in ears.of(events.ConnectionLost)]
        for alias, connection in opened.items():
            print(f"{alias:>12}: ping {connection.ping():.1f} ms, lost {lost.count(alias)} times")
        print(f"connections to the strict server: {before} before, {len(strict.peers())} after")


if __name__ == "__main__":
    main()
