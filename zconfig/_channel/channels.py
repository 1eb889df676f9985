"""Core channels: one per (process, target, TLS identity, options), shared by counting.

gRPC itself shares a TCP connection between plaintext channels with equal arguments, but not
between TLS channels; here both are shared, and aliases are views that differ in metadata.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import grpc

from zconfig._channel.fork_gate import GATE
from zconfig._endpoint import TransportType
from zconfig._per_process import PerProcess
from zconfig._sources.environment import process_environment
from zconfig._sources.pem import default_authorities, read_pem
from zconfig._spec import ConnectionSpec, TLSFiles

Options = tuple[tuple[str, Any], ...]
T = TypeVar("T")

# A server that comes back is reached within the second, and a peer that acknowledges TCP but
# is stuck is noticed by the ping's own timeout.
_RECONNECT: Options = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
_PING_TIMEOUT_MS = 10_000
_FREQUENT_S = 60.0
_CONNECTIVITIES: dict[int | None, grpc.ChannelConnectivity] = {
    each.value[0]: each for each in grpc.ChannelConnectivity
}


@dataclass(frozen=True, slots=True)
class TLSMaterial:
    """The contents of the TLS files; the key among them is never shown."""

    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """A digest that tells two TLS identities apart."""
        parts = (b"-" if part is None else part for part in (self.ca, self.cert, self.key))
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_material(files: TLSFiles) -> TLSMaterial:
    """Read the TLS files; without a CA of its own, the authorities that are trusted by default.

    Raises:
        FileError: If a file cannot be used.
    """
    default = None if files.ca else default_authorities(process_environment()).read()
    return TLSMaterial(
        read_pem(files.ca, "certificates") if files.ca else default or None,
        read_pem(files.cert, "certificates") if files.cert else None,
        read_pem(files.key, "key") if files.key else None,
    )


def channel_options(spec: ConnectionSpec) -> Options:
    """Return the gRPC channel arguments of a connection.

    The process' number among them keeps a forked child from its parent's subchannels, which
    gRPC would otherwise hand it from a pool.
    """
    options = [*_RECONNECT, ("zconfig.pid", os.getpid())]
    if spec.keepalive_s:
        options += [
            ("grpc.keepalive_time_ms", round(spec.keepalive_s * 1e3)),
            ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
            ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ]
    if 0 < spec.keepalive_s <= _FREQUENT_S:
        options += [("grpc.keepalive_permit_without_calls", 1)]
        options += [("grpc.http2.max_pings_without_data", 0)]
    # An embedded server listens on loopback, which gRPC sends through a proxy like any address.
    if spec.proxy == "off" or spec.endpoint.transport is TransportType.LITE:
        options.append(("grpc.enable_http_proxy", 0))
    elif spec.proxy:
        options.append(("grpc.http_proxy", spec.proxy.reveal()))
    if name := spec.name_to_verify:
        options.append(("grpc.ssl_target_name_override", name))
    return tuple(options)


class ChannelRecipe(NamedTuple):
    """How channels to one server are made.

    Args:
        target: A gRPC target, e.g. `db:19530`.
        options: The channel arguments.
        material: The TLS material; `None` for plaintext.
        size: How many.
    """

    target: str
    options: Options
    material: TLSMaterial | None
    size: int

    def dial(self, maker: Any = grpc, *options: tuple[str, Any]) -> tuple[Any, ...]:
        """Make channels; gRPC connects on the first call. An own argument keeps each to itself.

        Args:
            maker: What makes them: `grpc`, or `grpc.aio` on an event loop.
            *options: More channel arguments.
        """
        _pin_grpc()
        own = [(*self.options, *options, ("zconfig.member", each)) for each in range(self.size)]
        if self.material is None:
            return tuple(maker.insecure_channel(self.target, each) for each in own)
        ca, cert, key = self.material.ca, self.material.cert, self.material.key
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        return tuple(maker.secure_channel(self.target, credentials, each) for each in own)


class SharedChannel:
    """Channels to one server, shared by all connections that need the same.

    Args:
        recipe: How they are made.
        channels: What calls are spread over.
    """

    def __init__(self, recipe: ChannelRecipe, channels: Sequence[Any]) -> None:
        self.recipe = recipe
        self._channels = tuple(channels)
        self._dependents: weakref.WeakSet[DependentChannel] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._is_open

    def add_dependent(self, dependent: DependentChannel) -> None:
        """Close other channels together with these.

        Raises:
            ValueError: These are closed.
        """
        with self._lock:
            self._check()
            self._dependents.add(dependent)

    def make(self, do: Callable[[grpc.Channel], T]) -> list[T]:
        """Return what is made of each channel, e.g. a callable for a method.

        Raises:
            ValueError: They are closed, as gRPC says it of a call. Making a method of a closed
                channel may crash the process.
        """
        with self._lock:
            self._check()
            return [do(channel) for channel in self._channels]

    def first(self, do: Callable[[grpc.Channel], T]) -> T:
        """Return what is made of the first channel; raises what `make` does."""
        with self._lock:
            self._check()
            return do(self._channels[0])

    def is_failing(self) -> bool | None:
        """Tell whether a channel has lost its server; `None` where gRPC does not let us see it.

        A channel that is idle dials again.
        """
        states = self.states(dial=True)
        return None if None in states else grpc.ChannelConnectivity.TRANSIENT_FAILURE in states

    def states(self, *, dial: bool) -> Sequence[grpc.ChannelConnectivity | None]:
        """Return the state of each channel; `None` where gRPC does not let us see it.

        Args:
            dial: Have channels that are idle dial.
        """
        with GATE, self._lock:
            numbers = [_state(channel, dial) for channel in self._channels if self._is_open]
        return [_CONNECTIVITIES.get(each) for each in numbers]

    def connectivity(self, *, dial: bool) -> grpc.ChannelConnectivity:
        """Return the state of the first channel; ready where gRPC does not let us see it.

        Args:
            dial: Have a channel that is idle dial.
        """
        with GATE, self._lock:
            if not self._is_open:
                return grpc.ChannelConnectivity.IDLE
            number = _state(self._channels[0], dial)
        return _CONNECTIVITIES.get(number, grpc.ChannelConnectivity.READY)

    def _check(self) -> None:
        if not self._is_open:
            raise ValueError("the channels are closed")

    def close(self) -> None:
        """Close the channels; calls in flight are cancelled."""
        with GATE, self._lock:
            self._is_open = False
            for channel in self._channels:
                channel.close()
            dependents = tuple(self._dependents)
        for each in dependents:
            each.close_soon()


class DependentChannel(Protocol):
    """Channels that are closed together with shared ones."""

    def close_soon(self) -> None:
        """Close them; called in any thread."""


class ChannelRef:
    """Shared channels that are held; give them back once."""

    def __init__(self, shared: SharedChannel, give_back: Callable[[], None]) -> None:
        self.shared = shared
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give the channels back; the last holder's release closes them."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()


class ChannelPool:
    """The shared channels of this process, by what makes them different."""

    _lock = PerProcess(threading.Lock)

    def __init__(self) -> None:
        self._channel_pool: dict[tuple[Any, ...], tuple[SharedChannel, int]] = {}
        self._inherited: list[SharedChannel] = []

    def acquire(
        self, target: str, spec: ConnectionSpec, material: TLSMaterial | None
    ) -> ChannelRef:
        """Return channels to a target, new ones if nobody has any.

        Args:
            target: A gRPC target, e.g. `db:19530`.
            spec: The connection's specification.
            material: The TLS material; `None` for plaintext.
        """
        options = channel_options(spec)
        key = (target, material.identity if material else None, options, spec.pool_size)
        with GATE, self._lock:
            shared, holders = self._channel_pool.get(key) or (None, 0)
            if shared is None:
                recipe = ChannelRecipe(target, options, material, spec.pool_size)
                shared = SharedChannel(recipe, recipe.dial())
            self._channel_pool[key] = shared, holders + 1
        return ChannelRef(shared, lambda: self._release(key))

    def after_fork(self) -> None:
        """Forget all channels, in a child process: they belong to its parent.

        They are neither closed, which may hang, nor dropped, which would shut the parent's
        sockets down.
        """
        self._inherited += [shared for shared, _ in self._channel_pool.values()]
        self._channel_pool = {}

    def _release(self, key: tuple[Any, ...]) -> None:
        with self._lock:
            if key not in self._channel_pool:
                return
            shared, holders = self._channel_pool[key]
            if holders > 1:
                self._channel_pool[key] = shared, holders - 1
                return
            del self._channel_pool[key]
        shared.close()


_unused: list[grpc.Channel] = []


def _pin_grpc() -> None:
    """Keep gRPC from shutting down when the last channel is closed.

    It does so in a thread of its own, and a child that is forked in the middle of that waits for
    ever when it makes its first channel. One that is never used keeps gRPC where it is; it dials
    nobody.
    """
    if not _unused:
        _unused.append(grpc.insecure_channel("ipv4:127.0.0.1:9"))


def _state(channel: grpc.Channel, dial: bool) -> int | None:  # noqa: FBT001 - passed on
    """Return a channel's connectivity. What is public for that costs a thread a channel."""
    check = getattr(getattr(channel, "_channel", None), "check_connectivity_state", None)
    state: int | None = check(dial) if check else None
    return state
