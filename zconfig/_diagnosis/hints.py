"""Hints about the host environment of the process that help to explain a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from zconfig._diagnosis.model import ProbeTarget
from zconfig._diagnosis.tls import validities
from zconfig._endpoint import PROXY_VARIABLES, exempting, unused_proxy
from zconfig._redaction import redact_uri
from zconfig._sources.pem import passed_over
from zconfig._value import Value, value
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from zconfig._diagnosis.probe import StageResult


_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_FALSE = frozenset({"0", "false", "no"})


@value
class HostEnvironment(Value):
    """The environment that the process runs in.

    Args:
        environ: The environment variables; never shown.
        in_container: Whether the process runs in a container.
    """

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    in_container: bool = False

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> HostEnvironment:
        """Detect a container: Docker and Podman create a file, Kubernetes sets a variable."""
        marked = any(Path(mark).exists() for mark in _CONTAINER_MARKS)
        return cls(environ, marked or "KUBERNETES_SERVICE_HOST" in environ)


def environment_hints(target: ProbeTarget, host_environment: HostEnvironment) -> tuple[str, ...]:
    """Return hints about the environment for a connection that works.

    Examples:
        >>> host_environment = HostEnvironment({"GRPC_DNS_RESOLVER": "ares"})
        >>> environment_hints(ProbeTarget("db", 19530), host_environment)
        ('GRPC_DNS_RESOLVER=ares makes gRPC bypass the resolver of this machine',)
    """
    # A loopback address that works needs no hint, and an exempt proxy is already a problem.
    observers = (observe for _, observe in _OBSERVERS if observe not in {_loopback, _exempt_proxy})
    return tuple(text for observe in observers if (text := observe(target, host_environment)))


def hint(error: type[ConnectError], target: ProbeTarget, host_environment: HostEnvironment) -> str:
    """Return the hints that concern an error, or an empty text."""
    telling = (observe for concerned, observe in _OBSERVERS if issubclass(error, concerned))
    return "; ".join(text for observe in telling if (text := observe(target, host_environment)))


def _loopback(target: ProbeTarget, host_environment: HostEnvironment) -> str:
    if not (host_environment.in_container and target.is_loopback):
        return ""
    return (
        f"in a container {target.host} is the container itself: "
        "use the service's name, or host.docker.internal"
    )


def _proxy(target: ProbeTarget, host_environment: HostEnvironment) -> str:
    if target.via_proxy is None:
        return ""
    environ = host_environment.environ
    named = (name for name in PROXY_VARIABLES if environ.get(name) == target.via_proxy)
    via = redact_uri(target.via_proxy)
    routed = f"{next(named, '{proxy}')} routes this connection through {via}"
    if not exempting(target.host, {"no_proxy": environ.get("NO_PROXY", "")}):
        return routed
    return f"{routed}; NO_PROXY exempts {target.host}, but gRPC reads only no_proxy"


def _exempt_proxy(target: ProbeTarget, host_environment: HostEnvironment) -> str:
    variable = exempting(target.host, host_environment.environ)
    if target.proxy in {None, "off"} or variable is None:
        return ""
    return f"{variable} exempts {target.host}: {{proxy}} is not used"


def _unused_proxy(target: ProbeTarget, host_environment: HostEnvironment) -> str:
    if target.proxy or target.is_loopback or not target.host:
        return ""
    variable = unused_proxy(target.host, host_environment.environ)
    if variable is None:
        return ""
    return f"{variable} is set, but gRPC reads only https_proxy=http://host:port: set {{proxy}}"


def _resolver(target: ProbeTarget, host_environment: HostEnvironment) -> str:
    choice = host_environment.environ.get("GRPC_DNS_RESOLVER", "native")
    if target.unix_path is not None or choice in {"", "native"}:
        return ""
    return f"GRPC_DNS_RESOLVER={choice} makes gRPC bypass the resolver of this machine"


def _fork(_: ProbeTarget, host_environment: HostEnvironment) -> str:
    choice = host_environment.environ.get("GRPC_ENABLE_FORK_SUPPORT", "")
    if choice.lower() not in _FALSE:
        return ""
    return f"GRPC_ENABLE_FORK_SUPPORT={choice} can make gRPC hang after a fork: unset it"


def _authorities(target: ProbeTarget, host_environment: HostEnvironment) -> str:
    if target.ca or not target.secure:
        return ""
    return "; ".join(passed_over(host_environment.environ))


_Observe = Callable[[ProbeTarget, HostEnvironment], str]
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


SOON = timedelta(days=30)
"""The time before the expiry of a certificate in which a warning is reported."""


def advisories(
    target: ProbeTarget,
    results: Iterable[StageResult],
    host_environment: HostEnvironment,
    now: datetime,
) -> tuple[str, ...]:
    """Return warnings about expiring certificates and the environment, one sentence each.

    Args:
        target: The connection; its TLS files are read.
        results: The results of the probe, for the server's certificate.
        host_environment: The environment that the process runs in.
        now: The current time, with its time zone.
    """
    ends = ((whose, end) for whose, end in _ends(target, results) if end - now < SOON)
    return (
        *(_expiry(whose, end, now) for whose, end in ends),
        *environment_hints(target, host_environment),
    )


def _ends(target: ProbeTarget, results: Iterable[StageResult]) -> Iterator[tuple[str, datetime]]:
    """Yield the owner and the expiry of each certificate."""
    for result in results:
        if result.certificate:
            yield "the server's certificate", result.certificate.end
    if target.cert and (chain := validities(target.cert)):
        yield f"the client certificate in TLS_CERT {target.cert}", chain[0].end
    # A bundle contains old authorities and new ones: it fails when the last one expires.
    if target.ca and (authorities := validities(target.ca)):
        last = max(authority.end for authority in authorities)
        yield f"the authority in TLS_CA {target.ca}", last


def _expiry(whose: str, end: datetime, now: datetime) -> str:
    if end < now:
        return f"{whose} expired on {end:%Y-%m-%d}: renew it"
    days = (end - now).days
    return f"{whose} expires on {end:%Y-%m-%d}, in {days} day{'' if days == 1 else 's'}: renew it"
