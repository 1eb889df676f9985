"""The singleton behind `zconfig.connections`: alias → connection."""

from __future__ import annotations

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
    """A pool of connections to your Zilliz Cloud clusters and Milvus servers, by alias.

    The seven methods of the documented pymilvus `Connections`. `connections["prod"]` connects an
    alias when it is first looked up; `in`, `len` and iteration are over the configured aliases,
    and dial nothing. It is no mapping, whose `get`, `values` and `items` would connect one alias
    after another: `list_connections()` has the pairs. Reading a live connection takes no lock.

    Args:
        load: Reads the configuration; it raises nothing for what is wrong in it.
        local_loader: Reads what can be read without the network, which is all that is
            read until the first use.
        has_changed: Whether `local_loader` would read something else now; asked on the first use.
        load_beside: Reads it again where credentials were refused, but for the sources of which it
            is given what they said; `load` by default.
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
            **connections: By alias, the parameters that `connect` takes, or a `ConnectionSettings`.

        Raises:
            ConfigurationError: With everything that is wrong with any of them; then none of
                them is added.
            ConflictError: An alias is live with another configuration.

        Example:
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

        With a place (`uri`, `address`, `host`, `port`, or `settings`, which has a URI) the
        arguments are the alias' whole configuration: nothing from the environment is mixed in.
        Without one, they replace the same fields of what is configured for it; `secure=True` is
        TLS there. Without any it is connected as configured, as by a look-up.

        Args:
            alias: The connection's name.
            user: User name, with `password`.
            password: Password, with `user`.
            db_name: Milvus database; by default the one in the URI's path, or what is configured.
            token: API key, or `user:password`.
            settings: All of it in one model, which may be one of your own below
                `ConnectionSettings`; the other arguments replace fields of it.
            **kwargs: `uri`, `address`, `host`, `port`, `secure`, `server_pem_path`,
                `ca_pem_path`, `client_pem_path`, `client_key_path`, `server_name`, `timeout`
                (seconds), `keep_alive`. Text may be a pydantic `SecretStr` or URL.

        Raises:
            ConfigurationError: The arguments are wrong, or nothing configures the alias.
            ConflictError: The alias is live with another configuration.
            ConnectError: The server cannot be reached, or does not accept us.
        """
        alias = hide_alias(alias)
        named = {"user": user, "password": password, "db_name": db_name, "token": token}
        given = hide({**named, "settings": settings, **kwargs})
        del (
            named,
            user,
            password,
            token,
            settings,
            kwargs,
        )  # or a traceback that shows locals would show them
        name, call = fold_alias(alias), "connections.connect"
        if not has_overrides(given):  # as configured, and so it follows what is configured
            check_place(self._table, name, given, call)
            return self._open(name)
        self._registry.remember(secrets_in(given))
        spec = spec_from_arguments(self._table, name, given, call)
        return self._registry.connect(spec)

    def disconnect(self, alias: str) -> None:
        """Close an alias, and keep its configuration; no error if it is not connected.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        self._registry.close(as_alias(alias))

    def remove_connection(self, alias: str) -> None:
        """Close an alias, and forget its configuration; no error if there is none.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        self._registry.remove(as_alias(alias))

    def list_connections(self) -> list[tuple[str, Connection | None]]:
        """Return every configured alias with its connection, `None` where it is not open."""
        return [(alias, self._pool.find(alias)) for alias in self._table]

    def get_connection_addr(self, alias: str) -> dict[str, Any]:
        """Return where an alias leads, without credentials; an empty dict if it is unknown.

        Returns:
            `address`, `uri`, `user`, `db_name` and `secure`.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        name = as_alias(alias)
        if name not in self._table:
            return {}
        spec = self._table.spec(name)
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

        Raises:
            ConfigurationError: The alias is not a string.
        """
        alias = hide_alias(alias)
        return self._pool.find(as_alias(alias)) is not None

    # --- looking up -------------------------------------------------------------------------

    def __getitem__(self, alias: str) -> Connection:
        try:  # all in one expression: this is what applications do for each request
            return self._registry.ready[alias]
        except (KeyError, TypeError):  # it may not even be hashable
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
        if not hasattr(self, "_registry"):  # a traceback shows it while it reads the configuration
            return "<Connections>"
        states = (f"{alias}: {self._registry.state(alias)}" for alias in self._registry.known)
        return f"<Connections {{{', '.join(states)}}}>"

    # --- beyond it --------------------------------------------------------------------------

    @property
    def default(self) -> Connection:
        """The connection that is meant where none is named, connected if it is not yet.

        `ZCONFIG_DEFAULT_ALIAS`, else `default`, else the only one that is configured.

        Raises:
            ConfigurationError: It is not configured, or wrongly.
            ConnectError: The server cannot be reached, or does not accept us.
        """
        return self[self._table.default()]

    @property
    def configuration(self) -> Configuration:
        """What was read, with its problems."""
        return self._table.configuration

    def explain(self, alias: str | None = None) -> Explanation:
        """Explain where each value that was read came from; see `zconfig.explain`.

        Raises:
            UnknownAliasError: Nothing configures the alias.
        """
        from zconfig._settings.explain import explanation_of

        alias = hide_alias(alias)
        name = None if alias is None else wanted_alias(alias)
        explanation = explanation_of(self.configuration, name)
        if name is not None and not explanation.aliases:
            raise self._table.error_for(name)
        return explanation

    def spec(self, alias: str | None = None) -> ConnectionSpec:
        """Return what an alias is configured with.

        Args:
            alias: The connection's name; without it, the default alias.

        Raises:
            ConfigurationError: It is not configured, or wrongly.
        """
        alias = hide_alias(alias)
        table = self._table
        return table.spec(table.default() if alias is None else wanted_alias(alias))

    def settings(self, alias: str | None = None) -> ConnectionSettings:
        """Return what an alias is configured with as a settings model.

        Args:
            alias: The connection's name; without it, the default alias.

        Returns:
            All of it, wherever it was set; paths are absolute. Its `repr` and JSON hide secrets.

        Raises:
            ConfigurationError: It is not configured, or wrongly.

        Example:
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

        Args:
            *aliases: Which ones, all of them required; without any, every configured alias, of
                which only the `REQUIRED` ones must succeed.
            wait: Seconds for which transient failures are retried; `ZCONFIG_WAIT` by default.
            timeout: Seconds for each connect; by default each alias' own.

        Returns:
            The connections by alias.

        Raises:
            ConfigurationError: Before anything is dialed, with everything that is wrong.
            AutoconnectError: With every alias that failed; the others stay connected.
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
        """Connect aliases in parallel, and return what became of each.

        Args:
            *aliases: Which ones.
            wait: As for `autoconnect`.
            timeout: As for `autoconnect`.

        Returns:
            By alias its connection, or why there is none.
        """

        def open_one(alias: str) -> Connection:
            return self._open(wanted_alias(alias), wait, timeout)

        aliases = hide_aliases(aliases)
        wait, timeout = hide_seconds(wait), hide_seconds(timeout)
        return open_all(aliases, open_one, self._pool.cancel)

    def keep_trying(self, *aliases: str) -> None:
        """Have aliases connected in the background, tried until they can be; return at once.

        That is what becomes of optional aliases which `autoconnect` could not connect. The pauses
        between attempts grow to 30 seconds; each attempt that fails is told as the event
        `zconfig.connection.retrying`. It ends with the connect, whoever makes it, and with
        `disconnect`, `remove_connection` and `close`.

        Args:
            *aliases: Which ones; without any, every configured alias.

        Raises:
            ConfigurationError: With everything that is wrong with them.

        Example:
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
        """Return how it goes with every configured alias, from what is known; nothing is dialed.

        Example:
            >>> from zconfig import connections
            >>> with connections.override({"docs": {"uri": "http://localhost:19530"}}):
            ...     connections.stats()["docs"].state
            'idle'
        """
        return {alias: self._registry.stats(alias) for alias in self._registry.known}

    def reload(self) -> Changes:
        """Read the configuration again, and apply what changed.

        Live connections whose specification is the same are not touched. Changed credentials are
        proved before they replace the old, without a reconnect; with any other change an alias is
        closed, and opens again on its next use. What is wrong in what was read leaves the old in
        place. Aliases that code added stay.

        Returns:
            What changed, by the names of aliases and fields; and what is wrong.
        """
        return self._registry.reload()

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret that is configured, right or wrong, or was lately, for masking.

        Each is shown as `<hidden>`, equals its text, and returns it from `reveal()`.
        """
        return self._registry.secrets()

    def close(self) -> None:
        """Close every connection; the configuration stays, and an alias opens again on use."""
        self._registry.close_all()

    @overload
    def subscribe(self, hook: Hook) -> Callable[[], None]: ...

    @overload
    def subscribe(self, hook: Callable[[E], object], events: Kinds[E]) -> Callable[[], None]: ...

    def subscribe(
        self, hook: Callable[[E], object], events: Kinds[E] | None = None
    ) -> Callable[[], None]:
        """Have a hook called with lifecycle events.

        Args:
            hook: Called outside all locks, in the thread that connects or monitors, never on an
                event loop; an exception of its is logged, and harms nothing.
            events: The types of the events that it wants, one or several; a base type stands for
                all below it. All events by default.

        Returns:
            A function that takes the hook out again.

        Raises:
            TypeError: Something else than types of events is wanted.

        Example:
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
        """For the time of a `with` block, have these connections and no others. For tests.

        Args:
            connections: By alias, the parameters that `connect` takes, or a `ConnectionSettings`.

        Raises:
            ConfigurationError: With everything that is wrong with them.
        """
        hidden = hide_each(connections)
        del connections  # as in `add_connection`
        with self._registry.overridden():
            self._add(hidden)
            yield self

    def _open(
        self, alias: str, wait: float | None = None, timeout: float | None = None
    ) -> Connection:
        spec = self._table.spec(alias)
        return self._registry.open(spec, self._registry.intent(spec, wait, timeout))

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
    """Return the registry behind `connections`, for the other faces of the package."""
    return connections._registry  # noqa: SLF001 - what users see has no way to it


def _check_kinds(wanted: Any) -> None:
    """Make sure that what is wanted are types of events.

    Raises:
        TypeError: Something else is.
    """
    from zconfig.events import Event

    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if not all(isinstance(kind, type) and issubclass(kind, Event) for kind in kinds):
        raise TypeError("events: give types of zconfig.events, such as ConnectionLost")
