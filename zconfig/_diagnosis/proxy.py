"""A tunnel through an HTTP CONNECT proxy."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from zconfig._diagnosis.model import StageError
from zconfig._endpoint import proxy_name
from zconfig._redaction import evidence, secrets_in
from zconfig.errors import ProxyAuthenticationError, ProxyError

if TYPE_CHECKING:
    from zconfig._diagnosis.network import Stream

_AUTHENTICATION_REQUIRED = b"407"
_LONGEST_ANSWER = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*")


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
        said = evidence(status[0].decode("ascii", "replace"), secrets_in({"proxy": url}))
        raise StageError(cause, f"answered {said}")


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
