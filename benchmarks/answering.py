"""A server that does nothing but answer, in a process of its own.

    python -m benchmarks.answering

It prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from tests.support.faults import LOOPBACK, MILVUS
from tests.support.processes import REPOSITORY
from zconfig._channel.messages import ConnectReply, ServerInfo, VersionReply

_VERSION = "2.6.1"
_ANSWERS = {
    "Connect": ConnectReply(server_info=ServerInfo(build_tags=_VERSION), identifier=1).encode(),
    "GetVersion": VersionReply(version=_VERSION).encode(),
}


@contextmanager
def answering() -> Iterator[str]:
    """Run the server, and return its URI."""
    with subprocess.Popen(  # our own module, by our own interpreter
        [sys.executable, "-m", "benchmarks.answering"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        port = process.stdout.readline().strip() if process.stdout else ""  # it is a pipe
        yield f"http://{LOOPBACK}:{port}"


async def _serve() -> None:
    server = grpc.aio.server()
    handlers = {name: _handler(answer) for name, answer in _ANSWERS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(MILVUS, handlers),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def _handler(answer: bytes) -> Any:
    async def method(_request: bytes, _context: object) -> bytes:
        return answer

    return grpc.unary_unary_rpc_method_handler(method)


if __name__ == "__main__":
    asyncio.run(_serve())
