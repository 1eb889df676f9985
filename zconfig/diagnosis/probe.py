"""The staged probe: file material, DNS, TCP, TLS, HTTP/2, until one fails.

It goes the way a call goes, over a connection of its own, through the same proxy. What it sees
tells apart what gRPC reports in one word, e.g. a name server, a firewall and a server that are
each silent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zconfig.diagnosis.http2 import greets
from zconfig.diagnosis.material import client_context, unverified_context
from zconfig.diagnosis.network import Address, Stream, dial, remaining, resolve
from zconfig.diagnosis.proxy import open_tunnel, proxy_address
from zconfig.diagnosis.tls import TLSStream, tls_failure
from zconfig.diagnosis.verdict import StageError, evidence
from zconfig.errors import (
    ClientCertificateError,
    ClosedByPeerError,
    ConnectError,
    HostnameMismatchError,
    NotHTTP2Error,
    PlaintextServerError,
    ProxyError,
    ServerSilentError,
    Stage,
    TLSError,
    TLSServerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zconfig.diagnosis.target import ProbeTarget


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage of the probe came to.

    Args:
        stage: Which stage.
        elapsed_ms: Milliseconds it took.
        detail: What was seen, redacted.
        error: The class that stands for what went wrong; `None` if nothing did.
    """

    stage: Stage
    elapsed_ms: float
    detail: str
    error: type[ConnectError] | None = None

    @property
    def ok(self) -> bool:
        """Whether the stage was passed."""
        return self.error is None


def stages(target: ProbeTarget, deadline: float) -> tuple[StageResult, ...]:
    """Go through the stages of a connection until one fails; credentials are not sent.

    With TLS 1.3 a server refuses a client certificate only after the handshake: that shows as a
    failure of HTTP/2, the stage after TLS.

    Args:
        target: Where to.
        deadline: The monotonic instant to stop at.

    Returns:
        The stages gone through, in order; all but the last are passed.
    """
    results = []
    with contextlib.closing(_Probe(target, deadline)) as probe:
        for stage, step in probe.steps():
            results.append(_take(stage, step))
            if not results[-1].ok:
                break
    return tuple(results)


def _take(stage: Stage, step: Callable[[], str]) -> StageResult:
    began = time.monotonic()
    error = None
    try:
        detail = step()
    except StageError as failed:
        error, detail = failed.error, failed.detail
    return StageResult(stage, (time.monotonic() - began) * 1e3, evidence(detail), error)


# What comes of a handshake with a peer that speaks TLS, and does not like ours.
_TLS_SPOKEN = frozenset({ClientCertificateError, HostnameMismatchError, NotHTTP2Error, TLSError})


class _Probe:
    """One way to one target; each step uses what the one before has found."""

    _addresses: tuple[Address, ...]
    _context: ssl.SSLContext
    _stream: Stream
    _line: Stream | TLSStream

    def __init__(self, target: ProbeTarget, end: float) -> None:
        self._target = target
        self._end = end
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        self._opened.close()

    def steps(self) -> Iterator[tuple[Stage, Callable[[], str]]]:
        """Yield the stages that this target has."""
        if self._target.secure:
            yield Stage.MATERIAL, self.load
        yield Stage.DNS, self.resolve
        yield Stage.TCP, self.connect
        if self._target.secure:
            yield Stage.TLS, self.shake_hands
        yield Stage.HTTP2, self.greet

    def load(self) -> str:
        """Load the TLS files."""
        self._context = client_context(self._target)
        return self._target.ca or "the system's authorities"

    def resolve(self) -> str:
        """Find the addresses of the host, or of the proxy."""
        target = self._target
        if target.unix_path is not None:
            self._addresses = (Address(socket.AF_UNIX, target.unix_path),)
        else:
            host, port = target.host, target.port
            if target.via_proxy is not None:
                host, port = proxy_address(target.via_proxy)
            with self._blaming_the_proxy():
                self._addresses = resolve(host, port, remaining(self._end))
        return ", ".join(map(str, self._addresses))

    def connect(self) -> str:
        """Open a connection, through the proxy if there is one."""
        address, self._stream = self._dial()
        self._line = self._stream
        if self._target.via_proxy is None:
            return str(address)
        return f"{address}, a proxy's tunnel to {self._target.authority}"

    def shake_hands(self) -> str:
        """Shake hands over TLS, and verify the certificate."""
        try:
            tls = self._secure(self._stream, self._context)
        except StageError as failed:
            raise self._refined(failed) from None
        self._line = tls
        if not tls.speaks_http2:
            raise StageError(NotHTTP2Error, "the server does not offer h2 in the TLS handshake")
        return f"{tls.version}, certificate expires {tls.expiry}"

    def greet(self) -> str:
        """Exchange the first words of HTTP/2."""
        if greets(self._line):
            return "the server speaks HTTP/2"
        if self._target.secure:
            seen = "closed after the TLS handshake, as if it wanted a client certificate"
            raise StageError(ClosedByPeerError, seen)
        if self._takes_tls():
            raise StageError(TLSServerError, "closed, but took a TLS handshake")
        raise StageError(ClosedByPeerError, "closed after the TCP handshake")

    def _dial(self) -> tuple[Address, Stream]:
        with self._blaming_the_proxy():
            sock, address = dial(self._addresses, self._end)
            stream = Stream(self._opened.enter_context(sock), self._end)
            if self._target.via_proxy is not None:
                open_tunnel(stream, self._target.authority, self._target.via_proxy)
        return address, stream

    def _secure(self, stream: Stream, context: ssl.SSLContext) -> TLSStream:
        name = self._target.server_name or self._target.host
        try:
            tls = TLSStream(stream, context, name)
            tls.shake_hands()
        except TimeoutError:
            raise StageError(ServerSilentError, "no answer to the TLS handshake") from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # which one depends on the Python
            raise StageError(ClosedByPeerError, "closed in the TLS handshake") from None
        except ssl.SSLError as error:
            raise tls_failure(error) from None
        except OSError:
            raise StageError(ClosedByPeerError, "reset in the TLS handshake") from None
        except ValueError:
            raise StageError(HostnameMismatchError, f"no certificate is for {name}") from None
        return tls

    def _refined(self, failed: StageError) -> StageError:
        """Return the failure of a handshake with what a second connection tells about it."""
        if failed.error is ClosedByPeerError and self._takes_plaintext():
            return StageError(PlaintextServerError, "closed, but answered HTTP/2 without TLS")
        if failed.error is HostnameMismatchError:
            return StageError(failed.error, f"the certificate is for {self._certified_names()}")
        return failed

    def _takes_tls(self) -> bool:
        try:
            _, stream = self._dial()
            self._secure(stream, unverified_context())
        except StageError as failed:
            # An alert is TLS, too.
            return failed.error in _TLS_SPOKEN
        return True

    def _takes_plaintext(self) -> bool:
        try:
            _, stream = self._dial()
            return greets(stream)
        except StageError:
            return False

    def _certified_names(self) -> str:
        """Return the names on the certificate, which OpenSSL shows only once it is accepted."""
        context = client_context(self._target)
        context.check_hostname = False
        try:
            _, stream = self._dial()
            return self._secure(stream, context).names
        except StageError:
            return "another name"

    @contextlib.contextmanager
    def _blaming_the_proxy(self) -> Iterator[None]:
        try:
            yield
        except StageError as failed:
            url = self._target.via_proxy
            if url is None:
                raise
            proxy = "{}:{}".format(*proxy_address(url))
            raise StageError(ProxyError, f"proxy {proxy}: {failed.detail}") from None
