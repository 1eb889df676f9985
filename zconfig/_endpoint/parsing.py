"""Parse a URI into an endpoint and its credentials, and find the proxy of a host."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from zconfig._endpoint.model import Endpoint, EndpointError, Family, TransportType, Userinfo
from zconfig._redaction import Hidden, Secret

_T = TypeVar("_T")

_CLOUD_DOMAINS = (
    ".cloud.zilliz.com.cn",
    ".zilliz.com.cn",
    ".cloud.zilliz.com",
    ".zilliz.com",
    ".zillizcloud.com",
)

# `re` compiles and caches a pattern when the first URI is parsed.
_WHITE_SPACE = r"[^\S ]"
_QUOTES = ('"', "'", "`", "\u2018", "\u2019", "\u201c", "\u201d")
_PLACEHOLDER = r"\$(?:\{.*\}|\(.*\))"
_TO_FILL_IN = r"<[^<>]+>"  # as in documentation
_NETWORK = (
    r"(?s:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<userinfo>[^/?#]*)@)?(?P<address>[^/?#@]*)(?P<rest>.*))"
)
_ADDRESS = r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[^:]*))?"
_PORT = r"[1-9][0-9]{0,4}"
_SOCKET_PATH = r"/(?!/[^/])[^,]*[^,/]"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_BAD_ESCAPE = r"%(?![0-9A-Fa-f]{2})"
INTERNATIONAL = "https://api.cloud.zilliz.com"
"""The control plane of Zilliz Cloud outside China."""
_CONTROL_PLANE = r"(?:api|controller\.api\..+)?"

_SCHEMES = {
    "https": TransportType.TLS,
    "grpcs": TransportType.TLS,
    "http": TransportType.PLAINTEXT,
    "grpc": TransportType.PLAINTEXT,
    "tcp": TransportType.PLAINTEXT,
}
_DEFAULT_PORTS = {TransportType.TLS: 443, TransportType.PLAINTEXT: 19530}
_LAST_PORT = 65535
_LONGEST_HOST = 254  # a final dot included


def _sealed(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """Raise a fault from a new frame: the original frames have parts of the text in locals."""

    @functools.wraps(read)
    def sealed(text: str) -> _T:
        text = Hidden(text)
        try:
            return read(text)
        except EndpointError as error:
            code = error.code
        raise EndpointError(code)

    return sealed


@_sealed
def split_userinfo(text: str) -> Userinfo:
    """Split the credentials off a URI.

    Args:
        text: A URI as written; only its userinfo is checked, `parse_uri` checks the rest.

    Returns:
        The URI without userinfo, and the user and password, split at the first colon.

    Raises:
        EndpointError: The credentials are not percent-encoded, are not printable ASCII, or are a
            password without a user.

    Examples:
        >>> found = split_userinfo("https://root:p%40ss@db.example")
        >>> found.uri, found.password == "p@ss"
        ('https://db.example', True)
    """
    _check_userinfo(text)
    found = _network(text)
    if found is None or found["userinfo"] is None:
        return Userinfo(str(text), None, None)
    user, colon, password = found["userinfo"].partition(":")
    if colon and not (user and password):
        raise EndpointError("missing_password" if user else "missing_user")
    return Userinfo(
        f"{found['scheme']}://{found['address']}{found['rest']}",
        _credential(user) if user else None,
        _credential(password) if colon else None,
    )


@_sealed
def parse_uri(text: str) -> Endpoint:
    """Parse a URI.

    Args:
        text: A URI as written; its userinfo is ignored.

    Returns:
        The endpoint, normalised and classified.

    Raises:
        EndpointError: The URI cannot be used.

    Examples:
        >>> parse_uri("tcp://[::1]").target
        'dns:///[::1]:19530'
        >>> parse_uri("./analytics.db").transport
        <TransportType.LITE: 'lite'>
    """
    _check_characters(text)
    scheme, colon, _ = text.partition("/")[0].lower().partition(":")
    if not colon:
        return _lite(text)
    if scheme == "unix":
        return _unix(text)
    found = _network(text)
    if found is None:
        raise EndpointError(_fault_without_slashes(scheme, text))
    if scheme not in _SCHEMES:
        raise EndpointError("bad_scheme")
    return _remote(_SCHEMES[scheme], found["address"], found["rest"])


def _check_characters(text: str) -> None:
    place = text.rpartition("@")[2]
    if any(begin in place for begin in ("${", "$(")) or re.search(_TO_FILL_IN, place):
        raise EndpointError("placeholder")
    stripped, is_printable = text.strip(), text.isprintable()
    if not stripped:
        raise EndpointError("empty_uri")
    if stripped != text or (not is_printable and re.search(_WHITE_SPACE, text)):
        raise EndpointError("whitespace")
    if text.startswith(_QUOTES) or text.endswith(_QUOTES):
        raise EndpointError("quoted_uri")
    if not is_printable:
        raise EndpointError("control_character")


def _check_userinfo(text: str) -> None:
    """Reject a placeholder that is the whole user or password; it may be a part of either."""
    userinfo = text.rpartition("@")[0].rpartition("//")[2]
    if any(re.fullmatch(_PLACEHOLDER, part) for part in userinfo.split(":", 1)):
        raise EndpointError("placeholder")


def _network(text: str) -> re.Match[str] | None:
    """Return the parts of `scheme://userinfo@address...`, or `None` for any other form."""
    found = re.fullmatch(_NETWORK, text)
    if found is None or found["scheme"].lower() == "unix":
        return None
    if " " in text:
        raise EndpointError("whitespace")
    if "@" in found["rest"]:
        raise EndpointError("unescaped_userinfo")
    return found


def _fault_without_slashes(scheme: str, text: str) -> str:
    if scheme in _SCHEMES:
        return "missing_slashes"
    return "bad_scheme" if text.endswith(".db") else "missing_scheme"


def _lite(text: str) -> Endpoint:
    name = text.rpartition("/")[2]
    if name.endswith(".db") and name != ".db":
        return Endpoint(TransportType.LITE, Family.LITE, None, None, str(text), None)
    if text.partition("//")[0].lower() in _SCHEMES:  # http//host
        raise EndpointError("missing_slashes")
    is_path = name == ".db" or text.startswith((".", "/", "~"))
    raise EndpointError("lite_name" if is_path else "missing_scheme")


def _unix(text: str) -> Endpoint:
    written = text.partition(":")[2]
    if "?" in written or "#" in written:
        raise EndpointError("query_not_allowed")
    path = _decoded(written)
    # Two slashes begin a host, and gRPC splits addresses at a comma.
    if not re.fullmatch(_SOCKET_PATH, path) or not path.isprintable():
        raise EndpointError("bad_socket_path")
    return Endpoint(TransportType.UNIX, Family.MILVUS, None, None, f"/{path.lstrip('/')}", None)


def _remote(transport: TransportType, address: str, rest: str) -> Endpoint:
    host, port = _host_and_port(address)
    family = _classify(transport, host)
    if "?" in rest or "#" in rest:
        raise EndpointError("query_not_allowed")
    port = port or _DEFAULT_PORTS[transport]
    return Endpoint(transport, family, host, port, None, _database(rest))


def _host_and_port(address: str) -> tuple[str, int | None]:
    found = re.fullmatch(_ADDRESS, address)
    if found is None:
        raise EndpointError("bad_host")
    host, digits = _host(found["host"].lower()), found["port"]
    if digits is None:
        return host, None
    if not re.fullmatch(_PORT, digits) or int(digits) > _LAST_PORT:
        raise EndpointError("bad_port")
    return host, int(digits)


def _host(host: str) -> str:
    if not host:
        raise EndpointError("missing_host")
    if not host.isascii():
        raise EndpointError("non_ascii_host")
    if host.startswith("["):
        return _ipv6(host[1:-1])
    is_numeric = host.replace(".", "").isdigit()
    is_valid = _ip(host) is not None if is_numeric else re.fullmatch(_NAME, host) is not None
    if len(host) > _LONGEST_HOST or not is_valid:
        raise EndpointError("bad_host")
    return host


def _ipv6(text: str) -> str:
    if "%" in text:
        raise EndpointError("zone_id")
    address = _ip(text)
    if not isinstance(address, ipaddress.IPv6Address):
        raise EndpointError("bad_host")
    # The text of an IPv4-mapped address differs between versions of Python.
    mapped = address.ipv4_mapped
    return address.compressed if mapped is None else f"::ffff:{mapped}"


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _classify(transport: TransportType, host: str) -> Family:
    cloud = _cloud_name(host)
    if cloud is not None and re.fullmatch(_CONTROL_PLANE, cloud):
        raise EndpointError("control_plane")
    if cloud is not None and transport is TransportType.PLAINTEXT:
        raise EndpointError("plaintext_cloud")
    # As in the SDKs, on any domain; the topology is served only over HTTPS.
    if transport is TransportType.TLS and "global-cluster" in host:
        return Family.GLOBAL_CLUSTER
    if cloud is None:
        return Family.MILVUS
    if cloud.endswith(".api") or cloud.startswith("proj-"):
        return Family.PROJECT
    return Family.SERVERLESS if ".serverless." in cloud else Family.DEDICATED


def _cloud_name(host: str) -> str | None:
    """Return the part before Zilliz Cloud's domain, or `None` for other domains."""
    absolute = f".{host.rstrip('.')}"
    if not absolute.endswith(_CLOUD_DOMAINS):
        return None
    domain = next(each for each in _CLOUD_DOMAINS if absolute.endswith(each))
    return absolute.removesuffix(domain).removeprefix(".")


