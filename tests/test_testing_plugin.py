"""The pytest plugin, in runs of pytest of its own, as users have it."""

from __future__ import annotations

import os
import queue
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import zconfig
import zconfig.testing as plugin
from tests.support import PATIENCE_S
from tests.support.processes import run_python
from zconfig import events
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig.testing import Recorder, isolated

# What the runs inside import, they must not import anew each time: gRPC and protobuf are in C.
with import_without_side_effects():
    import milvus_lite.adapter.grpc.server  # noqa: F401 - it is to stay, that is all
    import pymilvus  # noqa: F401

pytest_plugins = ["pytester"]

ASKED_FOR = 'pytest_plugins = ["zconfig.testing"]\n'
PREAMBLE = """
import asyncio, math, os, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import grpc
import pytest
import zconfig
from zconfig import connections, events
from zconfig.testing import fake_server

"""
# Of faulthandler there is one in a process, and it shows where the process of these tests crashes.
STRICT = ("-W", "error", "-p", "no:cacheprovider", "-p", "no:faulthandler")

Run = Callable[..., None]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run tests with the plugin in this process; all of them pass."""
    pytester.makeconftest(ASKED_FOR)

    def run(code: str, *arguments: str) -> None:
        pytester.makepyfile(PREAMBLE + code)
        result = pytester.runpytest_inprocess(*STRICT, *arguments)
        result.assert_outcomes(passed=code.count("def test_"))

    return run


# --- loading --------------------------------------------------------------------------------


def test_the_plugin_is_loaded_only_where_it_is_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(zconfig_env): pass")
    without = pytester.runpytest_inprocess(*STRICT)
    without.stdout.fnmatch_lines(["*fixture 'zconfig_env' not found*"])
    pytester.runpytest_inprocess(*STRICT, "-p", "zconfig.testing").assert_outcomes(passed=1)


def test_a_conftest_may_import_from_it_first(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from zconfig.testing import fake_server\n" + ASKED_FOR)
    pytester.makepyfile("def test_it(zconfig_env): pass")
    pytester.runpytest_inprocess(*STRICT).assert_outcomes(passed=1)


def test_importing_zconfig_imports_neither_the_plugin_nor_pytest() -> None:
    done = run_python(
        "import sys, zconfig; assert not {'pytest', 'zconfig.testing'} & sys.modules.keys()"
    )
    assert done.returncode == 0, done.stderr


def test_without_pytest_it_says_what_to_install() -> None:
    done = run_python("import sys; sys.modules['pytest'] = None; import zconfig.testing")
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: zconfig.testing needs pytest, which is not installed;"
        " run: pip install pytest"
    )


def test_every_fixture_has_a_name_that_collides_with_no_other(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*STRICT, "-p", "zconfig.testing", "--fixtures")
    listed = [line.split()[0] for line in result.outlines if "zconfig/testing/plugin" in line]
    assert sorted(listed) == sorted(name for name in plugin.__all__ if name.startswith("zconfig_"))


# --- isolation ------------------------------------------------------------------------------

HOSTILE = {
    "ZILLIZ_URI": "http://127.0.0.1:1",
    "ZILLIZ_PROD_URI": "gopher://wrong",
    "zilliz_lower_uri": "http://127.0.0.1:1",
    "ZCONFIG_STRICT": "1",
    "ZCONFIG_PROFILE": "prod",
    "ZCONFIG_ENV_FILE": "no/such/file",
    "ZCONFIG_SECRETS_DIR": "no/such/directory",
    "ZCONFIG_LOG_FORMAT": "console",
    "MILVUS_URI": "http://127.0.0.1:1",
    "SERVICE_BINDING_ROOT": "no/such/directory",
    "http_proxy": "http://127.0.0.1:1",
    "grpc_proxy": "http://127.0.0.1:1",
}


def test_a_hostile_environment_stays_outside(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    pytester.path.joinpath(".env").write_text("ZILLIZ_DOTENV_URI=http://127.0.0.1:1\n")
    pytester.path.joinpath(".env.prod").write_text("ZILLIZ_PROFILE_URI=http://127.0.0.1:1\n")
    pytester.makepyfile(
        PREAMBLE
        + f"OUTSIDE = {HOSTILE!r}\n"
        + """
