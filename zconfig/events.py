"""Lifecycle events: frozen payloads with flat fields, and the hooks that receive them.

Each is delivered once, and those of an alias in the order in which they happened. A name once
released does not change. Durations are in milliseconds and say so in the field's name; a field that
does not apply is `None` and is left out of `Event.fields()`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        name: The stable name of the event.
        level: The log level it is written at.
    """

    name: ClassVar[str] = "zconfig"
    level: ClassVar[Level] = "info"

    def fields(self) -> dict[str, Any]:
        """Return the fields that are set, in the order they are declared.

        Example:
            >>> ConnectionClosed(alias="prod", endpoint="http://db:19530").fields()
            {'alias': 'prod', 'endpoint': 'http://db:19530'}
        """
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigLoaded(Event):
    """The configuration was read.

    Attributes:
        aliases: The aliases that can be connected.
        files: The files that were read, in order of precedence.
        problems: How many problems keep an alias from connecting.
        elapsed_ms: How long reading took.
    """

    name: ClassVar[str] = "zconfig.config.loaded"

    aliases: tuple[str, ...]
    files: tuple[str, ...]
    problems: int
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem(Event):
    """Something in the configuration is wrong; one event for each problem.

    Attributes:
        code: The problem's stable code.
        problem: What is wrong.
        severity: `error` keeps the alias from connecting, `warning` does not.
        remedy: One thing to do.
        alias: The alias concerned, if one is.
        origin: Where the value stood.
    """

    name: ClassVar[str] = "zconfig.config.problem"
    level: ClassVar[Level] = "warning"

    code: str
    problem: str
    severity: str
    remedy: str
    alias: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEvent(Event):
    """Base of the events of one connection.

    Attributes:
        alias: The connection's name.
        endpoint: Where it leads, without credentials.
    """

    alias: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfigured(ConnectionEvent):
    """An alias was configured.

    Attributes:
        origin: Where its URI was set.
    """

    name: ClassVar[str] = "zconfig.connection.configured"
    level: ClassVar[Level] = "debug"

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConnecting(ConnectionEvent):
    """A connect began.

    Attributes:
        origin: Where its URI was set.
    """

    name: ClassVar[str] = "zconfig.connection.connecting"
    level: ClassVar[Level] = "debug"

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRetrying(ConnectionEvent):
    """An attempt failed, and another follows.

    Attributes:
        attempt: The number of the attempt that failed, from 1.
        cause: Stable identifier of the cause.
        remedy: One thing to do.
        delay_ms: The pause before the next attempt.
        elapsed_ms: Time since the connect began.
    """

    name: ClassVar[str] = "zconfig.connection.retrying"
    level: ClassVar[Level] = "warning"

    attempt: int
    cause: str
    remedy: str
    delay_ms: float
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConnected(ConnectionEvent):
    """The server accepted our credentials and our database.

    Attributes:
        origin: Where its URI was set.
        server_version: What the server calls itself: one line of at most 200 characters, masked.
        attempt: The number of the attempt that succeeded, from 1.
        elapsed_ms: Time since the connect began.
    """

    name: ClassVar[str] = "zconfig.connection.connected"

    origin: str
    server_version: str
    attempt: int
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFailed(ConnectionEvent):
    """A connect was given up.

    Attributes:
        origin: Where the value at fault was set.
        cause: Stable identifier of the cause.
        stage: How far the connect came.
        permanent: Whether trying again cannot help.
        attempt: How many attempts were made.
        elapsed_ms: Time since the connect began.
        problem: The whole message.
        remedy: One thing to do.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost(ConnectionEvent):
    """A connected server does not answer any more; calls fail until it is back.

    Attributes:
        origin: Where the value at fault was set.
        cause: Stable identifier of the cause.
        stage: How far an attempt to reach it came.
        problem: The whole message.
        remedy: One thing to do.
    """

    name: ClassVar[str] = "zconfig.connection.lost"
    level: ClassVar[Level] = "warning"

    origin: str
    cause: str
    stage: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRecovered(ConnectionEvent):
    """A server that was lost has accepted our credentials and our database again.

    Attributes:
        server_version: What the server calls itself: one line of at most 200 characters, masked.
        elapsed_ms: Time since the loss was noticed.
    """

    name: ClassVar[str] = "zconfig.connection.recovered"

    server_version: str
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionMoved(ConnectionEvent):
    """Another member of a global cluster became its primary, and has accepted us.

    Attributes:
        previous: What was dialed before, as host and port.
        target: What is dialed now.
        elapsed_ms: Time since it was asked which member is the primary.
    """

    name: ClassVar[str] = "zconfig.connection.moved"

    previous: str
    target: str
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRotated(ConnectionEvent):
    """The server accepted new credentials; every later call carries them.

    Attributes:
        origin: Where they were set.
        elapsed_ms: How long the server took to accept them.
    """

    name: ClassVar[str] = "zconfig.connection.rotated"

    origin: str
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionClosed(ConnectionEvent):
    """A connection was closed by us."""

    name: ClassVar[str] = "zconfig.connection.closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRemoved(ConnectionEvent):
    """An alias was taken out of the registry."""

    name: ClassVar[str] = "zconfig.connection.removed"
    level: ClassVar[Level] = "debug"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessForked(Event):
    """This process is a child of one that had connections; they are opened again on use.

    Attributes:
        pid: This process.
        aliases: The aliases whose connections belong to the parent.
    """

    name: ClassVar[str] = "zconfig.process.forked"
    level: ClassVar[Level] = "debug"

    pid: int
    aliases: tuple[str, ...]


class Hook(Protocol):
    """What receives events. It is called outside all locks, and should return quickly."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        ...


E = TypeVar("E", bound=Event)

Kinds: TypeAlias = type[E] | tuple[type[E], ...]
"""A type of events, or several; a base type stands for all below it."""
