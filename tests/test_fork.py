"""A connection belongs to the process that opened it: what a forked child sees, and its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

import zconfig
from tests.support import PATIENCE_S
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.certificates import Certificates
    from tests.support.servers import RealMilvus

# Runs `in_child` in a forked child, and returns once that has ended well. A child that is stuck
# is killed by its own alarm.
PRELUDE = """
import os, signal, sys
import zconfig
from zconfig import connections
from zconfig.errors import ClosedError

def forked(in_child):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(os.environ.get("CHILD_ALARM_S", "15")))
        code = 1
        try:
            in_child()
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"

def is_closed(use):
    try:
        use()
    except ClosedError:
        return True
    return False
"""


def run(script: str, **environ: str) -> list[str]:
    """Run a script in a process of its own, and return the lines that it printed."""
    repository = str(Path(zconfig.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "PYTHONPATH": repository, **environ},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


def test_a_child_opens_a_connection_of_its_own_and_the_parents_is_unharmed(
    server: FakeServer,
) -> None:
    script = """
inherited = connections.default
identifier = inherited.server.identifier

def in_child():
    assert not connections.has_connection("default")
    assert inherited.ping() > 0
    assert connections.default is inherited
    print("child", inherited.server.identifier != identifier)

forked(in_child)
assert connections.default is inherited
assert inherited.server.identifier == identifier
print("parent", inherited.ping() > 0)
"""
    assert run(script, ZILLIZ_URI=server.uri) == ["child True", "parent True"]
    first, second = server.calls("Connect")
    assert first.peer != second.peer
    pings = server.calls("GetVersion")
    assert [ping.peer for ping in pings] == [second.peer, first.peer]
    assert [ping.metadata["identifier"] for ping in pings] == ["2", "1"]


def test_a_child_of_a_parent_that_has_just_closed_its_last_channel_opens_its_own(
    server: FakeServer,
) -> None:
    # Without a channel gRPC shuts down, in a thread of its own: one child in 150 hung in that.
    script = """
def in_child():
    assert connections.default.ping() > 0

for _ in range(40):
    connections.default.ping()
    connections.close()
    forked(in_child)
"""
    run(script, ZILLIZ_URI=server.uri)


def test_a_child_counts_for_itself_and_tries_what_its_parent_was_trying(
    server: FakeServer,
) -> None:
    script = """
from threading import Event

started = Event()
connections.subscribe(lambda event: event.name.endswith("retrying") and started.set())

def in_child():
    started.clear()
    assert {a: s.state for a, s in connections.stats().items()} == {
        "default": "idle", "extra": "retrying"
    }
    assert connections.stats()["default"].connects == 0
    connections.default.ping()
    assert started.wait(10)
    print("child", connections.stats()["default"].connects)

connections.autoconnect()
forked(in_child)
print("parent", connections.stats()["default"].connects)
"""
    extra = {"ZILLIZ_EXTRA_URI": "http://127.0.0.1:1", "ZILLIZ_EXTRA_REQUIRED": "false"}
    assert run(script, ZILLIZ_URI=server.uri, **extra) == ["child 1", "parent 1"]


def test_what_the_parent_handed_out_dials_anew_in_the_child(server: FakeServer) -> None:
    script = """
connection = connections.default
channel = connection.channel
stub = channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
stub(b"", timeout=10)
uses = [
    connection.ping,
    connection.health,
    lambda: connection.server.version,
    lambda: connection.target,
    lambda: stub(b"", timeout=10),
    lambda: stub.with_call(b"", timeout=10),
    lambda: stub.future(b"", timeout=10).result(),
    lambda: channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")(b"", timeout=10),
]

def use_first(use):
    assert str(connection.state) == "idle" and not connection.is_open
    assert use()
    assert str(connection.state) == "ready" and connection.is_open

for use in uses:
    forked(lambda: use_first(use))
stub(b"", timeout=10)
"""
    run(script, ZILLIZ_URI=server.uri)
    assert len(server.calls("Connect")) == 9
    assert len({call.peer for call in server.calls("Connect")}) == 9


def test_what_the_parent_closed_is_closed_in_the_child(server: FakeServer) -> None:
    script = """
connection = connections.default
stub = connection.channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
connection.close()
forked(lambda: print([is_closed(use) for use in (connection.ping, lambda: stub(b""))]))
"""
    assert run(script, ZILLIZ_URI=server.uri) == ["[True, True]"]


def test_what_a_child_closes_stays_closed_there_alone(server: FakeServer) -> None:
    script = """
