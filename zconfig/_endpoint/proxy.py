"""HTTP CONNECT proxies as gRPC reads them: which are used, and for which hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables gRPC reads, in its order; lower case only, whether TLS is used or not."""

_FOR_OTHERS = ("HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_DEFAULT_PORT = 443


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
    return url if host and is_proxy_url(url) and not exempting(host, environ) else None


def unused_proxy(host: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable of a proxy that gRPC does not use for a host, though it is set.

    Args:
        host: The host dialed, without a proxy of its own.
        environ: The process environment.

    Example:
        >>> unused_proxy("db.example", {"HTTPS_PROXY": "http://proxy:3128"})
        'HTTPS_PROXY'
        >>> unused_proxy("db.example", {"https_proxy": "proxy:3128"})
        'https_proxy'
    """
    read = next((name for name in PROXY_VARIABLES if name in environ), None)
    if read and (is_proxy_url(environ[read]) or not environ[read]):
        return None
    exceptions = environ.get("NO_PROXY", "")
    if exempting(host, environ) or _is_exempt(host, exceptions):
        return None
    return read or next((name for name in _FOR_OTHERS if environ.get(name)), None)


def exempting(host: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable that exempts a host from every proxy, `PROXY` of an alias included.

    Args:
        host: The host dialed.
        environ: The process environment.

    Example:
        >>> exempting("db.example", {"no_proxy": "localhost,.example"})
        'no_proxy'
    """
    read = next((name for name in ("no_grpc_proxy", "no_proxy") if name in environ), None)
    return read if read and _is_exempt(host, environ[read]) else None


def is_proxy_url(url: str) -> bool:
    """Tell whether gRPC can use a proxy: other than `http://host[:port]` it passes over.

    A port beyond 65535 it dials as another one, which is no use either.

    Example:
        >>> is_proxy_url("http://user:password@proxy:3128"), is_proxy_url("https://proxy:3128")
        (True, False)
    """
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


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


def _is_exempt(host: str, exceptions: str) -> bool:
    entries = [entry.strip().lower() for entry in exceptions.split(",") if entry]
    return any(host.lower().endswith(entry) or _in_network(host, entry) for entry in entries)


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
