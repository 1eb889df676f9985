"""Named connections to Zilliz Cloud and Milvus, from the environment.

    import zconfig

    zconfig.autoconnect()                       # every alias, in parallel
    zconfig.connections["analytics"].ping()     # milliseconds
    zconfig.client().list_collections()         # a pymilvus MilvusClient

The import reads the configuration and creates `connections`, which lists the aliases but does not
connect them. It opens no socket, imports neither grpc nor pymilvus, does not change the environment
and does not configure logging. Problems of the configuration are raised on the first use, not on
import. The first use reads the configuration again if it had errors or was empty, or if its
variables have changed since the import, so `load_dotenv()` and `os.environ["ZILLIZ_URI"] = ...`
work also after `import zconfig`. For later changes call `reload()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from zconfig._sources.remote import Source

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
    "Source",
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
    "Source": "zconfig._sources.remote",
    "State": "zconfig._connection",
    "ZillizSettings": "zconfig._settings.zilliz_settings",
}


# A daemon changes its working directory later, but relative paths keep their start.
_directory = working_directory()
_read = 0  # the fingerprint of the variables at the last read


def _load(known: Sequence[SourceResult] = (), *, remote: bool = True) -> Configuration:
    global _read  # noqa: PLW0603 - there is one environment
    _read = fingerprint(process_environment())
    return load(process_environment(), _directory, remote=remote, known=known)


def _has_changed() -> bool:
    return fingerprint(process_environment()) != _read


connections = Connections(_load, partial(_load, remote=False), _has_changed, load_beside=_load)
"""The connections of this process: a `Connections` registry, by alias."""
_masker = Masker(connections.secrets)
connections.subscribe(log_as_configured(lambda: connections.configuration.options))


def autoconnect(
    *aliases: str, wait: float | None = None, timeout: float | None = None
) -> dict[str, Connection]:
    """Connect aliases in parallel, and return their connections.

    Args:
        *aliases: The aliases to connect; all of them must succeed. Without arguments, every
            configured alias, of which only the required ones must succeed.
        wait: Seconds to retry transient failures; `ZCONFIG_WAIT` by default.
        timeout: Seconds for each connection attempt; each alias' `TIMEOUT` by default.

    Returns:
        The connections by alias.

    Raises:
        ConfigurationError: The configuration is invalid; raised before any alias is dialed, with
            all problems.
        AutoconnectError: Required aliases failed; the others stay connected.

    Examples:
        >>> import zconfig
        >>> zconfig.autoconnect()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        zconfig.errors.ConfigurationError: no connection is configured; set ZILLIZ_URI ...
    """
    aliases = hide_aliases(aliases)
    wait, timeout = hide_seconds(wait), hide_seconds(timeout)
    return connections.autoconnect(*aliases, wait=wait, timeout=timeout)


def reload() -> Changes:
    """Read the configuration again, and apply the changes.

    Open connections whose settings did not change are not touched. Changed credentials are
    verified with the server before they replace the current ones, without reconnecting. After any
    other change the connection is closed, and the next use of the alias opens it again. Invalid
    configuration is ignored, and the current one stays in effect.

    Returns:
        The changes, by the names of aliases and fields, and the problems.

    Examples:
        >>> import zconfig
        >>> bool(zconfig.reload())
        False
    """
    return connections.reload()


def explain(alias: str | None = None) -> Explanation:
    """Explain where each value is set, which values it shadows, and which sources were ignored.

    Args:
        alias: The alias; without it, every alias, also those with errors.

    Returns:
        The values. A secret is masked and has a fingerprint, by which two secrets can be compared.

    Raises:
        UnknownAliasError: The alias is not configured.

    Examples:
        >>> import zconfig
        >>> zconfig.explain().aliases
        ()
    """
    alias = hide_alias(alias)
    return connections.explain(alias)


def masking_processor() -> MaskingProcessor:
    """Return a structlog processor that masks the configured secrets in your own events.

    Put it last, before the renderer. It masks the secrets of every alias, also after a reload, and
    replaces objects of unknown types with their text. The documentation lists the encodings in
    which a secret is recognised.

    Examples:
        >>> import structlog, zconfig
        >>> processors = [zconfig.masking_processor(), structlog.processors.JSONRenderer()]
    """
    return MaskingProcessor(_masker)


def masking_filter() -> MaskingFilter:
    """Return a filter for logging handlers that masks the configured secrets in your records.

    It recognises the same encodings as `masking_processor`. Attach it only to handlers that do not
    show local variables in tracebacks and do not read the attributes of objects passed as `extra`:
    the filter does not mask these.

    Examples:
        >>> import logging, zconfig
        >>> logging.StreamHandler().addFilter(zconfig.masking_filter())
    """
    return MaskingFilter(_masker)


def client(alias: str | None = None, **options: Any) -> MilvusClient:
    """Return a pymilvus `MilvusClient` that uses the connection of an alias.

    The client calls through the channel of the connection: it opens no second TCP connection and
    needs no credentials.

    Args:
        alias: The alias; without it, the default alias.
        **options: Options for `MilvusClient`, e.g. `timeout` in seconds, or `db_name`. Options that
            define the connection, such as `uri` and `token`, are not accepted: the alias defines
            them.

    Raises:
        MissingExtraError: pymilvus is not installed.
        ConfigurationError: The alias is not configured or has errors, or an option is not accepted.
        ConnectError: The server cannot be reached, or rejects the connection.
    """
    from zconfig.interop.pymilvus import client_of

    alias, given = hide_alias(alias), sealed(options)
    del options  # or a traceback that shows locals would show them
    check_client_options(hide(given()), "zconfig.client")
    return client_of(connections.default if alias is None else connections[alias], **given())


async def async_client(alias: str | None = None, **options: Any) -> AsyncMilvusClient:
    """Return a pymilvus `AsyncMilvusClient` that uses the asyncio connection of an alias.

    Each alias has one client for each event loop. It calls through the channel of the connection.

    Args:
        alias: The alias; without it, the default alias.
        **options: Options for `AsyncMilvusClient`, as for `client`. With options, each call returns
            a new client.

    Raises:
        MissingExtraError: pymilvus is not installed, or is too old to have an asyncio client.
        ConfigurationError: The alias is not configured or has errors, or an option is not accepted.
        ConnectError: The server cannot be reached, or rejects the connection.
    """
    from zconfig import aio
    from zconfig.interop.pymilvus import async_client_of

    alias, given = hide_alias(alias), sealed(options)
    del options  # as in `client`
    check_client_options(hide(given()), "zconfig.async_client")
    return async_client_of(await aio.get(alias), **given())


def connection_args(
    alias: str | None = None, *, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the connection arguments of an alias for LangChain, LlamaIndex and Haystack.

    Pass them to LangChain's and Haystack's stores as `connection_args`, and to LlamaIndex's store
    and to `MilvusClient` as keyword arguments. This function does not connect: the store opens a
    connection of its own.

    Args:
        alias: The alias; without it, the default alias.
        names: The store's own parameter names, by pymilvus' names, such as `{"uri": "url"}`. The
            result then has `uri`, `token`, `db_name` and the parameters that `names` has.

    Returns:
        A new mapping with `uri`, `timeout` (seconds) and, if configured, `token`, `db_name`,
        `server_name` and the paths of PEM files. It contains the secret: the token is masked in
        its `repr` and cannot be pickled, but otherwise it is an ordinary string, so do not write
        the mapping as JSON or YAML.

    Raises:
        ConfigurationError: The alias is not configured or has errors; a PEM file cannot be read or
            begins with a byte order mark; or `TLS_CA` is not set, and no single file contains
            exactly the authorities that are trusted by default; or `names` lacks
            a parameter of TLS that the alias requires.
        ValueError: pymilvus has no parameter with a name in `names`.

    Examples:
        >>> import zconfig
        >>> one = {"docs": {"uri": "http://localhost", "token": "root:Milvus"}}
        >>> with zconfig.connections.override(one):
        ...     zconfig.connection_args("docs")
        {'uri': 'http://localhost:19530', 'timeout': 10.0, 'token': <hidden>}
        >>> with zconfig.connections.override(one):
        ...     zconfig.connection_args("docs", names={"uri": "url"})
        {'url': 'http://localhost:19530', 'token': <hidden>}
    """
    from zconfig.interop.connection_args import connection_args_of

    alias = hide_alias(alias)
    return connection_args_of(connections.spec(alias), names)


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})


if not TYPE_CHECKING:  # with it, a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import a name on first use: most of these import grpc, which not every program needs."""
        if name == "interop":
            import_module("zconfig.interop.pymilvus")
        if name in _MODULES:
            return import_module(f"zconfig.{name}")
        if name in _ELSEWHERE:
            return getattr(import_module(_ELSEWHERE[name]), name)
        raise AttributeError(f"module 'zconfig' has no attribute {name!r}")
