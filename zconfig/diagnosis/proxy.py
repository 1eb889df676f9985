"""HTTP CONNECT proxies: which one gRPC uses, and a tunnel through it."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from zconfig.diagnosis.verdict import StageError
from zconfig.errors import ProxyAuthenticationError, ProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zconfig.diagnosis.network import Stream

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables gRPC reads, in its order; lower case only, whether TLS is used or not."""

_DEFAULT_PORT = 443
_AUTHENTICATION_REQUIRED = b"407"
_LONGEST_ANSWER = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*")


def proxy_in_force(
    host: str, environ: Mapping[str, str], configured: str | None = None
) -> str | None:
    """Return the URL of the proxy that gRPC goes through, if any.

    The rules are those of gRPC's `http_proxy_mapper.cc`: the first variable that is set counts,
    an empty one means none, only `http://` proxies are used, and the list of exceptions holds
    for a configured proxy, too.

    Args:
        host: The host dialed; empty for a Unix socket, which takes no proxy.
        environ: The process environment.
        configured: The alias' own setting: a URL, `off`, or `None` for the environment's.

    Example:
        >>> proxy_in_force("db.example", {"https_proxy": "http://proxy:3128"})
        'http://proxy:3128'
        >>> proxy_in_force("db.example", {"http_proxy": "http://p:1", "no_proxy": ".example"})
    """
    if configured == "off":
        return None
    ambient = (environ[name] for name in PROXY_VARIABLES if name in environ)
    url = configured or next(ambient, "")
    exceptions = environ.get("no_grpc_proxy", environ.get("no_proxy", ""))
    return url if host and _is_usable(url) and not _is_exempt(host, exceptions) else None


def proxy_address(url: str) -> tuple[str, int]:
    """Return host and port of a proxy.

    Raises:
        ValueError: If this is no URL, or the port is no number.

    Example:
        >>> proxy_address("http://user:pass@proxy:3128")
        ('proxy', 3128)
    """
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORT


def proxy_name(url: str) -> str:
    """Return host and port of a proxy as one text, to be shown.

    Example:
        >>> proxy_name("http://user:pass@proxy")
        'proxy:443'
    """
    return "{}:{}".format(*proxy_address(url))


def open_tunnel(stream: Stream, authority: str, url: str) -> None:
    """Ask a proxy for a tunnel.

    Args:
        stream: Connected to the proxy.
        authority: Host and port that the tunnel shall lead to.
        url: The proxy's URL, for its userinfo.

    Raises:
        StageError: If the proxy does not open it.
    """
    try:
        _open_tunnel(stream, authority, url)
    except StageError as failed:
        raise StageError(failed.error, f"proxy {proxy_name(url)}: {failed.detail}") from None


def _open_tunnel(stream: Stream, authority: str, url: str) -> None:
    try:
        stream.send(_connect_request(authority, url))
        answer = _read_head(stream)
    except TimeoutError:
        raise StageError(ProxyError, "no full answer to CONNECT") from None
    except OSError as error:
        raise StageError(ProxyError, f"no full answer to CONNECT: {error.strerror}") from None
    status = _STATUS_LINE.match(answer)
    if status is None:
        raise StageError(ProxyError, "the answer to CONNECT is not HTTP")
    if not status[1].startswith(b"2"):
        cause = ProxyAuthenticationError if status[1] == _AUTHENTICATION_REQUIRED else ProxyError
        raise StageError(cause, f"answered {status[0].decode('ascii', 'replace')}")


def _is_usable(url: str) -> bool:
    try:
        host, _ = proxy_address(url)
    except ValueError:
        return False
    return url.startswith("http://") and host != ""


def _is_exempt(host: str, exceptions: str) -> bool:
    entries = [entry.strip().lower() for entry in exceptions.split(",") if entry]
    return any(host.lower().endswith(entry) or _in_network(host, entry) for entry in entries)


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _connect_request(authority: str, url: str) -> bytes:
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    if at:
        token = base64.b64encode(unquote(userinfo).encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _read_head(stream: Stream) -> bytes:
    """Read to the empty line and not a byte further: what follows is the target's."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n") and len(head) < _LONGEST_ANSWER:
        byte = stream.receive(1)
        if not byte:
            break
        head += byte
    return bytes(head)
