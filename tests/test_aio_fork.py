"""A process that uses asyncio forks: what a child can do, and that its parent is unharmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.test_fork import run
from zconfig.testing import FakeServer, fake_server

if TYPE_CHECKING:
    from tests.support.servers import RealMilvus

# How a parent comes to have a connection of asyncio when it forks. `fork` forks, and `use` uses
# the connection once more afterwards.
PARENTS = {
    "an event loop that asyncio.run has closed": """
asyncio.run(aio.ping())
fork()
asyncio.run(aio.ping())
""",
    "an event loop that was closed and left": """
loop = asyncio.new_event_loop()
loop.run_until_complete(aio.ping())
loop.close()
fork()
asyncio.run(aio.ping())
""",
    "an event loop that stands still": """
loop = asyncio.new_event_loop()
loop.run_until_complete(aio.ping())
fork()
loop.run_until_complete(aio.ping())
loop.run_until_complete(aio.close())
loop.close()
""",
    "a fork from within the event loop": """
async def main():
    await aio.ping()
    fork()
    await aio.ping()

asyncio.run(main())
""",
    "an event loop of another thread": """
import threading
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()

def there(work):
    return asyncio.run_coroutine_threadsafe(work, loop).result(15)

there(aio.ping())
fork()
there(aio.ping())
there(aio.close())
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
""",
    "calls in another thread": """
import threading
over = threading.Event()

async def call():
    connection = await aio.get()
    while not over.is_set():
        assert await connection.ping() > 0

async def load():  # never is none of them on its way
    await asyncio.gather(*(call() for _ in range(8)))

thread = threading.Thread(target=lambda: asyncio.run(load()))
thread.start()
while not connected():
    pass
fork()
over.set()
thread.join()
""",
}

CHILDREN = {
    "the blocking face": "assert connections.default.ping() > 0",
    "an event loop of its own": "assert on_a_new_loop(aio.ping) > 0",
    "both, and one more event loop": """
assert connections.default.ping() > 0
assert on_a_new_loop(aio.ping) > 0
assert on_a_new_loop(aio.ping) > 0
""",
    "asyncio without us": "on_a_new_loop(lambda: asyncio.sleep(0.01))",
    "nothing": "pass",
}

PRELUDE = """
import asyncio, threading
from zconfig import aio

def on_a_new_loop(work):
    # In a thread: a child of a fork within an event loop is still inside of it.
    outcome = []

    async def main():
        outcome.append(await work())

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    return outcome[0]

def connected():
    return [event for event in told if event.name.endswith("connected")]

told = []
connections.subscribe(told.append)

def fork():
    for child in CHILDREN:
        forked(lambda: exec(child, globals()))
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


def script(parent: str, *children: str) -> str:
    return f"CHILDREN = {children!r}\n{PRELUDE}{parent}"


@pytest.mark.stress
@pytest.mark.parametrize("parent", PARENTS)
def test_children_work_and_their_parent_goes_on(server: FakeServer, parent: str) -> None:
    run(script(PARENTS[parent], *CHILDREN.values()), ZILLIZ_URI=server.uri)


def test_a_child_has_connections_of_its_own_and_the_parent_keeps_its_session(
    server: FakeServer,
) -> None:
    parent = """
loop = asyncio.new_event_loop()
connection = loop.run_until_complete(aio.get())
loop.run_until_complete(connection.ping())
fork()
loop.run_until_complete(connection.ping())
loop.run_until_complete(aio.close())
loop.close()
"""
    run(script(parent, CHILDREN["an event loop of its own"]), ZILLIZ_URI=server.uri)
    ours, theirs = server.calls("Connect")
    assert ours.peer != theirs.peer
    sessions = [call.metadata["identifier"] for call in server.calls("GetVersion")]
    assert sessions == ["1", sessions[1], "1"]
    assert sessions[1] != "1"


