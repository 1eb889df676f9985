"""The asyncio API: the methods of `zconfig.connections`, awaited."""

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
    """The objects of one event loop for one connection.

    A cached client of pymilvus refers to the borrower, so the borrower must not refer to the
    connection, which refers to the client.
    """

    borrower: BorrowedConnection
    connection: AsyncConnection


class AsyncConnections:
    """The connections of `zconfig.connections`, for the running event loop.

    Each alias has one connection per process, with one state and one stream of events, which
    threads and event loops share. Each event loop has its own channels to the server, which are
    closed when the loop ends; the connection stays open for the others.

    Args:
        connections: The connections of the process.
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

        Optional aliases that fail are retried in the background; see `keep_trying`.

        Args:
            *aliases: The aliases to connect; all of them must succeed. Without arguments, every
                configured alias, of which only the required ones must succeed.
            wait: Seconds to retry transient failures; `ZCONFIG_WAIT` by default.
            timeout: Seconds for each connection attempt; each alias' `TIMEOUT` by default.

        Returns:
            The connections by alias.

        Raises:
            ConfigurationError: The configuration is invalid; raised before any alias is dialed,
                with all problems.
            AutoconnectError: Required aliases failed; the others stay connected.

        Examples:
            >>> import asyncio
            >>> from zconfig import aio
            >>> asyncio.run(aio.autoconnect())  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            zconfig.errors.ConfigurationError: no connection is configured; set ZILLIZ_URI ...
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

        The arguments become the configuration of the alias, also for threads and other event loops.

        Args:
            alias: The alias.
            user: The user name, with `password`.
            password: The password, with `user`.
            db_name: The Milvus database; by default the one in the URI's path, or the configured
                one.
            token: An API key, or `user:password`.
            settings: The configuration as a model of `ConnectionSettings` or a subclass; the other
                arguments replace its fields.
            **kwargs: The other arguments of `zconfig.connections.connect`.

        Returns:
            The open connection.

        Raises:
            ConfigurationError: An argument is invalid, or the alias is not configured.
            ConflictError: The alias is connected with another configuration.
            ConnectError: The server cannot be reached, or rejects the connection.
        """
        alias = hide_alias(alias)
        named = {"user": user, "password": password, "db_name": db_name, "token": token}
        given = hide({**named, "settings": settings, **kwargs})
        # Otherwise a traceback with local variables would show them.
        del named, user, password, db_name, token, settings, kwargs
        name = fold_alias(alias)
        if not has_overrides(given):  # as configured, so that reloads apply to the alias
            check_place(await self._read(), name, given, "aio.connect")
            return await self._get(name)
        self._registry.remember(secrets_in(given))
        spec = spec_from_arguments(await self._read(), name, given, "aio.connect")
        self._registry.pool.check(spec)
        return await self._connect(spec)

    async def get(self, alias: str | None = None) -> AsyncConnection:
        """Return the connection of an alias; connect on the first use.

        Args:
            alias: The alias; without it, the default alias, as in `zconfig.connections.default`.

        Raises:
            ConfigurationError: The alias is not configured, or its configuration is invalid.
            ConnectError: The server cannot be reached, or rejects the connection.
        """
        alias = hide_alias(alias)
        return await self._get(alias)

    async def ping(
        self,
        alias: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as `Connection.ping`
    ) -> float:
        """Ask the server of an alias for its version, and return the duration.

        Args:
            alias: The alias; without it, the default alias.
            timeout: Seconds to wait, including a connect; by default the alias' `TIMEOUT` for
                the connect and for the call.

        Returns:
            The round trip in milliseconds, without the connect.

        Raises:
            ConfigurationError: The alias is not configured, or its configuration is invalid.
            ConnectError: The server did not respond; the class names the cause.
        """
        alias = hide_alias(alias)
        timeout = hide_seconds(timeout)
        if timeout is not None:
            check_seconds(None, timeout=timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            return await self._ping(alias, deadline)
        except ClosedError:  # another thread or task closed it meanwhile; the next use reconnects
            return await self._ping(alias, deadline)

    async def keep_trying(self, *aliases: str) -> None:
        """Connect aliases in the background; see `zconfig.connections.keep_trying`.

        Args:
            *aliases: The aliases to connect; without arguments, every configured alias.

        Raises:
            ConfigurationError: The configuration is invalid; lists all problems.
        """
        aliases = hide_aliases(aliases)
        names, _ = select_aliases(await self._read(), aliases)
        self._registry.keep_trying(dict.fromkeys(names))

    async def disconnect(self, alias: str) -> None:
        """Close an alias, also for threads and other event loops, if it is connected.

        Args:
            alias: The alias.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        name = as_alias(alias)
        await in_thread(partial(self._registry.close, name))
        if pool := find_loop_pool():
            await pool.settle()

    async def close(self) -> None:
        """Close the channels of this event loop; the connections stay open.

        This happens automatically when the event loop ends. To close the connections, call
        `zconfig.connections.close`.
        """
        if pool := find_loop_pool():
            await pool.close()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Connect every alias at startup, and close every connection at shutdown.

        Args:
            app: The application, which frameworks pass; not used.

        Raises:
            ConfigurationError: The configuration is invalid; raised before any alias is dialed,
                with all problems.
            AutoconnectError: Required aliases failed.

        Examples:
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
        """Connect with a specification passed in code, and add it; not cancelled between."""
        intent = self._registry.intent(spec, in_code=True)
        kept = await self._keep(spec)
        borrower = kept.borrower
        connect = partial(self._registry.open_and_add, borrower.managed, spec, intent)
        await borrower.open(connect, intent.budget)
        borrower.dial()
        return kept.connection

    async def _keep(self, spec: ConnectionSpec) -> _Kept:
        """Return the objects of this event loop for the connection of an alias."""
        pool, managed = loop_pool(), self._registry.pool.slot(spec).managed
        await pool.begin()
        known: _Kept | None = pool.kept.get(managed)
        if known is None:
            borrower = BorrowedConnection(managed, pool)
            known = pool.kept[managed] = _Kept(borrower, AsyncConnection(borrower))
            if managed.is_closed:  # closed meanwhile, before it could notify the borrower
                borrower.forget()
        return known

    async def _read(self) -> SpecTable:
        """Return the configured aliases; a thread reads remote sources on the first use."""
        if not (self._is_read and self._registry.is_config_published):  # hooks may run
            import_grpc()
            await in_thread(self._registry.publish_config)
            self._is_read = True
        return self._registry.table
