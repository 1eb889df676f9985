"""Embedded servers, on the real milvus-lite."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import grpc
import pytest

import zconfig
from tests.support import fork_server
from tests.support.registries import registry
from zconfig._channel import lite
from zconfig._channel.lite import LiteError, LiteLockedError
from zconfig._channel.messages import EMPTY_REQUEST, GET_VERSION, VersionReply
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._connection import transport
from zconfig.aio.async_connections import AsyncConnections
from zconfig.errors import AutoconnectError, EmbeddedServerLockedError
from zconfig.testing import fake_server

with import_without_side_effects():
    from milvus_lite.server_manager import server_manager_instance as manager
    from pymilvus import MilvusClient

DEADLINE_S = 30


@pytest.fixture
def acquire():
    leases = []

    def get(path):
        leases.append(lite.acquire(Path(path)))
        return leases[-1]

    yield get
    for lease in leases:
        lease.release()


@pytest.fixture
def starts(monkeypatch):
    """Return the names under which servers are started, as they come."""
    names = []
    start = manager.start_and_get_uri

    def counting(name):
        names.append(name)
        return start(name)

    monkeypatch.setattr(manager, "start_and_get_uri", counting)
    return names


def version(address):
    # The call's own deadline is what ends it; a refused connection fails at once.
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        reply = channel.unary_unary(GET_VERSION)(EMPTY_REQUEST, timeout=DEADLINE_S)
    return VersionReply.decode(reply).version


def serves(address):
    try:
        return version(address).startswith("milvus_lite-")
    except grpc.RpcError as error:
        # A server that is stopping cancels a call that it accepted.
        if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
            raise
        return False


def python(script, *arguments, program=None):
    """Return the arguments that run a script in a process of its own."""
    return {
        "args": [program or fork_server.programs / "python", "-c", script, *arguments],
        "env": {**os.environ, "PYTHONPATH": str(Path(zconfig.__file__).parents[1])},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def run(script, *arguments, **options):
    command = python(script, *arguments, **options)
    return subprocess.run(**command, check=True, timeout=2 * DEADLINE_S)


HOLDS = """
import sys
from pathlib import Path
from zconfig._channel import lite
print(*(lite.acquire(Path(name)).address for name in sys.argv[1:]), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process_holding(*paths):
    """Have other processes' servers on these paths; yields their addresses."""
    with subprocess.Popen(**python(HOLDS, *paths), stdin=subprocess.PIPE) as holder:
        try:
            yield holder.stdout.readline().split()
        finally:
            holder.communicate(timeout=DEADLINE_S)
    assert holder.returncode == 0


def test_the_server_of_a_path_answers_at_its_address(acquire, tmp_path):
    address = acquire(tmp_path / "x.db").address
    assert address.startswith("127.0.0.1:")
    assert serves(address)


def test_a_server_is_shared_and_stops_with_its_last_lease(acquire, starts):
    first, second = acquire("x.db"), acquire("x.db")
    assert first.address == second.address
    first.release()
    assert serves(second.address)
    second.release()
    assert not serves(second.address)
    assert len(starts) == 1


def test_one_path_in_other_spellings_is_one_server(acquire, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    spellings = ["data/x.db", tmp_path / "data" / "x.db", "data/../data/x.db", "link/x.db"]
    assert len({acquire(spelling).address for spelling in spellings}) == 1


def test_releasing_twice_gives_back_one_share_only(acquire):
    first, second = acquire("x.db"), acquire("x.db")
    first.release()
    first.release()
    assert serves(second.address)


def test_a_released_path_opens_again_with_its_data(acquire):
    lease = acquire("x.db")
    with closing(MilvusClient(f"http://{lease.address}")) as client:
        client.create_collection("things", dimension=2)
        client.insert("things", [{"id": number, "vector": [0.1, 0.2]} for number in range(5)])
    lease.release()
    with closing(MilvusClient(f"http://{acquire('x.db').address}")) as client:
        client.load_collection("things")
        assert len(client.query("things", filter="id >= 0")) == 5


def test_paths_start_in_parallel(acquire, monkeypatch):
    start = manager.start_and_get_uri
    both = threading.Barrier(2, timeout=DEADLINE_S)

    def together(name):
        both.wait()
        return start(name)

    monkeypatch.setattr(manager, "start_and_get_uri", together)
    with ThreadPoolExecutor(2) as pool:
        leases = list(pool.map(acquire, ["a.db", "b.db"]))
    assert all(serves(lease.address) for lease in leases)
    assert leases[0].address != leases[1].address


def test_threads_that_want_one_path_start_one_server(acquire, starts):
    ready = threading.Barrier(16, timeout=DEADLINE_S)

    def get(_):
        ready.wait()
        return acquire("x.db").address

    with ThreadPoolExecutor(16) as pool:
        addresses = set(pool.map(get, range(16)))
    assert len(addresses) == 1
    assert len(starts) == 1


def test_threads_that_take_and_give_back_always_hold_a_live_server():
    def use(_):
        for _ in range(5):
            lease = lite.acquire(Path("x.db"))
            alive = serves(lease.address)
            lease.release()
            assert alive

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))


