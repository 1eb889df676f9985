"""The programs that are measured, each in a process of its own, with nothing but its job in it.

Those that connect find the server in `ZILLIZ_URI`, the credentials in `ZILLIZ_TOKEN`.
"""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.lines import Lab
from zconfig import __version__
from zconfig._channel.messages import CONNECT, ClientInfo, ConnectRequest

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")

# The clock is the same in all processes of a machine.
_NOW = "import time\nprint(time.monotonic(), flush=True)\n"
_WAIT = "import sys\nsys.stdin.read()\n"

# For each line that it is sent, a worker does its job once, and tells how many seconds it took.
_WORK = """
import sys, time
for _ in sys.stdin:
    began = time.monotonic()
    work()
    print(time.monotonic() - began, flush=True)
"""

NOTHING = ""
IMPORT = "import zconfig\n"
IMPORT_FLOORS = {
    "floor": "import pydantic_settings\n",
    "floor with structlog": "import pydantic_settings, structlog\n",
}

_CALL = f"""
def call(channel):
    metadata = [("authorization", os.environ["AUTHORIZATION"])]
    request = bytes.fromhex(os.environ["REQUEST"])
    channel.unary_unary("{CONNECT}")(request, timeout=10, metadata=metadata)
"""

COLD = {
    "zconfig": """
import zconfig
zconfig.autoconnect()
""",
    "pymilvus": """
import os
from pymilvus import connections
connections.connect(uri=os.environ["ZILLIZ_URI"], token=os.environ["ZILLIZ_TOKEN"])
""",
    **{
        name: f"""
import os
import grpc, {modules}
{_CALL}
channel = grpc.insecure_channel(os.environ["TARGET"])
call(channel)
"""
        for name, modules in (
            ("floor", "pydantic_settings"),
            ("floor with structlog", "pydantic_settings, structlog"),
        )
    },
}
"""From nothing to a connected alias."""

COMMANDS = {
    "zconfig check": ("-m", "zconfig", "check"),
    "zconfig --help": ("-m", "zconfig", "--help"),
}
"""What Python is told to run the command."""

STEPS = {
    "import pydantic_settings": "import pydantic_settings\n",
    "import grpc": "import grpc\n",
    "import zconfig": "import zconfig\n",
    "import zconfig._connection": "import zconfig._connection\n",
    "zconfig.autoconnect()": "zconfig.autoconnect()\n",
}
"""The first of these, step by step."""

WARM = {
    "zconfig": """
import zconfig
def work():
    zconfig.connections.connect()
    zconfig.connections.disconnect("default")
""",
    "pymilvus": """
import os
from pymilvus import connections
def work():
    connections.connect(uri=os.environ["ZILLIZ_URI"], token=os.environ["ZILLIZ_TOKEN"])
    connections.disconnect("default")
""",
    "floor": f"""
import os
import grpc
{_CALL}
def work():
    with grpc.insecure_channel(os.environ["TARGET"]) as channel:
        call(channel)
""",
}
"""Define `work`, which connects and disconnects."""


def environment(lab: Lab, *, connected: bool = True) -> dict[str, str]:
    """Return the environment of a program.

    Args:
        lab: Where the server is.
        connected: Whether the program connects.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    kept["PYTHONWARNINGS"] = "ignore"  # pymilvus warns of its own deprecated methods
    if not connected:
        return kept
    user, _, _ = lab.token.partition(":")
    client = ClientInfo(
        sdk_type="Python",
        sdk_version=f"zconfig-{__version__}",
        local_time="2026-01-01 00:00:00.000000+00:00",
        user=user,
        host="localhost",
    )
    return kept | {
        "ZILLIZ_URI": lab.uri,
        "ZILLIZ_TOKEN": lab.token,
        "TARGET": lab.uri.removeprefix("http://"),
        "AUTHORIZATION": base64.b64encode(lab.token.encode()).decode(),
        "REQUEST": ConnectRequest(client).encode().hex(),
    }


def stored(lab: Lab, name: str, source: str) -> Path:
    """Write a program to a file, and return its path."""
    path = lab.directory / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    return path


class Usage(NamedTuple):
    """What a process took, from its start.

    Args:
        wall_ms: Until its last line, or its end.
        cpu_ms: Of the processor, in all its threads.
    """

    wall_ms: float
    cpu_ms: float


def run_program(lab: Lab, name: str, source: str, environ: Mapping[str, str]) -> Usage:
    """Run a program, and return what it took until its last line."""
    return _run(lab, (str(stored(lab, name, source + _NOW)),), environ, says_when=True)


def run_command(lab: Lab, arguments: Sequence[str], environ: Mapping[str, str]) -> Usage:
    """Run Python with arguments, and return what it took until its end."""
    return _run(lab, arguments, environ, says_when=False)


def _run(
    lab: Lab, arguments: Sequence[str], environ: Mapping[str, str], *, says_when: bool
) -> Usage:
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - a program of ours
        [lab.python, *arguments], env=environ, cwd=lab.directory, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout  # noqa: S101 - it is a pipe
    with process.stdout:
        told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, told)
    ended = float(told) if says_when else time.monotonic()
    return Usage((ended - began) * 1e3, (used.ru_utime + used.ru_stime) * 1e3)


@contextmanager
def waiting(lab: Lab, name: str, source: str, environ: Mapping[str, str]) -> Iterator[int]:
    """Run a program, and return its process' number once it has come to its last line."""
    with _talking(lab, name, source + _NOW + _WAIT, environ) as process:
        assert process.stdout  # noqa: S101 - it is a pipe
        if not process.stdout.readline():
            raise RuntimeError(f"{name} ended too early")
        yield process.pid


@contextmanager
def worker(
    lab: Lab, name: str, source: str, environ: Mapping[str, str]
) -> Iterator[Callable[[], float]]:
    """Run a program that defines `work`; yield what has it work once, for so many ms."""
    with _talking(lab, name, source + _WORK, environ) as process:

        def work() -> float:
            assert process.stdin  # noqa: S101 - both are pipes
            assert process.stdout  # noqa: S101
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline()) * 1e3

        yield work


def _talking(lab: Lab, name: str, source: str, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - a program of ours
        [lab.python, stored(lab, name, source)],
        env=environ,
        cwd=lab.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
