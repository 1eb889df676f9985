"""Forks at awkward moments: under load, while connecting, while importing; and by servers."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support import PATIENCE_S, celery_queue
from tests.support.faults import listening, swallow
from tests.support.forks import State, count_harm
from tests.support.processes import REPOSITORY
from tests.support.servers import CREDENTIALS
from tests.test_fork import PRELUDE, run
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Certificates
    from tests.support.servers import RealMilvus

pytestmark = pytest.mark.stress
FORKS = 24

LOAD = """
import threading
connection = connections.default
stub = connection.channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
stub(b"", timeout=10)
failures = []
going_on = True

def call_on():
    while going_on:
        try:
            stub(b"", timeout=10)
        except Exception as error:
            failures.append(error)

callers = [threading.Thread(target=call_on, daemon=True) for _ in range(4)]
for caller in callers:
    caller.start()

def use_everything():
    connection.ping()
    stub(b"", timeout=10)
    stub.future(b"", timeout=10).result()
    connections.default.ping()

def finish():
    global going_on
    going_on = False
    for caller in callers:
        caller.join()
    assert not failures, failures
    use_everything()
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@contextmanager
def secure(certificates: Certificates) -> Iterator[FakeServer]:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as fake:
        yield fake


class Script:
    """A script that runs beside the test, and waits for it where it reads a line.

    Args:
        process: Where it runs.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go_on(self) -> None:
        """Let it read a line."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Wait until it prints a line."""
        assert self._process.stdout
        assert self._process.stdout.readline()


@contextmanager
def started(script: str, **environ: str) -> Iterator[Script]:
    """Run a script beside the test; it must end well."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Script(process)
        _, errors = process.communicate(timeout=3 * PATIENCE_S)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()


# --- many forks ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_no_fork_harms_a_child_or_the_parent(server: FakeServer, state: State) -> None:
    with listening(swallow) as silent:
        environ = {"ZILLIZ_URI": server.uri}
        if state is State.CONNECTING:
            environ |= {"ZILLIZ_SILENT_URI": f"http://127.0.0.1:{silent}"}
            environ |= {"ZILLIZ_SILENT_TIMEOUT": "3"}
        tally = count_harm(state, FORKS, environ, timeout_s=3 * PATIENCE_S)
    assert tally.reasons == []
    assert tally.harm == 0
    assert tally.forks == FORKS
    # Were the connect in flight waited for, each fork would take a second.
    assert tally.forking_ms < FORKS * 500


def test_no_fork_harms_a_child_or_the_parent_with_tls(certificates: Certificates) -> None:
    with secure(certificates) as server:
        environ = {"ZILLIZ_URI": server.uri, "ZILLIZ_TLS_CA": str(certificates.ca)}
        tally = count_harm(State.LOAD, FORKS, environ, timeout_s=3 * PATIENCE_S)
    assert tally.reasons == []
    assert tally.harm == 0


def test_no_fork_harms_a_child_or_the_parent_with_the_real_server(milvus: RealMilvus) -> None:
    environ = {"ZILLIZ_URI": milvus.uri, "ZILLIZ_TOKEN": CREDENTIALS}
    tally = count_harm(State.LOAD, FORKS, environ, timeout_s=3 * PATIENCE_S)
    assert tally.reasons == []
    assert tally.harm == 0


# --- who forks -----------------------------------------------------------------------------


def test_threads_may_fork_at_the_same_time_under_load(server: FakeServer) -> None:
    script = """
def fork_often():
    for _ in range(10):
        forked(use_everything)
    done.append(True)

done = []
forkers = [threading.Thread(target=fork_often) for _ in range(2)]
for forker in forkers:
    forker.start()
for forker in forkers:
    forker.join()
assert done == [True, True]
finish()
"""
    run(LOAD + script, ZILLIZ_URI=server.uri)


def test_a_child_under_load_may_fork_in_its_turn(server: FakeServer) -> None:
    script = """
def in_child():
    use_everything()
    caller = threading.Thread(target=call_on, daemon=True)
    caller.start()
    for _ in range(3):
        forked(use_everything)
    finish_own(caller)

def finish_own(caller):
    global going_on
    going_on = False
    caller.join()
    assert not failures, failures

for _ in range(5):
    forked(in_child)
finish()
"""
    run(LOAD + script, ZILLIZ_URI=server.uri)


def test_multiprocessing_workers_open_their_own_under_load(server: FakeServer) -> None:
    script = """
import multiprocessing

