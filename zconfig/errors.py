"""Every error zconfig raises, by cause.

    ZConfigError
    ├── ConfigurationError            the configuration is invalid; holds every `Problem`
    │   ├── UnknownAliasError         also a `KeyError`
    │   └── ConflictError             an open alias was requested with another configuration
    ├── MissingExtraError             also an `ImportError`
    ├── ClosedError                   a connection was used after it was closed
    ├── AutoconnectError              several aliases at once; `.failures` by alias
    └── ConnectError                  one alias did not connect
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
        └── UnexplainedError          an unknown cause

Each cause of a failed connect is one class, with its stage, its exit code, and whether it is
permanent. The text of an error is redacted. Errors can be pickled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Literal

from zconfig._origin import Origin
from zconfig._value import Value, value

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
"""The precedence of exit codes: of several failures, the first of these codes counts."""


class Stage(StrEnum):
    """The stages of a connect, in order."""

    PARSE = "parse"
    MATERIAL = "file material"
    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    HTTP2 = "HTTP/2"
    MILVUS = "Milvus"
    CREDENTIALS = "credentials"
    DATABASE = "database"


@value
class Problem(Value):
    """One problem of the configuration, with its remedy.

    Args:
        code: Stable identifier, e.g. `bad_port`.
        message: The fact, in lower case, without any value that may be secret.
        remedy: One action that fixes it.
        alias: The alias concerned; `None` for an option of the loader.
        field: The field concerned, e.g. `token`; `None` for no single field.
        origin: The place where the wrong value is set.
        severity: `error` prevents the alias from connecting, `warning` does not.
    """

    code: str
    message: str
    remedy: str
    alias: str | None = None
    field: str | None = None
    origin: Origin | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        place = "".join(f"{part}: " for part in (self.alias, self.origin) if part)
        return f"{place}{self.message}; {self.remedy}"


class ZConfigError(Exception):
    """Base class of all errors that zconfig raises."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


class ConfigurationError(ZConfigError):
    """The configuration is invalid. Holds all problems of all aliases concerned.

    Args:
        problems: The problems, at least one of them of severity `error`.
    """

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):  # a task queue tries to rebuild errors from their message
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
    """The requested alias is not configured. The message lists the configured aliases."""

    __str__ = ConfigurationError.__str__


class ConflictError(ConfigurationError):
    """An open alias was requested with another configuration. The message names the fields."""


