"""Every error zconfig raises, by cause.

    ZConfigError
    ├── ConfigurationError            what was declared is wrong; holds every `Problem`
    │   ├── UnknownAliasError         also a `KeyError`
    │   └── ConflictError             a live alias was asked for with another configuration
    ├── MissingExtraError             also an `ImportError`
    ├── ClosedError                   a connection was used after it was closed
    ├── AutoconnectError              several aliases at once; `.failures` by alias
    └── ConnectError                  dialing one alias failed
        ├── UnreachableError          NameNotFound, NameServer, NameTimeout, Refused,
        │                             HostUnreachable, ConnectTimeout, ClosedByPeer,
        │                             ServerSilent, ServerNotReady, ClusterStopped,
        │                             EmbeddedServer (EmbeddedServerLocked), Proxy
        │                             (ProxyUnreachable, ProxyAuthentication),
        │                             TopologyUnavailable, TopologyRefused, NoPrimary
        ├── TLSError                  TLSMaterial, PlaintextServer, TLSServer,
        │                             UntrustedCertificate, ExpiredCertificate,
        │                             HostnameMismatch, ClientCertificate
        ├── AuthenticationError       MissingCredentials, RejectedCredentials, NotPermitted
        ├── NotMilvusError            NotHTTP2, NotGRPC, OtherService, NotGlobalCluster,
        │                             MalformedTopology
        ├── DatabaseMissingError
        └── UnexplainedError          nothing above fits

Each cause of a failed connect is one class, with its stage, whether it is permanent, and the
exit code of the command. An error holds text that was redacted before; it can be pickled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Literal

from zconfig._origin import Origin

Severity = Literal["error", "warning"]

_FIELD = re.compile(r"\{([a-z_]+)\}")


class ExitCode(IntEnum):
    """The command's exit codes; they do not change."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    TLS = 5
    AUTHENTICATION = 6
    NOT_MILVUS = 7
    DATABASE_MISSING = 8


EXIT_ORDER = (
    ExitCode.CONFIGURATION,
    ExitCode.TLS,
    ExitCode.AUTHENTICATION,
    ExitCode.NOT_MILVUS,
    ExitCode.DATABASE_MISSING,
    ExitCode.UNREACHABLE,
    ExitCode.UNEXPECTED,
)
"""Which code speaks for several failures: the first of these that occurs."""


class Stage(StrEnum):
    """How far a connect came before it failed, in order."""

    PARSE = "parse"
    MATERIAL = "file material"
    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    HTTP2 = "HTTP/2"
    MILVUS = "Milvus"
    CREDENTIALS = "credentials"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the configuration, and how to mend it.

    Args:
        code: Stable identifier, e.g. `bad_port`.
        message: What is wrong, in lower case, without any value that may be secret.
        remedy: One thing to do.
        alias: The connection concerned; `None` for the loader's own options.
        field: The field concerned, e.g. `token`; `None` if it is none in particular.
        origin: Where the offending value stood.
        severity: `error` keeps the alias from connecting, `warning` does not.
    """

    code: str
    message: str
    remedy: str
    alias: str | None = None
    field: str | None = None
    origin: Origin | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        whose = self.alias or (None if self.origin else "configuration")
        subject = (str(part) for part in (whose, self.origin) if part)
        return f"{': '.join(subject)}: {self.message}; {self.remedy}"


class ZConfigError(Exception):
    """Base of everything zconfig raises."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


class ConfigurationError(ZConfigError):
    """The configuration is wrong; every problem of every alias concerned, together.

    Args:
        problems: At least one problem of severity `error`.
    """

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):  # from a queue that would make it again of its message
            raise TypeError(problems)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems in the configuration:{lines}"


class UnknownAliasError(ConfigurationError, KeyError):
    """An alias was asked for that nothing configures; the message lists those that are."""

    __str__ = ConfigurationError.__str__


class ConflictError(ConfigurationError):
    """A live alias was asked for again with another configuration; names the fields."""


