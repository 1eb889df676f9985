"""pymilvus clients that call through our proven channels."""

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
from zconfig._settings.arguments import as_alias, hide_aliases
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

_CLIENT = "_pymilvus_client"  # the attribute of a connection that its client is in


def client_of(connection: Connection, **options: Any) -> MilvusClient:
    """Return the `MilvusClient` that calls through a connection's channel.

    Args:
        connection: An open connection.
        **options: Passed on to `MilvusClient`; a client with options of its own is a new one.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ClosedError: The connection is not open.
    """
    given = sealed(options)
    del options  # or a traceback that shows locals would show them
    return _make(connection, given) if given() else _CLIENTS.of(connection)


def install(*aliases: str) -> dict[str, Connection]:
    """Connect aliases, and register them in pymilvus' own registry, for code on its ORM.

    After that `Collection("docs", using="prod")` calls through the alias' channel, with whatever
    credentials it has by then. An alias that is disconnected or removed is taken out there. Call
    this again after an alias was added, or connected again: what is registered is left alone.

    Args:
        *aliases: Which ones, all of them required; without any, every configured alias, of
            which only the `REQUIRED` ones must succeed. One in another spelling, such as `Prod`,
            is registered by that as well.

    Returns:
        The connections that were registered, by alias.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: pymilvus has no such registry any more (3.1), or an alias is not
            configured, or wrongly.
        AutoconnectError: With every alias that failed.

    Example:
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
    """Return the `AsyncMilvusClient` that calls through an asyncio connection's channel.

    Args:
        connection: An open connection of the running event loop.
        **options: Passed on to the client; one with options of its own is a new one.

    Raises:
        MissingExtraError: pymilvus is not installed, or has no such client.
        ClosedError: The connection is not open.
    """
    given = sealed(options)
    del options  # as in `client_of`
    return _make_async(connection, given) if given() else _ASYNC_CLIENTS.of(connection)


class _Clients(Generic[C, M]):
    """One client a connection and process, while somebody has the connection.

    Args:
        make: Makes a client.
    """

    _lock = PerProcess(threading.Lock)

    def __init__(self, make: Callable[[C], M]) -> None:
        self._make = make
        self._connections: WeakSet[C] = WeakSet()

    def after_fork(self) -> None:
        """Begin anew, in a child process: a client may have threads."""
        for connection in self._connections:
            vars(connection).pop(_CLIENT, None)
        self._connections.clear()

    def of(self, connection: C) -> M:
        """Return the client of a connection; another database asks for another client."""
        guard_forks(self)
        database = connection.spec.db_name
        with self._lock:
            known: tuple[str, M] | None = vars(connection).get(_CLIENT)
            if known and known[0] == database:
                return known[1]
            client = self._make(connection)
            self._forget_when_closed(connection, client)
            # With the connection, since it leads back there: what is anywhere else would keep both.
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
    # First: whatever asks for pymilvus' version imports it, unshielded.
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


# --- their handlers ------------------------------------------------------------------------

# A client belongs to whoever holds it, and stays on its channel. pymilvus shares the handlers that
# its clients call through, keeps them until a client is closed by hand, and replaces their channels
# when a call fails. Where depends on its version: in a manager of handlers (2.6.10 and later), or
# before that in its registry of connections. There is no public way to have a handler out of either
# that leaves it usable.


def _apart() -> dict[str, Any]:
    """Return the options that keep pymilvus from joining two clients by address and token.

    It would hand one alias' channel, and so its user, to another one, and a closed one to a new
    client. The registry joins them by a name of its own making, where it did not yet give each
    client a name of its own.
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
    """Have nobody but a client keep its handler, and nothing replace the channel.

    Args:
        client: The client.
        name: What its user calls it in pymilvus' registry, where it is left then.
        take_out: Takes the handler out of pymilvus' manager.
        remove: Removes it from pymilvus' registry, where there is no manager.
    """
    if _has_manager():
        take_out(client)
        return
    from pymilvus import connections

    # Not before its end: the client finds its handler there.
    known_as: str | None = getattr(client, "_using", None)
    if known_as and known_as != name:
        weakref.finalize(client, remove, connections, known_as).atexit = False


def _has_manager() -> bool:
    return find_spec("pymilvus.client.connection_manager") is not None


def _take_out(client: Any, on_error: Callable[[Exception], Any]) -> None:
    """Take a client's handler out of pymilvus' manager, which keeps it, and dials when calls fail.

    Our channel reconnects by itself, and pymilvus would not know how: it has no credentials.
    """
    handler: Any = getattr(client, "_handler", None)
    kept = getattr(getattr(client, "_manager", None), "_dedicated", {})
    kept.pop(id(handler), None)
    if hasattr(handler, "_on_rpc_error"):
        handler._on_rpc_error = on_error  # noqa: SLF001 - there is no public way


def _take_out_when_made(client: Any) -> None:
    """Take a client's handler out of pymilvus' manager once the client's first call has made it.

    First calls that are made side by side would make one each, and all but one would be left.
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
    """Remove a handler of asyncio, in whichever thread, where no event loop may run."""
    closing = registry.async_disconnect(name)
    with suppress(StopIteration):
        closing.send(None)  # to its end: to close our channel waits for nothing
    registry.remove_connection(name)
