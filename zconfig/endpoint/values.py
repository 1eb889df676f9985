"""What a URI comes to: a normalised, classified endpoint; and the credentials in it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum, auto
from urllib.parse import quote

from zconfig.endpoint.faults import EndpointError
from zconfig.redaction import Secret


class Transport(StrEnum):
    """How the bytes travel."""

    TLS = auto()
    PLAINTEXT = auto()
    UNIX = auto()
    LITE = auto()


class Family(StrEnum):
    """What kind of service stands there, as far as its address tells."""

    DEDICATED = auto()
    SERVERLESS = auto()
    PROJECT = auto()
    GLOBAL_CLUSTER = auto()
    MILVUS = auto()
    LITE = auto()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection goes.

    Args:
        transport: TLS, plaintext, a Unix socket, or Milvus Lite in process.
        family: The kind of service.
        host: Lower case; an IPv6 address without brackets; `None` for paths.
        port: 1 to 65535; `None` for paths.
        path: Of the Unix socket or the Milvus Lite file; `None` for hosts.
        db_name: The database that the URI names; `None` if it names none.

    Example:
        >>> from zconfig.endpoint import parse
        >>> endpoint = parse("HTTPS://in01-ab.aws-us-west-2.vectordb.zillizcloud.com/sales/")
        >>> endpoint.family, endpoint.port, endpoint.db_name
        (<Family.DEDICATED: 'dedicated'>, 443, 'sales')
        >>> print(endpoint)
        https://in01-ab.aws-us-west-2.vectordb.zillizcloud.com:443/sales
    """

    transport: Transport
    family: Family
    host: str | None
    port: int | None
    path: str | None
    db_name: str | None

    @property
    def secure(self) -> bool:
        """Whether the connection is made with TLS."""
        return self.transport is Transport.TLS

    @property
    def is_zilliz_cloud(self) -> bool:
        """Whether a service of Zilliz Cloud is there, which always wants credentials."""
        return self.family not in {Family.MILVUS, Family.LITE}

    @property
    def is_exposed(self) -> bool:
        """Whether what is sent can be read on the way: no TLS, and another host than this one."""
        return self.transport is Transport.PLAINTEXT and not is_loopback(self.host or "")

    @property
    def uri(self) -> str:
        """The normalised URI: no userinfo, the port always there, parsed to an equal endpoint."""
        if self.path is not None:
            return self.path if self.transport is Transport.LITE else f"unix:{quote(self.path)}"
        scheme = "https" if self.secure else "http"
        database = "" if self.db_name is None else f"/{quote(self.db_name, safe='')}"
        return f"{scheme}://{self.address}{database}"

    @property
    def target(self) -> str:
        """What gRPC dials.

        Raises:
            EndpointError: `no_target`, for Milvus Lite.
        """
        if self.transport is Transport.LITE:
            raise EndpointError("no_target")
        # Without its scheme a host called `dns`, `unix` or `xds` is taken for a gRPC resolver.
        return f"dns:///{self.address}" if self.path is None else self.uri

    @property
    def address(self) -> str:
        """Host and port as in a URI; for a path the whole URI, which is what pymilvus has there."""
        if self.path is not None:
            return self.uri
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True, slots=True)
class Userinfo:
    """A URI, and the credentials that were written into it.

    Args:
        uri: The URI without them.
        user: Percent-decoded, and hidden: alone it is an API key; `None` if there is none.
        password: Percent-decoded; `None` if there is no colon.
    """

    uri: str = field(repr=False)
    user: Secret | None
    password: Secret | None


def is_loopback(host: str) -> bool:
    """Tell whether a host is the very machine or container that this process runs in.

    Example:
        >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("db.example")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
