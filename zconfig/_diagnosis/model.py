"""The target of a probe, and the result of a diagnosis."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from zconfig._endpoint.model import is_loopback
from zconfig._value import Value, value

if TYPE_CHECKING:
    from zconfig._redaction import Secret
    from zconfig.errors import ConnectError


@value
class ProbeTarget(Value):
    """The address, transport and proxy of a connection.

    Args:
        host: Name or address, an IPv6 address without brackets.
        port: TCP port.
        secure: Whether the connection uses TLS.
        ca: Path of the authorities; `None` for those that are trusted by default.
        cert: Path of the client certificate.
        key: Path of its private key.
        server_name: The name to verify, if it is not the host.
        unix_path: Path of a Unix domain socket, instead of host and port.
        has_credentials: Whether a token, or a user and password, are sent.
        secrets: The secrets that a server or a proxy may repeat.
        proxy: The `PROXY` of the alias: a URL, which may contain a password, `off`, or `None`.
        via_proxy: URL of the HTTP CONNECT proxy that is used; may contain a password.

    Examples:
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
    secrets: tuple[Secret, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    via_proxy: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Host and port, in the form of a URI."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def certified_name(self) -> str:
        """The name to find in the server's certificate.

        A final dot marks a complete name, and is not part of it: gRPC removes it, too.
        """
        return (self.server_name or self.host).removesuffix(".")

    @property
    def is_loopback(self) -> bool:
        """Whether the host is the machine or container that this process runs in."""
        return self.unix_path is None and is_loopback(self.host)


@value
class Diagnosis(Value):
    """The cause of a failure.

    Args:
        error: The error class of the cause.
        detail: The evidence, redacted, on one line.
        hint: A hint about the environment that makes the cause more likely; may be empty.
        remedy: One action, if it differs from the error class' own.
        field: The setting at fault, e.g. `tls_key`, if it is more specific than the error class'.
    """

    error: type[ConnectError]
    detail: str = ""
    hint: str = ""
    remedy: str = ""
    field: str = ""


class StageError(Exception):
    """A stage of the probe failed.

    Args:
        error: The error class of the cause.
        detail: The evidence.
        field: The setting at fault, if it is more specific than the error class'.
        remedy: One action, if it differs from the error class' own.
    """

    def __init__(
        self, error: type[ConnectError], detail: str, field: str = "", remedy: str = ""
    ) -> None:
        self.error = error
        self.detail = detail
        self.field = field
        self.remedy = remedy
        super().__init__(error, detail)
