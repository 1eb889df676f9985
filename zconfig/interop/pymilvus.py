"""pymilvus clients that call through our proven channels."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from zconfig.channel.quiet import quiet_import
from zconfig.connection import Connection
from zconfig.endpoint import Transport
from zconfig.errors import MissingExtraError
from zconfig.spec import DEFAULT_DATABASE

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def client_of(connection: Connection, **options: Any) -> MilvusClient:
    """Return a `MilvusClient` that calls through a connection's channel.

    Args:
        connection: An open connection.
        **options: Passed on to `MilvusClient`.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ClosedError: The connection is not open.
    """
    make, database = _client_class(), connection.spec.db_name
    client = make(
        uri=_uri(connection),
        channel=connection.channel,
        db_name="" if database == DEFAULT_DATABASE else database,
        **_apart(),
        **options,
    )
    _stay_on_the_channel(client)
    return client


def _client_class() -> type[MilvusClient]:
    try:
        with quiet_import():
            import pymilvus
    except ModuleNotFoundError as error:
        if error.name != "pymilvus":
            raise
    else:
        client: type[MilvusClient] = pymilvus.MilvusClient
        return client
    raise MissingExtraError("pymilvus", "pymilvus")


def _uri(connection: Connection) -> str:
    """Return an address that pymilvus can parse and show; it dials none beside a channel."""
    endpoint = connection.endpoint
    if endpoint.transport is Transport.UNIX:
        return endpoint.target
    scheme = "https" if endpoint.secure else "http"
    return f"{scheme}://{connection.target.removeprefix('dns:///')}"


def _apart() -> dict[str, Any]:
    """Keep pymilvus from joining two clients by address and token.

    It would hand one alias' channel, and so its user, to another one, and a closed one to a new
    client. How it joins them depends on the version: by a manager, or before that by a name of its
    own making in its registry, where it did not yet give each client a name of its own.
    """
    if find_spec("pymilvus.client.connection_manager"):
        return {"dedicated": True}
    if find_spec("pymilvus.milvus_client._utils"):
        return {"alias": f"zconfig-{uuid4().hex}"}
    return {}


def _stay_on_the_channel(client: Any) -> None:
    """Keep pymilvus from dialing by itself when a call fails, where it does (3.0).

    Our channel reconnects by itself, and pymilvus would not know how: it has no credentials.
    """
    handler: Any = getattr(client, "_handler", None)
    if hasattr(handler, "_on_rpc_error"):
        handler._on_rpc_error = lambda _error: False  # noqa: SLF001 - there is no public way
