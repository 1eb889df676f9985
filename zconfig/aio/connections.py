"""The asyncio face of a registry: the verbs of `zconfig.connections`, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from zconfig._redaction import secrets_in
from zconfig._registry import Connections, registry_of
from zconfig._registry.autoconnect import failures, raise_for_failures, select_aliases
from zconfig._registry.forks import import_grpc
from zconfig._registry.registry import Registry
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
    hide_seconds,
    wanted_alias,
)
from zconfig._spec import ConnectionSpec
from zconfig.aio.connection import AsyncConnection, BorrowedConnection
from zconfig.aio.loop_pool import find_loop_pool, in_thread, loop_pool
from zconfig.errors import ClosedError, ZConfigError

if TYPE_CHECKING:
    from zconfig._settings.fields import ConnectionSettings


class _Kept(NamedTuple):
    """What an event loop has of a connection.

    A client that pymilvus keeps leads to the borrower, which must not lead to the client.
    """

    borrower: BorrowedConnection
    connection: AsyncConnection


class AsyncConnections:
    """The connections of `zconfig.connections`, used from the running event loop.

    Each alias has one connection in the process, which threads and event loops share: one Connect,
    one state, one stream of events. An event loop has channels of its own to the same server,
    which are closed when it ends; the connection stays open for the others.

    Args:
        connections: The blocking face.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
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
            zconfig.errors.ConfigurationError: no connection is configured; \
set ZILLIZ_URI in the environment or in a .env file in ...
        """
        aliases = hide_aliases(aliases)
        wait, timeout = hide_seconds(wait), hide_seconds(timeout)
        table = await self._read()
        durations = {"wait": wait, "timeout": timeout}
        check_seconds(None, **{name: each for name, each in durations.items() if each is not None})
        names, optional = select_aliases(table, aliases)
        found = await asyncio.gather(*(self._attempt(name, wait, timeout) for name in names))
        outcomes = dict(zip(names, found, strict=True))
        connected = raise_for_failures(outcomes, optional)
        self._registry.keep_trying(failures(outcomes))
        return connected

    async def connect(  # noqa: PLR0913 - five are those of pymilvus
        self,
        alias: str = "default",
        user: str = "",
        password: SecretText = "",
        db_name: str | None = None,
        token: SecretText = "",
        *,
        settings: ConnectionSettings | None = None,
        **kwargs: Any,
    ) -> AsyncConnection:
        """Connect an alias, and return its connection; see `zconfig.connections.connect`.

        What is given becomes the alias' configuration, for threads and other event loops too.

        Args:
            alias: The connection's name.
            user: User name, with `password`.
            password: Password, with `user`.
            db_name: Milvus database; by default the one in the URI's path, or what is configured.
            token: API key, or `user:password`.
            settings: All of it in one model, which may be one of your own below
                `ConnectionSettings`; the other arguments replace fields of it.
            **kwargs: As for `zconfig.connections.connect`.

        Raises:
            ConfigurationError: The arguments are wrong, or nothing configures the alias.
            ConflictError: The alias is live with another configuration.
            ConnectError: The server cannot be reached, or does not accept us.
        """
        alias = hide_alias(alias)
        named = {"user": user, "password": password, "db_name": db_name, "token": token}
        given = hide({**named, "settings": settings, **kwargs})
        del (
            named,
            user,
            password,
            token,
            settings,
            kwargs,
        )  # or a traceback that shows locals would show them
        name = fold_alias(alias)
        if not has_overrides(given):  # as configured, and so it follows what is configured
            check_place(await self._read(), name, given, "aio.connect")
            return await self._get(name)
        self._registry.remember(secrets_in(given))
        spec = spec_from_arguments(await self._read(), name, given, "aio.connect")
        self._registry.pool.check(spec)
        return await self._connect(spec)

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
        timeout = hide_seconds(timeout)
        if timeout is not None:
            check_seconds(None, timeout=timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            return await self._ping(alias, deadline)
        except ClosedError:  # in just this moment, by somebody else; the alias opens again on use
            return await self._ping(alias, deadline)

    async def keep_trying(self, *aliases: str) -> None:
        """Have aliases connected in the background; see `zconfig.connections.keep_trying`.

        Args:
            *aliases: Which ones; without any, every configured alias.

        Raises:
            ConfigurationError: With everything that is wrong with them.
        """
        aliases = hide_aliases(aliases)
        names, _ = select_aliases(await self._read(), aliases)
        self._registry.keep_trying(dict.fromkeys(names))

    async def disconnect(self, alias: str) -> None:
        """Close an alias, for threads and other event loops too; no error if it is not connected.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        name = as_alias(alias)
        await in_thread(partial(self._registry.close, name))
        if pool := find_loop_pool():
            await pool.settle()

    async def close(self) -> None:
        """Close the channels of this event loop; the process stays connected.

        An event loop that ends does so by itself. `zconfig.connections.close` closes connections.
        """
        if pool := find_loop_pool():
            await pool.close()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Connect every alias at the start, and close every connection at the end.

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
            await in_thread(self._registry.close_all)
            await self.close()

    async def _ping(self, alias: str | None, deadline: float | None) -> float:
        def left_s() -> float | None:
            return None if deadline is None else max(deadline - time.monotonic(), 0.001)

        connection = await self._get(alias, left_s())
        return await connection.ping(left_s())

    @property
    def _registry(self) -> Registry:
        return registry_of(self._connections)

    async def _get(
        self,
        alias: str | None,
        timeout: float | None = None,  # noqa: ASYNC109 - a duration that is passed on
    ) -> AsyncConnection:
        table = await self._read()
        name = table.default() if alias is None else wanted_alias(alias)
        return self._find(name) or await self._open(name, None, timeout)

    def _find(self, alias: str) -> AsyncConnection | None:
        """Return the connection of an alias if it is open, and this loop has used it before."""
        pool, managed = find_loop_pool(), self._registry.pool.managed(alias)
        if pool is None or managed is None or not managed.is_open:
            return None
        kept: _Kept | None = pool.kept.get(managed)
        return kept.connection if kept else None

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
        intent = self._registry.intent(spec, wait, timeout_s)
        kept = await self._keep(spec)
        borrower = kept.borrower
        if not borrower.managed.is_open:
            connect = partial(borrower.managed.open, intent)
            await borrower.open(connect, intent.budget, borrower)
        borrower.dial()
        return kept.connection

    async def _connect(self, spec: ConnectionSpec) -> AsyncConnection:
        """Open what code gave, and configure it in the same step: no cancellation is between."""
        intent = self._registry.intent(spec, in_code=True)
        kept = await self._keep(spec)
        borrower = kept.borrower
        connect = partial(self._registry.open_and_add, borrower.managed, spec, intent)
        await borrower.open(connect, intent.budget)
        borrower.dial()
        return kept.connection

    async def _keep(self, spec: ConnectionSpec) -> _Kept:
        """Return what this event loop has of the connection of an alias."""
        pool, managed = loop_pool(), self._registry.pool.slot(spec).managed
        await pool.begin()
        known: _Kept | None = pool.kept.get(managed)
        if known is None:
            borrower = BorrowedConnection(managed, pool)
            known = pool.kept[managed] = _Kept(borrower, AsyncConnection(borrower))
            if managed.is_closed:  # meanwhile; nobody tells of it any more
                borrower.forget()
        return known

    async def _read(self) -> SpecTable:
        """Return what is configured; what only the network can tell is read in a thread."""
        if not (self._is_read and self._registry.is_config_published):  # hooks may run
            import_grpc()
            await in_thread(self._registry.publish_config)
            self._is_read = True
        return self._registry.table
