"""One way to a server, step by step: file material, DNS, TCP, TLS, HTTP/2.

It goes the way a call goes, over a connection of its own, through the same proxy. What it sees
tells apart what gRPC reports in one word, e.g. a name server, a firewall and a server that are
each silent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from zconfig.diagnosis.certificates import Validity, is_signed_with_md5, validity
from zconfig.diagnosis.http2 import greet
from zconfig.diagnosis.material import client_context, unverified_context
from zconfig.diagnosis.network import Address, Stream, dial, remaining, resolve
from zconfig.diagnosis.proxy import open_tunnel
from zconfig.diagnosis.tls import TLSStream
from zconfig.diagnosis.verdict import StageError
from zconfig.endpoint import proxy_address, proxy_name
from zconfig.errors import (
    ClientCertificateError,
    ClosedByPeerError,
    ExpiredCertificateError,
    HostnameMismatchError,
    NotHTTP2Error,
    PlaintextServerError,
    ProxyUnreachableError,
    ServerSilentError,
    Stage,
    TLSError,
    TLSServerError,
    UntrustedCertificateError,
)
from zconfig.sources.pem import default_authorities
from zconfig.sources.process import process_environment

if TYPE_CHECKING:
    from zconfig.diagnosis.target import ProbeTarget

# What comes of a handshake with a peer that speaks TLS, and does not like ours.
_TLS_SPOKEN = frozenset({ClientCertificateError, HostnameMismatchError, NotHTTP2Error, TLSError})


class Seen(NamedTuple):
    """What a step saw when it went well."""

    detail: str
    certificate: Validity | None = None


Step = Callable[[], Seen]
"""Goes one step of the way; raises `StageError` where it ends."""


class Probe:
    """One way to one target; each step uses what the one before has found.

    Args:
        target: Where to.
        end: The monotonic instant to stop at.
    """

    _addresses: tuple[Address, ...]
    _context: ssl.SSLContext
    _stream: Stream
    _line: Stream | TLSStream

    def __init__(self, target: ProbeTarget, end: float) -> None:
        self._target = target
        self._end = end
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        """Close every connection that it opened."""
        self._opened.close()

    def steps(self) -> Iterator[tuple[Stage, Step]]:
        """Yield the stages that this target has."""
        if self._target.secure:
            yield Stage.MATERIAL, self.load
        if self._target.unix_path is None:
            yield Stage.DNS, self.resolve
        yield Stage.TCP, self.connect
        if self._target.secure:
            yield Stage.TLS, self.shake_hands
        yield Stage.HTTP2, self.greet

    def load(self) -> Seen:
        """Load the TLS files."""
        self._context = client_context(self._target)
        target = self._target
        files = (("TLS_CA", target.ca), ("TLS_CERT", target.cert), ("TLS_KEY", target.key))
        given = [f"{name} {path}" for name, path in files if path]
        default = [] if target.ca else [str(default_authorities(process_environment()))]
        return Seen(", ".join([*default, *given]))

    def resolve(self) -> Seen:
        """Find the addresses of the host, or of the proxy."""
        target, whose = self._target, ""
        host, port = target.host, target.port
        if target.via_proxy is not None:
            host, port = proxy_address(target.via_proxy)
            whose = "the proxy's: "
        with self._blaming_the_proxy():
            self._addresses = resolve(host, port, remaining(self._end))
        return Seen(whose + ", ".join(map(str, self._addresses)))

    def connect(self) -> Seen:
        """Open a connection, through the proxy if there is one."""
        if self._target.unix_path is not None:
            self._addresses = (Address(socket.AF_UNIX, self._target.unix_path),)
        address, self._stream = self._dial()
        self._line = self._stream
        if self._target.via_proxy is None:
            return Seen(str(address))
        return Seen(f"{address}, a proxy's tunnel to {self._target.authority}")

    def shake_hands(self) -> Seen:
        """Shake hands over TLS, and verify the certificate."""
        try:
            tls = self._secure(self._stream, self._context)
        except StageError as failed:
            raise self._refined(failed) from None
        self._line = tls
        if not tls.speaks_http2:
            raise StageError(NotHTTP2Error, "the server does not offer h2 in the TLS handshake")
        if is_signed_with_md5(tls.certificate):
            raise StageError(UntrustedCertificateError, "signed with MD5, which gRPC refuses")
        valid = validity(tls.certificate)
        until = f"until {valid.end:%Y-%m-%d} " if valid else ""
        return Seen(f"{tls.version}, certificate {until}for {tls.names}", valid)

    def greet(self) -> Seen:
        """Exchange the first words of HTTP/2."""
        ending = greet(self._line)
        if ending is None:
            return Seen("the server speaks HTTP/2")
        if self._target.secure:
            seen = f"{ending} after the TLS handshake, as if it wanted a client certificate"
            raise StageError(ClosedByPeerError, seen)
        if self._takes_tls():
            raise StageError(TLSServerError, f"{ending}, but took a TLS handshake")
        raise StageError(ClosedByPeerError, f"{ending} after the TCP handshake")

    def _dial(self) -> tuple[Address, Stream]:
        with self._blaming_the_proxy():
            sock, address = dial(self._addresses, self._end)
        stream = Stream(self._opened.enter_context(sock), self._end)
        if self._target.via_proxy is not None:
            open_tunnel(stream, self._target.authority, self._target.via_proxy)
        return address, stream

    def _secure(self, stream: Stream, context: ssl.SSLContext) -> TLSStream:
        name = self._target.certified_name
        try:
            tls = TLSStream(stream, context, name)
            tls.shake_hands()
        except TimeoutError:
            raise StageError(ServerSilentError, "no answer to the TLS handshake") from None
        except ssl.SSLError:
            raise StageError(ClosedByPeerError, "closed in the TLS handshake") from None
        except OSError:
            raise StageError(ClosedByPeerError, "reset in the TLS handshake") from None
        except ValueError:
            raise StageError(HostnameMismatchError, f"no certificate is for {name}") from None
        return tls

    def _refined(self, failed: StageError) -> StageError:
        """Return the failure of a handshake with what a second connection tells about it."""
        if failed.error is ClosedByPeerError and self._takes_plaintext():
            return StageError(PlaintextServerError, "closed, but answered HTTP/2 without TLS")
        with contextlib.suppress(StageError):
            if failed.error is HostnameMismatchError:
                return StageError(failed.error, f"the certificate is for {self._certified_names()}")
            if failed.error is ExpiredCertificateError:
                valid = validity(self._again(unverified_context()).certificate)
                seen = f"{failed.detail}: the server's is {valid}" if valid else failed.detail
                return StageError(failed.error, seen)
        return failed

    def _takes_tls(self) -> bool:
        try:
            self._again(unverified_context())
        except StageError as failed:
            # An alert is TLS, too.
            return failed.error in _TLS_SPOKEN
        return True

    def _takes_plaintext(self) -> bool:
        try:
            _, stream = self._dial()
            return greet(stream) is None
        except StageError:
            return False

    def _certified_names(self) -> str:
        """Return the names on the certificate, which OpenSSL shows only once it is accepted."""
        context = client_context(self._target)
        context.check_hostname = False
        return self._again(context).names

    def _again(self, context: ssl.SSLContext) -> TLSStream:
        """Return TLS over a connection more."""
        _, stream = self._dial()
        return self._secure(stream, context)

    @contextlib.contextmanager
    def _blaming_the_proxy(self) -> Iterator[None]:
        """Take what goes wrong on the way to the proxy for the proxy's fault."""
        try:
            yield
        except StageError as failed:
            url = self._target.via_proxy
            if url is None:
                raise
            seen = f"proxy {proxy_name(url)}: {failed.detail}"
            raise StageError(ProxyUnreachableError, seen) from None
