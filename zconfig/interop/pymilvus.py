"""pymilvus clients that call through our proven channels."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from zconfig._channel.messages import CONNECT
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._channel.view import ChannelView
from zconfig._connection import Connection
from zconfig._endpoint import TransportType
from zconfig._redaction import sealed
from zconfig._registry.forks import guard_forks
from zconfig._settings.arguments import as_alias, hide_aliases
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig.errors import MissingExtraError
from zconfig.interop._client_handlers import apart, own, own_async

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
    from zconfig.interop._orm import REGISTRATIONS, find_registry

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

    def __init__(self, make: Callable[[C], M]) -> None:
        self._make = make
        self._connections: WeakSet[C] = WeakSet()
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, in a child process: a client may have threads."""
        self._lock = threading.Lock()
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
    make = _class(
        "MilvusClient"
    )  # first: whatever asks for pymilvus' version imports it, unshielded
    defaults = {**_arguments(connection), **apart()}
    client: MilvusClient = make(channel=with_cached_connect(connection), **{**defaults, **given()})
    own(client, given().get("alias"))
    return client


def _make_async(connection: AsyncConnection, given: Given = dict) -> AsyncMilvusClient:
    make = _class("AsyncMilvusClient")
    defaults = {**_arguments(connection), **apart()}
    client: AsyncMilvusClient = make(channel=connection.channel, **{**defaults, **given()})
    own_async(client, given().get("alias"))
    return client


_CLIENTS = _Clients(_make)
_ASYNC_CLIENTS = _Clients(_make_async)


def _arguments(connection: Connection | AsyncConnection) -> dict[str, Any]:
    database = connection.spec.db_name
    return {
        "uri": uri_of(connection),
        "db_name": "" if database == DEFAULT_DATABASE else database,
        "timeout": connection.spec.timeout_s,
    }


def with_cached_connect(connection: Connection) -> ChannelView:
    """Return a channel on which a client need not introduce itself: we have done so already."""
    known = weakref.ref(connection)  # pymilvus' registry may have the channel for longer

    def reply() -> bytes:
        found = known()
        return found.server.reply if found else b""

    return connection.channel.with_cached_replies({CONNECT: reply})


def _class(name: str) -> Any:
    try:
        with import_without_side_effects():
            import pymilvus
    except ModuleNotFoundError as error:
        if error.name != "pymilvus":
            raise
    else:
        if found := getattr(pymilvus, name, None):
            return found
        raise MissingExtraError(f"a pymilvus that has {name}", "pymilvus>=2.6")
    raise MissingExtraError("pymilvus", "pymilvus")


def uri_of(connection: Connection | AsyncConnection) -> str:
    """Return an address that pymilvus can parse and show; it dials none beside a channel."""
    endpoint = connection.endpoint
    if endpoint.transport is TransportType.UNIX:
        return endpoint.target
    scheme = "https" if endpoint.secure else "http"
    # pymilvus' registry takes no IPv6 address, and in older versions no client does.
    address = re.sub(r"\[.*\]", "ipv6", connection.target.removeprefix("dns:///"))
    return f"{scheme}://{address}"