connection = connections.default

def in_child():
    connection.close()
    print(is_closed(connection.ping), connections.default.ping() > 0)

forked(in_child)
print(connection.ping() > 0)
"""
    assert run(script, ZILLIZ_URI=server.uri) == ["True True", "True"]


def test_a_child_that_ends_as_programs_do_leaves_the_parents_connection_alone(
    server: FakeServer,
) -> None:
    script = """
connection = connections.default
for use in (False, True):
    if os.fork() == 0:
        if use:
            connection.ping()
        sys.exit(0)
    assert os.wait()[1] == 0
    connection.ping()
"""
    run(script, ZILLIZ_URI=server.uri)
    connects = server.calls("Connect")
    assert len(connects) == 2
    of_parent = [call for call in server.calls("GetVersion") if call.peer == connects[0].peer]
    assert len(of_parent) == 2


def test_a_child_keeps_the_configuration_and_what_code_added(server: FakeServer) -> None:
    script = """
import os
connections.connect("added", uri=os.environ["ADDED"], token="secret")

def in_child():
    print(sorted(connections), connections.list_connections()[1][1])
    connections.autoconnect()

forked(in_child)
"""
    with fake_server() as other:
        assert run(script, ZILLIZ_URI=server.uri, ADDED=other.uri) == ["['added', 'default'] None"]
        tokens = [call.token for call in other.calls("Connect")]
    assert len(tokens) == 2
    assert tokens[0] == tokens[1]


def test_many_children_in_turn_each_have_their_own(server: FakeServer) -> None:
    script = """
connections.default.ping()
for _ in range(8):
    forked(lambda: connections.default.ping())
    connections.default.ping()
"""
    run(script, ZILLIZ_URI=server.uri)
    assert len(server.calls("Connect")) == 9
    assert len({call.peer for call in server.calls("Connect")}) == 9
    assert len(server.calls("GetVersion")) == 17


def test_a_grandchild_opens_its_own(server: FakeServer) -> None:
    script = """
connections.default.ping()

def in_child():
    inherited = connections.default
    inherited.ping()

    def in_grandchild():
        assert not inherited.is_open
        inherited.ping()

    forked(in_grandchild)
    inherited.ping()

forked(in_child)
connections.default.ping()
"""
    run(script, ZILLIZ_URI=server.uri)
    assert len(server.calls("Connect")) == 3
    assert len(server.calls("GetVersion")) == 5


def test_a_child_may_connect_first(server: FakeServer) -> None:
    script = """
forked(lambda: connections.default.ping())
assert not connections.has_connection("default")
connections.default.ping()
"""
    run(script, ZILLIZ_URI=server.uri)
    assert len({call.peer for call in server.calls("Connect")}) == 2


def test_a_child_that_uses_nothing_ends_in_good_order(server: FakeServer) -> None:
    run(
        "connections.default.ping()\nforked(lambda: None)\nconnections.default.ping()\n",
        ZILLIZ_URI=server.uri,
    )
    assert len(server.calls("Connect")) == 1


def test_a_child_disconnects_without_harm_to_its_parent(server: FakeServer) -> None:
    script = """
inherited = connections.default

def in_child():
    connections.disconnect("default")
    connections.default.ping()
    connections.close()

forked(in_child)
assert connections.default is inherited
inherited.ping()
"""
    run(script, ZILLIZ_URI=server.uri)
    assert len(server.calls("Connect")) == 2


def test_a_child_is_not_held_up_by_locks_of_threads_that_are_gone(server: FakeServer) -> None:
    script = """
from zconfig._connection import CHANNELS
connection = connections.default
from zconfig._channel.fork_gate import GATE
lifecycle = connections._pool.managed("default")
held = [
    CHANNELS._lock,
    connections._pool._lock,
    connections._registry._reloader.lock,
    connections._registry._reloader.table_lock,
    connections._registry._worker._lock,
    lifecycle._lock,
    lifecycle.rotating,
    lifecycle.refresher._lock,
    lifecycle.bound.shared._lock,
]
for lock in held:
    lock.acquire()

def in_child():
    connections.default.ping()
    connections.reload()
    connections.close()

forked(in_child)
for lock in held:
    lock.release()