def work(_):
    use_everything()
    return os.getpid()

with multiprocessing.get_context("fork").Pool(3, maxtasksperchild=2) as pool:
    pids = pool.map(work, range(24), chunksize=1)
assert len(set(pids)) >= 12, pids
finish()
"""
    run(LOAD + script, ZILLIZ_URI=server.uri)


def test_a_program_that_is_started_does_not_close_the_gate(server: FakeServer) -> None:
    script = """
import subprocess
from zconfig._channel.fork_gate import GATE

connections.default
close, closed = GATE.close, []
GATE.close = lambda timeout_s: (closed.append(timeout_s), close(timeout_s))
with GATE:
    subprocess.run(["true"], check=True)
    subprocess.run("true", shell=True, check=True)
assert not closed
forked(lambda: None)
assert closed
"""
    run(script, ZILLIZ_URI=server.uri)


# --- awkward moments -----------------------------------------------------------------------


def test_a_fork_while_another_thread_imports_grpc_for_the_first_connect(
    server: FakeServer,
) -> None:
    script = """
import importlib.abc, threading, time

importing = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            importing.set()
            time.sleep(1.3)

sys.meta_path.insert(0, Slow())
first = threading.Thread(target=lambda: connections.default.ping())
first.start()
assert importing.wait(10)
forked(lambda: connections.default.ping())
first.join()
connections.default.ping()
"""
    run(script, ZILLIZ_URI=server.uri)


def test_a_fork_while_another_thread_reads_what_was_put_off_until_the_first_use(
    server: FakeServer,
) -> None:
    script = """
import threading

from zconfig._registry import registry

reading, go_on, parent = threading.Event(), threading.Event(), os.getpid()
has_remote = registry.has_remote

def slowly(options):
    if os.getpid() == parent:
        reading.set()
        assert go_on.wait(10)
    return has_remote(options)

registry.has_remote = slowly
first = threading.Thread(target=lambda: connections.default.ping())
first.start()
assert reading.wait(10)
forked(lambda: connections.default.ping())
go_on.set()
first.join()
connections.default.ping()
"""
    run(script, ZILLIZ_URI=server.uri, CHILD_ALARM_S="5")


def test_a_fork_waits_a_moment_for_the_calls_in_flight(server: FakeServer) -> None:
    script = """
connection = connections.default
stub = connection.channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
print("connected", flush=True)
sys.stdin.readline()
call = stub.future(b"", timeout=30)
print("called", flush=True)
forked(lambda: connection.close())
assert call.done()
"""
    with started(script, ZILLIZ_URI=server.uri) as program:
        program.wait()
        server.hold()
        program.go_on()
        program.wait()
        server.wait_for("GetVersion")
        server.recover()


def test_a_connect_in_flight_is_taken_up_again_after_a_fork(server: FakeServer) -> None:
    script = """
import threading
first = threading.Thread(target=lambda: connections.default)
first.start()
sys.stdin.readline()
forked(lambda: None)
first.join()
assert connections.has_connection("default")
"""
    server.hold()
    with started(script, ZILLIZ_URI=server.uri) as program:
        server.wait_for("Connect")
        program.go_on()
        server.wait_for("Connect", 2)
        server.recover()
    assert len(server.calls("Connect")) == 2
    assert len(server.peers()) == 1


def test_forks_during_reloads_and_rotations(server: FakeServer, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("user:first")
    secret.chmod(0o600)
    script = """
from pathlib import Path
secret = Path(os.environ["ZILLIZ_TOKEN_FILE"])

def reload_on():
    number = 0
    while going_on:
        number += 1
        new = secret.with_suffix(".new")
        new.write_text(f"user:secret{number}")
        new.chmod(0o600)
        new.replace(secret)
        connections.reload()

reloader = threading.Thread(target=reload_on)
callers.append(reloader)
reloader.start()

def in_child():
    use_everything()
    connections.reload()
    use_everything()

for _ in range(20):
    forked(in_child)
finish()
"""
    run(LOAD + script, ZILLIZ_URI=server.uri, ZILLIZ_TOKEN_FILE=str(secret))
    tokens = {call.token for call in server.calls("Connect")}
    assert len(tokens) > 2


def test_a_fork_while_a_channel_is_watched(server: FakeServer) -> None:
    script = """
import grpc
channel = connections.default.channel
channel.subscribe(lambda _: None, try_to_connect=True)
for _ in range(20):
    grpc.channel_ready_future(channel).result(10)
    forked(lambda: connections.default.ping())