_EXTRAS = {
    "lite": ("milvus-lite>=3.0", "pymilvus>=2.6.1"),
    "pymilvus": ("pymilvus>=2.4",),
    "otel": ("opentelemetry-api>=1.27",),
}


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, or a single package.

    The command names the packages, so it works however zconfig itself was installed.

    Examples:
        >>> install_command("lite")
        "pip install 'milvus-lite>=3.0' 'pymilvus>=2.6.1'"
    """
    return " ".join(["pip install", *(f"'{each}'" for each in _EXTRAS.get(extra, (extra,)))])


class MissingExtraError(ZConfigError, ImportError):
    """An optional dependency is not installed. The message contains the command to install it.

    Args:
        what: The name of the dependency.
        extra: The extra of zconfig that contains it, or a requirement for pip.
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
        alias: The alias of the connection.
        remedy: The way to get an open connection, if not `zconfig.connections`.
    """

    def __init__(self, alias: str, remedy: str | None = None) -> None:
        self.alias = alias
        self.remedy = remedy or f"get an open one with zconfig.connections[{alias!r}]"
        super().__init__(alias, remedy)

    def __str__(self) -> str:
        return f"{self.alias}: this connection is closed; {self.remedy}"


class ConnectError(ZConfigError):
    """One alias did not connect.

    Args:
        alias: The alias.
        endpoint: The address that was dialed, redacted.
        origin: The place where the value at fault is set.
        detail: The error as it was observed, redacted; may be empty.
        elapsed_ms: Milliseconds from the start of the connect to the failure.
        attempts: The number of connection attempts.
        hint: An observation about the environment that supports the cause.
        remedy: One action that fixes it, if it differs from the remedy of the class.

    Attributes:
        cause: Stable identifier of the cause, e.g. `refused`.
        stage: The stage that failed.
        permanent: Whether retries cannot succeed.
        at_fault: The settings that can cause this, likeliest first. If none of them is set, the
            URI is at fault.

    In the `remedy` of a class, `{field}` is a placeholder for the variable or parameter that sets
    this field.
    """

    cause: ClassVar[str] = "unexplained"
    stage: ClassVar[Stage] = Stage.MILVUS
    permanent: ClassVar[bool] = False
    at_fault: ClassVar[tuple[str, ...]] = ()
    problem: ClassVar[str] = "the connection failed"
    remedy: str = "check the server's log"

    def __init__(  # noqa: PLR0913 - one parameter for each fact
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
        # The message: Celery's JSON results keep nothing else of an error.
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.alias, self.facts())

    def facts(self) -> dict[str, Any]:
        """Return the keyword arguments that recreate this error."""
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
    """Return a text with each `{field}` replaced by the name of that setting.

    Examples:
        >>> with_names("raise {timeout}", lambda field: f"ZILLIZ_{field.upper()}")
        'raise ZILLIZ_TIMEOUT'
    """
    return _FIELD.sub(lambda found: name_of(found[1]), text)


def _rebuild(cls: type[ConnectError], alias: str, facts: Mapping[str, Any]) -> ConnectError:
    return cls(alias, **facts)


class UnexplainedError(ConnectError):
    """The cause of the failure is unknown. `detail` contains the gRPC status."""

    problem = "the connection failed for an unknown reason"


# --- unreachable ---------------------------------------------------------------------------


class UnreachableError(ConnectError):
    """The server cannot be reached, or the connection to it broke."""

    exit_code = ExitCode.UNREACHABLE
    cause = "unreachable"
    stage = Stage.TCP


class NameNotFoundError(UnreachableError):
    """The host name does not exist."""

    # Transient: the name of a Compose service that is not up, or of a headless Kubernetes service
    # without ready pods, does not exist yet.
    cause = "name_not_found"
    stage = Stage.DNS
    problem = "the host name does not exist"
    remedy = "correct the host in {uri}, or the search domain of this machine's DNS resolver"


class NameServerError(UnreachableError):
    """The name server reported a temporary failure."""

    cause = "name_server_failed"
    stage = Stage.DNS
    problem = "the name server failed"
    remedy = "check this machine's DNS resolver, then retry"


class NameTimeoutError(UnreachableError):
    """The name server did not answer in time."""

    cause = "name_timeout"
    stage = Stage.DNS
    problem = "the name server did not answer"
    remedy = "check this machine's DNS resolver, or raise {timeout} or the call's timeout"


class RefusedError(UnreachableError):
    """No server listens on the port."""

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
        "check the firewall and the IP address allow-list, or raise {timeout} or the call's timeout"
    )


class ClosedByPeerError(UnreachableError):
    """The peer accepted the TCP connection, then closed it."""

    cause = "closed_by_peer"
    problem = "the peer closed the connection"
    remedy = (
        "check that the port in {uri} is Milvus' gRPC port, and that no proxy or load balancer "
        "closes the connection"
    )


class ServerSilentError(UnreachableError):
    """The server accepted the connection but does not answer calls."""

    cause = "server_silent"
    stage = Stage.MILVUS
    problem = "the server accepted the connection but did not answer"
    remedy = (
        "set ZCONFIG_WAIT to wait until it has started, or raise {timeout} or the call's timeout"
    )


class ServerNotReadyError(UnreachableError):
    """Milvus reports that it is not ready yet."""

    cause = "server_not_ready"
    stage = Stage.MILVUS
    problem = "the server is not ready"
    remedy = "set ZCONFIG_WAIT to wait until it has started"


class ClusterStoppedError(UnreachableError):
    """The Zilliz Cloud cluster is stopped."""

    cause = "cluster_stopped"
    stage = Stage.MILVUS
    permanent = True
    problem = "the cluster is stopped"
    remedy = "resume it in the Zilliz Cloud console"


class EmbeddedServerError(UnreachableError):
    """Milvus Lite cannot open the database."""

    cause = "embedded_server"
    stage = Stage.MATERIAL
    permanent = True
    problem = "Milvus Lite cannot open the database"
    remedy = "set another path in {uri}"


class EmbeddedServerLockedError(EmbeddedServerError):
    """Another process has the Milvus Lite database open. Only one process at a time can open it."""

    cause = "embedded_server_locked"
    permanent = False
    problem = "another process has the Milvus Lite database open"
    remedy = "close it there (set ZCONFIG_WAIT to wait for that), or set another path in {uri}"


class ProxyError(UnreachableError):
    """A proxy did not forward the connection."""

    cause = "proxy"
    at_fault = ("proxy",)
    problem = "the proxy did not forward the connection"
    remedy = "set {proxy} to off, or add the host to no_proxy"


class ProxyUnreachableError(ProxyError):
    """The proxy cannot be reached."""

    cause = "proxy_unreachable"
    problem = "the proxy cannot be reached"
    remedy = "start the proxy, or set {proxy} to its address or to off"


class ProxyAuthenticationError(ProxyError):
    """The proxy requires credentials, or rejected the configured ones."""

    cause = "proxy_authentication"
    permanent = True
    problem = "the proxy requires valid credentials"
    remedy = "set {proxy} to http://user:password@host:port"


class TopologyUnavailableError(UnreachableError):
    """The topology of the global cluster is temporarily unavailable."""

    cause = "topology_unavailable"
    stage = Stage.MILVUS
    problem = "the global cluster's topology is temporarily unavailable"
    remedy = "retry later, or set ZCONFIG_WAIT to retry automatically"


class TopologyRefusedError(UnreachableError):
    """The global cluster refused to return its topology."""

    cause = "topology_refused"
    stage = Stage.MILVUS
    permanent = True
    problem = "the global cluster refused to return its topology"
    remedy = "check the cluster and the owner of the token in the Zilliz Cloud console"


class NoPrimaryError(UnreachableError):
    """No member of a global cluster is writable, or more than one is."""

    # Transient: during a switchover there may be no primary, or two.
    cause = "no_primary"
    stage = Stage.MILVUS
    problem = "the global cluster has no single primary"
    remedy = "set ZCONFIG_WAIT to wait until the switchover has ended"


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
    remedy = "use a readable PEM file, and the key that belongs to the certificate"


class PlaintextServerError(TLSError):
    """The URI requires TLS, and the server does not speak it."""

    cause = "server_is_plaintext"
    problem = "the server does not speak TLS"
    remedy = "use http:// in {uri}"


class TLSServerError(TLSError):
    """The server requires TLS, and the URI does not use it."""

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
    """The server's certificate has expired, or is not valid yet."""

    cause = "expired_certificate"
    problem = "the server's certificate is not valid at this time"
    remedy = "renew it on the server, or correct this machine's clock"


