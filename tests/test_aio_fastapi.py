"""The example for FastAPI, as uvicorn runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.support import PATIENCE_S, faults
from tests.support.processes import REPOSITORY
from zconfig.testing import FakeServer, fake_server
from zconfig.testing.fake_server import VERSION


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@contextmanager
def uvicorn(*options: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the example with the log of zconfig on standard error, one JSON document a line.

    Yield the process, and the port. It inherits the socket: a free port that it is told to bind may
    be another process' by then.
    """
    with socket.create_server((faults.LOOPBACK, 0)) as listener:
        how = ["uvicorn", "fastapi_app:app", f"--fd={listener.fileno()}", *options]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *how],
            cwd=REPOSITORY / "examples",
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "ZCONFIG_LOG_FORMAT": "json",
                **environ,
            },
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        port: int = listener.getsockname()[1]
    try:
        yield process, port
    finally:
        with suppress(ProcessLookupError):  # with its workers, which hold the pipe
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def fetch(process: subprocess.Popen[str], port: int, path: str) -> tuple[int, Any]:
    """Return the status and the answer, as soon as somebody answers."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except urllib.error.URLError:
            time.sleep(0.05)
    raise AssertionError(ended(process))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, log = process.communicate(timeout=3 * PATIENCE_S)
    return process.returncode, log


def events_in(log: str) -> list[str]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line["event"].rpartition(".")[2] for line in lines]


def test_it_connects_at_the_start_and_closes_at_the_end(server: FakeServer) -> None:
    with uvicorn(ZILLIZ_URI=server.uri) as (process, port):
        status, answer = fetch(process, port, "/health/default")
        assert (status, answer["version"]) == (200, VERSION)
        assert answer["milliseconds"] > 0
        assert len(server.calls("Connect")) == 1
        status, answer = fetch(process, port, "/health/nobody")
        assert status == 503
        assert "set ZILLIZ_NOBODY_URI" in answer["error"]
        process.send_signal(signal.SIGTERM)
        code, log = ended(process)
    assert code in (0, -signal.SIGTERM)  # uvicorn hands the signal on, since 0.29
    events = events_in(log)
    assert (events.count("connected"), events[-1]) == (1, "closed")
    assert "Traceback" not in log


def test_it_does_not_start_without_a_required_connection_and_says_what_to_do() -> None:
    with (
        faults.refused() as port,
        uvicorn(ZILLIZ_URI=f"http://127.0.0.1:{port}") as (process, _),
    ):
        code, log = ended(process)
    assert code == 3  # uvicorn's, for an application that does not start
    assert "start the server, or correct the port in ZILLIZ_URI" in log
    assert events_in(log)[-1] == "failed"
    assert "Task" not in log


def test_each_worker_has_connections_of_its_own(server: FakeServer) -> None:
    with uvicorn("--workers=2", ZILLIZ_URI=server.uri) as (process, port):
        server.wait_for("Connect", 2, timeout=3 * PATIENCE_S)
        assert fetch(process, port, "/health/default")[0] == 200
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert len({call.peer for call in server.calls("Connect")}) == 2
