"""The endpoint that a URI names, and the faults of a URI, whose messages do not quote it."""

from __future__ import annotations

import ipaddress
from dataclasses import field
from enum import StrEnum, auto
from urllib.parse import quote

from zconfig._redaction import Secret
from zconfig._value import Value, value

_CLUSTER_FORM = "https://<cluster>.<region>.vectordb.zillizcloud.com"
FAULTS = {
    "empty_uri": ("the URI is empty", "set it, e.g. to http://localhost:19530 or ./milvus.db"),
    "whitespace": ("the URI contains white space", "remove the white space"),
    "quoted_uri": ("the URI is in quotes", "remove the quotes (docker --env-file keeps them)"),
    "control_character": (
        "the URI contains an invisible character",
        "type the URI instead of pasting it",
    ),
    "placeholder": (
        "the URI contains a placeholder that was not replaced",
        "write the URI itself (docker --env-file and systemd do not replace placeholders)",
    ),
    "missing_scheme": (
        "the URI has no scheme",
        "prefix it with https://, or http:// without TLS (a Milvus Lite path ends in .db)",
    ),
    "missing_slashes": ("the scheme is not followed by ://", "write https:// or http://"),
    "bad_scheme": (
        "the scheme is not https, http, grpcs, grpc, tcp or unix",
        "use https:// or http://, or for Milvus Lite only the path",
    ),
    "missing_host": ("the URI has no host", "write the host after the //"),
    "bad_host": (
        "the host is neither a host name nor an IP address",
        "write a host name, an IPv4 address, or an IPv6 address in brackets",
    ),
    "non_ascii_host": ("the host is not ASCII", "write it in its xn-- form"),
    "zone_id": ("the IPv6 address has a zone", "use an address without a zone, or a host name"),
    "bad_port": (
        "the port is not a number from 1 to 65535",
        "use a port in this range, in decimal digits",
    ),
    "bad_path": (
        "the path is not the name of one database",
        "write only the database after the host, e.g. https://host/sales",
    ),
    "bad_socket_path": (
        "gRPC cannot open a socket with this path",
        "write unix: and an absolute path without a comma",
    ),
    "query_not_allowed": (
        "the URI has a query or a fragment",
        "remove the ? or # and the text after it",
    ),
    "unescaped_userinfo": (
        "an @ follows the first /, ? or # after the scheme",
        "percent-encode the user and the password: / is %2F, ? is %3F, # is %23",
    ),
    "bad_escape": (
        "a % is not followed by two hexadecimal digits",
        "write a literal % as %25",
    ),
    "bad_credentials": (
        "the user or the password in the URI is not printable ASCII",
        "use a user and a password of printable ASCII",
    ),
    "missing_password": (
        "the URI has a user without a password",
        "write user:password before the @, or an API key without a colon",
    ),
    "missing_user": ("the URI has a password without a user", "write user:password before the @"),
    "control_plane": (
        "the host is Zilliz Cloud's console or control plane, not a cluster",
        f"copy the endpoint from the cluster's Connect card, e.g. {_CLUSTER_FORM}",
    ),
    "plaintext_cloud": ("Zilliz Cloud requires TLS", "use https://"),
    "lite_name": (
        "the Milvus Lite path does not end in a name and .db",
        "write e.g. ./milvus.db",
    ),
    "no_target": (
        "Milvus Lite has no address before it is started",
        "start it, and parse the address that it listens on",
    ),
}
"""Message and remedy of each code; a released code keeps its meaning."""


class EndpointError(ValueError):
    """A URI that cannot be used; the message does not quote it.

    Args:
        code: Stable identifier, e.g. `bad_port`.

    Attributes:
        message: The fault, in lower case.
        remedy: One action that fixes it.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self.message, self.remedy = FAULTS[code]
        super().__init__(code)

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


class TransportType(StrEnum):
    """The transport of a connection."""

    TLS = auto()
    PLAINTEXT = auto()
    UNIX = auto()
    LITE = auto()


class Family(StrEnum):
    """The kind of service, derived from its address."""

    DEDICATED = auto()
    SERVERLESS = auto()
    PROJECT = auto()
    GLOBAL_CLUSTER = auto()
    MILVUS = auto()
    LITE = auto()


@value
class Endpoint(Value):
    """The address that a URI names.

    Args:
        transport: TLS, plaintext, a Unix socket, or Milvus Lite in process.
        family: The kind of service.
        host: Lower case; an IPv6 address without brackets; `None` for paths.
        port: 1 to 65535; `None` for paths.
        path: The path of the Unix socket or the Milvus Lite database; `None` for hosts.
        db_name: The database that the URI names; `None` if it names none.

    Examples:
        >>> from zconfig._endpoint import parse_uri
        >>> endpoint = parse_uri("HTTPS://in01-ab.aws-us-west-2.vectordb.zillizcloud.com/sales/")
        >>> endpoint.family, endpoint.port, endpoint.db_name
        (<Family.DEDICATED: 'dedicated'>, 443, 'sales')
        >>> print(endpoint)
        https://in01-ab.aws-us-west-2.vectordb.zillizcloud.com:443/sales
    """

    transport: TransportType
    family: Family
    host: str | None
    port: int | None
    path: str | None
    db_name: str | None

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""
        return self.transport is TransportType.TLS

    @property
    def is_zilliz_cloud(self) -> bool:
        """Whether it is a service of Zilliz Cloud, which always requires credentials."""
        return self.family not in {Family.MILVUS, Family.LITE}

    @property
    def is_plaintext(self) -> bool:
        """Whether the connection uses TCP without TLS."""
        return self.transport is TransportType.PLAINTEXT

    @property
    def is_exposed(self) -> bool:
        """Whether requests can be read in transit: no TLS, and the host is not this one."""
        return self.is_plaintext and not is_loopback(self.host or "")

    @property
    def uri(self) -> str:
        """The normalised URI: without userinfo, with a port, and parsed to an equal endpoint."""
        if self.path is not None:
            return self.path if self.transport is TransportType.LITE else f"unix:{quote(self.path)}"
        scheme = "https" if self.secure else "http"
        database = "" if self.db_name is None else f"/{quote(self.db_name, safe='')}"
        return f"{scheme}://{self.address}{database}"

    @property
    def target(self) -> str:
        """The gRPC target.

        Raises:
            EndpointError: `no_target`, for Milvus Lite.
        """
        if self.transport is TransportType.LITE:
            raise EndpointError("no_target")
        # Without a scheme, gRPC takes a host called `dns`, `unix` or `xds` for a resolver.
        return f"dns:///{self.address}" if self.path is None else self.uri

    @property
    def address(self) -> str:
        """Host and port as in a URI; for a path the whole URI, as in pymilvus."""
        if self.path is not None:
            return self.uri
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.uri


@value
class Userinfo(Value):
    """A URI, and the credentials that it contained.

    Args:
        uri: The URI without credentials.
        user: The user, percent-decoded, or `None`. It is hidden: without a password it is an API
            key.
        password: The password, percent-decoded; `None` if there is no colon.
    """

    uri: str = field(repr=False)
    user: Secret | None
    password: Secret | None


def is_loopback(host: str) -> bool:
    """Return whether a host is the machine or container that this process runs in.

    Examples:
        >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("db.example")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