class HostnameMismatchError(TLSError):
    """The server's certificate is for another host name."""

    cause = "hostname_mismatch"
    at_fault = ("tls_server_name",)
    problem = "the server's certificate is for another host name"
    remedy = "use a host name of the certificate in {uri}, or set {tls_server_name} to one"


class ClientCertificateError(TLSError):
    """The server requires a client certificate, or rejected the configured one."""

    cause = "client_certificate"
    at_fault = ("tls_cert",)
    problem = "the server requires a valid client certificate"
    remedy = "set {tls_cert} and {tls_key} to a pair signed by the server's authority"


# --- credentials, service, database --------------------------------------------------------


class AuthenticationError(ConnectError):
    """The server does not accept the credentials."""

    exit_code = ExitCode.AUTHENTICATION
    cause = "authentication"
    stage = Stage.CREDENTIALS
    permanent = True
    at_fault = ("credentials",)


class MissingCredentialsError(AuthenticationError):
    """The server requires credentials, and none are configured."""

    cause = "missing_credentials"
    problem = "the server requires credentials, but none are set"
    remedy = "set {token}, or {user} and {password}"


class RejectedCredentialsError(AuthenticationError):
    """The server rejected the token, or the user and password."""

    cause = "rejected_credentials"
    problem = "the credentials were rejected"
    remedy = "correct {credentials} (zconfig explain lists the values that are set)"


class NotPermittedError(AuthenticationError):
    """The server accepted the credentials, but the user lacks a privilege."""

    cause = "not_permitted"
    problem = "the user lacks a privilege"
    remedy = "grant the user a role on this database, or use another user"


class NotMilvusError(ConnectError):
    """The server is not Milvus."""

    exit_code = ExitCode.NOT_MILVUS
    cause = "not_milvus"
    stage = Stage.HTTP2
    permanent = True


class NotHTTP2Error(NotMilvusError):
    """The server does not speak HTTP/2."""

    cause = "not_http2"
    problem = "the server does not speak HTTP/2"
    remedy = "use the gRPC port (19530 by default) in {uri}, or an ingress that supports gRPC"


class NotGRPCError(NotMilvusError):
    """An HTTP/2 server answered, but not with gRPC."""

    cause = "not_grpc"
    problem = "an HTTP/2 server answered, but not with gRPC"
    remedy = "use the gRPC port in {uri}, or configure the gateway to forward gRPC to Milvus"


class OtherServiceError(NotMilvusError):
    """Another gRPC service than Milvus answered."""

    cause = "other_service"
    stage = Stage.MILVUS
    problem = "the gRPC server is not Milvus"
    remedy = "correct the host and port in {uri}"


class NotGlobalClusterError(NotMilvusError):
    """The host does not serve a global cluster, although its name is a global endpoint's."""

    cause = "not_global_cluster"
    stage = Stage.MILVUS
    problem = "the host does not serve a global cluster"
    remedy = "copy the global endpoint from the cluster's Connect card into {uri}"


class MalformedTopologyError(NotMilvusError):
    """The response is not the topology of a global cluster."""

    cause = "malformed_topology"
    stage = Stage.MILVUS
    problem = "the response is not a global cluster's topology"
    remedy = "correct the host in {uri}, or check for a gateway that answers in its place"


class DatabaseMissingError(ConnectError):
    """The database does not exist, or the user cannot see it."""

    exit_code = ExitCode.DATABASE_MISSING
    cause = "database_missing"
    stage = Stage.DATABASE
    permanent = True
    at_fault = ("db_name",)
    problem = "the database does not exist"
    remedy = "create it, or name another in {db_name}"


class AutoconnectError(ZConfigError):
    """Some aliases did not connect. The others stay connected.

    Args:
        failures: The error of each alias that failed.
        connected: The aliases that are connected.

    Attributes:
        exit_code: The exit code that takes precedence among the failures.
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
    """Return the exit code that takes precedence among several, or `OK` for none.

    Examples:
        >>> worst([ExitCode.UNREACHABLE, ExitCode.AUTHENTICATION])
        <ExitCode.AUTHENTICATION: 6>
    """
    seen = set(codes)
    return next((code for code in EXIT_ORDER if code in seen), ExitCode.OK)