def is_outside():
    return OUTSIDE.items() <= os.environ.items() and set(connections) >= {"default", "lower"}

def test_outside_it_is_there():
    assert is_outside()

def test_inside_it_is_not(zconfig_isolated, zconfig_events):
    assert list(connections) == []
    assert connections.configuration.problems == ()
    assert not [name for name in os.environ if name.lower().startswith(("zilliz", "zconfig"))]
    assert "MILVUS_URI" not in os.environ
    assert "SERVICE_BINDING_ROOT" not in os.environ
    assert not zconfig.reload()
    assert not zconfig.reload().problems
    with pytest.raises(zconfig.ConfigurationError, match="no connection is configured"):
        zconfig.autoconnect()
    assert [event.aliases for event in zconfig_events.of(events.ConfigLoaded)] == [(), (), ()]
    assert zconfig_events.of(events.ConfigProblem) == []

def test_inside_servers_can_be_reached(zconfig_env, zconfig_fake_server):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    assert connections.default.ping() > 0

def test_outside_it_is_there_again():
    assert is_outside()
"""
    )
    done = pytester.runpytest_subprocess(*STRICT, "-p", "zconfig.testing")
    done.assert_outcomes(passed=4)


def test_what_a_test_does_is_gone_in_the_next(run: Run) -> None:
    run("""
seen = []
before = dict(os.environ)

def test_one(zconfig_env, zconfig_fake_server, monkeypatch):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri, AWS_REGION="test")
    zconfig_env.dotenv("ZILLIZ_FILE_URI=http://127.0.0.1:1")
    zconfig_env.secret("zilliz_file_token", "s3cret")
    monkeypatch.setenv("ZILLIZ_PATCHED_URI", "http://127.0.0.1:1")
    os.environ["ZILLIZ_BARE_URI"] = "http://127.0.0.1:1"
    zconfig.reload()
    connections.add_connection(code={"uri": "http://127.0.0.1:1"})
    connections.subscribe(seen.append)
    connections.default.ping()
    assert set(connections) == {"default", "file", "patched", "bare", "code"}

def test_two(zconfig_isolated):
    assert list(connections) == []
    assert not zconfig.reload()
    with fake_server() as server:
        noted = len(seen)
        connections.connect("x", uri=server.uri)
    assert len(seen) == noted

def test_three():
    changed = dict(os.environ.items() ^ before.items()).keys()
    assert changed <= {"PYTEST_CURRENT_TEST"}
""")


def test_a_whole_suite_can_be_isolated(run: Run) -> None:
    run(
        """
def test_it():
    os.environ["ZILLIZ_URI"] = "http://127.0.0.1:1"
    assert set(zconfig.reload().added) == {"default"}

def test_the_next():
    assert list(connections) == []