_EXTRAS = {
    "lite": ("milvus-lite>=3.0", "pymilvus>=2.6.1"),
    "pymilvus": ("pymilvus>=2.4",),
    "otel": ("opentelemetry-api>=1.27",),
}


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, or a package.

    It names the packages: that works wherever zconfig itself was installed from.

    Example:
        >>> install_command("lite")
        "pip install 'milvus-lite>=3.0' 'pymilvus>=2.6.1'"
    """
    return " ".join(["pip install", *(f"'{each}'" for each in _EXTRAS.get(extra, (extra,)))])


class MissingExtraError(ZConfigError, ImportError):
    """An optional dependency is not installed; the message holds the command that does it.

    Args:
        what: What is not installed.
        extra: The extra of zconfig that it belongs to, or a package as pip takes it.
    """

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, what: str, extra: str) -> None:
        self.what = what
        self.extra = extra
        super().__init__(what, extra)

    def __str__(self) -> str:
        return f"{self.what} is not installed; run: {install_command(self.extra)}"


class ClosedError(ZConfigError):
    """A connection was used after it was closed.

    Args:
        alias: Its name.
        remedy: How to get a live one, if not from `zconfig.connections`.
    """

    def __init__(self, alias: str, remedy: str | None = None) -> None:
        self.alias = alias
        self.remedy = remedy or f"take a live one with zconfig.connections[{alias!r}]"
        super().__init__(alias, remedy)

    def __str__(self) -> str:
        return f"{self.alias}: this connection is closed; {self.remedy}"


class ConnectError(ZConfigError):
    """Dialing one alias failed.

    Args:
        alias: The connection's name.
        endpoint: Where it dialed, redacted.
        origin: Where the value at fault was set.
        detail: What was seen, redacted; may be empty.
        elapsed_ms: Milliseconds from the start of the connect to this verdict.
        attempts: How many times it was tried.
        hint: An observation about the surroundings that makes the cause likelier.
        remedy: One thing to do, where it is another than the cause's own.

    Attributes:
        cause: Stable identifier of the cause, e.g. `refused`.
        stage: How far the connect came.
        permanent: Whether trying again cannot help.
        at_fault: The settings whose value is to blame, likeliest first; where none of them is set,
            the URI is.

    In the class' own `remedy`, `{field}` stands for the variable or parameter of that setting.
    """

    cause: ClassVar[str] = "unexplained"
    stage: ClassVar[Stage] = Stage.MILVUS
    permanent: ClassVar[bool] = False
    at_fault: ClassVar[tuple[str, ...]] = ()
    problem: ClassVar[str] = "the connection failed"
    remedy: str = "look at the server's log"

    def __init__(  # noqa: PLR0913 - an error says all that is known
        self,
        alias: str,
        *,
        endpoint: str,
        origin: str,
        detail: str = "",
        elapsed_ms: float = 0.0,
        attempts: int = 1,
        hint: str = "",
        remedy: str = "",
    ) -> None:
        self.alias = alias
        self.endpoint = endpoint
        self.origin = origin
        self.detail = detail
        self.elapsed_ms = elapsed_ms
        self.attempts = attempts
        self.hint = hint
        self.remedy = remedy or with_names(type(self).remedy, str)
        # The message: it is all that is kept where results are JSON, as Celery's are.
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.alias, self.facts())

    def facts(self) -> dict[str, Any]:
        """Return the keyword arguments that make this error again."""
        names = ("endpoint", "origin", "detail", "elapsed_ms", "attempts", "hint", "remedy")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        seen = f" ({self.detail})" if self.detail else ""
        hint = f"; {self.hint}" if self.hint else ""
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return (
            f"{self.alias}: {self.problem}{tries}: {self.endpoint}{seen}, "
            f"set by {self.origin}; {self.remedy}{hint}"
        )


def with_names(text: str, name_of: Callable[[str], str]) -> str:
    """Return a text with each `{field}` in it replaced by the name of that setting.

    Example:
        >>> with_names("raise {timeout}", lambda field: f"ZILLIZ_{field.upper()}")
        'raise ZILLIZ_TIMEOUT'
    """
    return _FIELD.sub(lambda found: name_of(found[1]), text)


def _rebuild(cls: type[ConnectError], alias: str, facts: Mapping[str, Any]) -> ConnectError:
    return cls(alias, **facts)


class UnexplainedError(ConnectError):
    """The failure fits no known cause; its status is in `detail`."""

    problem = "the connection failed, and no known cause fits"


# --- unreachable ---------------------------------------------------------------------------


class UnreachableError(ConnectError):
    """No conversation with the server came about, or it broke off."""

    exit_code = ExitCode.UNREACHABLE
    cause = "unreachable"
    stage = Stage.TCP


class NameNotFoundError(UnreachableError):
    """The host's name does not exist."""

    # Transient: a Compose service that is not up, and a headless Kubernetes service without ready
    # pods, have no name yet.
    cause = "name_not_found"
    stage = Stage.DNS
    problem = "the host name does not exist"
    remedy = "correct the host in {uri}, or the resolver's search domain"


