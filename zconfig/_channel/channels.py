"""Shared channels: one set per (process, target, TLS identity, options), reference-counted.

gRPC itself shares a TCP connection between plaintext channels with equal arguments, but not
between TLS channels. Here both are shared; aliases differ only in their metadata.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, NamedTuple, Protocol, TypeVar

import grpc

from zconfig._channel.fork_gate import GATE
from zconfig._endpoint import TransportType
from zconfig._per_process import PerProcess
from zconfig._sources.environment import process_environment
from zconfig._sources.pem import default_authorities, read_pem
from zconfig._spec import ConnectionSpec, TLSFiles
from zconfig._value import Value, value

Options = tuple[tuple[str, Any], ...]
T = TypeVar("T")

# gRPC reconnects to a restarted server within a second. The ping timeout detects a peer that
# acknowledges TCP segments but hangs.
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


@value
class TLSMaterial(Value):
    """The contents of the TLS files; hidden in `repr`."""

    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """A digest of the files, to compare TLS identities."""
        parts = (b"-" if part is None else part for part in (self.ca, self.cert, self.key))
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_material(files: TLSFiles) -> TLSMaterial:
    """Read the TLS files; without a CA file, the default authorities.

    Raises:
        FileError: A file cannot be used.
    """
    default = None if files.ca else default_authorities(process_environment()).read()
    return TLSMaterial(
        read_pem(files.ca, "certificates") if files.ca else default or None,
        read_pem(files.cert, "certificates") if files.cert else None,
        read_pem(files.key, "key") if files.key else None,
    )


def channel_options(spec: ConnectionSpec) -> Options:
    """Return the gRPC channel arguments of a connection.

    They contain the process ID, so that a forked child does not get its parent's subchannels
    from gRPC's global pool.
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
    # An embedded server listens on loopback, and gRPC would use a proxy for that address too.
    if spec.proxy == "off" or spec.endpoint.transport is TransportType.LITE:
        options.append(("grpc.enable_http_proxy", 0))
    elif spec.proxy:
        options.append(("grpc.http_proxy", spec.proxy.reveal()))
    if name := spec.name_to_verify:
        options.append(("grpc.ssl_target_name_override", name))
    return tuple(options)


class ChannelRecipe(NamedTuple):
    """The arguments to create the channels to one server.

    Args:
        target: A gRPC target, e.g. `db:19530`.
        options: The channel arguments.
        material: The TLS material; `None` for plaintext.
        size: The number of channels.
    """

    target: str
    options: Options
    material: TLSMaterial | None
    size: int

    def dial(self, maker: Any = grpc, *options: tuple[str, Any]) -> tuple[Any, ...]:
        """Create the channels; gRPC connects on the first call.

        Each gets an argument of its own, since gRPC shares a connection between equal channels.

        Args:
            maker: `grpc`, or `grpc.aio` on an event loop.
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
    """Channels to one server, shared by all connections with the same recipe.

    Args:
        recipe: The arguments of the channels.
        channels: The channels, which calls use in turn.
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
            ValueError: These channels are closed.
        """
        with self._lock:
            self._check()
            self._dependents.add(dependent)

    def make(self, do: Callable[[grpc.Channel], T]) -> list[T]:
        """Return the results of a function for each channel, e.g. a multi-callable.

        Raises:
            ValueError: The channels are closed; gRPC raises the same for a call. Creating a
                multi-callable on a closed channel may crash the process.
        """
        with self._lock:
            self._check()
            return [do(channel) for channel in self._channels]

    def first(self, do: Callable[[grpc.Channel], T]) -> T:
        """Return the result of a function for the first channel; raises as `make` does."""
        with self._lock:
            self._check()
            return do(self._channels[0])

    def is_failing(self) -> bool | None:
        """Return whether a channel is in transient failure; `None` if gRPC hides its state.

        Idle channels dial again.
        """
        states = self.states(dial=True)
        return None if None in states else grpc.ChannelConnectivity.TRANSIENT_FAILURE in states

    def states(self, *, dial: bool) -> Sequence[grpc.ChannelConnectivity | None]:
        """Return the state of each channel; `None` if gRPC hides it.

        Args:
            dial: Whether idle channels dial.
        """
        with GATE, self._lock:
            numbers = [_state(channel, dial) for channel in self._channels if self._is_open]
        return [_CONNECTIVITIES.get(each) for each in numbers]

    def connectivity(self, *, dial: bool) -> grpc.ChannelConnectivity:
        """Return the state of the first channel; ready if gRPC hides it.

        Args:
            dial: Whether an idle channel dials.
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
    """A counted reference to shared channels, to be released once."""

    def __init__(self, shared: SharedChannel, give_back: Callable[[], None]) -> None:
        self.shared = shared
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Release the channels; the last release closes them."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()


class ChannelPool:
    """The shared channels of this process, by target, TLS identity, options and pool size."""

    _lock = PerProcess(threading.Lock)

    def __init__(self) -> None:
        self._channel_pool: dict[tuple[Any, ...], tuple[SharedChannel, int]] = {}
        self._inherited: list[SharedChannel] = []

    def acquire(
        self, target: str, spec: ConnectionSpec, material: TLSMaterial | None
    ) -> ChannelRef:
        """Return a reference to the channels to a target, which are created if necessary.

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
        """Set the parent's channels aside, in a forked child.

        Closing them may hang; garbage collection would shut down the parent's sockets.
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

    gRPC shuts down in a thread. A child that is forked meanwhile hangs when it creates its first
    channel. One unused channel, which never dials, keeps gRPC running.
    """
    if not _unused:
        _unused.append(grpc.insecure_channel("ipv4:127.0.0.1:9"))


def _state(channel: grpc.Channel, dial: bool) -> int | None:  # noqa: FBT001 - passed on
    """Return a channel's connectivity. The public API for it needs a thread per channel."""
    check = getattr(getattr(channel, "_channel", None), "check_connectivity_state", None)
    state: int | None = check(dial) if check else None
    return state
