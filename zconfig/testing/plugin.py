"""The fixtures of the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import zconfig
from zconfig._connection import Connection
from zconfig._registry import Connections
from zconfig._settings.configuration import Configuration
from zconfig.testing.fake_server import FakeServer, fake_server
from zconfig.testing.isolation import Environment, isolated
from zconfig.testing.recorder import Recorder


@pytest.fixture
def zconfig_isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Have nothing configured and nothing open, and leave nothing behind.

    No variable of zconfig's or pymilvus' comes from outside, no dotenv file and no secret.
    `zconfig.connections` is empty, and as before afterwards; what the test opens is closed.
    """
    with isolated(tmp_path_factory.mktemp("zconfig")) as environment:
        yield environment


@pytest.fixture
def zconfig_env(zconfig_isolated: Environment) -> Environment:
    """What an isolated test is configured with: set variables, write dotenv files and secrets."""
    return zconfig_isolated


@pytest.fixture
def zconfig_events(zconfig_isolated: Environment) -> Recorder:
    """The lifecycle events of an isolated test, written down as they come."""
    del zconfig_isolated  # it comes first, that is all
    recorder = Recorder()
    zconfig.connections.subscribe(recorder.take)
    return recorder


@pytest.fixture
def zconfig_lite(zconfig_env: Environment, tmp_path: Path) -> Connection:
    """Configure and connect the alias `default`, on a Milvus Lite of the test's own in `tmp_path`.

    Raises:
        MissingExtraError: Milvus Lite is not installed.
    """
    zconfig_env.set(ZILLIZ_URI=tmp_path / "zconfig.db")
    return zconfig.connections["default"]


@pytest.fixture(scope="session")
def zconfig_lite_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Run a Milvus Lite for all tests of the session, and return a connection to it.

    It is none of `zconfig.connections`; a test that wants it there sets a URI to its `endpoint`.

    Raises:
        MissingExtraError: Milvus Lite is not installed.
    """
    connections = Connections(Configuration)
    path = tmp_path_factory.mktemp("zconfig") / "session.db"
    try:
        yield connections.connect("session", uri=str(path))
    finally:
        connections.close()


@pytest.fixture
def zconfig_fake_server() -> Iterator[FakeServer]:
    """Run a server that answers as Milvus does to what zconfig asks, and fails on demand."""
    with fake_server() as server:
        yield server