""",
        "-o",
        "usefixtures=zconfig_isolated",
    )


def test_connections_that_were_there_are_there_afterwards(tmp_path: Path) -> None:
    with plugin.fake_server() as server, isolated(new(tmp_path)) as outer:
        outer.set(ZILLIZ_URI=server.uri)
        live = zconfig.connections.default
        with isolated(new(tmp_path)):
            assert list(zconfig.connections) == []
        assert zconfig.connections["default"] is live
        assert live.ping() > 0
        assert os.environ["ZILLIZ_URI"] == server.uri


def test_an_isolation_ends_with_an_exception_too(tmp_path: Path) -> None:
    before = zconfig.connections._registry

    def fail() -> None:
        with isolated(new(tmp_path)) as environment:
            environment.set(ZILLIZ_URI="http://127.0.0.1:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert zconfig.connections._registry is before
    assert "ZILLIZ_URI" not in os.environ


def test_hooks_of_the_application_are_told_of_what_happens_in_a_test(tmp_path: Path) -> None:
    recorder = Recorder()
    unsubscribe = zconfig.connections.subscribe(recorder.take)
    try:
        with plugin.fake_server() as server, isolated(new(tmp_path)) as environment:
            environment.set(ZILLIZ_URI=server.uri)
            zconfig.connections.default.ping()
    finally:
        unsubscribe()
    assert recorder.of(events.ConnectionConnected, alias="default", endpoint=server.uri)
    assert recorder.of(events.ConnectionClosed, alias="default")


def test_sources_on_the_network_are_read_where_a_manager_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    remote = "zconfig._sources.remote"
    monkeypatch.setattr(f"{remote}.plugin_readings", lambda *_: asked.append("plugin") or ())
    monkeypatch.setattr(f"{remote}.manager_readings", lambda wanted, _: asked.append(wanted) or ())
    with isolated(new(tmp_path)) as environment:
        zconfig.reload()
        assert asked == []
        environment.set(ZCONFIG_AWS_SECRET="prod/zilliz")
        assert asked == [{"ZCONFIG_AWS_SECRET": "prod/zilliz"}, "plugin"]


def new(directory: Path) -> Path:
    path = directory / f"isolated {len(list(directory.iterdir()))}"
    path.mkdir()
    return path


# --- what a test is configured with ---------------------------------------------------------


def test_variables_count_at_once(run: Run) -> None:
    run("""
def test_they_do(zconfig_env):
    changes = zconfig_env.set(ZILLIZ_URI="http://127.0.0.1:1/sales", ZILLIZ_TIMEOUT=3)
    assert changes.added == ("default",)
    assert connections.spec().db_name == "sales"
    assert connections.spec().timeout_s == 3
    assert zconfig_env.set(ZILLIZ_TIMEOUT=None).changed == {"default": ("timeout_s",)}
    assert zconfig_env.set(ZILLIZ_URI=None, ZILLIZ_UNKNOWN=None).removed == ("default",)

def test_what_is_wrong_is_told(zconfig_env):
    problems = zconfig_env.set(ZILLIZ_URI="gopher://x").problems
    assert [problem.code for problem in problems] == ["bad_scheme"]
    with pytest.raises(zconfig.ConfigurationError):
        connections.default
""")


def test_dotenv_files_count_at_once(run: Run) -> None:
    run("""
def test_they_do(zconfig_env):
    assert zconfig_env.dotenv("ZILLIZ_URI=http://127.0.0.1:1").added == ("default",)
    zconfig_env.dotenv("ZILLIZ_URI=http://127.0.0.1:2", ".env.ci")
    assert connections.spec().endpoint.port == 1
    zconfig_env.set(ZCONFIG_PROFILE="ci")
    assert connections.spec().endpoint.port == 2
    assert zconfig_env.directory.joinpath(".env.ci").exists()
""")


def test_secret_files_count_at_once(run: Run) -> None:
    run("""
def test_they_do(zconfig_env, zconfig_fake_server, zconfig_events):
    zconfig_fake_server.accept("first-key", "second-key")
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    zconfig_env.secret("zilliz_token", "first-key")
    connections.default.ping()
    zconfig_env.secret("zilliz_token", "second-key")
    zconfig_events.wait_for(events.ConnectionRotated, alias="default")
    connections.default.ping()
    assert zconfig_fake_server.calls("GetVersion")[-1].token == "second-key"
    assert not zconfig.connections.configuration.problems
""")


def test_a_child_process_has_the_same_configuration(run: Run) -> None:
    run("""
import subprocess, sys

def test_it_has(zconfig_env):
    zconfig_env.set(ZILLIZ_EU_URI="http://127.0.0.1:1")
    zconfig_env.dotenv("ZILLIZ_US_URI=http://127.0.0.1:1")
    code = "import zconfig; print(*zconfig.connections)"
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=zconfig_env.directory)
    assert sorted(printed.split()) == [b"eu", b"us"]
