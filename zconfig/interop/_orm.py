"""Import pymilvus, and register connections in its ORM registry.

pymilvus 3.1 removes the registry; 3.0 warns about that.
"""

from __future__ import annotations

import re
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from zconfig._channel.messages import CONNECT
from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._channel.view import ChannelView
from zconfig._connection import Connection, State
from zconfig._endpoint import TransportType
from zconfig._per_process import PerProcess
from zconfig._registry import Connections
from zconfig.errors import ConfigurationError, MissingExtraError, Problem
from zconfig.events import ConnectionClosed, ConnectionRemoved

if TYPE_CHECKING:
    from types import ModuleType

    from zconfig.aio import AsyncConnection

_MARK = "_zconfig_connection"  # the attribute of a handler that identifies its connection


def import_pymilvus() -> ModuleType:
    """Import pymilvus without its side effects.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with import_without_side_effects():
            import pymilvus
    except ModuleNotFoundError as error:
        if error.name != "pymilvus":
            raise
    else:
        return pymilvus  # type: ignore[no-any-return] # it is untyped
    raise MissingExtraError("pymilvus", "pymilvus")


def uri_of(connection: Connection | AsyncConnection) -> str:
    """Return an address that pymilvus can parse; with a channel it does not dial it."""
    endpoint = connection.endpoint
    if endpoint.transport is TransportType.UNIX:
        return endpoint.target
    scheme = "https" if endpoint.secure else "http"
    # pymilvus' registry rejects IPv6 addresses, and so do the clients of older versions.
    address = re.sub(r"\[.*\]", "ipv6", connection.target.removeprefix("dns:///"))
    return f"{scheme}://{address}"


def with_cached_connect(connection: Connection) -> ChannelView:
    """Return a channel that answers a client's Connect call with the reply of our own connect."""
    known = weakref.ref(connection)  # pymilvus' registry may keep the channel for longer

    def reply() -> bytes:
        found = known()
        return found.server.reply if found else b""

    return connection.channel.with_cached_replies({CONNECT: reply})


def find_registry() -> Any:
    """Return pymilvus' `connections`.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: This version of it has none.
    """
    pymilvus = import_pymilvus()
    registry = getattr(pymilvus, "connections", None)
    if hasattr(registry, "connect"):
        return registry
    problem = Problem(
        "no_orm_registry",
        f"pymilvus {pymilvus.__version__} has no registry of connections",
        "use zconfig.client(alias) instead, or install 'pymilvus<3.1'",
    )
    raise ConfigurationError([problem])


class Registrations:
    """Adds connections to pymilvus' registry by name, and removes them once they are closed.

    pymilvus cannot replace a handler, so a new one is created under another name and then moved.
    """

    _lock = PerProcess(threading.Lock)  # for moving handlers; no code blocks while it holds it

    def __init__(self) -> None:
        self._unsubscribe: Callable[[], None] = lambda: None

    def register(self, registry: Any, connections: Mapping[str, Connection]) -> None:
        """Register connections by name, and replace other handlers of these names.

        A handler that uses the connection already is kept. Any other one stays in use until the
        new handler replaces it.

        Args:
            registry: pymilvus' `connections`.
            connections: Open connections by name.
        """
        handlers, _ = _tables(registry)
        for name, connection in connections.items():
            if not _leads_to(handlers.get(name), connection):
                self._move(registry, _connect(registry, connection), name)

    def follow(self, registry: Any, connections: Connections) -> None:
        """Remove connections from pymilvus' registry when they are closed or removed."""
        with self._lock:
            self._unsubscribe()
            closing = (ConnectionClosed, ConnectionRemoved)
            self._unsubscribe = connections.subscribe(lambda _: self.sweep(registry), closing)

    def sweep(self, registry: Any) -> None:
        """Remove all closed connections."""
        handlers, configs = _tables(registry)
        with self._lock:
            closed = [name for name, handler in handlers.items() if _is_closed(handler)]
            taken = [(handlers.pop(name), configs.pop(name, None)) for name in closed]
        for handler, _ in taken:
            handler.close()

    def _move(self, registry: Any, made: str, name: str) -> None:
        handlers, configs = _tables(registry)
        with self._lock:
            before: Any = handlers.get(name)
            configs[name], handlers[name] = configs.pop(made), handlers.pop(made)
        # With `keep_alive` it would register itself again when its channel changes. It is not
        # closed, since a call may be in progress on it.
        if hasattr(before, "deregister_state_change_callbacks"):
            before.deregister_state_change_callbacks()


REGISTRATIONS = Registrations()


def _connect(registry: Any, connection: Connection) -> str:
    """Register a connection under a unique name, and return the name."""
    name = f"zconfig-{uuid4().hex}"
    with warnings.catch_warnings():
        # The warning about the registry's removal concerns calls of the application, not this one.
        warnings.simplefilter("ignore", FutureWarning)
        # Without a URI, pymilvus would use MILVUS_URI and lose the token of a configured alias.
        # With a channel it neither dials the URI nor needs a token.
        registry.connect(
            name,
            uri=uri_of(connection),
            channel=with_cached_connect(connection),
            db_name=connection.spec.db_name,
            timeout=connection.spec.timeout_s,
        )
    mark = weakref.ref(connection), connection.spec.db_name
    setattr(_tables(registry)[0][name], _MARK, mark)
    return name


def _tables(registry: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the handlers and the configurations in pymilvus' registry, by alias."""
    if hasattr(registry, "_alias_handlers"):
        return registry._alias_handlers, registry._alias_config  # noqa: SLF001 - see the class
    return registry._connected_alias, registry._alias  # noqa: SLF001 - as 2.4 calls them


def _leads_to(handler: Any, connection: Connection) -> bool:
    known, db_name = getattr(handler, _MARK, (None, None))
    return known is not None and known() is connection and db_name == connection.spec.db_name


def _is_closed(handler: Any) -> bool:
    known, _ = getattr(handler, _MARK, (None, None))
    if known is None:
        return False  # not a connection of zconfig
    connection = known()
    return connection is None or connection.state is State.CLOSED