connections.default.ping()
"""
    run(script, ZILLIZ_URI=server.uri)
    assert len(server.calls("GetVersion")) == 2


def test_a_fork_waits_for_another_thread_that_imports_pymilvus(server: FakeServer) -> None:
    script = """
import threading, time
from zconfig._channel.pymilvus_import import import_without_side_effects

def import_slowly():
    with import_without_side_effects():
        inside.set()
        time.sleep(1)
        ended.append(True)

def in_child():
    with import_without_side_effects():
        print("child", ended)

connections.default.ping()
inside, ended = threading.Event(), []
threading.Thread(target=import_slowly).start()
inside.wait()
forked(in_child)
"""
    assert run(script, ZILLIZ_URI=server.uri) == ["child [True]"]


def test_a_child_adds_a_connection_though_a_thread_that_is_gone_was_adding_one() -> None:
    script = """
from zconfig._registry.forks import guard_forks
guard_forks(connections._registry)
connections._table._lock.acquire()
forked(lambda: connections.add_connection(docs={"uri": "http://127.0.0.1:1"}))
"""
    run(script, CHILD_ALARM_S="3")


def test_multiprocessing_workers_open_their_own(server: FakeServer) -> None:
    script = """
import multiprocessing

def work(_):
    return connections.default.ping() > 0

connections.default.ping()
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(pool.map(work, range(8))))
connections.default.ping()
"""
    assert run(script, ZILLIZ_URI=server.uri) == ["True"]
    assert len(server.calls("GetVersion")) == 10


def test_a_child_with_tls_opens_its_own(certificates: Certificates) -> None:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as secure:
        script = """
connections.default.ping()
forked(lambda: connections.default.ping())
connections.default.ping()
"""
        run(script, ZILLIZ_URI=secure.uri, ZILLIZ_TLS_CA=str(certificates.ca))
        assert len({call.peer for call in secure.calls("Connect")}) == 2


def test_a_fork_is_told_in_the_child(server: FakeServer) -> None:
    script = """
from zconfig import events
told = []
connections.subscribe(told.append)
connections.default

def in_child():
    assert not any(isinstance(event, events.ProcessForked) for event in told)
    connections.default
    (event,) = [event for event in told if isinstance(event, events.ProcessForked)]
    print(event.pid == os.getpid(), event.aliases)

forked(in_child)
print([event.name for event in told].count("zconfig.process.forked"))
"""
    assert run(script, ZILLIZ_URI=server.uri) == ["True ('default',)", "0"]


def test_a_child_works_on_the_real_server(milvus: RealMilvus) -> None:
    script = """
inherited = connections.default
inherited.ping()

def in_child():
    assert inherited.ping() > 0
    print("child", connections.default.ping() > 0, connections.default.server.version)

forked(in_child)
print("parent", inherited.ping() > 0, inherited.server.version)
"""
    seen = run(script, ZILLIZ_URI=milvus.uri, ZILLIZ_TOKEN="root:Milvus")
    assert seen == ["child True v2.3.5-lite", "parent True v2.3.5-lite"]


def test_what_is_imported_before_a_fork_brings_no_hook_for_forks_of_its_own() -> None:
    script = """
from importlib import import_module
from zconfig._registry.forks import LATE, LATE_WITH_GRPC, import_grpc

import_grpc()
hooks = []
os.register_at_fork = lambda **each: hooks.append(each)
for name in (*LATE, *LATE_WITH_GRPC):
    import_module(name)
print(hooks)
"""
    assert run(script) == ["[]"]


def test_a_child_and_its_own_child_make_anew_what_belongs_to_a_process() -> None:
    script = """
import threading
from zconfig._per_process import PerProcess
from zconfig._registry.forks import guard_forks

class Owner:
    lock = PerProcess(threading.Lock)
    thread = PerProcess(lambda: None)

def is_new(owner):
    return owner.lock.acquire(timeout=0) and owner.thread is None

def begin():
    for owner in (gone, own):
        assert is_new(owner)
        owner.thread = threading.current_thread()

def in_child():
    begin()
    forked(begin)
    assert gone.thread is own.thread is threading.current_thread()

guard_forks(connections._registry)
gone, own = Owner(), Owner()
thread = threading.Thread(target=gone.lock.acquire)
gone.thread = own.thread = thread
thread.start()
thread.join()
with own.lock:
    forked(in_child)
assert gone.lock.locked() and not own.lock.locked()
assert gone.thread is own.thread is thread
"""
    run(script)
