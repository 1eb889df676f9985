"""Servers shared by all tests, and a fence between the tests and the developer's environment."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import signal
import sys
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support import fork_server
from tests.support.certificates import Certificates, write_certificates
from tests.support.servers import HAS_WHEEL, RealMilvus, RunningMilvus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoints

# A test of behaviour has no deadline: machines that run it may be slow and shared.
# Every run tries the same examples: what it finds has to do with the change. For others:
# pytest --hypothesis-profile=default
hypothesis.settings.register_profile("zconfig", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("zconfig")

_FOREIGN = re.compile(
    r"(ZILLIZ|ZCONFIG|MILVUS|GRPC)_|SERVICE_BINDING_ROOT$|.*_proxy$", re.IGNORECASE
)


# They take longest, most of it in processes of their own. Begun last, they would end long after all
# others, on a machine that is idle otherwise.
LONG = (
    "test_docs_followed",
    "test_examples_more",
    "test_canary",
    "test_docs",
    "test_pymilvus",
    "test_deadlines",
    "test_fork",
    "test_container_commands",
    "test_lite",
    "test_aio_shared",
    "test_testing_plugin",
    "test_cli_terminal",
    "test_doctor",
    "test_servers_gunicorn",
    "test_recovery",
    "test_rotation",
    "test_background",
    "test_resources",
    "test_endpoint_properties",
    "test_contributing",
    "test_conformance",
    "test_diagnosis",
    "test_global_cluster",
    "test_cli_programs",
    "test_cli",
)


RUNNING = pytest.StashKey[str]()
"""Where a server runs that the fixture `milvus` takes: what `ZILLIZ_TEST_URI` says."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        needs = set(getattr(item, "fixturenames", ()))
        if "milvus" in needs and "server_wheel" not in needs:
            item.add_marker(pytest.mark.server)
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    # Next to nothing of what is made now is garbage, and each search for it goes through all.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    # Tests of what is left behind collect the garbage, again and again: of their own objects, and
    # not of all that the tests have imported.
    gc.collect()
    gc.freeze()
    look_up_installed_sources_once()


def look_up_installed_sources_once() -> None:
    """Spare each load of a configuration the search of all packages that the tests need.

    A test that puts a package on `sys.path` has them searched.
    """
    from zconfig._sources import remote

    search, path = remote.entry_points, list(sys.path)
    installed = search(group=remote.GROUP)

    def find(*, group: str) -> EntryPoints:
        return installed if (sys.path, group) == (path, remote.GROUP) else search(group=group)

    remote.entry_points = find


@pytest.fixture
def seed() -> int:
    """What the moments of a test are drawn from; it is shown where the test fails."""
    seed = int(os.environ.get("STRESS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"to repeat it: make stress SEED={seed}")  # noqa: T201 - shown where a test fails
    return seed


# Others need forks, signals, owners of files, a shell, Milvus Lite or a server's wheel, for some of
# their tests.
ON_WINDOWS = {
    *("test_arguments", "test_explain", "test_names", "test_precedence", "test_settings_model"),
    *("test_sources_environment", "test_sources_expansion", "test_spec", "test_unsupported"),
    *(
        "test_event_records",
        "test_fake_server",
        "test_log",
        "test_masking",
        "test_stats",
        "test_wire",
    ),
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    is_module = collection_path.suffix == ".py" and collection_path.stem.startswith("test_")
    return (
        True if os.name == "nt" and is_module and collection_path.stem not in ON_WINDOWS else None
    )


@contextmanager
def fenced() -> Iterator[None]:
    """Hide the developer's settings, and forget afterwards what was set meanwhile."""
    before = dict(os.environ)
    for name in filter(_FOREIGN.match, before):
        del os.environ[name]
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def pytest_configure(config: pytest.Config) -> None:
    from_controller = getattr(config, "workerinput", {})
    config.stash[RUNNING] = from_controller.get("running") or os.environ.get("ZILLIZ_TEST_URI", "")
    # For what runs outside the tests: pymilvus, imported while they are collected, reads
    # MILVUS_URI, and fixtures of the session come before those of a test.
    fence = ExitStack()
    fence.enter_context(fenced())
    config.add_cleanup(fence.close)
    # Where tests run side by side, Ctrl-C is for the process that started the others; here tests
    # press it themselves.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # One process forks the programs of all workers, and inherits what is done with SIGINT.
    directory = from_controller.get("programs")
    fork_server.programs = Path(directory or fence.enter_context(fork_server.forked_programs()))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    # A worker's environment has no variable of ours.
    node.workerinput["running"] = node.config.stash[RUNNING]
    node.workerinput["programs"] = str(fork_server.programs)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path) -> Iterator[None]:
    """Keep each test from the repository's `.env`, which importing pymilvus loads, and others'."""
    with chdir(tmp_path), fenced():
        yield


@pytest.fixture
def lite_uri(tmp_path: Path) -> str:
    """Where Milvus Lite may put a database of this test's own."""
    return str(tmp_path / "x.db")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def programs() -> Path:
    """Where a `python` and a `zconfig` are that start fast."""
    return fork_server.programs


@contextmanager
def serving(server: RealMilvus) -> Iterator[None]:
    """Run a server; afterwards keep its log, and not its data."""
    try:
        server.start()
        server.wait_ready()
        yield
    finally:
        server.stop()
        shutil.rmtree(server.data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def server_wheel() -> None:
    """Skip a test that starts Milvus servers where the package index has none for the platform."""
    if not HAS_WHEEL:
        pytest.skip("the Milvus server has no wheel for this platform")


@pytest.fixture
def patient_diagnosis() -> Iterator[None]:
    """Let a busy machine take its time over a diagnosis; see `diagnosed_in`."""
    from tests.support.matrix import LOOKS_S, diagnosed_in

    with diagnosed_in(LOOKS_S):
        yield


# A server costs more while it waits than to start: each ends with the module that needs it.
@pytest.fixture(scope="module")
def milvus(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealMilvus | RunningMilvus]:
    """Serve plaintext, with authorization; shared by a module's tests, which leave it running."""
    if running := request.config.stash[RUNNING]:
        given = RunningMilvus(running)
        given.wait_ready()
        yield given
        return
    request.getfixturevalue("server_wheel")
    server = RealMilvus(tmp_path_factory.mktemp("milvus"))
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def milvus_b(server_wheel: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMilvus]:
    """Serve as `milvus` does, on another port and other data."""
    server = RealMilvus(tmp_path_factory.mktemp("milvus_b"))
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def milvus_tls(
    server_wheel: None, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[RealMilvus]:
    """Serve TLS with `certificates.server`; shared by the tests of a module."""
    server = RealMilvus(tmp_path_factory.mktemp("milvus_tls"), tls=certificates.server_tls(1))
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def milvus_mtls(
    server_wheel: None, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[RealMilvus]:
    """Serve TLS to clients with a certificate of `certificates.ca` only; shared likewise."""
    server = RealMilvus(tmp_path_factory.mktemp("milvus_mtls"), tls=certificates.server_tls(2))
    with serving(server):
        yield server


@pytest.fixture
def own_milvus(server_wheel: None, tmp_path: Path) -> Iterator[RealMilvus]:
    """Serve as `milvus` does, for one test alone, which may stop and restart it."""
    server = RealMilvus(tmp_path / "milvus")
    with serving(server):
        yield server
