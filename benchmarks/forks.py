"""What forks do to connections: a table in which every number of harm must be 0.

    python -m benchmarks.forks             # 1,000 forks a row, from the repository's root
    python -m benchmarks.forks 200 --real  # the real server besides

In each row a process with a connection forks: while it is idle, while it connects to a silent
server as well, or while four threads make calls. Each child makes calls through what it inherited:
the connection, a stub, and `connections`; where there is a silent server, it waits for it in vain.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import grpc

from tests.support.certificates import Certificates, write_certificates
from tests.support.faults import listening, swallow
from tests.support.forks import State, Tally, count_harm
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig.testing import fake_server

Environ = dict[str, str]
SILENT_S = "3"
A_FORK_S = 4.0


def main() -> None:
    """Fork in every state, and print a table; fail if there was any harm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("forks", type=int, nargs="?", default=1000, help="a row, 1000 by default")
    parser.add_argument("--real", action="store_true", help="the real server besides")
    chosen = parser.parse_args()
    print(
        f"{'server':12}{'state':12}{'forks':>7}{'hung':>6}{'crashed':>9}{'failed':>8}"
        f"{'calls':>8}{'failed':>8}{'longest call, ms':>18}{'longest fork, ms':>18}{'seconds':>9}"
    )
    with tempfile.TemporaryDirectory() as name:
        certificates = write_certificates(Path(name))
        servers = servers_of(certificates, real=chosen.real)
        harm = sum(
            measure(server, state, serve, chosen.forks)
            for server, serve in servers.items()
            for state in State
        )
    sys.exit(harm > 0)


Serve = Callable[[], AbstractContextManager[Environ]]


def servers_of(certificates: Certificates, *, real: bool) -> dict[str, Serve]:
    """Return the servers to try, by name."""
    servers: dict[str, Serve] = {
        "fake": serve_fake,
        "fake, TLS": partial(serve_fake, certificates),
    }
    if real:
        servers |= {"real": serve_real, "real, TLS": partial(serve_real, certificates)}
    return servers


def measure(server: str, state: State, serve: Serve, forks: int) -> int:
    """Print a row, and return how much went wrong."""
    begun = time.monotonic()
    with serve() as environ, listening(swallow) as silent:
        if state is State.CONNECTING:
            environ["ZILLIZ_SILENT_URI"] = f"http://127.0.0.1:{silent}"
            environ["ZILLIZ_SILENT_TIMEOUT"] = SILENT_S
        tally = count_harm(state, forks, environ, timeout_s=60 + forks * A_FORK_S)
    print(row(server, state, tally, time.monotonic() - begun), flush=True)
    for reason in sorted(set(tally.reasons)):
        print(f"    {tally.reasons.count(reason)} x {reason}")
    return tally.harm


def row(server: str, state: State, tally: Tally, elapsed_s: float) -> str:
    """Return a line of the table."""
    return (
        f"{server:12}{state:12}{tally.forks:>7}{tally.hung:>6}{tally.crashed:>9}{tally.failed:>8}"
        f"{tally.calls:>8}{tally.failed_calls:>8}{tally.longest_call_ms:>18.0f}"
        f"{tally.longest_fork_ms:>18.0f}{elapsed_s:>9.0f}"
    )


@contextmanager
def serve_fake(certificates: Certificates | None = None) -> Iterator[Environ]:
    """Serve a fake Milvus, with TLS if there are certificates."""
    if certificates is None:
        with fake_server() as server:
            yield {"ZILLIZ_URI": server.uri}
        return
    pair = certificates.server.key.read_bytes(), certificates.server.cert.read_bytes()
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        yield {"ZILLIZ_URI": server.uri, "ZILLIZ_TLS_CA": str(certificates.ca)}


@contextmanager
def serve_real(certificates: Certificates | None = None) -> Iterator[Environ]:
    """Serve a real Milvus with authorization, and with TLS if there are certificates."""
    with tempfile.TemporaryDirectory() as name:
        tls = certificates.server_tls(1) if certificates else None
        server = RealMilvus(Path(name), tls=tls)
        environ = {"ZILLIZ_URI": server.uri, "ZILLIZ_TOKEN": CREDENTIALS}
        if certificates:
            environ["ZILLIZ_TLS_CA"] = str(certificates.ca)
        server.start()
        try:
            server.wait_ready()
            yield environ
        finally:
            server.stop()


if __name__ == "__main__":
    main()