def test_pymilvus_gets_the_same_server_for_the_path(acquire, tmp_path):
    address = acquire(tmp_path / "x.db").address
    with closing(MilvusClient(str(tmp_path / "x.db"))) as client:
        client.create_collection("things", dimension=2)
    with closing(MilvusClient(f"http://{address}")) as client:
        assert client.list_collections() == ["things"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("data/x.db", "data/x.db"), ("link/x.db", "data/x.db"), ("data/x.db", "link/x.db")],
)
def test_a_server_that_the_application_started_is_shared_and_left_running(
    acquire, tmp_path, theirs, ours
):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    uri = manager.start_and_get_uri(theirs)
    try:
        lease = acquire(ours)
        assert uri == f"http://{lease.address}"
        lease.release()
        assert serves(lease.address)
    finally:
        manager.release_server(theirs)


def test_a_path_open_in_another_process_is_refused_until_it_is_closed(acquire, caplog):
    with (
        another_process_holding("x.db"),
        pytest.raises(LiteLockedError),
    ):
        acquire("x.db")
    assert caplog.records == []
    assert serves(acquire("x.db").address)


@pytest.mark.parametrize("face", ["blocking", "asyncio"])
@pytest.mark.parametrize("failure", [LiteLockedError(), LiteError("it is broken", "mend it")])
def test_a_path_that_is_open_elsewhere_is_waited_for_and_no_other_failure(
    failure, face, monkeypatch
):
    tries = []

    def acquire(path):
        tries.append(path)
        if len(tries) < 4:
            raise failure
        return lite.Lease(f"127.0.0.1:{server.port}", SimpleNamespace(take_back=lambda _: None))

    monkeypatch.setattr(transport, "acquire", acquire)
    with fake_server() as server, registry(ZILLIZ_URI="./x.db") as connections:
        if face == "blocking":
            connect = partial(connections.autoconnect, wait=DEADLINE_S)
        else:
            aio = AsyncConnections(connections)
            connect = lambda: asyncio.run(aio.autoconnect(wait=DEADLINE_S))  # noqa: E731
        if type(failure) is LiteLockedError:
            connect()
            assert len(tries) == 4
        else:
            with pytest.raises(AutoconnectError, match="it is broken"):
                connect()
            assert len(tries) == 1


def test_what_says_that_a_path_is_open_elsewhere_says_how_to_wait_for_it(monkeypatch):
    monkeypatch.setattr(transport, "acquire", Mock(side_effect=LiteLockedError))
    with (
        registry(ZILLIZ_URI="./x.db") as connections,
        pytest.raises(EmbeddedServerLockedError) as caught,
    ):
        _ = connections["default"]
    assert (caught.value.cause, caught.value.permanent) == ("embedded_server_locked", False)
    assert str(caught.value).endswith(
        "close it there (set ZCONFIG_WAIT to wait for that), or set another path in ZILLIZ_URI"
    )


def test_servers_of_two_processes_have_ports_of_their_own(acquire):
    with another_process_holding("a.db", "b.db", "c.db") as theirs:
        ours = [acquire(path).address for path in ["d.db", "e.db", "f.db"]]
        assert len({*theirs, *ours}) == 6
        assert all(serves(address) for address in [*theirs, *ours])


def test_a_file_of_milvus_lite_2_is_refused_and_left_as_it_is(acquire, tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"SQLite format 3\0")
    with pytest.raises(LiteError, match="the path is a file, the format of milvus-lite 2"):
        acquire(path)
    assert path.read_bytes() == b"SQLite format 3\0"
    path.unlink()
    assert serves(acquire(path).address)


def test_a_directory_that_does_not_exist_is_refused_and_not_created(acquire, tmp_path):
    with pytest.raises(LiteError, match="missing does not exist; create that directory"):
        acquire("missing/x.db")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_permission_is_named(acquire, monkeypatch, caplog):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("milvus_lite.db.os.makedirs", refuse)
    with pytest.raises(
        LiteError, match=r"no permission for .*x\.db; make it writable for this user"
    ):
        acquire("x.db")
    assert caplog.records == []


def test_another_cause_is_told_in_the_systems_words(acquire, tmp_path):
    (tmp_path / "x.db" / "LOCK").mkdir(parents=True)
    with pytest.raises(LiteError, match=r"is a directory: .*LOCK; set another path in"):
        acquire("x.db")


def test_a_cause_that_milvus_lite_may_not_log_is_said_to_be_unknown(acquire, tmp_path, monkeypatch):
    (tmp_path / "x.db" / "LOCK").mkdir(parents=True)
    monkeypatch.setattr(logging.getLogger("milvus_lite.server_manager"), "disabled", True)
    with pytest.raises(LiteError, match=r"did not start, and the logger .* is disabled"):
        acquire("x.db")


