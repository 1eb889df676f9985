"""Servers that fail on purpose, on loopback: each is a context manager around a port."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from concurrent import futures
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    Handler = Callable[[socket.socket], None]
    Method = Callable[[bytes, Any], bytes]

LOOPBACK = "127.0.0.1"
CHUNK = 65536
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER = 9
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4


# --- TCP -----------------------------------------------------------------------------------


class Listener:
    """Accepts on a port and runs a handler per connection, in threads of its own."""

    def __init__(self, handle: Handler, sock: socket.socket | None = None) -> None:
        self._handle = handle
        self._sock = sock or bound()
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port: int = self._sock.getsockname()[1]
        self._sock.listen()
        self._start(self._accept)

    def close(self) -> None:
        """Stop listening, break what is open, and wait for the handlers."""
        # A shutdown wakes the thread in `accept`; closing alone would not.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._sock.close()
        with self._lock:
            for conn in self._live:
                shut(conn)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._sock.accept()
            except OSError:
                return
            with self._lock:
                self._live.add(conn)
            self._start(self._serve, conn)

    def _serve(self, conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            self._handle(conn)
        with self._lock:
            self._live.discard(conn)


def bound(port: int = 0) -> socket.socket:
    """Return a socket on a port; as long as nobody listens on it, connections are refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOOPBACK, port))
    return sock


def shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def listening(handle: Handler) -> Iterator[int]:
    """Serve every connection with a handler."""
    with contextlib.closing(Listener(handle)) as listener:
        yield listener.port


@contextlib.contextmanager
def refused() -> Iterator[int]:
    """A port on which nobody listens, and nobody else will."""
    with bound() as sock:
        yield sock.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no SYN, as behind a firewall: its backlog is full."""
    with bound() as sock, contextlib.ExitStack() as callers:
        sock.listen(0)
        connected = True
        while connected:
            caller = callers.enter_context(socket.socket())
            caller.settimeout(0.1)
            connected = caller.connect_ex(sock.getsockname()) == 0
        yield sock.getsockname()[1]


def swallow(conn: socket.socket) -> None:
    """Read to the end, and never answer."""
    while conn.recv(CHUNK):
        pass


def read_head(conn: socket.socket) -> bytes:
    """Read the head of an HTTP request.

    Raises:
        ConnectionError: The client closed the connection before the end of the head, as a channel
            that is closed while it connects does.
    """
    head = b""
    while b"\r\n\r\n" not in head:
        if not (chunk := conn.recv(CHUNK)):
            raise ConnectionResetError
        head += chunk
    return head


def hang_up(conn: socket.socket) -> None:
    """Close at once, in good order.

    Closing with bytes unread would be a RST, so what the client says meanwhile is read.
    """
    conn.shutdown(socket.SHUT_WR)
    swallow(conn)


def hang_up_later(conn: socket.socket) -> None:
    """Close in good order once something was said."""
    conn.recv(CHUNK)
    hang_up(conn)


def reset(conn: socket.socket) -> None:
    """Close with a RST."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_later(conn: socket.socket) -> None:
    """Close with a RST once something was said."""
    conn.recv(1)
    reset(conn)


def answering(answer: bytes) -> Handler:
    """Answer whatever comes first with these bytes, then hold the line."""

    def handle(conn: socket.socket) -> None:
        conn.recv(CHUNK)
        conn.sendall(answer)
        swallow(conn)

    return handle


http1 = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
garbage = answering(b"SSH-2.0-OpenSSH_9.6\r\n")


# --- TLS -----------------------------------------------------------------------------------


def over_tls(context: ssl.SSLContext, handle: Handler) -> Handler:
    """Shake hands first, then do as the handler."""

    def shake_hands(conn: socket.socket) -> None:
        # A duplicate, since wrapping takes the socket away from whoever has to break it.
        with context.wrap_socket(conn.dup(), server_side=True) as tls:
            handle(tls)

    return shake_hands


# --- HTTP/2 --------------------------------------------------------------------------------


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Return one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """Return one header as a literal without indexing, the simplest form HPACK has."""
    parts = (text.encode() for text in (name, value))
    return b"\0" + b"".join(bytes([len(part)]) + part for part in parts)


def gateway(status: int) -> Handler:
    """Answer each call as a web server does: a bare status, with 200 also a page."""

    def handle(conn: socket.socket) -> None:
        conn.sendall(frame(SETTINGS))
        with conn.makefile("rb") as stream:
            stream.read(len(PREFACE))
            while len(head := stream.read(FRAME_HEADER)) == FRAME_HEADER:
                stream.read(int.from_bytes(head[:3], "big"))
                if head[3] == HEADERS:
                    conn.sendall(_web_answer(status, int.from_bytes(head[5:], "big")))

    return handle


def _web_answer(status: int, stream: int) -> bytes:
    bare = header(":status", str(status))
    if status != HTTPStatus.OK:
        return frame(HEADERS, bare, flags=END_HEADERS | END_STREAM, stream=stream)
    headers = bare + header("content-type", "text/html")
    page = frame(DATA, b"<html>", flags=END_STREAM, stream=stream)
    return frame(HEADERS, headers, flags=END_HEADERS, stream=stream) + page


# --- gRPC ----------------------------------------------------------------------------------

MILVUS = "milvus.proto.milvus.MilvusService"