class NameServerError(UnreachableError):
    """The name server failed for the moment."""

    cause = "name_server_failed"
    stage = Stage.DNS
    problem = "the name server failed"
    remedy = "check the resolver of this machine, then try again"


class NameTimeoutError(UnreachableError):
    """The name server did not answer in time."""

    cause = "name_timeout"
    stage = Stage.DNS
    problem = "the name server did not answer"
    remedy = "check the resolver of this machine, or raise {timeout} or the call's timeout"


class RefusedError(UnreachableError):
    """Nothing listens on that port."""

    cause = "refused"
    problem = "connection refused"
    remedy = "start the server, or correct the port in {uri}"


class HostUnreachableError(UnreachableError):
    """There is no route to the host."""

    cause = "host_unreachable"
    problem = "no route to the host"
    remedy = "check the network, the VPN or the private endpoint"


class ConnectTimeoutError(UnreachableError):
    """The host did not answer the TCP handshake."""

    cause = "connect_timeout"
    problem = "the host did not answer"
    remedy = (
        "check the firewall and the address allow-list, or raise {timeout} or the call's timeout"
    )


class ClosedByPeerError(UnreachableError):
    """The peer accepted the connection, then closed it."""

    cause = "closed_by_peer"
    problem = "the peer closed the connection"
    remedy = "check that the port in {uri} is Milvus' own, and what is between"


class ServerSilentError(UnreachableError):
    """The connection stands, but nothing answers on it."""

    cause = "server_silent"
    stage = Stage.MILVUS
    problem = "the server accepted the connection and did not answer"
    remedy = (
        "wait until it has started (set ZCONFIG_WAIT), or raise {timeout} or the call's timeout"
    )


class ServerNotReadyError(UnreachableError):
    """Milvus answers that it is not ready yet."""

    cause = "server_not_ready"
    stage = Stage.MILVUS
    problem = "the server is not ready"
    remedy = "wait until it has started (set ZCONFIG_WAIT)"


class ClusterStoppedError(UnreachableError):
    """The Zilliz Cloud cluster is stopped."""

    cause = "cluster_stopped"
    stage = Stage.MILVUS
    permanent = True
    problem = "the cluster is stopped"
    remedy = "resume it in the Zilliz Cloud console"


class EmbeddedServerError(UnreachableError):
    """Milvus Lite could not be started on that file."""

    cause = "embedded_server"
    stage = Stage.MATERIAL
    permanent = True
    problem = "Milvus Lite cannot open the file"
    remedy = "name another path in {uri}"


class EmbeddedServerLockedError(EmbeddedServerError):
    """Another process has the file of Milvus Lite open; one at a time can."""

    cause = "embedded_server_locked"
    permanent = False
    problem = "another process has the file of Milvus Lite open"
    remedy = "close it there (set ZCONFIG_WAIT to wait for that), or name another path in {uri}"


