"""Lifecycle events: frozen payloads with flat fields, and the hooks that receive them.

Each event is delivered once. The events of an alias are delivered in the order in which they
occurred. Event names do not change between releases. Durations are in milliseconds, in fields whose
name ends in `_ms`. A field that does not apply is `None`, and `Event.fields()` omits it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from zconfig._value import Value, value

Level = Literal["debug", "info", "warning", "error"]


@value(kw_only=True)
class Event(Value):
    """Base class of all events.

    Attributes:
        name: The stable name of the event.
        level: The log level of the event.
    """

    name: ClassVar[str] = "zconfig"
    level: ClassVar[Level] = "info"

    def fields(self) -> dict[str, Any]:
        """Return the fields that are set, in declaration order.

        Examples:
            >>> ConnectionClosed(alias="prod", endpoint="http://db:19530").fields()
            {'alias': 'prod', 'endpoint': 'http://db:19530'}
        """
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}


@value(kw_only=True)
class ConfigLoaded(Event):
    """The configuration was read.

    Attributes:
        aliases: The aliases that can be connected.
        files: The files that were read, in order of precedence.
        problems: The number of problems that prevent an alias from connecting.
        elapsed_ms: The time that reading took.
    """

    name: ClassVar[str] = "zconfig.config.loaded"

    aliases: tuple[str, ...]
    files: tuple[str, ...]
    problems: int
    elapsed_ms: float


@value(kw_only=True)
class ConfigProblem(Event):
    """The configuration has a problem. Each problem is one event.

    Attributes:
        code: The problem's stable code.
        problem: The problem as a text.
        severity: `error` prevents the alias from connecting, `warning` does not.
        remedy: One action that fixes it.
        alias: The alias concerned, if the problem concerns one.
        origin: The place where the value is set.
    """

    name: ClassVar[str] = "zconfig.config.problem"
    level: ClassVar[Level] = "warning"

    code: str
    problem: str
    severity: str
    remedy: str
    alias: str | None = None
    origin: str | None = None


@value(kw_only=True)
class ConnectionEvent(Event):
    """Base class of the events of one connection.

    Attributes:
        alias: The alias.
        endpoint: The address that the URI names, without credentials.
    """

    alias: str
    endpoint: str


@value(kw_only=True)
class ConnectionConfigured(ConnectionEvent):
    """An alias was configured.

    Attributes:
        origin: The place where its URI is set.
    """

    name: ClassVar[str] = "zconfig.connection.configured"
    level: ClassVar[Level] = "debug"

    origin: str


@value(kw_only=True)
class ConnectionConnecting(ConnectionEvent):
    """A connect began.

    Attributes:
        origin: The place where the URI is set.
    """

    name: ClassVar[str] = "zconfig.connection.connecting"
    level: ClassVar[Level] = "debug"

    origin: str


@value(kw_only=True)
class ConnectionRetrying(ConnectionEvent):
    """A connection attempt failed, and another one follows.

    Attributes:
        attempt: The number of the attempt that failed, from 1.
        cause: Stable identifier of the cause.
        remedy: One action that fixes it.
        delay_ms: The pause before the next attempt.
        elapsed_ms: The time since the connect began.
    """

    name: ClassVar[str] = "zconfig.connection.retrying"
    level: ClassVar[Level] = "warning"

    attempt: int
    cause: str
    remedy: str
    delay_ms: float
    elapsed_ms: float


@value(kw_only=True)
class ConnectionConnected(ConnectionEvent):
    """The server accepted the credentials and has the database.

    Attributes:
        origin: The place where the URI is set.
        server_version: The release that the server reports: one line of at most 200 characters,
            masked.
        attempt: The number of the attempt that succeeded, from 1.
        elapsed_ms: The time since the connect began.
    """

    name: ClassVar[str] = "zconfig.connection.connected"

    origin: str
    server_version: str
    attempt: int
    elapsed_ms: float


@value(kw_only=True)
class ConnectionFailed(ConnectionEvent):
    """A connect failed, and no further attempt follows.

    Attributes:
        origin: The place where the value at fault is set.
        cause: Stable identifier of the cause.
        stage: The stage that failed.
        permanent: Whether retries cannot succeed.
        attempt: The number of attempts.
        elapsed_ms: The time since the connect began.
        problem: The whole message.
        remedy: One action that fixes it.
    """

    name: ClassVar[str] = "zconfig.connection.failed"
    level: ClassVar[Level] = "error"

    origin: str
    cause: str
    stage: str
    permanent: bool
    attempt: int
    elapsed_ms: float
    problem: str
    remedy: str


@value(kw_only=True)
class ConnectionLost(ConnectionEvent):
    """The server of an open connection no longer answers. Calls fail until it recovers.

    Attributes:
        origin: The place where the value at fault is set.
        cause: Stable identifier of the cause.
        stage: The stage that failed when the server was dialed.
        problem: The whole message.
        remedy: One action that fixes it.
    """

    name: ClassVar[str] = "zconfig.connection.lost"
    level: ClassVar[Level] = "warning"

    origin: str
    cause: str
    stage: str
    problem: str
    remedy: str


@value(kw_only=True)
class ConnectionRecovered(ConnectionEvent):
    """After a loss, the server accepts the credentials and has the database again.

    Attributes:
        server_version: The release that the server reports: one line of at most 200 characters,
            masked.
        elapsed_ms: The time since the loss was detected.
    """

    name: ClassVar[str] = "zconfig.connection.recovered"

    server_version: str
    elapsed_ms: float


@value(kw_only=True)
class ConnectionMoved(ConnectionEvent):
    """The new primary of a global cluster accepted the credentials, and calls go there.

    Attributes:
        previous: The address of the previous primary, as host and port.
        target: The address of the new primary.
        elapsed_ms: The time since the request for the topology.
    """

    name: ClassVar[str] = "zconfig.connection.moved"

    previous: str
    target: str
    elapsed_ms: float


@value(kw_only=True)
class ConnectionRotated(ConnectionEvent):
    """The server accepted new credentials, and every later call uses them.

    Attributes:
        origin: The place where they are set.
        elapsed_ms: The time that the server took to accept them.
    """

    name: ClassVar[str] = "zconfig.connection.rotated"

    origin: str
    elapsed_ms: float


@value(kw_only=True)
class ConnectionClosed(ConnectionEvent):
    """This process closed a connection."""

    name: ClassVar[str] = "zconfig.connection.closed"


@value(kw_only=True)
class ConnectionRemoved(ConnectionEvent):
    """An alias was removed from the registry."""

    name: ClassVar[str] = "zconfig.connection.removed"
    level: ClassVar[Level] = "debug"


@value(kw_only=True)
class ProcessForked(Event):
    """This process was forked from one that had connections. The first use opens them again.

    Attributes:
        pid: The ID of this process.
        aliases: The aliases whose connections belong to the parent process.
    """

    name: ClassVar[str] = "zconfig.process.forked"
    level: ClassVar[Level] = "debug"

    pid: int
    aliases: tuple[str, ...]


class Hook(Protocol):
    """A function that receives events. It is called without locks, and should return quickly."""

    def __call__(self, event: Event, /) -> None:
        """Receive one event."""
        ...


E = TypeVar("E", bound=Event)

Kinds: TypeAlias = type[E] | tuple[type[E], ...]
"""An event class, or several. A base class includes its subclasses."""