""")


# --- what a test opens ----------------------------------------------------------------------


def test_several_aliases_connect_in_parallel(run: Run) -> None:
    run("""
def test_they_do(zconfig_env, zconfig_fake_server):
    with fake_server() as other, fake_server(version="v1") as third, ThreadPoolExecutor() as pool:
        zconfig_env.set(
            ZILLIZ_URI=zconfig_fake_server.uri, ZILLIZ_EU_URI=other.uri, ZILLIZ_US_URI=third.uri
        )
        servers = zconfig_fake_server, other, third
        for server in servers:
            server.hold()
        opening = pool.submit(zconfig.autoconnect)
        for server in servers:
            server.wait_for("Connect")
        for server in servers:
            server.recover()
        opened = opening.result(20)
        assert sorted(opened) == ["default", "eu", "us"]
        assert opened["us"].server.version == "v1"
""")


def test_connections_are_closed_after_the_test(run: Run) -> None:
    run("""
opened = []

def test_one(zconfig_env, zconfig_fake_server):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    opened.append(connections.default)
    opened.append(connections.connect("other", uri=zconfig_fake_server.uri))
    assert [each.is_open for each in opened] == [True, True]

def test_two():
    assert [str(each.state) for each in opened] == ["closed", "closed"]
""")


def test_an_optional_alias_is_tried_no_longer_after_the_test(run: Run) -> None:
    run("""
uris = []

def test_one(zconfig_env):
    with fake_server() as server:
        uris.append(server.uri)
        server.stop()
        zconfig_env.set(ZILLIZ_URI=server.uri, ZILLIZ_REQUIRED="false")
        zconfig.autoconnect()
        assert connections.stats()["default"].state == "retrying"

def test_two(zconfig_env):
    zconfig_env.set(ZILLIZ_URI=uris[0])
    assert connections.stats()["default"].state == "idle"
    assert connections.stats()["default"].failures == {}
""")


ASYNC = """
from zconfig import aio

opened = []
loop = asyncio.new_event_loop()

def test_one(zconfig_env, zconfig_fake_server):
    async def main():
        opened.append(await aio.get())
        assert await aio.ping() > 0
        await end()

    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    {start}
    assert len(opened) == 1

def test_two(zconfig_isolated):
    {stop}
    assert [str(each.state) for each in opened] == ["closed"]
    assert asyncio.run(names()) == []

async def end():
    {end}

async def names():
    return [alias for alias in connections]
"""


@pytest.mark.parametrize(
    ("start", "end", "stop"),
    [
        pytest.param("asyncio.run(main())", "pass", "loop.close()", id="a loop of asyncio.run"),
        pytest.param(
            "loop.run_until_complete(main())", "pass", "loop.close()", id="a loop that is kept"
        ),
        pytest.param(
            "thread = threading.Thread(target=loop.run_forever); thread.start();"
            "asyncio.run_coroutine_threadsafe(main(), loop).result(20)",
            "pass",
            "loop.call_soon_threadsafe(loop.stop);"
            "[t.join(20) for t in threading.enumerate() if 'run_forever' in t.name];"
            "loop.close()",
            id="a loop that runs in another thread",
        ),
    ],
)
def test_connections_of_event_loops_are_closed_after_the_test(
    start: str, end: str, stop: str, run: Run
) -> None:
    run(ASYNC.format(start=start, end=end, stop=stop))


def test_a_loop_that_was_closed_without_a_word_does_no_harm(run: Run) -> None:
    run("""
from zconfig import aio

def test_one(zconfig_env, zconfig_fake_server):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(aio.ping()) > 0
    loop.close()

def test_two(zconfig_env, zconfig_fake_server):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    assert asyncio.run(aio.ping()) > 0
""")


def test_tests_on_a_loop_of_their_framework_are_isolated_too(run: Run) -> None:
    run("""
from zconfig import aio

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

async def test_one(zconfig_env, zconfig_fake_server):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    assert await aio.ping() > 0

