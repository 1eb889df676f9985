"""An isolated configuration for a test, and the fixtures of the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import zconfig
from zconfig._connection import Connection
from zconfig._redaction import Hidden
from zconfig._registry import Connections, registry_of
from zconfig._registry.registry import Registry
from zconfig._registry.specs import Changes
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.base import is_setting
from zconfig._sources.environment import process_environment
from zconfig.testing.fake_server import FakeServer, fake_server
from zconfig.testing.recorder import Recorder

# The proxy of the environment is not used for servers on this machine. Only gRPC reads this.
_NO_PROXY = "no_grpc_proxy"
_LOOPBACK = "localhost,127.0.0.1,::1"


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of a token by its `repr`; pytest would print its text."""
    is_hidden = isinstance(left, Hidden) or isinstance(right, Hidden)
    return [f"{left!r} {op} {right!r}"] if is_hidden else None


class Environment:
    """The configuration of a test: variables, dotenv files and secrets.

    Each change takes effect at once, also for open connections, as after `zconfig.reload()`.

    Args:
        directory: The directory for dotenv files, instead of the working directory.
        patch: Sets variables, and restores them.
    """

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._secrets = directory / "secrets"
        self._patch = patch

    def set(self, **variables: object) -> Changes:
        """Set variables of the process environment.

        Args:
            **variables: Values by name, converted to text; `None` removes a variable.

        Returns:
            The changes, and the problems of the configuration.

        Examples:
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
            text: The content of the file.
            name: The name of the file, e.g. `.env.local`.
        """
        (self.directory / name).write_text(text, encoding="utf-8")
        return zconfig.reload()

    def secret(self, name: str, value: str) -> Changes:
        """Write a secret file into the directory that replaces `/run/secrets`.

        Args:
            name: The name of the file, e.g. `zilliz_prod_token`.
            value: The content of the file.
        """
        self._secrets.mkdir(exist_ok=True)
        file = self._secrets / name
        file.touch(mode=0o600)
        file.write_text(value, encoding="utf-8")
        return zconfig.reload()

    def load(self) -> Configuration:
        """Read the configuration.

        Sources that use the network are read only if a secret manager is configured.
        """
        read = partial(
            load, process_environment(), self.directory, system_secrets=str(self._secrets)
        )
        near = read(remote=False)
        return read() if near.options.secret_managers else near


@contextmanager
def isolated(directory: Path) -> Iterator[Environment]:
    """During a `with` block, replace the configuration and the connections with empty ones.

    The block begins without variables of zconfig and pymilvus, dotenv files and secrets. At its
    end, its variables, connections and subscriptions are removed, on event loops too, and the
    previous ones are restored. References to `zconfig.connections` see the isolated state.

    Args:
        directory: An empty directory for dotenv files.

    Examples:
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
    """Replace the registry of `zconfig.connections` and `zconfig.aio`.

    An override replaces only the connections, and `reload` reads no source then. This isolates
    statistics and subscriptions too, and `reload` reads the sources of the test. Hooks of the
    application receive the events of the test as well.
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
    """Remove variables set during the block by any code: importing pymilvus loads a `.env`, too."""
    for name in _ours():
        pytest.MonkeyPatch().delenv(name)  # never undone


@pytest.fixture
def zconfig_isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Isolate a test from the configuration and the connections outside it.

    The test sees no variables of zconfig and pymilvus, no dotenv files and no secrets from outside,
    and `zconfig.connections` is empty. Afterwards the connections of the test are closed, and the
    previous state is restored.
    """
    with isolated(tmp_path_factory.mktemp("zconfig")) as environment:
        yield environment


@pytest.fixture
def zconfig_env(zconfig_isolated: Environment) -> Environment:
    """The configuration of an isolated test: set variables, write dotenv files and secrets."""
    return zconfig_isolated


@pytest.fixture
def zconfig_events(zconfig_isolated: Environment) -> Recorder:
    """A recorder of the lifecycle events of an isolated test."""
    del zconfig_isolated  # only its order matters
    recorder = Recorder()
    zconfig.connections.subscribe(recorder.take)
    return recorder


@pytest.fixture
def zconfig_lite(zconfig_env: Environment, tmp_path: Path) -> Connection:
    """Configure and connect the alias `default` to a new Milvus Lite in `tmp_path`.

    Raises:
        MissingExtraError: Milvus Lite is not installed.
    """
    zconfig_env.set(ZILLIZ_URI=tmp_path / "zconfig.db")
    return zconfig.connections["default"]


@pytest.fixture(scope="session")
def zconfig_lite_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Run a Milvus Lite for all tests of the session, and return a connection to it.

    The connection is not in `zconfig.connections`. To add it there, set a URI to its `endpoint`.

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
    """Run a server that answers zconfig's calls as Milvus does, and fails on demand."""
    with fake_server() as server:
        yield server
