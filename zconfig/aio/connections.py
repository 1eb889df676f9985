"""The asyncio face of a registry: the verbs of `zconfig.connections`, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from zconfig._redaction import secrets_in
from zconfig._registry import Connections
from zconfig._registry.autoconnect import failures, raise_for_failures, select_aliases
from zconfig._registry.forks import import_grpc
from zconfig._registry.specs import SpecTable, check_place, spec_from_arguments
from zconfig._settings.arguments import (
    SecretText,
    as_alias,
    check_seconds,
    fold_alias,
    has_overrides,
    hide,
    hide_alias,
    hide_aliases,
    wanted_alias,
)
from zconfig.aio.connection import AsyncConnection
from zconfig.aio.loop_pool import LoopPools
from zconfig.aio.threads import in_thread
from zconfig.errors import ZConfigError


class AsyncConnections:
    """Connections of the running event loop, of what `zconfig.connections` has configured.

    Each event loop has its own, which `asyncio.run` closes when it ends. They follow the
    configuration: what a reload changes, what code adds and what it removes counts from an alias'
    next use. Closing is each face's own business, and each event loop's:
    `zconfig.connections.disconnect` closes no connection of an event loop.

    Args:
        connections: The blocking face.
    """

    def __init__(self, connections: Connections) -> None:
        self._registry = connections._registry  # noqa: SLF001 - one registry with two faces
        self._loop_pools = LoopPools(self._registry)
        self._is_read = False

    async def autoconnect(
        self,
        *aliases: str,
        wait: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as `zconfig.autoconnect`
    ) -> dict[str, AsyncConnection]:
        """Connect aliases concurrently, and return their connections.

        Args:
            *aliases: Which ones, all of them required; without any, every configured alias, of
                which only the `REQUIRED` ones must succeed.
            wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
            timeout: Seconds for each connect; by default each alias' own `TIMEOUT`.

        Returns:
            The connections by alias.

        Raises:
            ConfigurationError: Before anything is dialed, with everything that is wrong.
            AutoconnectError: With every alias that failed; the others stay connected.

        Example:
            >>> import asyncio
            >>> from zconfig import aio
            >>> asyncio.run(aio.autoconnect())  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            zconfig.errors.ConfigurationError: configuration: no connection is configured; \