async def test_two(zconfig_env, zconfig_fake_server):
    assert list(connections) == []
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    assert await aio.ping() > 0
    assert len(zconfig_fake_server.calls("Connect")) == 1
""")


def test_a_comparison_that_fails_prints_no_token(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(ASKED_FOR)
    pytester.makepyfile(
        PREAMBLE
        + """
def test_what_arrived(zconfig_env, zconfig_fake_server):
    connection = connections.connect("a", uri=zconfig_fake_server.uri, token="root:s3cret-key")
    assert zconfig_fake_server.calls()[0].token == "root:other"

def test_what_is_configured(zconfig_env):
    connections.add_connection(
        a={"uri": "http://db", "token": "root:s3cret-key", "proxy": "http://root:s3cret-key@p:1"}
    )
    spec = connections.spec("a")
    assert (spec.credentials.secret, spec.proxy) == ("root:other", "http://root:other@p:1")

def test_the_secrets(zconfig_env):
    connections.add_connection(a={"uri": "http://db", "token": "root:s3cret-key"})
    assert list(connections.secrets()) == ["root:other"]

def test_the_arguments_of_a_store(zconfig_env):
    connections.add_connection(a={"uri": "http://db", "token": "root:s3cret-key"})
    assert zconfig.connection_args("a")["token"] == "root:other"
"""
    )
    done = pytester.runpytest_inprocess(*STRICT, "-vv")
    done.assert_outcomes(failed=4)
    shown = [line for line in done.outlines if line.startswith("E ")]
    assert "<hidden>" in str(shown)
    assert "s3cret" not in str(shown)


def test_a_test_that_fails_leaves_no_thread_and_no_socket(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(ASKED_FOR)
    pytester.makepyfile(
        PREAMBLE
        + """
from zconfig import aio

loop = asyncio.new_event_loop()

def test_it(zconfig_env, zconfig_fake_server, zconfig_events):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    zconfig.autoconnect()
    loop.run_until_complete(aio.ping())
    zconfig_fake_server.delay(math.inf, method="Search")
    call = connections.default.channel.unary_unary("/milvus.proto.milvus.MilvusService/Search")
    pending = call.future(b"")
    zconfig_fake_server.wait_for("Search")
    assert False

def test_the_loop_can_be_closed():
    loop.close()
"""
    )
    before = held()
    pytester.runpytest_inprocess(*STRICT).assert_outcomes(failed=1, passed=1)
    deadline = time.monotonic() + PATIENCE_S
    while held() - before:
        assert time.monotonic() < deadline, held() - before
        time.sleep(0.05)


def held() -> set[str]:
    """Return the threads and the sockets of this process; what gRPC keeps has neither name."""
    threads = {f"thread {each.name} {each.ident}" for each in threading.enumerate()}
    sockets = set()
    for descriptor in Path("/dev/fd").iterdir():
        number = int(descriptor.name)
        with suppress(OSError):  # it was closed meanwhile
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as each:
                    sockets.add(f"socket {number} {each.getsockname()}")
    return threads | sockets


# --- Milvus Lite ----------------------------------------------------------------------------


def test_each_test_has_a_milvus_lite_of_its_own(run: Run) -> None:
    run("""
def test_one(zconfig_lite, tmp_path):
    assert zconfig_lite is connections["default"] is connections.default
    assert list(tmp_path.glob("*.db")) == [Path(str(zconfig_lite.endpoint))]
    client = zconfig.client()
    client.create_collection("docs", dimension=2)
    client.insert("docs", [{"id": 1, "vector": [0.5, 0.5]}])
    assert client.get("docs", [1])[0]["id"] == 1

def test_two(zconfig_lite, zconfig_env, tmp_path):
    assert zconfig.client().list_collections() == []
    zconfig_env.set(ZILLIZ_OTHER_URI=tmp_path / "other.db")
    assert sorted(zconfig.autoconnect()) == ["default", "other"]
""")


def test_a_milvus_lite_may_serve_the_session(run: Run) -> None:
    run("""
from zconfig.interop.pymilvus import client_of

