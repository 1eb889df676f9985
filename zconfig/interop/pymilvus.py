"""pymilvus clients on the channels of open connections."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4
from weakref import WeakSet

from zconfig._connection import Connection
from zconfig._per_process import PerProcess
from zconfig._redaction import sealed
from zconfig._registry.forks import guard_forks
from zconfig._settings.arguments import as_alias, check_client_options, hide, hide_aliases
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig.errors import MissingExtraError
from zconfig.interop._orm import (
    REGISTRATIONS,
    find_registry,
    import_pymilvus,
    uri_of,
    with_cached_connect,
)

if TYPE_CHECKING:
    from pymilvus import AsyncMilvusClient, MilvusClient

    from zconfig.aio import AsyncConnection

C = TypeVar("C", bound="Connection | AsyncConnection")
M = TypeVar("M")
Given = Callable[[], dict[str, Any]]  # the options of a client

_CLIENT = "_pymilvus_client"  # the attribute of a connection that holds its client


def client_of(connection: Connection, **options: Any) -> MilvusClient:
    """Return a `MilvusClient` that calls through the channel of a connection.

    Args:
        connection: An open connection.
        **options: Options for `MilvusClient`. With options, each call returns a new client.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: An option is not accepted; see `zconfig.client`.
        ClosedError: The connection is not open.
    """
    given = sealed(options)
    del options  # or a traceback that shows locals would show them
    check_client_options(hide(given()), "client_of")
    return _make(connection, given) if given() else _CLIENTS.of(connection)


def install(*aliases: str) -> dict[str, Connection]:
    """Connect aliases, and register them for pymilvus' ORM.

    After that `Collection("docs", using="prod")` calls through the alias' channel, with its current
    credentials. An alias that is disconnected or removed is removed from pymilvus' registry. Call
    this again after an alias was added or reconnected; other registrations do not change.

    Args:
        *aliases: The aliases to connect; all of them must succeed. Without arguments, every
            configured alias, of which only the required ones must succeed. An alias in another
            spelling, such as `Prod`, is registered by that spelling as well.

    Returns:
        The registered connections, by alias.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: pymilvus has no registry (3.1 and later), or an alias is not
            configured or has errors.
        AutoconnectError: Some aliases failed.

    Examples:
        >>> from zconfig.interop.pymilvus import install
        >>> install("prod")  # doctest: +SKIP
        >>> Collection("docs", using="prod").num_entities  # doctest: +SKIP
    """
    import zconfig

    aliases = hide_aliases(aliases)
    registry = find_registry()
    opened = zconfig.connections.autoconnect(*aliases)
    REGISTRATIONS.follow(registry, zconfig.connections)
    as_spelt = {alias: opened[as_alias(alias)] for alias in aliases}
    REGISTRATIONS.register(registry, opened | as_spelt)
    return opened


def async_client_of(connection: AsyncConnection, **options: Any) -> AsyncMilvusClient:
    """Return an `AsyncMilvusClient` that calls through the channel of an asyncio connection.

    Args:
        connection: An open connection of the running event loop.
        **options: Options for `AsyncMilvusClient`. With options, each call returns a new client.

    Raises:
        MissingExtraError: pymilvus is not installed, or has no asyncio client.
        ConfigurationError: An option is not accepted; see `zconfig.client`.
        ClosedError: The connection is not open.
    """
    given = sealed(options)
    del options  # as in `client_of`
    check_client_options(hide(given()), "async_client_of")
    return _make_async(connection, given) if given() else _ASYNC_CLIENTS.of(connection)


class _Clients(Generic[C, M]):
    """One client for each connection and process; it lives as long as the connection.

    Args:
        make: Creates a client.
    """

    _lock = PerProcess(threading.Lock)

    def __init__(self, make: Callable[[C], M]) -> None:
        self._make = make
        self._connections: WeakSet[C] = WeakSet()

    def after_fork(self) -> None:
        """Discard all clients in a child process: a client may have threads."""
        for connection in self._connections:
            vars(connection).pop(_CLIENT, None)
        self._connections.clear()

    def of(self, connection: C) -> M:
        """Return the client of a connection; after a change of the database, a new one."""
        guard_forks(self)
        database = connection.spec.db_name
        with self._lock:
            known: tuple[str, M] | None = vars(connection).get(_CLIENT)
            if known and known[0] == database:
                return known[1]
            client = self._make(connection)
            self._forget_when_closed(connection, client)
            # The client refers to the connection. A reference from elsewhere would keep both.
            vars(connection)[_CLIENT] = database, client
            self._connections.add(connection)
        return client

    def _forget_when_closed(self, connection: C, client: Any) -> None:
        close, known = client.close, weakref.ref(connection)

        def close_and_forget() -> Any:
            if found := known():
                vars(found).pop(_CLIENT, None)
            return close()

        client.close = close_and_forget


def _make(connection: Connection, given: Given = dict) -> MilvusClient:
    # First, since it imports pymilvus without side effects; `_options` would import it with them.
    make = _class("MilvusClient")
    options = _options(connection)
    client: MilvusClient = make(channel=with_cached_connect(connection), **{**options, **given()})
    _own(client, given().get("alias"), partial(_take_out, on_error=lambda _: False), _remove)
    return client


def _make_async(connection: AsyncConnection, given: Given = dict) -> AsyncMilvusClient:
    make = _class("AsyncMilvusClient")
    options = _options(connection)
    client: AsyncMilvusClient = make(channel=connection.channel, **{**options, **given()})
    _own(client, given().get("alias"), _take_out_when_made, _remove_async)
    return client


_CLIENTS = _Clients(_make)
_ASYNC_CLIENTS = _Clients(_make_async)


def _options(connection: Connection | AsyncConnection) -> dict[str, Any]:
    database = connection.spec.db_name
    return {
        "uri": uri_of(connection),
        "db_name": "" if database == DEFAULT_DATABASE else database,
        "timeout": connection.spec.timeout_s,
        **_apart(),
    }


def _class(name: str) -> Any:
    if found := getattr(import_pymilvus(), name, None):
        return found
    raise MissingExtraError(f"a pymilvus that has {name}", "pymilvus>=2.6")


# --- the handlers of the clients -----------------------------------------------------------

# pymilvus shares the handlers of its clients, keeps them until a client is closed explicitly, and
# replaces their channels when a call fails. Here a client must own its handler and keep its
# channel. pymilvus stores handlers in a manager (2.6.10 and later), or in its registry of
# connections (earlier versions). It has no public way to remove a usable handler from either.


def _apart() -> dict[str, Any]:
    """Return the options that prevent pymilvus from sharing a handler between clients.

    pymilvus shares it by address and token, so one alias would use the channel, and the user, of
    another one, and a new client would get a closed channel. In versions with a registry, a unique
    name prevents that.
    """
    if _has_manager():
        return {"dedicated": True}
    if find_spec("pymilvus.milvus_client._utils"):
        return {"alias": f"zconfig-{uuid4().hex}"}
    return {}


def _own(
    client: Any,
    name: str | None,
    take_out: Callable[[Any], None],
    remove: Callable[[Any, str], None],
) -> None:
    """Make a client the only owner of its handler, and prevent replacement of the channel.

    Args:
        client: The client.
        name: The name that the user gave it in pymilvus' registry; it stays registered by that.
        take_out: Removes the handler from pymilvus' manager.
        remove: Removes the handler from pymilvus' registry, in versions without a manager.
    """
    if _has_manager():
        take_out(client)
        return
    from pymilvus import connections

    # Only at the end of the client, which looks up its handler there.
    known_as: str | None = getattr(client, "_using", None)
    if known_as and known_as != name:
        weakref.finalize(client, remove, connections, known_as).atexit = False


def _has_manager() -> bool:
    return find_spec("pymilvus.client.connection_manager") is not None


def _take_out(client: Any, on_error: Callable[[Exception], Any]) -> None:
    """Remove a client's handler from pymilvus' manager, which would reconnect after failed calls.

    The channel reconnects by itself, and pymilvus has no credentials to do so.
    """
    handler: Any = getattr(client, "_handler", None)
    kept = getattr(getattr(client, "_manager", None), "_dedicated", {})
    kept.pop(id(handler), None)
    if hasattr(handler, "_on_rpc_error"):
        handler._on_rpc_error = on_error  # noqa: SLF001 - there is no public way


def _take_out_when_made(client: Any) -> None:
    """Remove a client's handler from pymilvus' manager once the first call has created it.

    A lock, since concurrent first calls would create one handler each, and all but one would leak.
    """
    connect, one_at_a_time = getattr(client, "_connect", None), asyncio.Lock()
    if connect is None:
        return

    async def connect_and_take_out() -> None:
        async with one_at_a_time:
            await connect()
        _take_out(client, _leave_it)

    client._connect = connect_and_take_out  # noqa: SLF001 - there is no public way


async def _leave_it(_error: Exception) -> bool:
    return False


def _remove(registry: Any, name: str) -> None:
    registry.remove_connection(name)


def _remove_async(registry: Any, name: str) -> None:
    """Remove an asyncio handler, in any thread, also without a running event loop."""
    closing = registry.async_disconnect(name)
    with suppress(StopIteration):
        closing.send(None)  # runs to its end: closing the channel does not await
    registry.remove_connection(name)
