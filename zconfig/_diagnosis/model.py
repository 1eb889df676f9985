"""What a diagnosis has to know of a connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zconfig._endpoint.model import is_loopback

if TYPE_CHECKING:
    from zconfig.errors import ConnectError


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Where a connection leads, and how.

    Args:
        host: Name or address, an IPv6 address without brackets.
        port: TCP port.
        secure: Whether the connection uses TLS.
        ca: Path of the authorities; `None` for those that are trusted by default.
        cert: Path of the client certificate.
        key: Path of its private key.
        server_name: The name to verify, where it is not the host.
        unix_path: Path of a Unix domain socket, instead of host and port.
        has_credentials: Whether a token, or a user and password, are sent.
        proxy: The alias' own setting: a URL, which may hold a password, `off`, or `None`.
        via_proxy: URL of the HTTP CONNECT proxy in force; may hold a password.

    Example:
        >>> ProbeTarget("::1", 19530).authority
        '[::1]:19530'
    """

    host: str
    port: int
    secure: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    unix_path: str | None = None
    has_credentials: bool = False
    proxy: str | None = field(default=None, repr=False)
    via_proxy: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Host and port as they are written in a URI."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def certified_name(self) -> str:
        """The name to find in the server's certificate.

        A final dot says that a name is complete, and is no part of it: gRPC leaves it out, too.
        """
        return (self.server_name or self.host).removesuffix(".")

    @property
    def is_loopback(self) -> bool:
        """Whether it leads to the very machine or container we run in."""
        return self.unix_path is None and is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause of a failure.

    Args:
        error: The class that stands for the cause.
        detail: What was seen, redacted, on one line.
        hint: An observation about the surroundings that makes the cause likelier; may be empty.
        remedy: One thing to do, where it is another than the error's own.
        field: The setting at fault, e.g. `tls_key`, where more is known than the error itself says.
    """

    error: type[ConnectError]
    detail: str = ""
    hint: str = ""
    remedy: str = ""
    field: str = ""


class StageError(Exception):
    """A stage of the probe failed.

    Args:
        error: The class that stands for the cause.
        detail: What was seen.
        field: The setting at fault, where more is known than the error itself says.
        remedy: One thing to do, where it is another than the error's own.
    """

    def __init__(
        self, error: type[ConnectError], detail: str, field: str = "", remedy: str = ""
    ) -> None:
        self.error = error
        self.detail = detail
        self.field = field
        self.remedy = remedy
        super().__init__(error, detail)