@pytest.fixture(scope="session")
def docs(zconfig_lite_session):
    client_of(zconfig_lite_session).create_collection("docs", dimension=2)
    return zconfig_lite_session.endpoint

def test_one(docs, zconfig_env):
    zconfig_env.set(ZILLIZ_URI=docs)
    assert zconfig.client().list_collections() == ["docs"]

def test_two(docs, zconfig_env, zconfig_lite):
    assert zconfig.client().list_collections() == []
    zconfig_env.set(ZILLIZ_SHARED_URI=docs)
    assert zconfig.client("shared").list_collections() == ["docs"]

def test_three(zconfig_isolated, zconfig_lite_session):
    assert list(connections) == []
    assert zconfig_lite_session.ping() > 0
""")


def test_without_milvus_lite_it_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.modules['milvus_lite'] = None\n" + ASKED_FOR)
    pytester.makepyfile(
        "def test_one(zconfig_lite): pass\ndef test_two(zconfig_lite_session): pass"
    )
    done = pytester.runpytest_subprocess(*STRICT)
    done.assert_outcomes(errors=2)
    said = "*MissingExtraError: milvus-lite 3 is not installed; run: pip install *lite*"
    done.stdout.fnmatch_lines([said, said])


# --- events ---------------------------------------------------------------------------------


def test_events_are_written_down(run: Run) -> None:
    run("""
def test_they_are(zconfig_env, zconfig_fake_server, zconfig_events):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    zconfig_events.clear()
    connections.default.close()
    assert zconfig_events.names == [
        "zconfig.connection.connecting",
        "zconfig.connection.connected",
        "zconfig.connection.closed",
    ]

def test_they_are_new_in_each_test(zconfig_events):
    assert list(zconfig_events) == []

def test_they_can_be_waited_for(zconfig_env, zconfig_fake_server, zconfig_events):
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri)
    zconfig.autoconnect()
    zconfig_fake_server.stop()
    lost = zconfig_events.wait_for(events.ConnectionLost, timeout=20, alias="default")
    assert lost.cause == "refused"
    zconfig_fake_server.start()
    zconfig_events.wait_for(events.ConnectionRecovered, timeout=20)
""")


def test_an_event_that_does_not_come_is_a_failure_that_says_so() -> None:
    recorder = Recorder()
    recorder.take(events.ConnectionClosed(alias="prod", endpoint="http://x"))
    message = (
        r"^no zconfig\.connection\.closed alias='eu' within 0\.01 s; "
        r"events so far: zconfig\.connection\.closed$"
    )
    with pytest.raises(AssertionError, match=message):
        recorder.wait_for(events.ConnectionClosed, timeout=0.01, alias="eu")


def test_an_event_that_is_still_to_come_is_waited_for() -> None:
    recorder, kind = Recorder(), events.ConnectionClosed
    found: queue.SimpleQueue[events.Event] = queue.SimpleQueue()
    wait = threading.Thread(
        target=lambda: found.put(recorder.wait_for(kind, 10 * PATIENCE_S)), daemon=True
    )
    wait.start()
    coming = kind(alias="prod", endpoint="http://x")
    recorder.take(coming)
    assert found.get(timeout=PATIENCE_S) is coming
    assert len(recorder) == 1


# --- side by side ---------------------------------------------------------------------------


def test_it_works_with_tests_that_run_side_by_side(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(ASKED_FOR)
    pytester.makepyfile(
        PREAMBLE
        + """
@pytest.mark.parametrize("number", range(8))
def test_it(number, zconfig_env, zconfig_fake_server):
    assert list(connections) == []
    zconfig_fake_server.accept(f"key-number-{number}")
    zconfig_env.set(ZILLIZ_URI=zconfig_fake_server.uri, ZILLIZ_TOKEN=f"key-number-{number}")
    assert connections.default.ping() > 0
"""
    )
    done = pytester.runpytest_subprocess(*STRICT, "-n", "2")
    done.assert_outcomes(passed=8)
