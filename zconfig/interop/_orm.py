"""pymilvus, and our connections in its own registry, for code on its ORM.

The registry is in pymilvus up to 3.0, which warns that 3.1 removes it.
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

_MARK = "_zconfig_connection"  # the attribute of a handler that says which connection it is on


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
    """Return an address that pymilvus can parse and show; it dials none beside a channel."""
    endpoint = connection.endpoint
    if endpoint.transport is TransportType.UNIX:
        return endpoint.target
    scheme = "https" if endpoint.secure else "http"
    # pymilvus' registry takes no IPv6 address, and in older versions no client does.
    address = re.sub(r"\[.*\]", "ipv6", connection.target.removeprefix("dns:///"))
    return f"{scheme}://{address}"


def with_cached_connect(connection: Connection) -> ChannelView:
    """Return a channel on which a client need not introduce itself: we have done so already."""
    known = weakref.ref(connection)  # pymilvus' registry may have the channel for longer

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
        "use zconfig.client(alias) where code names one, or install 'pymilvus<3.1'",
    )
    raise ConfigurationError([problem])


class Registrations:
    """Our connections in pymilvus' registry: put in by name, and taken out once they are closed.

    pymilvus has no way to replace a handler: it is made under another name, and moved.
    """

    _lock = PerProcess(threading.Lock)  # for moving handlers; nothing waits under it

    def __init__(self) -> None:
        self._unsubscribe: Callable[[], None] = lambda: None

    def register(self, registry: Any, connections: Mapping[str, Connection]) -> None:
        """Have a name lead to our connection, whatever pymilvus knew by it before.

        A name that leads there already is left alone, and any other one keeps what it has until
        it leads to the new connection.

        Args:
            registry: pymilvus' `connections`.
            connections: Open connections by name.
        """
        handlers, _ = _tables(registry)
        for name, connection in connections.items():
            if not _leads_to(handlers.get(name), connection):
                self._move(registry, _connect(registry, connection), name)

    def follow(self, registry: Any, connections: Connections) -> None:
        """Take out of pymilvus' registry what is closed or removed from now on."""
        with self._lock:
            self._unsubscribe()
            closing = (ConnectionClosed, ConnectionRemoved)
            self._unsubscribe = connections.subscribe(lambda _: self.sweep(registry), closing)

    def sweep(self, registry: Any) -> None:
        """Take out every connection of ours that was closed for good."""
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
        # With `keep_alive` it would put itself back when its channel changes. It is not closed: a
        # call may be under way on it.
        if hasattr(before, "deregister_state_change_callbacks"):
            before.deregister_state_change_callbacks()


REGISTRATIONS = Registrations()


def _connect(registry: Any, connection: Connection) -> str:
    """Register a connection under a name of its own, and return that."""
    name = f"zconfig-{uuid4().hex}"
    with warnings.catch_warnings():
        # That the registry is going is said to whoever uses the ORM, at the place that does.
        warnings.simplefilter("ignore", FutureWarning)
        # Of a configured alias pymilvus would lose the token, and follow MILVUS_URI: it is
        # told where, and with a channel it neither dials nor needs a token.
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
        return False  # it is not ours
    connection = known()
    return connection is None or connection.state is State.CLOSED