def test_other_threads_errors_stay_on_milvus_lites_log(caplog):
    logger = logging.getLogger("milvus_lite.server_manager")

    def fail():
        try:
            {}["missing"]
        except KeyError:
            logger.exception("another thread's")

    with lite._swallowed_error() as swallowed, ThreadPoolExecutor(1) as pool:
        pool.submit(fail).result()
        fail()
    assert isinstance(swallowed.error, KeyError)
    assert [record.message for record in caplog.records] == ["another thread's"]
    assert logger.filters == []


CYCLES = """
import threading, time
from pathlib import Path
import grpc
from zconfig._channel import lite
from zconfig._channel.messages import EMPTY_REQUEST, GET_VERSION

def cycle():
    lease = lite.acquire(Path("x.db"))
    with grpc.insecure_channel(lease.address, [("grpc.enable_http_proxy", 0)]) as channel:
        channel.unary_unary(GET_VERSION)(EMPTY_REQUEST, timeout=30)
    lease.release()

def held():
    return threading.active_count() + len(list(Path("/dev/fd").iterdir()))

before = held()
for _ in range(20):
    cycle()
end = time.monotonic() + 10
while held() > before and time.monotonic() < end:
    time.sleep(0.02)
print(held() - before)
"""


def test_twenty_cycles_leave_no_thread_and_no_descriptor():
    # What grpc keeps from its first use on is not of the servers; a leak would be one a cycle.
    assert int(run(CYCLES).stdout) < 20


PRINTS_NOTHING = """
import logging
from pathlib import Path
from zconfig._channel import lite
Path("file.db").touch()
Path("odd.db/LOCK").mkdir(parents=True)
for name in ("x.db", "x.db", "file.db", "odd.db", "held.db"):
    try:
        lite.acquire(Path(name)).release()
    except lite.LiteError:
        assert name != "x.db"
lite.acquire(Path("left.db"))
assert logging.getLogger("pymilvus").handlers == []
"""


def test_nothing_is_printed_at_start_at_stop_on_failure_and_at_exit():
    with another_process_holding("held.db"):
        done = run(PRINTS_NOTHING, program=sys.executable)  # it imports all packages itself
    assert done.stdout == done.stderr == ""


FORKS = """
import fcntl, json, os, sys
from pathlib import Path
import grpc
from zconfig._channel import lite
from zconfig._channel.messages import EMPTY_REQUEST, GET_VERSION

def serves(address):
    options = [("test.pid", os.getpid()), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options) as channel:
        return bool(channel.unary_unary(GET_VERSION)(EMPTY_REQUEST, timeout=30))

def locked():
    with open("x.db/LOCK", "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

lease = lite.acquire(Path("x.db"))
child = os.fork()
if not child:
    lease.release()
    again = lite.acquire(Path("x.db"))
    own = lite.acquire(Path("child.db"))
    assert again.address == lease.address
    assert serves(again.address) and serves(own.address)
    again.release()
    own.release()
    sys.exit(7)
_, status = os.waitpid(child, 0)
facts = {"child": os.waitstatus_to_exitcode(status)}
facts |= {"locked": locked(), "serves": serves(lease.address)}
lease.release()
facts["unlocked"] = not locked()
print(json.dumps(facts))
"""


def test_a_forked_child_uses_the_parents_server_and_leaves_it_running():
    done = run(FORKS)
    assert json.loads(done.stdout) == {
        "child": 7,
        "locked": True,
        "serves": True,
        "unlocked": True,
    }


FAILS_TO_IMPORT = """
import sys
from pathlib import Path
from zconfig._channel import lite
missing = sys.argv[1]
if missing:
    sys.modules[missing] = None
else:
    Path("pymilvus.py").write_text("raise TypeError('a descriptor does not fit')")
    sys.path.insert(0, "")
try:
    lite.acquire(Path("x.db"))
except (lite.LiteError, lite.MissingExtraError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("milvus_lite", "MissingExtraError milvus-lite 3 is not installed; run: pip install"),
        ("pymilvus", "MissingExtraError pymilvus is not installed; run: pip install"),
        ("", "LiteError milvus-lite cannot be imported (TypeError: a descriptor does not fit)"),
    ],
)
def test_without_what_it_needs_the_error_says_what_to_install(missing, message):
    done = run(FAILS_TO_IMPORT, missing)
    assert done.stdout.startswith(message)
    assert "run: pip install 'milvus-lite>=3.0' 'pymilvus>=2.6.1'" in done.stdout


def test_a_server_whose_channels_cannot_be_made_is_released(
    lite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Mock(address="unix:/embedded")
    monkeypatch.setattr(transport, "acquire", lambda _: lease)
    monkeypatch.setattr(transport.CHANNELS, "acquire", Mock(side_effect=MemoryError))
    with registry(ZILLIZ_URI=lite_uri) as connections, pytest.raises(MemoryError):
        connections.connect()
    lease.release.assert_called_once_with()
