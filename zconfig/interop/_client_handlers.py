"""A pymilvus client belongs to whoever holds it, and stays on its channel.

pymilvus shares the handlers that its clients call through, keeps them until a client is closed by
hand, and replaces their channels when a call fails. Where depends on its version: in a manager of
handlers (2.6.10 and later), or before that in its registry of connections. There is no public way
to have a handler out of either that leaves it usable.
"""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable


def apart() -> dict[str, Any]:
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


def own(client: Any, name: str | None = None) -> None:
    """Have nobody but a `MilvusClient` keep its handler, and nothing replace the channel.

    Args:
        client: The client.
        name: What its user calls it in pymilvus' registry, where it is left then.
    """
    if _has_manager():
        _take_out(client, lambda _error: False)
    else:
        _remove_in_the_end(client, name, _remove)


def own_async(client: Any, name: str | None = None) -> None:
    """Have nobody but an `AsyncMilvusClient` keep its handler, and nothing replace the channel.

    Args:
        client: The client.
        name: What its user calls it in pymilvus' registry, where it is left then.
    """
    if _has_manager():
        _take_out_when_made(client)
    else:
        _remove_in_the_end(client, name, _remove_async)


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


def _remove_in_the_end(client: Any, name: str | None, remove: Callable[[Any, str], None]) -> None:
    """Remove a client's handler from pymilvus' registry when nobody has the client any more.

    Not before: the client finds it there.
    """
    from pymilvus import connections

    known_as: str | None = getattr(client, "_using", None)
    if known_as and known_as != name:
        weakref.finalize(client, remove, connections, known_as).atexit = False


def _remove(registry: Any, name: str) -> None:
    registry.remove_connection(name)


def _remove_async(registry: Any, name: str) -> None:
    """Remove a handler of asyncio, in whichever thread, where no event loop may run."""
    closing = registry.async_disconnect(name)
    with suppress(StopIteration):
        closing.send(None)  # to its end: to close our channel waits for nothing
    registry.remove_connection(name)