class ProxyError(UnreachableError):
    """A proxy stands in the way."""

    cause = "proxy"
    at_fault = ("proxy",)
    problem = "the proxy did not let the connection through"
    remedy = "set {proxy} to off, or add the host to no_proxy"


class ProxyUnreachableError(ProxyError):
    """The proxy itself cannot be reached."""

    cause = "proxy_unreachable"
    problem = "the proxy cannot be reached"
    remedy = "start the proxy, or set {proxy} to its address or to off"


class ProxyAuthenticationError(ProxyError):
    """The proxy wants credentials, or refused those it got."""

    cause = "proxy_authentication"
    permanent = True
    problem = "the proxy requires credentials that it accepts"
    remedy = "set {proxy} to http://user:password@host:port"


class TopologyUnavailableError(UnreachableError):
    """The global cluster cannot tell its topology for the moment."""

    cause = "topology_unavailable"
    stage = Stage.MILVUS
    problem = "the global cluster cannot tell its topology for the moment"
    remedy = "try again later (set ZCONFIG_WAIT)"


class TopologyRefusedError(UnreachableError):
    """The global cluster does not tell us its topology."""

    cause = "topology_refused"
    stage = Stage.MILVUS
    permanent = True
    problem = "the global cluster refused to tell its topology"
    remedy = "look at the cluster, and at whose token this is, in the Zilliz Cloud console"


class NoPrimaryError(UnreachableError):
    """None, or more than one, of a global cluster's members is writable."""

    # Transient: while the members swap roles there may be none, or two.
    cause = "no_primary"
    stage = Stage.MILVUS
    problem = "the global cluster has no single primary"
    remedy = "wait until its switchover has ended (set ZCONFIG_WAIT)"


# --- TLS -----------------------------------------------------------------------------------


class TLSError(ConnectError):
    """The TLS handshake failed."""

    exit_code = ExitCode.TLS
    cause = "tls"
    stage = Stage.TLS
    permanent = True
    problem = "the TLS handshake failed"
    remedy = "check {tls_ca}, {tls_cert} and {tls_key}"


class TLSMaterialError(TLSError):
    """A CA, certificate or key file cannot be used."""

    cause = "tls_material"
    stage = Stage.MATERIAL
    at_fault = ("tls_ca", "tls_cert", "tls_key")
    problem = "a TLS file cannot be used"
    remedy = "give the path of a readable PEM file, the key belonging to the certificate"


class PlaintextServerError(TLSError):
    """We speak TLS, the server does not."""

    cause = "server_is_plaintext"
    problem = "the server does not speak TLS"
    remedy = "use http:// in {uri}"


class TLSServerError(TLSError):
    """The server speaks TLS, we do not."""

    cause = "server_is_tls"
    problem = "the server speaks TLS"
    remedy = "use https:// in {uri}"


class UntrustedCertificateError(TLSError):
    """No trusted authority signed the server's certificate."""

    cause = "untrusted_certificate"
    at_fault = ("tls_ca",)
    problem = "the server's certificate is not signed by a trusted authority"
    remedy = "set {tls_ca} to the path of the authority's certificate"


class ExpiredCertificateError(TLSError):
    """The server's certificate is expired, or not valid yet."""

    cause = "expired_certificate"
    problem = "the server's certificate is not valid at this time"
    remedy = "renew it on the server, or correct this machine's clock"


class HostnameMismatchError(TLSError):
    """The server's certificate is for another name."""

    cause = "hostname_mismatch"
    at_fault = ("tls_server_name",)
    problem = "the server's certificate is for another host name"
    remedy = "use a name of the certificate in {uri}, or set {tls_server_name} to it"


class ClientCertificateError(TLSError):
    """The server wants a client certificate, or refused ours."""

    cause = "client_certificate"
    at_fault = ("tls_cert",)
    problem = "the server requires a client certificate that it accepts"
    remedy = "set {tls_cert} and {tls_key} to a pair signed by its authority"


# --- credentials, service, database --------------------------------------------------------


