"""Named connections to Zilliz Cloud and Milvus, from the environment.

    import zconfig

    zconfig.autoconnect()                       # every alias, in parallel
    zconfig.connections["analytics"].ping()     # milliseconds
    zconfig.client().list_collections()         # a pymilvus MilvusClient of the default alias

Importing reads the configuration and sets up `connections`: the aliases are there, unconnected.
It opens no socket, imports neither grpc nor pymilvus, writes no environment and configures no
logging, and raises nothing for what is wrong in the configuration: that is kept for the first
use. The first use reads the configuration once more if its variables have changed since the import:
`load_dotenv()` and `os.environ["ZILLIZ_URI"] = ...` count also after `import zconfig`. What changes
later `reload()` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zconfig._log import configure_logging, log_as_configured
from zconfig._log_masking import MaskingFilter, MaskingProcessor
from zconfig._origin import working_directory
from zconfig._redaction import Masker, sealed
from zconfig._registry import Connections
from zconfig._registry.specs import Changes
from zconfig._registry.stats import AliasStats, RoundTrips
from zconfig._settings.arguments import (
    check_client_options,
    hide,
    hide_alias,
    hide_aliases,
    hide_seconds,
)
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.base import SourceResult
from zconfig._sources.environment import fingerprint, process_environment
from zconfig._version import __version__
from zconfig.errors import (
    AuthenticationError,
    AutoconnectError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    DatabaseMissingError,
    MissingExtraError,
    NotMilvusError,
    Problem,
    TLSError,
    UnknownAliasError,
    UnreachableError,
    ZConfigError,
)

if TYPE_CHECKING:
    from pymilvus import AsyncMilvusClient, MilvusClient

    from zconfig import aio as aio
    from zconfig import events as events
    from zconfig import health as health
    from zconfig import interop as interop
    from zconfig._channel.milvus import Health, Server
    from zconfig._connection import Connection, State
    from zconfig._settings.explain import Explanation
    from zconfig._settings.fields import ConnectionSettings
    from zconfig._settings.zilliz_settings import ZillizSettings

__all__ = [
    "AliasStats",
    "AuthenticationError",
    "AutoconnectError",
    "Changes",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "Connection",
    "ConnectionSettings",
    "Connections",
    "DatabaseMissingError",
    "Explanation",
    "Health",
    "MissingExtraError",
    "NotMilvusError",
    "Problem",
    "RoundTrips",
    "Server",
    "State",
    "TLSError",
    "UnknownAliasError",
    "UnreachableError",
    "ZConfigError",
    "ZillizSettings",
    "__version__",
    "async_client",
    "autoconnect",
    "client",
    "configure_logging",
    "connection_args",
    "connections",
    "events",
    "explain",
    "masking_filter",
    "masking_processor",
    "reload",
]


_MODULES = frozenset({"aio", "errors", "events", "health", "interop"})
_ELSEWHERE = {
    "Connection": "zconfig._connection",
    "ConnectionSettings": "zconfig._settings.fields",
    "Explanation": "zconfig._settings.explain",
    "Health": "zconfig._channel.milvus",
    "Server": "zconfig._channel.milvus",
    "State": "zconfig._connection",
    "ZillizSettings": "zconfig._settings.zilliz_settings",
}


# A daemon changes its directory later, and its files stay where they were.
_directory = working_directory()
_read = 0  # the fingerprint of the variables that were read last


def _load(known: Sequence[SourceResult] = (), *, remote: bool = True) -> Configuration:
    global _read  # noqa: PLW0603 - there is one environment
    _read = fingerprint(process_environment())
    return load(process_environment(), _directory, remote=remote, known=known)


def _has_changed() -> bool:
    return fingerprint(process_environment()) != _read


connections = Connections(_load, partial(_load, remote=False), _has_changed, load_beside=_load)
_masker = Masker(connections.secrets)
connections.subscribe(log_as_configured(lambda: connections.configuration.options))


def autoconnect(
    *aliases: str, wait: float | None = None, timeout: float | None = None
) -> dict[str, Connection]:
    """Connect aliases in parallel, and return their connections.

    Args:
        *aliases: Which ones, all of them required; without any, every configured alias, of
            which only the `REQUIRED` ones must succeed.
        wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
        timeout: Seconds for each connect; by default each alias' own `TIMEOUT`.

    Returns:
        The connections by alias.

    Raises:
        ConfigurationError: Before anything is dialed, with everything that is wrong.
        AutoconnectError: With every alias that failed; the others stay connected.

    Example:
        >>> import zconfig
        >>> zconfig.autoconnect()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        zconfig.errors.ConfigurationError: configuration: no connection is configured; \
