"""Where the application runs: servers, proxies before them, and the files that configure it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.soak.servers import USER, Server
from benchmarks.soak.ways import TIMEOUT_S
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy

GUEST = "guest"
"""The alias that comes and goes."""

LITE = "lite"


class Scene:
    """The servers by name, and what is written about them.

    Each has three aliases, say of `a`: `a` itself, whose password is in a secret file; `a_twin`,
    which shares its TCP connection, and has it in the `.env`; and `a_far` behind a proxy.

    Args:
        directory: For the files.
        servers: By name.
        proxies: Before them, by the same names.
        with_lite: Whether there is an alias on Milvus Lite.

    Attributes:
        guest: Which server the guest leads to, if there is one.
    """

    def __init__(
        self,
        directory: Path,
        servers: Mapping[str, Server],
        proxies: Mapping[str, BreakableProxy],
        *,
        with_lite: bool,
    ) -> None:
        self.servers = servers
        self.proxies = proxies
        self.guest: str | None = None
        self._directory = directory
        self._with_lite = with_lite
        self._passwords = dict.fromkeys(servers, "First-1")
        self._pool_sizes = {alias: 1 for name in servers for alias in self.aliases_of(name)}
        for name, server in servers.items():
            server.set_password(None, self._passwords[name])
        self.write()

    @property
    def aliases(self) -> list[str]:
        """The aliases that are always there."""
        return [*self._pool_sizes, *([LITE] if self._with_lite else [])]

    @property
    def resizable(self) -> list[str]:
        """The aliases whose pools can have other sizes."""
        return list(self._pool_sizes)

    @property
    def resized(self) -> list[str]:
        """The aliases whose pools are larger now."""
        return [alias for alias, size in self._pool_sizes.items() if size > 1]

    def aliases_of(self, name: str) -> tuple[str, ...]:
        """Return the aliases of a server."""
        return name, f"{name}_twin", f"{name}_far"

    def secret_of(self, alias: str) -> str:
        """Return what an alias must call with."""
        return f"{USER}:{self._passwords[alias.partition('_')[0]]}"

    def aliases_without(self, name: str | None) -> list[str]:
        """Return the aliases that work while a server does not."""
        gone = self.aliases_of(name) if name else ()
        return [alias for alias in self.aliases if alias not in gone]

    def uri_of(self, name: str) -> str:
        """Return where a server is, without anything between."""
        return f"http://{LOOPBACK}:{self.servers[name].port}"

    def rotate(self, name: str) -> None:
        """Change the password on a server, in the order that loses no call."""
        old = self._passwords[name]
        self._passwords[name] = f"Number-{int(old.rpartition('-')[2]) + 1}"
        self.write()
        self.servers[name].set_password(old, self._passwords[name])

    def resize(self, alias: str) -> None:
        """Give an alias another pool, for which its connection has to be opened anew."""
        self._pool_sizes[alias] = 3 - self._pool_sizes[alias]
        self.write()

    def write(self) -> None:
        """Write the secret files and the `.env`, none of them ever half."""
        for name, password in self._passwords.items():
            _replace(self._directory / f"{name}_password", password)
        _replace(self._directory / ".env", "\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for name in self.servers:
            direct, twin, far = self.aliases_of(name)
            token = self.secret_of(name)
            yield from self._lines_of(direct, self.uri_of(name), USER=USER)
            yield f"ZILLIZ_{direct.upper()}_PASSWORD_FILE={self._directory / name}_password"
            yield from self._lines_of(twin, self.uri_of(name), TOKEN=token)
            there = f"http://{LOOPBACK}:{self.proxies[name].port}"
            yield from self._lines_of(far, there, TOKEN=token)
        if self.guest:
            token = self.secret_of(self.guest)
            yield from self._lines_of(GUEST, self.uri_of(self.guest), TOKEN=token)
        if self._with_lite:
            yield from self._lines_of(LITE, f"{self._directory / LITE}.db")

    def _lines_of(self, alias: str, uri: str, **fields: str) -> Iterator[str]:
        size = self._pool_sizes.get(alias, 1)
        common = {"URI": uri, "TIMEOUT": str(TIMEOUT_S)}
        if size > 1:
            common["POOL_SIZE"] = str(size)
        for field, value in {**common, **fields}.items():
            yield f"ZILLIZ_{alias.upper()}_{field}={value}"


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(f"{text}\n")
    os.replace(new, path)  # noqa: PTH105 - at once, as those do that rotate secrets


@contextmanager
def scene(directory: Path, servers: Mapping[str, Server], *, with_lite: bool) -> Iterator[Scene]:
    """Put proxies before servers, and write what configures the application."""
    with ExitStack() as stack:
        proxies = {
            name: stack.enter_context(breakable_proxy(server.port))
            for name, server in servers.items()
        }
        yield Scene(directory, servers, proxies, with_lite=with_lite)