def test_a_child_is_not_held_up_by_a_thread_that_was_collecting_the_last_channel(
    server: FakeServer,
) -> None:
    parent = """
import gc, grpc, time

def collect():  # as any thread may, at any time
    while True:
        gc.collect()
        time.sleep(0.0003)

async def leave_a_channel():
    circle = []
    circle += [circle, grpc.aio.insecure_channel("127.0.0.1:9")]

gc.disable()
threading.Thread(target=collect, daemon=True).start()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
for _ in range(4):
    for work in (aio.ping, leave_a_channel):
        asyncio.run_coroutine_threadsafe(work(), loop).result(15)
    fork()
os._exit(0)  # as the loop goes on
"""
    run(script(parent, CHILDREN["an event loop of its own"]), ZILLIZ_URI=server.uri)


def test_what_a_child_inherited_is_closed_there(server: FakeServer) -> None:
    child = """
from zconfig.errors import ClosedError

async def use():
    try:
        await connection.ping()
    except ClosedError:
        print("closed", not connection.is_open)

on_a_new_loop(use)
"""
    parent = """
loop = asyncio.new_event_loop()
connection = loop.run_until_complete(aio.get())
fork()
loop.run_until_complete(aio.close())
loop.close()
"""
    assert run(script(parent, child), ZILLIZ_URI=server.uri) == ["closed True"]


AMID_A_CALL = """
METHOD = "/milvus.proto.milvus.MilvusService/GetVersion"

async def begin():
    channel = (await aio.get()).channel
    while True:
        call = channel.unary_unary(METHOD)(b"")
        for _ in range(9):
            await asyncio.sleep(0)
        if not call.done():  # its answer is heard only by a loop that runs
            return call

loop = asyncio.new_event_loop()
call = loop.run_until_complete(begin())
"""
AFTER_THE_CALL = """
assert loop.run_until_complete(asyncio.wait_for(call, 15))
loop.run_until_complete(aio.close())
loop.close()
"""


def test_a_fork_amid_a_call_that_cannot_be_waited_for_is_told_in_the_child(
    server: FakeServer,
) -> None:
    child = """
from zconfig.errors import ConfigurationError

async def use():
    try:
        await aio.ping()
    except ConfigurationError as error:
        (problem,) = error.problems
        print(problem.code, "await zconfig.aio.close()" in problem.remedy)

on_a_new_loop(use)
print(connections.default.ping() > 0)
"""
    parent = f"{AMID_A_CALL}\nfork()\n{AFTER_THE_CALL}"
    seen = run(script(parent, child, child), ZILLIZ_URI=server.uri)
    assert seen == 2 * ["forked_amid_asyncio True", "True"]


def test_what_a_fork_amid_a_call_left_is_kept_in_the_child(server: FakeServer) -> None:
    child = """
import gc
from zconfig.aio import loop_pool
loop = call = None
loop_pool._pools.clear()
gc.collect()
assert connections.default.ping() > 0
"""
    run(script(f"{AMID_A_CALL}\nfork()\n{AFTER_THE_CALL}", child), ZILLIZ_URI=server.uri)


@pytest.mark.parametrize("child", ["pass", CHILDREN["the blocking face"]])
def test_a_child_of_a_fork_amid_a_call_ends_as_programs_do(server: FakeServer, child: str) -> None:
    fork = f"""
pid = os.fork()
if pid == 0:
    signal.alarm(15)
    {child}
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    run(script(f"{AMID_A_CALL}\n{fork}\n{AFTER_THE_CALL}"), ZILLIZ_URI=server.uri)


def test_multiprocessing_workers_connect_on_event_loops_of_their_own(server: FakeServer) -> None:
    parent = """
import multiprocessing

def work(_):
    return on_a_new_loop(aio.ping) > 0

async def main():
    connection = await aio.get()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        working = pool.map_async(work, range(8))
        while not working.ready():
            await connection.ping()
        print(all(working.get()))

asyncio.run(main())
"""
    assert run(script(parent), ZILLIZ_URI=server.uri) == ["True"]


def test_children_work_on_the_real_server(milvus: RealMilvus) -> None:
    parent = PARENTS["an event loop that stands still"]
    environ = {"ZILLIZ_URI": milvus.uri, "ZILLIZ_TOKEN": "root:Milvus"}
    run(script(parent, *CHILDREN.values()), **environ)