"""
    run(script, ZILLIZ_URI=server.uri)


@pytest.mark.parametrize("end", ["sys.exit(0)", "call.cancel(); os._exit(0)"])
def test_a_child_leaves_a_call_of_its_parents_in_flight(
    certificates: Certificates, end: str
) -> None:
    script = f"""
connection = connections.default
stub = connection.channel.unary_unary("/milvus.proto.milvus.MilvusService/CheckHealth")
print("connected", flush=True)
sys.stdin.readline()
call = stub.future(b"", timeout=30)
sys.stdin.readline()
if os.fork() == 0:
    signal.alarm(15)
    {end}
assert os.wait()[1] == 0
print("forked", flush=True)
assert call.result()
connection.ping()
"""
    with secure(certificates) as server:
        trust = {"ZILLIZ_TLS_CA": str(certificates.ca)}
        with started(script, ZILLIZ_URI=server.uri, **trust) as program:
            program.wait()
            server.hold()
            program.go_on()
            server.wait_for("CheckHealth")
            program.go_on()
            program.wait()
            server.recover()
        assert len(server.peers()) == 1


# --- servers that fork ---------------------------------------------------------------------

# What an application has when its server forks: a live connection, and a thread that uses it.
APPLICATION = """
import os, threading
from zconfig import connections

inherited = connections.default
stub = inherited.channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
stub(b"", timeout=10)

def call_on():
    while True:
        stub(b"", timeout=10)

threading.Thread(target=call_on, daemon=True).start()

def use_everything():
    inherited.ping()
    stub(b"", timeout=10)
    connections.default.ping()
    return os.getpid()
"""

WSGI = """
def application(environ, start_response):
    body = str(use_everything()).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""

TASKS = """
from pathlib import Path
from celery import Celery
from celery.signals import worker_process_init

here = Path(__file__).parent
app = Celery("tasks", broker="filesystem://", backend=f"file://{here}")
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {
    "data_folder_in": str(here),
    "data_folder_out": str(here),
    "control_folder": str(here),
    "polling_interval": 0.1,
}
work = app.task(use_everything, name="work")

@worker_process_init.connect
def tell(**_):
    os.write(CHILDREN, b".")
"""

SEND = """
import tests.support.celery_queue
import tasks
print(*[result.get(timeout=30) for result in [tasks.work.delay() for _ in range(4)]])
"""


@contextmanager
def served(arguments: list[str], directory: Path, uri: str, *fds: int) -> Iterator[None]:
    """Run a server that forks, with one connection; it must end well when it is told to."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(directory)}
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**environ, "ZILLIZ_URI": uri},
        cwd=directory,
        pass_fds=fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=2 * PATIENCE_S)
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.communicate()


def ask(port: int) -> int:
    """Return which process answered."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        client.request("GET", "/")
        response = client.getresponse()
        assert response.status == 200
        return int(response.read())
    finally:
        client.close()


def test_gunicorns_workers_open_their_own_where_it_preloads(
    server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION + WSGI)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        how = ["--preload", "--workers=2", "--max-requests=1", f"--bind=fd://{listener.fileno()}"]
        with served(["gunicorn", *how, "app"], tmp_path, server.uri, listener.fileno()):
            port = listener.getsockname()[1]
            # One request a worker: each answer comes from a new child of the busy master.
            assert len({ask(port) for _ in range(6)}) == 6


def test_celerys_prefork_workers_open_their_own(server: FakeServer, tmp_path: Path) -> None:
    how = ["--pool=prefork", "--concurrency=2", "--max-tasks-per-child=1", "--without-mingle"]
    arguments = [celery_queue.__name__, "-A", "tasks", "worker", *how]
    heard, told = socket.socketpair()
    heard.settimeout(PATIENCE_S)
    (tmp_path / "tasks.py").write_text(f"CHILDREN = {told.fileno()}\n{APPLICATION}{TASKS}")
    with heard, told, served(arguments, tmp_path, server.uri, told.fileno()):
        path = f"{REPOSITORY}{os.pathsep}{tmp_path}"
        done = subprocess.run(
            [sys.executable, "-c", SEND],
            env={**os.environ, "PYTHONPATH": path, "ZILLIZ_URI": server.uri},
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(set(done.stdout.split())) == 4
        # Celery tells those to end that are there when it ends: two, and one for each task.
        for _ in range(2 + 4):
            assert heard.recv(1)
