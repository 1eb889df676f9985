"""What a type checker sees of the package, for mypy: an ignored line that is right fails, too."""

from __future__ import annotations

from collections.abc import Mapping
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


def read(environ: Mapping[str, str]) -> dict[str, str]:
    """Read what an application of ours would."""
    return {"ZILLIZ_URI": environ["ACME_MILVUS"]}


def read_nothing(environ: dict[str, str]) -> dict[str, str]:
    """Change the environment, which a source may not."""
    return environ


def use_models_and_sources(settings: zconfig.ConnectionSettings) -> None:
    """Use a model as an argument, and a function as a source."""
    assert_type(settings.uri, str)
    zconfig.connections.add_connection(prod=settings, spare={"settings": settings, "timeout": 3})
    assert_type(zconfig.connections.connect("prod", settings=settings), Connection)
    assert_type(zconfig.connections.settings("prod"), zconfig.ConnectionSettings)
    zconfig.ConnectionSettings(uri="./x.db", timeout=3)
    _: zconfig.Source = read
    _ = read_nothing  # type: ignore[assignment]


def use_values(event: zconfig.events.ConnectionClosed, problem: zconfig.Problem) -> None:
    """Use values: their fields have types, and cannot be assigned."""
    assert_type(event.alias, str)
    assert_type(problem.alias, str | None)
    event.alias = "prod"  # type: ignore[misc]
    event.aliass = "prod"  # type: ignore[attr-defined]
    problem.alias = "prod"  # type: ignore[misc]
    zconfig.events.ConnectionClosed("prod", "http://db")  # type: ignore[call-arg]
    zconfig.events.ConnectionClosed(alias=1, endpoint="http://db")  # type: ignore[arg-type]


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