def control_plane(endpoint: Endpoint) -> str | None:
    """Return the URI of the API that manages a service of Zilliz Cloud; `None` for any other.

    Args:
        endpoint: Where the service is.

    Examples:
        >>> control_plane(parse_uri("https://in01-ab.ali-cn-hangzhou.vectordb.zilliz.com.cn"))
        'https://api.cloud.zilliz.com.cn'
        >>> control_plane(parse_uri("http://localhost"))
    """
    host = (endpoint.host or "").rstrip(".")
    if _cloud_name(host) is None:
        return None
    return f"{INTERNATIONAL}.cn" if host.endswith(".cn") else INTERNATIONAL


def _database(path: str) -> str | None:
    segment = path.removeprefix("/").removesuffix("/")
    name = _decoded(segment)
    if "/" in segment or not _is_printable_ascii(name):
        raise EndpointError("bad_path")
    return name or None


def _credential(text: str) -> Secret:
    decoded = _decoded(text)
    if not _is_printable_ascii(decoded):
        raise EndpointError("bad_credentials")
    return Secret(decoded)


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    if re.search(_BAD_ESCAPE, text):
        raise EndpointError("bad_escape")
    # Bytes that are not UTF-8 become surrogates, which every caller rejects as not printable.
    return unquote(text, errors="surrogateescape")


