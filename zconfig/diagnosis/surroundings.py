"""The surroundings of the process, and what they have to do with a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zconfig.diagnosis.target import ProbeTarget
from zconfig.endpoint import PROXY_VARIABLES, exempting, unused_proxy
from zconfig.errors import (
    ClosedByPeerError,
    ConnectError,
    ConnectTimeoutError,
    HostUnreachableError,
    NameNotFoundError,
    NameServerError,
    NameTimeoutError,
    NotMilvusError,
    RefusedError,
    ServerSilentError,
    TLSError,
    UnreachableError,
    UntrustedCertificateError,
)
from zconfig.redaction import redact_uri
from zconfig.sources.pem import passed_over

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_FALSE = frozenset({"0", "false", "no"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the process runs in.

    Args:
        environ: The environment; never shown.
        in_container: Whether this is a container.
    """

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    in_container: bool = False

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Surroundings:
        """Look whether this is a container: Docker and Podman leave a file, Kubernetes a variable.

        Args:
            environ: The process environment.
        """
        marked = any(Path(mark).exists() for mark in _CONTAINER_MARKS)
        return cls(environ, marked or "KUBERNETES_SERVICE_HOST" in environ)


def observations(target: ProbeTarget, surroundings: Surroundings) -> tuple[str, ...]:
    """Return what about the surroundings is worth knowing, though a connection works.

    Args:
        target: The connection.
        surroundings: What the process runs in.

    Example:
        >>> observations(ProbeTarget("db", 19530), Surroundings({"GRPC_DNS_RESOLVER": "ares"}))
        ('GRPC_DNS_RESOLVER=ares keeps gRPC from the resolver of this machine',)
    """
    # A loopback address that works is nothing to remark on, and a problem is told already.
    observers = (observe for _, observe in _OBSERVERS if observe not in {_loopback, _exempt_proxy})
    return tuple(text for observe in observers if (text := observe(target, surroundings)))


def hint(error: type[ConnectError], target: ProbeTarget, surroundings: Surroundings) -> str:
    """Return the observations that have to do with an error, or an empty text.

    Args:
        error: The cause found.
        target: The connection that failed.
        surroundings: What the process runs in.
    """
    telling = (observe for concerned, observe in _OBSERVERS if issubclass(error, concerned))
    return "; ".join(text for observe in telling if (text := observe(target, surroundings)))


def _loopback(target: ProbeTarget, surroundings: Surroundings) -> str:
    if not (surroundings.in_container and target.is_loopback):
        return ""
    return (
        f"in a container {target.host} is the container itself: "
        "use the service's name, or host.docker.internal"
    )


def _proxy(target: ProbeTarget, surroundings: Surroundings) -> str:
    if target.via_proxy is None:
        return ""
    environ = surroundings.environ
    named = (name for name in PROXY_VARIABLES if environ.get(name) == target.via_proxy)
    return f"{next(named, 'PROXY')} sends this through {redact_uri(target.via_proxy)}"


def _exempt_proxy(target: ProbeTarget, surroundings: Surroundings) -> str:
    variable = exempting(target.host, surroundings.environ)
    if target.proxy in {None, "off"} or variable is None:
        return ""
    return f"{variable} exempts {target.host}: {{proxy}} is not used"


def _unused_proxy(target: ProbeTarget, surroundings: Surroundings) -> str:
    if target.proxy or target.is_loopback or not target.host:
        return ""
    variable = unused_proxy(target.host, surroundings.environ)
    if variable is None:
        return ""
    return f"{variable} is set, and gRPC reads https_proxy=http://host:port alone: set {{proxy}}"


def _resolver(target: ProbeTarget, surroundings: Surroundings) -> str:
    choice = surroundings.environ.get("GRPC_DNS_RESOLVER", "native")
    if target.unix_path is not None or choice in {"", "native"}:
        return ""
    return f"GRPC_DNS_RESOLVER={choice} keeps gRPC from the resolver of this machine"


def _fork(_: ProbeTarget, surroundings: Surroundings) -> str:
    choice = surroundings.environ.get("GRPC_ENABLE_FORK_SUPPORT", "")
    if choice.lower() not in _FALSE:
        return ""
    return f"GRPC_ENABLE_FORK_SUPPORT={choice} lets gRPC hang after a fork: unset it"


def _authorities(target: ProbeTarget, surroundings: Surroundings) -> str:
    if target.ca or not target.secure:
        return ""
    return "; ".join(passed_over(surroundings.environ))


_Observe = Callable[[ProbeTarget, Surroundings], str]
_Concerned = tuple[type[ConnectError], ...]

_UNNAMED: _Concerned = (NameNotFoundError, NameServerError, NameTimeoutError)
_UNREACHED: _Concerned = (RefusedError, ConnectTimeoutError, HostUnreachableError)

_OBSERVERS: tuple[tuple[_Concerned, _Observe], ...] = (
    (_UNREACHED, _loopback),
    ((UnreachableError, TLSError, NotMilvusError), _proxy),
    ((*_UNNAMED, *_UNREACHED, ClosedByPeerError), _exempt_proxy),
    ((*_UNNAMED, *_UNREACHED, ClosedByPeerError), _unused_proxy),
    (_UNNAMED, _resolver),
    ((NameTimeoutError, ConnectTimeoutError, ServerSilentError), _fork),
    ((UntrustedCertificateError,), _authorities),
)