class AuthenticationError(ConnectError):
    """The server does not accept who we are."""

    exit_code = ExitCode.AUTHENTICATION
    cause = "authentication"
    stage = Stage.CREDENTIALS
    permanent = True
    at_fault = ("credentials",)


class MissingCredentialsError(AuthenticationError):
    """The server wants credentials, and none are configured."""

    cause = "missing_credentials"
    problem = "the server requires credentials, and none are set"
    remedy = "set {token}, or {user} and {password}"


class RejectedCredentialsError(AuthenticationError):
    """The token, or the user and password, are wrong."""

    cause = "rejected_credentials"
    problem = "the credentials were rejected"
    remedy = "correct {credentials} (zconfig explain shows what else is set)"


class NotPermittedError(AuthenticationError):
    """The user is known, and may not do this."""

    cause = "not_permitted"
    problem = "the user lacks a privilege"
    remedy = "grant the user a role on this database, or use another user"


class NotMilvusError(ConnectError):
    """Something answers there that is not Milvus."""

    exit_code = ExitCode.NOT_MILVUS
    cause = "not_milvus"
    stage = Stage.HTTP2
    permanent = True


class NotHTTP2Error(NotMilvusError):
    """The server does not speak HTTP/2."""

    cause = "not_http2"
    problem = "the server does not speak HTTP/2"
    remedy = "use the gRPC port (19530 by default) in {uri}, or an ingress that passes gRPC"


class NotGRPCError(NotMilvusError):
    """An HTTP/2 server answered without gRPC."""

    cause = "not_grpc"
    problem = "an HTTP/2 server answered, without gRPC"
    remedy = "use the gRPC port in {uri}, or let the gateway pass gRPC to Milvus"


class OtherServiceError(NotMilvusError):
    """Another gRPC service answered."""

    cause = "other_service"
    stage = Stage.MILVUS
    problem = "a gRPC server answered that is not Milvus"
    remedy = "correct the host and port in {uri}"


class NotGlobalClusterError(NotMilvusError):
    """No global cluster is served there, though the host is named as if it were."""

    cause = "not_global_cluster"
    stage = Stage.MILVUS
    problem = "no global cluster is served at this host"
    remedy = "copy the global endpoint from the cluster's Connect card into {uri}"


class MalformedTopologyError(NotMilvusError):
    """What came back is not the topology of a global cluster."""

    cause = "malformed_topology"
    stage = Stage.MILVUS
    problem = "the answer is not a global cluster's topology"
    remedy = "correct the host in {uri}, or find the gateway that answers in its place"


class DatabaseMissingError(ConnectError):
    """The database does not exist, or is not visible to this user."""

    exit_code = ExitCode.DATABASE_MISSING
    cause = "database_missing"
    stage = Stage.DATABASE
    permanent = True
    at_fault = ("db_name",)
    problem = "the database does not exist"
    remedy = "create it, or name another in {db_name}"


class AutoconnectError(ZConfigError):
    """Some aliases could not be opened; those that could stay connected.

    Args:
        failures: The error of each alias that failed.
        connected: The aliases that are connected.

    Attributes:
        exit_code: The code that speaks for all the failures.
    """

    def __init__(self, failures: Mapping[str, ZConfigError], connected: Iterable[str]) -> None:
        self.failures: dict[str, ZConfigError] = dict(failures)
        self.connected: tuple[str, ...] = tuple(connected)
        self.exit_code = worst(error.exit_code for error in self.failures.values())
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.failures, self.connected)

    def __str__(self) -> str:
        lines = "".join(f"\n  - {error}" for error in self.failures.values())
        live = f"; connected: {', '.join(self.connected)}" if self.connected else ""
        total = len(self.failures) + len(self.connected)
        return f"{len(self.failures)} of {total} aliases did not connect{live}:{lines}"


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code that speaks for several, or `OK` for none.

    Example:
        >>> worst([ExitCode.UNREACHABLE, ExitCode.AUTHENTICATION])
        <ExitCode.AUTHENTICATION: 6>
    """
    seen = set(codes)
    return next((code for code in EXIT_ORDER if code in seen), ExitCode.OK)