def _is_printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()


PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables that gRPC reads, in its order; lower case only, with and without TLS."""

_FOR_OTHERS = ("HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_DEFAULT_PORT = 443


def proxy_in_force(
    host: str, environ: Mapping[str, str], configured: str | None = None
) -> str | None:
    """Return the URL of the proxy that gRPC uses for a host, or `None`.

    The rules are those of gRPC's `http_proxy_mapper.cc`: the first variable that is set counts,
    an empty one means no proxy, only `http://` proxies are used, and `no_proxy` also applies to a
    configured proxy.

    Args:
        host: The host to connect to; empty for a Unix socket, which uses no proxy.
        environ: The process environment.
        configured: The `PROXY` of the alias: a URL, `off`, or `None` for the environment's.

    Examples:
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
    """Return the variable that names a proxy which gRPC does not use for a host, or `None`.

    Args:
        host: The host to connect to, for which no `PROXY` is configured.
        environ: The process environment.

    Examples:
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
    """Return the variable that exempts a host from every proxy, including `PROXY` of an alias.

    Args:
        host: The host to connect to.
        environ: The process environment.

    Examples:
        >>> exempting("db.example", {"no_proxy": "localhost,.example"})
        'no_proxy'
    """
    read = next((name for name in ("no_grpc_proxy", "no_proxy") if name in environ), None)
    return read if read and _is_exempt(host, environ[read]) else None


def is_proxy_url(url: str) -> bool:
    """Return whether gRPC can use a proxy: it ignores other forms than `http://host[:port]`.

    A port above 65535 is also rejected, since gRPC would truncate it.

    Examples:
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
        ValueError: If the text is not a URL, or its port is not a number.

    Examples:
        >>> proxy_address("http://user:pass@proxy:3128")
        ('proxy', 3128)
    """
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORT


def proxy_name(url: str) -> str:
    """Return host and port of a proxy as one text for display.

    Examples:
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