set ZILLIZ_URI in the environment or in a .env file in ...
        """
        aliases = hide_aliases(aliases)
        table = await self._read()
        durations = {"wait": wait, "timeout": timeout}
        check_seconds(None, **{name: each for name, each in durations.items() if each is not None})
        names, optional = select_aliases(table, aliases)
        found = await asyncio.gather(*(self._attempt(name, wait, timeout) for name in names))
        outcomes = dict(zip(names, found, strict=True))
        connected = raise_for_failures(outcomes, optional)
        self._loop_pools.home().keep_trying(failures(outcomes))
        return connected

    async def connect(
        self,
        alias: str = "default",
        user: str = "",
        password: SecretText = "",
        db_name: str | None = None,
        token: SecretText = "",
        **kwargs: Any,
    ) -> AsyncConnection:
        """Connect an alias, and return its connection; see `zconfig.connections.connect`.

        What is given becomes the alias' configuration, for the blocking face and every other
        event loop too.

        Args:
            alias: The connection's name.
            user: User name, with `password`.
            password: Password, with `user`.
            db_name: Milvus database; by default the one in the URI's path, or what is configured.
            token: API key, or `user:password`.
            **kwargs: As for `zconfig.connections.connect`.

        Raises:
            ConfigurationError: The arguments are wrong, or nothing configures the alias.
            ConflictError: The alias is live with another configuration.
            ConnectError: The server cannot be reached, or does not accept us.
        """
        alias = hide_alias(alias)
        given = hide(
            {"user": user, "password": password, "db_name": db_name, "token": token, **kwargs}
        )
        del user, password, token, kwargs  # or a traceback that shows locals would show them
        name = fold_alias(alias)
        if not has_overrides(given):  # as configured, and so it follows what is configured
            check_place(await self._read(), name, given, "aio.connect")
            return await self._get(name)
        self._registry.remember(secrets_in(given))
        spec = spec_from_arguments(await self._read(), name, given, "aio.connect")
        self._registry.pool.check(spec)
        budget = self._registry.budget(spec)
        connection = await self._loop_pools.home().open(spec, budget, in_code=True)
        self._registry.add(spec)
        return connection

    async def get(self, alias: str | None = None) -> AsyncConnection:
        """Return the connection of an alias, connected if it is not yet.

        Args:
            alias: The connection's name; without it, the default alias, as
                `zconfig.connections.default` has it.

        Raises:
            ConfigurationError: It is not configured, or wrongly.
            ConnectError: The server cannot be reached, or does not accept us.
        """
        alias = hide_alias(alias)
        return await self._get(alias)

    async def ping(
        self,
        alias: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as `Connection.ping`
    ) -> float:
        """Ask the server of an alias for its version; return the round trip in milliseconds.

        Args:
            alias: The connection's name; without it, the default alias.
            timeout: Seconds to wait, for connecting too where that is needed; the alias' own
                TIMEOUT for each by default.

        Raises:
            ConfigurationError: It is not configured, or wrongly.
            ConnectError: The server does not answer; its class names the cause.
        """
        alias = hide_alias(alias)
        started = time.monotonic()
        connection = await self._get(alias, timeout)
        if timeout is not None:
            timeout = max(timeout - (time.monotonic() - started), 0.001)
        return await connection.ping(timeout)

    async def keep_trying(self, *aliases: str) -> None:
        """Have aliases connected in the background; see `zconfig.connections.keep_trying`.

        Args:
            *aliases: Which ones; without any, every configured alias.

        Raises:
            ConfigurationError: With everything that is wrong with them.
        """
        aliases = hide_aliases(aliases)
        names, _ = select_aliases(await self._read(), aliases)
        self._loop_pools.home().keep_trying(dict.fromkeys(names))

    async def disconnect(self, alias: str) -> None:
        """Close an alias on this event loop; no error if it is not connected.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        name = as_alias(alias)
        if home := self._loop_pools.find():
            await home.close(name)

    async def close(self) -> None:
        """Close every connection of this event loop; an alias opens again on use."""
        if home := self._loop_pools.find():
            await home.close()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Connect every alias at the start, and close them at the end.

        Args:
            app: The application; nothing is done with it. Frameworks pass it.

        Raises:
            ConfigurationError: Before anything is dialed, with everything that is wrong.
            AutoconnectError: With every alias that failed.

        Example:
            >>> from fastapi import FastAPI  # doctest: +SKIP
            >>> app = FastAPI(lifespan=zconfig.aio.lifespan)  # doctest: +SKIP
        """
        del app
        try:
            await self.autoconnect()
            yield
        finally:
            await self.close()

    async def _get(
        self,
        alias: str | None,
        timeout: float | None = None,  # noqa: ASYNC109 - a duration that is passed on
    ) -> AsyncConnection:
        table = await self._read()
        name = table.default() if alias is None else wanted_alias(alias)
        home = self._loop_pools.find()
        return (home and home.find(name)) or await self._open(name, None, timeout)

    async def _attempt(
        self, alias: str, wait: float | None, timeout_s: float | None
    ) -> AsyncConnection | ZConfigError:
        try:
            return await self._open(alias, wait, timeout_s)
        except ZConfigError as error:
            return error

    async def _open(
        self, alias: str, wait: float | None, timeout_s: float | None
    ) -> AsyncConnection:
        spec = self._registry.table.spec(alias)
        budget = self._registry.budget(spec, wait, timeout_s)
        return await self._loop_pools.home().open(spec, budget)

    async def _read(self) -> SpecTable:
        """Return what is configured; what only the network can tell is read in a thread."""
        if not self._is_read:
            import_grpc()
            await in_thread(self._registry.announce)
            self._is_read = True
        return self._registry.table
