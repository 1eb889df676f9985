"""Our connections in pymilvus' own registry, for code on its ORM: `Collection("docs", using=…)`.

The registry is in pymilvus up to 3.0, which warns that 3.1 removes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zconfig.channel.quiet import quiet_import
from zconfig.connection import Connection
from zconfig.errors import ConfigurationError, MissingExtraError, Problem
from zconfig.interop.pymilvus import introduced, uri_of

if TYPE_CHECKING:
    from types import ModuleType


def find_registry() -> Any:
    """Return pymilvus' `connections`.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: This version of it has none.
    """
    pymilvus = _pymilvus()
    registry = getattr(pymilvus, "connections", None)
    if hasattr(registry, "connect"):
        return registry
    problem = Problem(
        "no_orm_registry",
        f"pymilvus {pymilvus.__version__} has no registry of connections",
        "use zconfig.client(alias) where code names one, or install 'pymilvus<3.1'",
    )
    raise ConfigurationError([problem])


def register(registry: Any, connections: Mapping[str, Connection]) -> None:
    """Have an alias lead to our connection, whatever pymilvus knew by that name before.

    Args:
        registry: pymilvus' `connections`.
        connections: Open connections by alias.
    """
    with warnings.catch_warnings():
        # That the registry is going is said to whoever uses the ORM, at the place that does.
        warnings.simplefilter("ignore", FutureWarning)
        for alias, connection in connections.items():
            registry.disconnect(alias)
            # Of a configured alias pymilvus would lose the token, and follow MILVUS_URI: it is
            # told where, and with a channel it neither dials nor needs a token.
            registry.connect(
                alias,
                uri=uri_of(connection),
                channel=introduced(connection),
                db_name=connection.spec.db_name,
                timeout=connection.spec.timeout_s,
            )


def _pymilvus() -> ModuleType:
    try:
        with quiet_import():
            import pymilvus
    except ModuleNotFoundError as error:
        if error.name != "pymilvus":
            raise
    else:
        return pymilvus  # type: ignore[no-any-return] # it is untyped
    raise MissingExtraError("pymilvus", "pymilvus")
