"""A test's own configuration, and the fixtures of the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import zconfig
from zconfig._connection import Connection
from zconfig._registry import Connections, registry_of
from zconfig._registry.registry import Registry
from zconfig._registry.specs import Changes
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.base import is_setting
from zconfig._sources.environment import process_environment
from zconfig.testing.fake_server import FakeServer, fake_server
from zconfig.testing.recorder import Recorder

# A proxy for the internet is none for a server on this machine; only gRPC reads this variable.
_NO_PROXY = "no_grpc_proxy"
_LOOPBACK = "localhost,127.0.0.1,::1"


class Environment:
    """What a test is configured with: variables, dotenv files and secrets, and nothing else.

    Each change counts at once, as by `zconfig.reload()`: what is live takes it up.

    Args:
        directory: Where dotenv files are read, in place of the working directory.
        patch: What sets variables, and takes that back.
    """

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._secrets = directory / "secrets"
        self._patch = patch

    def set(self, **variables: object) -> Changes:
        """Set variables of the process environment.

        Args:
            **variables: Values by name, taken as text; `None` takes a variable out.

        Returns:
            What changed by that, and what is wrong.

        Example:
            >>> zconfig_env.set(ZILLIZ_URI=server.uri, ZILLIZ_TOKEN=None)  # doctest: +SKIP
        """
        for name, value in variables.items():
            if value is None:
                self._patch.delenv(name, raising=False)
            else:
                self._patch.setenv(name, str(value))
        return zconfig.reload()

    def dotenv(self, text: str, name: str = ".env") -> Changes:
        """Write a dotenv file.

        Args:
            text: What is in it.
            name: Its name, e.g. `.env.local`.
        """
        (self.directory / name).write_text(text, encoding="utf-8")
        return zconfig.reload()

    def secret(self, name: str, value: str) -> Changes:
        """Write a secret file, into what stands for `/run/secrets`.

        Args:
            name: The file's name, e.g. `zilliz_prod_token`.
            value: What is in it.
        """
        self._secrets.mkdir(exist_ok=True)
        file = self._secrets / name
        file.touch(mode=0o600)
        file.write_text(value, encoding="utf-8")
        return zconfig.reload()

    def load(self) -> Configuration:
        """Read the configuration.

        Sources that use the network are read only where a secret manager is configured.
        """
        read = partial(
            load, process_environment(), self.directory, system_secrets=str(self._secrets)
        )
        near = read(remote=False)
        return read() if near.options.secret_managers else near


@contextmanager
def isolated(directory: Path) -> Iterator[Environment]:
    """For the time of a `with` block, have nothing configured, and nothing open.

    The block begins with no variable of zconfig's or pymilvus', no dotenv file and no secret. What
    it sets, opens and subscribes, on event loops too, is taken back at its end; what was there
    before is there again. Code that holds `zconfig.connections` sees that there.

    Args:
        directory: An empty one, where dotenv files are read.

    Example:
        >>> with isolated(tmp_path_factory.mktemp("zconfig")) as environment:  # doctest: +SKIP
        ...     environment.set(ZILLIZ_URI=server.uri)
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in _ours():
            patch.delenv(name)
        exceptions = process_environment().get(_NO_PROXY, process_environment().get("no_proxy", ""))
        patch.setenv(_NO_PROXY, f"{exceptions},{_LOOPBACK}".lstrip(","))
        environment = Environment(directory, patch)
        try:
            with _another_registry(environment):
                yield environment
        finally:
            _forget_ours()


@contextmanager
def _another_registry(environment: Environment) -> Iterator[None]:
    """Have both faces, which everybody holds, stand on another registry.

    Not only other connections, as in an override: what is read again, what is counted, and who is
    told of events is a test's own, too. Hooks of the application's are told of them as well.
    """
    inside = Registry(environment.load)
    inside.subscribe(registry_of(zconfig.connections).relay)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zconfig.connections, "_registry", inside)
        try:
            yield
        finally:
            zconfig.connections.close()


def _ours() -> list[str]:
    return list(filter(is_setting, process_environment()))


def _forget_ours() -> None:
    """Take out what was set meanwhile, by whomever: importing pymilvus loads a `.env`, too."""
    for name in _ours():
        pytest.MonkeyPatch().delenv(name)  # never undone


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
