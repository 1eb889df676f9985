"""The singleton behind `zconfig.connections`: alias → connection."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zconfig import events
from zconfig.errors import ConfigurationError, Problem, ZConfigError
from zconfig.patience import Patience
from zconfig.redaction import Hidden
from zconfig.registry.announce import announcements, configured, removed, rotation_refused
from zconfig.registry.autoconnect import judge, open_all
from zconfig.registry.forks import guard_forks
from zconfig.registry.pool import Pool
from zconfig.registry.reload import Changes, compare, reopens, wrong_but_known
from zconfig.registry.table import Table
from zconfig.settings.arguments import (
    as_alias,
    check_seconds,
    fold_alias,
    from_arguments,
    hide,
    names_a_place,
)
from zconfig.settings.configuration import Configuration
from zconfig.settings.explain import Explanation, explain
from zconfig.settings.load import has_remote
from zconfig.settings.names import fold
from zconfig.spec import ConnectionSpec, differences, override, to_spec

if TYPE_CHECKING:
    from zconfig.connection import Connection


class Connections(Mapping[str, "Connection"]):
    """A pool of connections to your Zilliz Cloud clusters and Milvus servers, by alias.

    The seven methods of the documented pymilvus `Connections`, and a mapping: an alias is
    connected when it is first looked up. Reading a live connection takes no lock.

    Args:
        load: Reads the configuration; it raises nothing for what is wrong in it.
        at_first: Reads what can be read without the network, which is all that is read until the
            first use.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        at_first: Callable[[], Configuration] | None = None,
    ) -> None:
        self._load = load
        self._dispatcher = events.Dispatcher()
        self._pool = Pool(self._make, self._emit)
        self._set_aside: list[tuple[Table, Pool]] = []
        self._added: dict[str, ConnectionSpec] = {}
        self._known = Table((at_first or load)())
        self._may_lack = at_first is not None
        self._reloading = threading.RLock()
        self._unannounced: deque[events.Event] = deque(announcements(self._known))

    # --- the documented methods -------------------------------------------------------------

    def add_connection(self, **connections: Mapping[str, Any]) -> None:
        """Configure connections without opening them.

        Args:
            **connections: By alias, the parameters that `connect` takes.

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
        hidden = {alias: hide(each) for alias, each in connections.items()}
        del connections  # or a traceback that shows locals would show them
        specs = _specs(hidden, "connections.add_connection")
        for spec in specs:
            self._pool.check(spec)
        for spec in specs:
            self._add(spec)
            self._emit(configured(spec))

    def connect(
        self,
        alias: str = "default",
        user: str = "",
        password: str = "",
        db_name: str = "default",
        token: str = "",
        **kwargs: Any,
    ) -> Connection:
        """Connect an alias, and return its connection.

        With a place (`uri`, `address`, `host`, `port`) the arguments are the alias' whole
        configuration: nothing from the environment is mixed in. Without one, they replace the
        same fields of what is configured for it.

        Args:
            alias: The connection's name.
            user: User name, with `password`.
            password: Password, with `user`.
            db_name: Milvus database.
            token: API key, or `user:password`.
            **kwargs: `uri`, `address`, `host`, `port`, `secure`, `server_pem_path`,
                `ca_pem_path`, `client_pem_path`, `client_key_path`, `server_name`, `timeout`
                (seconds), `keep_alive`.

        Raises:
            ConfigurationError: The arguments are wrong, or nothing configures the alias.
            ConflictError: The alias is live with another configuration.
            ConnectError: The server cannot be reached, or does not accept us.
        """
        name, call = fold_alias(alias), "connections.connect"
        given = hide(
            {"user": user, "password": password, "db_name": db_name, "token": token, **kwargs}
        )
        del user, password, token, kwargs  # or a traceback that shows locals would show them
        if names_a_place(given):
            spec = _spec(name, given, call)
        else:
            spec = self._table.spec(name)
            place = replace(spec.endpoint, db_name=None)
            spec = override(spec, _spec(name, {**given, "uri": str(place)}, call))
        connection = self._open(spec)
        self._add(spec)
        return connection

    def disconnect(self, alias: str) -> None:
        """Close an alias, and keep its configuration; no error if it is not connected.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        self._pool.close(as_alias(alias))

    def remove_connection(self, alias: str) -> None:
        """Close an alias, and forget its configuration; no error if there is none.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        name = as_alias(alias)
        self._pool.close(name)
        self._added.pop(name, None)
        spec = self._table.remove(name)
        if spec:
            self._emit(removed(spec))

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
        """Tell whether an alias is connected.

        Raises:
            ConfigurationError: The alias is not a string.
        """
        return self._pool.find(as_alias(alias)) is not None

    # --- the mapping ------------------------------------------------------------------------

    def __getitem__(self, alias: str) -> Connection:
        return self._pool.find(alias) or self._open(self._table.spec(as_alias(alias)))

    def __contains__(self, alias: object) -> bool:
        return isinstance(alias, str) and fold(alias) in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    # A mapping's own comparison would look every alias up, and so connect them all.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        states = (f"{a}: {'connected' if self._pool.find(a) else 'idle'}" for a in self._known)
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
        explanation = explain(self.configuration, None if alias is None else as_alias(alias))
        if alias is not None and not explanation.aliases:
            raise self._table.complaint(as_alias(alias))
        return explanation

    def spec(self, alias: str) -> ConnectionSpec:
        """Return what an alias is configured with.

        Raises:
            ConfigurationError: It is not configured, or wrongly.
        """
        return self._table.spec(as_alias(alias))

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
        self._announce()
        durations = {"wait": wait, "timeout": timeout}
        check_seconds(None, **{name: each for name, each in durations.items() if each is not None})
        names = [as_alias(alias) for alias in aliases]
        if names:
            self._table.check(names)
        else:
            self._table.check_all()
        optional = {name for name in self._table if not self._table.spec(name).required}
        outcomes = self.attempt(*(names or self._table), wait=wait, timeout=timeout)
        return judge(outcomes, optional=set() if names else optional)

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
            return self._open(self._table.spec(as_alias(alias)), wait, timeout)

        return open_all(aliases, open_one, self._pool.cancel)

    def reload(self) -> Changes:
        """Read the configuration again, and apply what changed.

        Live connections whose specification is the same are not touched. Changed credentials are
        proved before they replace the old, without a reconnect; with any other change an alias is
        closed, and opens again on its next use. What is wrong in what was read leaves the old in
        place. Aliases that code added stay.

        Returns:
            What changed, by the names of aliases and fields; and what is wrong.
        """
        with self._reloading:
            self._announce()
            old, read = self._table, Table(self._load(), self._added)
            kept = wrong_but_known(old, read)
            new = Table(read.configuration, {**kept, **self._added})
            kept |= self._take_up(new)
            new = Table(read.configuration, {**kept, **self._added})
            changes = compare(old, new, tuple(kept))
            self._known = new
        for alias in changes.removed:
            self._pool.close(alias)
            self._emit(removed(old.spec(alias)))
        for event in announcements(new, only=(*changes.added, *changes.changed)):
            self._emit(event)
        return changes

    def _take_up(self, new: Table) -> dict[str, ConnectionSpec]:
        """Have live connections take up their new specification; return those that cannot."""
        refused = {}
        for alias in new:
            live, spec = self._pool.find(alias), new.spec(alias)
            if live is None or live.spec == spec:
                continue
            if reopens(live.spec, spec):
                self._pool.close(alias)
                continue
            try:
                live.rotate(spec)
            except ZConfigError as error:
                refused[alias] = live.spec
                self._emit(rotation_refused(alias, error))
        return refused

    def _add(self, spec: ConnectionSpec) -> None:
        self._added[spec.alias] = spec
        self._table.add(spec)

    def secrets(self) -> tuple[Hidden, ...]:
        """Return every secret that is configured or in use, for masking them in logs."""
        known = self._known
        live = (connection.spec for connection in map(self._pool.find, known) if connection)
        specs = (*map(known.spec, known), *live)
        return tuple(secret for spec in specs for secret in spec.secrets)

    def close(self) -> None:
        """Close every connection; the configuration stays, and an alias opens again on use."""
        self._pool.close_all()

    def subscribe(self, hook: events.Hook) -> Callable[[], None]:
        """Have a hook called with every lifecycle event.

        Args:
            hook: Called outside all locks; an exception of its is logged, and harms nothing.

        Returns:
            A function that takes the hook out again.
        """
        return self._dispatcher.subscribe(hook)

    @contextmanager
    def override(self, connections: Mapping[str, Mapping[str, Any]]) -> Iterator[Connections]:
        """For the time of a `with` block, have these connections and no others. For tests.

        Args:
            connections: By alias, the parameters that `connect` takes.

        Raises:
            ConfigurationError: With everything that is wrong with them.
        """
        hidden = {alias: hide(each) for alias, each in connections.items()}
        del connections  # as in `add_connection`
        self._set_aside.append((self._table, self._pool))
        added, self._added = self._added, {}
        self._known, self._pool = Table(Configuration()), Pool(self._make, self._emit)
        try:
            self.add_connection(**hidden)
            yield self
        finally:
            self._pool.close_all()
            self._known, self._pool = self._set_aside.pop()
            self._added = added

    # --- inside -----------------------------------------------------------------------------

    def _open(
        self, spec: ConnectionSpec, wait: float | None = None, timeout: float | None = None
    ) -> Connection:
        self._announce()
        guard_forks(self)
        timeout_s = spec.timeout_s if timeout is None else timeout
        wait_s = self.configuration.options.wait if wait is None else wait
        check_seconds(spec.alias, timeout=timeout_s, wait=wait_s)
        return self._pool.open(spec, Patience.from_now(timeout_s, wait_s))

    @property
    def _table(self) -> Table:
        """What is configured; on the first use also what only the network can tell."""
        if self._may_lack:
            with self._reloading:
                lacks = self._may_lack and has_remote(self._known.configuration.options)
                if lacks:
                    self._known = Table(self._load(), self._added)
                    self._unannounced = deque(announcements(self._known))
                self._may_lack = False
        return self._known

    def _make(self, spec: ConnectionSpec) -> Connection:
        from zconfig.connection import Connection  # it needs grpc, which importing us must not

        return Connection(spec, self._emit)

    def _emit(self, event: events.Event) -> None:
        self._announce()
        self._dispatcher.emit(event)

    def _announce(self) -> None:
        """Report what was read, once, on first use.

        Not on import: the application has not yet set up its logging then.
        """
        _ = self._table
        while self._unannounced:
            with suppress(IndexError):  # another thread may have taken the last one
                self._dispatcher.emit(self._unannounced.popleft())

    def after_fork(self) -> None:
        """Drop, in a child process, the connections of its parent; they open again on use."""
        self._reloading = threading.RLock()
        everything = [*self._set_aside, (self._known, self._pool)]
        forked = [alias for _, pool in everything for alias in pool.abandon()]
        for table, _ in everything:
            table.after_fork()
        if forked:
            self._unannounced.append(events.forked(tuple(forked)))


def _specs(connections: Mapping[str, Mapping[str, Any]], call: str) -> list[ConnectionSpec]:
    """Return the specifications of several aliases, or everything that is wrong with any."""
    specs: list[ConnectionSpec] = []
    problems: list[Problem] = []
    for alias, arguments in connections.items():
        try:
            specs.append(_once(_spec(fold_alias(alias), arguments, call), specs))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return specs


def _once(spec: ConnectionSpec, others: list[ConnectionSpec]) -> ConnectionSpec:
    """Refuse two spellings of one alias that are not configured alike."""
    for other in others:
        if other.alias == spec.alias and other != spec:
            names = " and ".join(differences(other, spec))
            what = f"two spellings of it differ in {names}"
            raise ConfigurationError([Problem("conflict", what, "keep one of them", spec.alias)])
    return spec


def _spec(alias: str, arguments: Mapping[str, Any], call: str) -> ConnectionSpec:
    return to_spec(alias, *from_arguments(alias, arguments, call))