@contextlib.contextmanager
def grpc_server(
    methods: Mapping[str, Method],
    *,
    service: str = MILVUS,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[int]:
    """Serve methods of one service on raw bytes."""
    with futures.ThreadPoolExecutor(max_workers=8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        address = f"{LOOPBACK}:0"
        port: int = (
            server.add_secure_port(address, credentials)
            if credentials
            else server.add_insecure_port(address)
        )
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


def succeed(request: bytes, context: Any) -> bytes:
    """Answer with an empty message."""
    return b""


def failing(code: grpc.StatusCode, details: str) -> Method:
    """Answer with a status."""

    def method(request: bytes, context: Any) -> bytes:
        context.abort(code, details)
        return b""

    return method


def never(request: bytes, context: Any) -> bytes:
    """Answer only once nobody waits any more."""
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait()
    return b""


# --- proxies -------------------------------------------------------------------------------


def connect_proxy(conn: socket.socket) -> None:
    """Open the tunnel that a CONNECT asks for, as an HTTP proxy."""
    authority = read_head(conn).split()[1].decode()
    host, _, port = authority.rpartition(":")
    try:
        upstream = socket.create_connection((host.strip("[]"), int(port)))
    except OSError:
        conn.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        return
    with upstream:
        conn.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        forward(conn, upstream)


def tunnel_to(port: int) -> Handler:
    """Open a tunnel to a port of this machine, as a proxy that finds every host there."""

    def handle(conn: socket.socket) -> None:
        read_head(conn)
        with socket.create_connection((LOOPBACK, port)) as upstream:
            conn.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            forward(conn, upstream)

    return handle


def proxy_answering(status: int) -> Handler:
    """Answer a CONNECT with a status, as a proxy that opens no tunnel."""
    phrase = HTTPStatus(status).phrase
    return answering(f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\n\r\n".encode())


connect_refused = proxy_answering(403)


def tcp_forward(port: int) -> Handler:
    """Carry everything to a port of this machine."""

    def handle(conn: socket.socket) -> None:
        with socket.create_connection((LOOPBACK, port)) as upstream:
            forward(conn, upstream)

    return handle


def forward(one: socket.socket, other: socket.socket, latency_s: float = 0.0) -> None:
    """Carry bytes both ways until both sides are done."""
    for sock in (one, other):  # or the system holds small chunks back, for another 40 ms
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back = threading.Thread(target=_pump, args=(other, one, latency_s), daemon=True)
    back.start()
    _pump(one, other, latency_s)
    back.join()


def _pump(source: socket.socket, sink: socket.socket, latency_s: float) -> None:
    """Carry bytes one way; each chunk is late by the latency, however many are under way."""
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    deliver = threading.Thread(target=_deliver, args=(under_way, sink), daemon=True)
    deliver.start()
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            under_way.put((time.monotonic() + latency_s, chunk))
    under_way.put((0.0, b""))
    deliver.join()
    # Neither TLS nor HTTP/2 knows a connection that is closed one way only.
    shut(source)
    shut(sink)


def _deliver(under_way: queue.SimpleQueue[tuple[float, bytes]], sink: socket.socket) -> None:
    due, chunk = under_way.get()
    while chunk:
        time.sleep(max(0.0, due - time.monotonic()))
        with contextlib.suppress(OSError):
            sink.sendall(chunk)
        due, chunk = under_way.get()


class BreakableProxy:
    """A TCP proxy before a port, that can be cut and healed, and that can be far away.

    Args:
        upstream: The port it forwards to.
        latency_ms: Milliseconds that each direction takes. A round trip more stands for the TCP
            handshake, which this machine answers at once.
    """

    def __init__(self, upstream: int, latency_ms: float = 0.0) -> None:
        self._upstream = upstream
        self._latency_s = latency_ms / 1e3
        self._connections: dict[str, socket.socket] = {}
        self._changed = threading.Condition()
        self._listener: Listener | None = Listener(self._carry)
        self._placeholder: socket.socket | None = None
        self.port = self._listener.port

    @property
    def peers(self) -> set[str]:
        """The connections that are open, named as the server behind the proxy names them."""
        with self._changed:
            return set(self._connections)

    def wait_for_peers(self, count: int, budget_s: float = 20.0) -> None:
        """Wait until so many connections are open."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._connections) == count, budget_s)
        assert came, f"{self.peers} instead of {count} connections"

    def close_connection(self, peer: str) -> None:
        """Close one connection, and go on accepting.

        Args:
            peer: Its name at the server, e.g. `ipv4:127.0.0.1:50123`.
        """
        shut(self._connections[peer])

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._placeholder = bound(self.port)

    def heal(self) -> None:
        """Accept connections again, on the same port."""
        if self._placeholder is not None:
            self._listener = Listener(self._carry, self._placeholder)
            self._placeholder = None

    def close(self) -> None:
        """Stop for good."""
        for held in (self._listener, self._placeholder):
            if held is not None:
                held.close()

    def _carry(self, conn: socket.socket) -> None:
        time.sleep(2 * self._latency_s)
        with socket.create_connection((LOOPBACK, self._upstream)) as upstream:
            peer = "ipv4:{}:{}".format(*upstream.getsockname())
            self._note(peer, conn)
            try:
                forward(conn, upstream, self._latency_s)
            finally:
                self._note(peer, None)

    def _note(self, peer: str, conn: socket.socket | None) -> None:
        with self._changed:
            if conn:
                self._connections[peer] = conn
            else:
                del self._connections[peer]
            self._changed.notify_all()


@contextlib.contextmanager
def breakable_proxy(upstream: int, latency_ms: float = 0.0) -> Iterator[BreakableProxy]:
    """Put a proxy that can be cut before a port."""
    with contextlib.closing(BreakableProxy(upstream, latency_ms)) as proxy:
        yield proxy