set ZILLIZ_URI in the environment or in a .env file in ...
    """
    aliases = hide_aliases(aliases)
    wait, timeout = hide_seconds(wait), hide_seconds(timeout)
    return connections.autoconnect(*aliases, wait=wait, timeout=timeout)


def reload() -> Changes:
    """Read the configuration again, and apply what changed.

    Live connections whose specification is the same are not touched. Changed credentials are
    proved before they replace the old, without a reconnect; with any other change an alias is
    closed, and opens again on its next use. What is wrong in what was read leaves the old in place.

    Returns:
        What changed, by the names of aliases and fields; and what is wrong.

    Example:
        >>> import zconfig
        >>> bool(zconfig.reload())
        False
    """
    return connections.reload()


def explain(alias: str | None = None) -> Explanation:
    """Explain where each value came from, what it shadows, and what was passed over.

    Args:
        alias: The connection's name; without it, every alias, also those that are wrong.

    Returns:
        Values without secrets: of those a fingerprint, which tells two of them apart.

    Raises:
        UnknownAliasError: Nothing configures the alias.

    Example:
        >>> import zconfig
        >>> zconfig.explain().aliases
        ()
    """
    alias = hide_alias(alias)
    return connections.explain(alias)


def masking_processor() -> MaskingProcessor:
    """Return a structlog processor that masks the configured secrets in your own events.

    Put it last, before the renderer. It knows the secrets of every alias, also after a reload, and
    replaces objects that it does not know by their text. The page on observing lists the forms in
    which a secret is found.

    Example:
        >>> import structlog, zconfig
        >>> processors = [zconfig.masking_processor(), structlog.processors.JSONRenderer()]
    """
    return MaskingProcessor(_masker)


def masking_filter() -> MaskingFilter:
    """Return a filter for logging handlers that masks the configured secrets in your records.

    It finds the same forms as `masking_processor`. Attach it to handlers that show no local
    variables in tracebacks, and read no attributes of objects passed as `extra`: these it leaves.

    Example:
        >>> import logging, zconfig
        >>> logging.StreamHandler().addFilter(zconfig.masking_filter())
    """
    return MaskingFilter(_masker)


def client(alias: str | None = None, **options: Any) -> MilvusClient:
    """Return a pymilvus `MilvusClient` on the connection of an alias.

    It calls through the connection's own channel: no second TCP connection, no credentials to
    pass on.

    Args:
        alias: The connection's name; without it, the default alias.
        **options: Passed on to `MilvusClient`, e.g. `timeout` in seconds, or `db_name`. None may
            say where or how to connect, as `uri` and `token` do: that is the alias' to say.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: The alias is not configured, or wrongly; or an option is refused.
        ConnectError: The server cannot be reached, or does not accept us.
    """
    from zconfig.interop.pymilvus import client_of

    alias, given = hide_alias(alias), sealed(options)
    del options  # or a traceback that shows locals would show them
    check_client_options(hide(given()), "zconfig.client")
    return client_of(connections.default if alias is None else connections[alias], **given())


async def async_client(alias: str | None = None, **options: Any) -> AsyncMilvusClient:
    """Return a pymilvus `AsyncMilvusClient` on the asyncio connection of an alias.

    One for each alias and event loop; it calls through the connection's own channel.

    Args:
        alias: The connection's name; without it, the default alias.
        **options: Passed on to `AsyncMilvusClient`, as for `client`; then the client is a new one.

    Raises:
        MissingExtraError: pymilvus is not installed, or too old to have it.
        ConfigurationError: The alias is not configured, or wrongly; or an option is refused.
        ConnectError: The server cannot be reached, or does not accept us.
    """
    from zconfig import aio
    from zconfig.interop.pymilvus import async_client_of

    alias, given = hide_alias(alias), sealed(options)
    del options  # as in `client`
    check_client_options(hide(given()), "zconfig.async_client")
    return async_client_of(await aio.get(alias), **given())


def connection_args(alias: str | None = None) -> dict[str, Any]:
    """Return what LangChain, LlamaIndex and Haystack want to know of a connection.

    LangChain's and Haystack's stores take it as `connection_args`, LlamaIndex's as keywords, and
    a `MilvusClient` takes the same. Nothing is dialed: the store opens a connection of its own.

    Args:
        alias: The connection's name; without it, the default alias.

    Returns:
        A new mapping with `uri`, `timeout` (seconds) and, where they are configured, `token`,
        `db_name`, `server_name` and the paths of PEM files. It holds the secret, which is what it
        is for: the token is masked in a `repr` and refuses to be pickled, and is otherwise a
        string like any other, so do not write the mapping as JSON or YAML.

    Raises:
        ConfigurationError: The alias is not configured, or wrongly; or a PEM file cannot be read,
            or has a byte order mark; or `TLS_CA` is not set, and no single file has exactly the
            authorities that are trusted by default.

    Example:
        >>> import zconfig
        >>> one = {"docs": {"uri": "http://localhost", "token": "root:Milvus"}}
        >>> with zconfig.connections.override(one):
        ...     zconfig.connection_args("docs")
        {'uri': 'http://localhost:19530', 'timeout': 10.0, 'token': <hidden>}
    """
    from zconfig.interop.connection_args import connection_args_of

    alias = hide_alias(alias)
    return connection_args_of(connections.spec(alias))


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})


if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        """Import what not everybody needs, and much of which needs grpc, when it is asked for."""
        if name == "interop":
            import_module("zconfig.interop.pymilvus")
        if name in _MODULES:
            return import_module(f"zconfig.{name}")
        if name in _ELSEWHERE:
            return getattr(import_module(_ELSEWHERE[name]), name)
        raise AttributeError(f"module 'zconfig' has no attribute {name!r}")
