"""pymilvus clients that call through our proven channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zconfig.channel.quiet import quiet_import
from zconfig.connection import Connection
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
    client = _client_class()
    scheme = "https" if connection.endpoint.secure else "http"
    database = connection.spec.db_name
    return client(
        uri=f"{scheme}://{connection.target.removeprefix('dns:///')}",
        channel=connection.channel,
        db_name="" if database == DEFAULT_DATABASE else database,
        **options,
    )


def _client_class() -> type[MilvusClient]:
    try:
        with quiet_import():
            from pymilvus import MilvusClient
    except ModuleNotFoundError as error:
        if error.name != "pymilvus":
            raise
    else:
        return MilvusClient
    raise MissingExtraError("pymilvus", "pymilvus")
