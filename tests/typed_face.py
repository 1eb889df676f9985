"""What a type checker sees of the package, for mypy: an ignored line that is right fails, too."""

from __future__ import annotations

from typing import Literal, assert_type

import zconfig
from zconfig._connection import Connection
from zconfig.aio import AsyncConnection


async def use_the_public_face() -> None:
    """Use what is there: each name has its type."""
    assert_type(zconfig.autoconnect(), dict[str, Connection])
    assert_type(zconfig.connections["prod"], zconfig.Connection)
    assert_type(await zconfig.aio.get("prod"), AsyncConnection)
    assert_type(zconfig.connections.stats()["prod"], zconfig.AliasStats)
    assert_type(zconfig.errors.ExitCode.OK, Literal[zconfig.errors.ExitCode.OK])
    assert_type(zconfig.interop.pymilvus.install(), dict[str, Connection])
    zconfig.connections.subscribe(print, zconfig.events.ConnectionLost)
    _ = zconfig.health.asgi, zconfig.health.wsgi


def use_what_is_not_there() -> None:
    """Use what is not: each line is an error."""
    zconfig.autoconect()  # type: ignore[attr-defined]
    zconfig.conections["x"]  # type: ignore[attr-defined]
    zconfig.ConectError()  # type: ignore[attr-defined]
    zconfig.aio.clos()  # type: ignore[attr-defined]
    zconfig.health.agsi()  # type: ignore[attr-defined]
    zconfig.interop.pymilvus.instal()  # type: ignore[attr-defined]
    zconfig.connections.get("x")  # type: ignore[attr-defined]
    zconfig.Path()  # type: ignore[attr-defined]
