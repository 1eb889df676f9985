"""The class of `zconfig.connections`: alias → connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from zconfig._redaction import Secret, secrets_in
from zconfig._registry.autoconnect import failures, open_all, raise_for_failures, select_aliases
from zconfig._registry.config_events import configured
from zconfig._registry.forks import import_grpc
from zconfig._registry.pool import Pool
from zconfig._registry.registry import Registry
from zconfig._registry.specs import (
    SpecTable,
    check_place,
    spec_from_arguments,
    specs_from_arguments,
)
from zconfig._settings.arguments import (
    SecretText,
    as_alias,
    check_seconds,
    fold_alias,
    has_overrides,
    hide,
    hide_alias,
    hide_aliases,
    hide_each,
    hide_seconds,
    wanted_alias,
)
from zconfig._settings.configuration import Configuration
from zconfig._settings.names import normalize_alias
from zconfig._sources.base import SourceResult
from zconfig._spec import ConnectionSpec, to_settings
from zconfig.errors import ZConfigError

if TYPE_CHECKING:
    from zconfig._connection import Connection
    from zconfig._registry.specs import Changes
    from zconfig._registry.stats import AliasStats
    from zconfig._settings.explain import Explanation
    from zconfig._settings.fields import ConnectionSettings
    from zconfig.events import E, Hook, Kinds


class Connections:
    """Connections to Zilliz Cloud clusters and Milvus servers, by alias.

    It has the seven documented methods of pymilvus' `Connections`. `connections["prod"]` connects
    the alias on its first use, and returns its open connection afterwards, without taking a lock.
    `in`, `len` and iteration use the configured aliases, and do not connect. It is not a
    `Mapping`, since `values` and `items` would connect the aliases one after another;
    `list_connections()` returns the pairs without connecting.

    Args:
        load: Reads the configuration, and returns its problems without raising.
        local_loader: Reads the sources that need no network, before the first use.
        has_changed: Returns whether `local_loader` would read other values now; called on the
            first use.
        load_beside: Reads the configuration again after a rejection of credentials, except for
            sources whose results are passed; `load` by default.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        local_loader: Callable[[], Configuration] | None = None,
        has_changed: Callable[[], bool] | None = None,
        load_beside: Callable[[Sequence[SourceResult]], Configuration] | None = None,
    ) -> None:
        self._registry = Registry(load, local_loader, has_changed, load_beside)

    # --- the documented methods -------------------------------------------------------------

    def add_connection(self, **connections: Mapping[str, Any] | ConnectionSettings) -> None:
        """Configure connections without opening them.

        Args:
            **connections: The parameters of `connect`, or a `ConnectionSettings`, by alias.

        Raises:
            ConfigurationError: A parameter is invalid; lists all problems, and adds no alias.
            ConflictError: An alias is connected with another configuration.

        Examples:
            >>> from zconfig import connections
            >>> connections.add_connection(docs={"host": "localhost", "port": 19530})
            >>> connections.get_connection_addr("docs")["address"]
            'localhost:19530'
            >>> connections.remove_connection("docs")
        """
        hidden = hide_each(connections)
        del connections  # or a traceback that shows locals would show them
        self._add(hidden)

    def connect(  # noqa: PLR0913 - five are those of pymilvus
        self,
        alias: str = "default",
        user: str = "",
        password: SecretText = "",
        db_name: str | None = None,
        token: SecretText = "",
        *,
        settings: ConnectionSettings | None = None,
        **kwargs: Any,
    ) -> Connection:
        """Connect an alias, and return its connection.

        With an endpoint (`uri`, `address`, `host`, `port`, or `settings`, which has a URI), the
        arguments are the complete configuration of the alias; the environment is not used.
        Without an endpoint, they replace fields of the configured alias, and `secure=True` turns
        on TLS. Without arguments, the alias connects as configured.

        Args:
            alias: The alias.
            user: The user name, with `password`.
            password: The password, with `user`.
            db_name: The Milvus database; by default the one in the URI's path, or the configured
                one.
            token: An API key, or `user:password`.
            settings: The configuration as a model of `ConnectionSettings` or a subclass; the other
                arguments replace its fields.
            **kwargs: `uri`, `address`, `host`, `port`, `secure`, `server_pem_path`,
                `ca_pem_path`, `client_pem_path`, `client_key_path`, `server_name`, `timeout`
                (seconds), `keep_alive`. Strings may be a pydantic `SecretStr` or URL.

        Returns:
            The open connection.

        Raises:
            ConfigurationError: An argument is invalid, or the alias is not configured.
            ConflictError: The alias is connected with another configuration.
            ConnectError: The server cannot be reached, or rejects the connection.

        Examples:
            >>> from zconfig import connections
            >>> from zconfig.testing import fake_server
            >>> with fake_server() as server, connections.override({}):
            ...     connections.connect("docs", uri=server.uri).state
            <State.READY: 'ready'>
        """
        alias = hide_alias(alias)
        named = {"user": user, "password": password, "db_name": db_name, "token": token}
        given = hide({**named, "settings": settings, **kwargs})
        # Otherwise a traceback with local variables would show them.
        del named, user, password, db_name, token, settings, kwargs
        name, call = fold_alias(alias), "connections.connect"
        if not has_overrides(given):  # as configured, so that reloads apply to the alias
            check_place(self._table, name, given, call)
            return self._open(name)
        self._registry.remember(secrets_in(given))
        spec = spec_from_arguments(self._table, name, given, call)
        return self._registry.connect(spec)

    def disconnect(self, alias: str) -> None:
        """Close an alias, and keep its configuration; does nothing if it is not connected.

        Args:
            alias: The alias.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        self._registry.close(as_alias(alias))

    def remove_connection(self, alias: str) -> None:
        """Close an alias, and remove its configuration; does nothing if it is not configured.

        Args:
            alias: The alias.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        self._registry.remove(as_alias(alias))

    def list_connections(self) -> list[tuple[str, Connection | None]]:
        """Return every configured alias with its connection; `None` if it is not open."""
        return [(alias, self._pool.find(alias)) for alias in self._table]

    def get_connection_addr(self, alias: str) -> dict[str, Any]:
        """Return the endpoint of an alias, without its password or token.

        Args:
            alias: The alias.

        Returns:
            A dict of `address`, `uri`, `user`, `db_name` and `secure`; empty if the alias is not
            configured.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        name = as_alias(alias)
        spec = self._table.find(name)
        if spec is None:
            return {}
        endpoint = spec.endpoint
        return {
            "address": endpoint.address,
            "uri": str(endpoint),
            "user": (spec.credentials.user if spec.credentials else None) or "",
            "db_name": spec.db_name,
            "secure": endpoint.secure,
        }

    def has_connection(self, alias: str) -> bool:
        """Return whether an alias is connected.

        Args:
            alias: The alias.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        return self._pool.find(as_alias(alias)) is not None

    # --- lookup -----------------------------------------------------------------------------

    def __getitem__(self, alias: str) -> Connection:
        try:  # one expression: applications do this for each request
            return self._registry.ready[alias]
        except (KeyError, TypeError):  # not open, or not hashable
            pass
        alias = hide_alias(alias)
        return self._pool.find(alias) or self._open(wanted_alias(alias))

    def __contains__(self, alias: object) -> bool:
        return isinstance(alias, str) and normalize_alias(alias) in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        if not hasattr(self, "_registry"):  # in a traceback of `__init__`
            return "<Connections>"
        states = (f"{alias}: {self._registry.state(alias)}" for alias in self._registry.known)
        return f"<Connections {{{', '.join(states)}}}>"

    # --- methods that pymilvus does not have ------------------------------------------------

    @property
    def default(self) -> Connection:
        """The connection of the default alias, connected on first use.

        The default alias is `ZCONFIG_DEFAULT_ALIAS`, else `default`, else the only configured one.

        Raises:
            ConfigurationError: There is no default alias, or its configuration is invalid.
            ConnectError: The server cannot be reached, or rejects the connection.
        """
        return self[self._table.default()]

    @property
    def configuration(self) -> Configuration:
        """The configuration, with its problems."""
        return self._table.configuration

    def explain(self, alias: str | None = None) -> Explanation:
        """Explain where each value is set; see `zconfig.explain`.

        Args:
            alias: The alias; without it, every alias.

        Raises:
            UnknownAliasError: The alias is not configured.
        """
        from zconfig._settings.explain import explanation_of

        alias = hide_alias(alias)
        name = None if alias is None else wanted_alias(alias)
        explanation = explanation_of(self.configuration, name)
        if name is not None and not explanation.aliases:
            raise self._table.error_for(name)
        return explanation

    def spec(self, alias: str | None = None) -> ConnectionSpec:
        """Return the specification of an alias.

        Args:
            alias: The alias; without it, the default alias.

        Raises:
            ConfigurationError: The alias is not configured, or its configuration is invalid.
        """
        alias = hide_alias(alias)
        table = self._table
        return table.spec(table.default() if alias is None else wanted_alias(alias))

    def settings(self, alias: str | None = None) -> ConnectionSettings:
        """Return the configuration of an alias as a settings model.

        Args:
            alias: The alias; without it, the default alias.

        Returns:
            The fields from all sources, with absolute paths. Its `repr` and JSON hide secrets.

        Raises:
            ConfigurationError: The alias is not configured, or its configuration is invalid.

        Examples:
            >>> from zconfig import connections
            >>> with connections.override({"docs": {"uri": "http://localhost", "timeout": 3}}):
            ...     connections.settings("docs").model_dump(exclude_defaults=True)
            {'uri': 'http://localhost:19530', 'timeout': 3.0, 'keepalive': 30.0}
        """
        alias = hide_alias(alias)
        return to_settings(self.spec(alias))

    def autoconnect(
        self, *aliases: str, wait: float | None = None, timeout: float | None = None
    ) -> dict[str, Connection]:
        """Connect aliases in parallel, and return their connections.

        Optional aliases that fail are retried in the background; see `keep_trying`.

        Args:
            *aliases: The aliases to connect; all of them must succeed. Without arguments, every
                configured alias, of which only the required ones must succeed.
            wait: Seconds to retry transient failures; `ZCONFIG_WAIT` by default.
            timeout: Seconds for each connection attempt; each alias' `TIMEOUT` by default.

        Returns:
            The connections by alias.

        Raises:
            ConfigurationError: The configuration is invalid; raised before any alias is dialed,
                with all problems.
            AutoconnectError: Required aliases failed; the others stay connected.
        """
        aliases = hide_aliases(aliases)
        wait, timeout = hide_seconds(wait), hide_seconds(timeout)
        self._registry.publish_config()
        durations = {"wait": wait, "timeout": timeout}
        check_seconds(None, **{name: each for name, each in durations.items() if each is not None})
        names, optional = select_aliases(self._table, aliases)
        import_grpc()
        outcomes = self.attempt(*names, wait=wait, timeout=timeout)
        connected = raise_for_failures(outcomes, optional)
        self._registry.keep_trying(failures(outcomes))
        return connected

    def attempt(
        self, *aliases: str, wait: float | None = None, timeout: float | None = None
    ) -> dict[str, Connection | ZConfigError]:
        """Connect aliases in parallel, and return the connection or error of each.

        Args:
            *aliases: The aliases to connect.
            wait: Seconds to retry transient failures; `ZCONFIG_WAIT` by default.
            timeout: Seconds for each connection attempt; each alias' `TIMEOUT` by default.

        Returns:
            The connection or the error, by alias.
        """

        def open_one(alias: str) -> Connection:
            return self._open(wanted_alias(alias), wait, timeout, has_left)

        def give_up(alias: object) -> None:
            self._pool.leave(normalize_alias(str(alias)), has_left)

        aliases = hide_aliases(aliases)
        wait, timeout = hide_seconds(wait), hide_seconds(timeout)
        has_left = threading.Event()
        return open_all(aliases, open_one, give_up)

    def keep_trying(self, *aliases: str) -> None:
        """Connect aliases in the background, with retries, and return immediately.

        `autoconnect` does this for optional aliases that fail. The pauses between attempts grow to
        30 seconds; each failed attempt publishes the event `zconfig.connection.retrying`. Retries
        end when the alias is connected, and with `disconnect`, `remove_connection` and `close`.

        Args:
            *aliases: The aliases to connect; without arguments, every configured alias.

        Raises:
            ConfigurationError: The configuration is invalid; lists all problems.

        Examples:
            >>> from zconfig import connections
            >>> with connections.override({"docs": {"uri": "http://127.0.0.1:9"}}):
            ...     connections.keep_trying("docs")
            ...     connections.stats()["docs"].state
            'retrying'
        """
        aliases = hide_aliases(aliases)
        self._registry.publish_config()
        names, _ = select_aliases(self._table, aliases)
        self._registry.keep_trying(dict.fromkeys(names))

    def stats(self) -> dict[str, AliasStats]:
        """Return the statistics of every configured alias, without contacting a server.

        Examples:
            >>> from zconfig import connections
            >>> with connections.override({"docs": {"uri": "http://localhost:19530"}}):
            ...     connections.stats()["docs"].state
            'idle'
        """
        return {alias: self._registry.stats(spec) for alias, spec in self._registry.known.items()}

    def reload(self) -> Changes:
        """Read the configuration again, and apply the changes.

        Open connections whose settings did not change are not touched. Changed credentials are
        verified with the server before they replace the current ones, without reconnecting. After
        any other change the connection is closed, and the next use of the alias opens it again.
        Invalid configuration is ignored, and the current one stays in effect. Aliases that were
        added in code stay.

        Returns:
            The changes, by the names of aliases and fields, and the problems.
        """
        return self._registry.reload()

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret to mask: those of the configuration, and those used recently.

        The `repr` of a secret is `<hidden>`; it equals its text, which `reveal()` returns.
        """
        return self._registry.secrets()

    def close(self) -> None:
        """Close every connection; the next use of an alias opens it again."""
        self._registry.close_all()

    @overload
    def subscribe(self, hook: Hook) -> Callable[[], None]: ...

    @overload
    def subscribe(self, hook: Callable[[E], object], events: Kinds[E]) -> Callable[[], None]: ...

    def subscribe(
        self, hook: Callable[[E], object], events: Kinds[E] | None = None
    ) -> Callable[[], None]:
        """Call a hook with each lifecycle event.

        Args:
            hook: The function to call with an event. It is called outside all locks, in the thread
                that connects or monitors, never on an event loop. Its exceptions are logged.
            events: An event class or a tuple of them, subclasses included; by default all events.

        Returns:
            A function that removes the hook.

        Raises:
            TypeError: `events` has something other than event classes.

        Examples:
            >>> from zconfig import connections, events
            >>> lost = []
            >>> unsubscribe = connections.subscribe(lost.append, events.ConnectionLost)
            >>> unsubscribe()
        """
        if events is not None:
            _check_kinds(events)
        return self._registry.subscribe(hook, events)

    @contextmanager
    def override(
        self, connections: Mapping[str, Mapping[str, Any] | ConnectionSettings]
    ) -> Iterator[Connections]:
        """Replace the configuration during a `with` block, for tests; `reload` keeps it.

        Args:
            connections: The parameters of `connect`, or a `ConnectionSettings`, by alias.

        Raises:
            ConfigurationError: A parameter is invalid; lists all problems.
        """
        hidden = hide_each(connections)
        del connections  # as in `add_connection`
        with self._registry.overridden():
            self._add(hidden)
            yield self

    def _open(
        self,
        alias: str,
        wait: float | None = None,
        timeout: float | None = None,
        has_left: threading.Event | None = None,
    ) -> Connection:
        spec = self._table.spec(alias)
        return self._registry.open(spec, self._registry.intent(spec, wait, timeout), has_left)

    def _add(self, hidden: Mapping[str, Mapping[str, Any]]) -> None:
        for each in hidden.values():
            self._registry.remember(secrets_in(each))
        specs = specs_from_arguments(hidden, "connections.add_connection")
        for spec in specs:
            self._pool.check(spec)
        for spec in specs:
            self._registry.add(spec)
            self._registry.publish(configured(spec))

    @property
    def _table(self) -> SpecTable:
        return self._registry.table

    @property
    def _pool(self) -> Pool:
        return self._registry.pool


def registry_of(connections: Connections) -> Registry:
    """Return the registry of `connections`, for other modules of the package."""
    return connections._registry  # noqa: SLF001 - not part of the public class


def _check_kinds(wanted: Any) -> None:
    """Check the event classes of a subscription.

    Raises:
        TypeError: A value is not an event class.
    """
    from zconfig.events import Event

    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if not all(isinstance(kind, type) and issubclass(kind, Event) for kind in kinds):
        raise TypeError("events: expected classes of zconfig.events, such as ConnectionLost")
