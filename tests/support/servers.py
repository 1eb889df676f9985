"""The real Milvus server, several side by side, for tests that need its own answers."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc

from tests.support.certificates import KeyPair, ServerTLS, trusting

if TYPE_CHECKING:
    from collections.abc import Iterator

# Read now: while a test runs, the environment is cleared of every ZCONFIG_ variable.
CACHE = Path(
    os.environ.get("ZCONFIG_TEST_CACHE")
    or Path(__file__).resolve().parents[2] / ".cache" / "milvus-2.3.5"
)

CREDENTIALS = "root:Milvus"
"""User and password that a new server with authorization knows."""

HAS_WHEEL = find_spec("milvus") is not None
"""Whether the package index has the server for this platform, and it is installed."""

_GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"
_LOOPBACK = ("127.0.0.1", "localhost")

_COMPONENTS = ("rootCoord", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
_PORTS = ("proxy.port", "proxy.internalPort", *(f"{name}.port" for name in _COMPONENTS))
_OTHER_PORTS = ("etcd peer", "etcd client", "metrics")

# The shell becomes the server. Beside it waits a reader of a pipe whose other end we hold: it
# sees the end of file however we end, and then kills the process group. The library path is set
# here because macOS takes DYLD_ variables away from /bin/sh. No variable of ours is passed on:
# Milvus takes any setting from one, e.g. PROXY_PORT.
_LEASHED_SERVER = """
exec 3<&0 </dev/null
(read -r _ <&3; kill -KILL 0) &
export DEPLOY_MODE=STANDALONE LD_LIBRARY_PATH="$BIN" DYLD_LIBRARY_PATH="$BIN"
exec "$BIN/milvus" run standalone 3<&-
"""


class RealMilvus:
    """A Milvus 2.3.5 standalone server in a process of its own; it never outlives ours.

    It can be reached under every address of the machine, not only the loopback ones: Milvus has
    no setting for that.

    Args:
        base_dir: A directory of its own, for its configuration, data and log.
        authorization: Whether it demands credentials; it then knows `CREDENTIALS`.
        tls: Its certificates; `None` for plaintext.

    Attributes:
        data_dir: Everything it stores: some 200 MB, allocated at the start.
        log: All that it printed, over restarts.
    """

    def __init__(
        self, base_dir: Path, *, authorization: bool = True, tls: ServerTLS | None = None
    ) -> None:
        self.data_dir = base_dir / "data"
        self.log = base_dir / "server.log"
        self._base_dir = base_dir
        # Milvus looks for this name in its working directory.
        self._configuration_dir = base_dir / "configs"
        self._authorization = authorization
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port clients dial; it stays the same over restarts."""
        return self._ports["proxy.port"]

    @property
    def uri(self) -> str:
        """Where clients dial, e.g. `http://127.0.0.1:20123`."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def version(self) -> str:
        """The release that it says it is, with a suffix of the wheel that brings it."""
        return "v2.3.5-lite"

    @property
    def running(self) -> bool:
        """Whether the process lives, ready or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, and return at once."""
        self._write_configuration()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LEASHED_SERVER],
                cwd=self._base_dir,
                env={"BIN": str(_binaries()), "METRICS_PORT": str(self._ports["metrics"])},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )
        assert self._process.stdin
        # A forked child that lives on would otherwise hold the leash after our end.
        os.register_at_fork(after_in_child=self._process.stdin.close)

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        """Wait until the server answers a call, with credentials where it demands them.

        Args:
            timeout_s: Seconds to wait at most.

        Raises:
            RuntimeError: The process ended; the message holds the end of its log.
            TimeoutError: It lives, and does not answer; likewise.
        """
        deadline = time.monotonic() + timeout_s
        while self.running:
            if self._answers():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Milvus does not answer{self._log_tail()}")
            time.sleep(0.05)
        raise RuntimeError(f"Milvus is not running{self._log_tail()}")

    def stop(self) -> None:
        """Kill the server and all it started; it would sit out a polite signal.

        The data stays, for another start. To stop a server that does not run is no error.
        """
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._process = None

    def freeze(self) -> None:
        """Have the server do nothing, with its connections open; `stop` ends it all the same."""
        assert self._process
        # It alone: what kills it after our end must go on.
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on after `freeze`."""
        assert self._process
        os.kill(self._process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill the server and start it on the same port and data; return at once."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        with self._channel() as channel:
            # While it starts, the server accepts connections and leaves calls unanswered.
            return _asked_version(channel, 0.5) is not None

    def _channel(self) -> grpc.Channel:
        target = f"127.0.0.1:{self.port}"
        options = [("grpc.enable_http_proxy", 0)]
        if self._tls is None:
            return grpc.insecure_channel(target, options)
        # A pair of ours serves clients too, so the server accepts its own.
        own = KeyPair(self._tls.cert, self._tls.key)
        return grpc.secure_channel(target, trusting(self._tls.ca, own), options)

    def _log_tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        before_stacks, _, _ = text.partition("\ngoroutine ")
        return f"; {self.log} ends:\n{before_stacks[-4000:]}"

    @cached_property
    def _ports(self) -> dict[str, int]:
        return {name: next(_free_ports) for name in (*_PORTS, *_OTHER_PORTS)}

    def _write_configuration(self) -> None:
        import milvus

        for directory in (self._configuration_dir, self._base_dir / "logs"):
            directory.mkdir(parents=True, exist_ok=True)
        # JSON is YAML, and Milvus accepts dotted keys.
        for name, settings in (("milvus", self._settings()), ("etcd", self._etcd_settings())):
            (self._configuration_dir / f"{name}.yaml").write_text(json.dumps(settings, indent=2))
        shutil.copy(Path(milvus.__file__).parent / "data" / "glog.conf", self._configuration_dir)

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "etcd.use.embed": True,
            "etcd.config.path": str(self._configuration_dir / "etcd.yaml"),
            "etcd.data.dir": str(self.data_dir / "etcd"),
            "etcd.endpoints": f"127.0.0.1:{self._ports['etcd client']}",
            "localStorage.path": str(self.data_dir / "storage"),
            "rocksmq.path": str(self.data_dir / "rocksmq"),
            "common.storageType": "local",
            "common.security.authorizationEnabled": self._authorization,
            # Its components wait for each other: with the defaults a start takes 2 s instead of
            # 1 s, and one after a kill 8 s instead of 3 s.
            "grpc.client.initialBackOff": 0.05,
            "grpc.client.maxBackoff": 0.2,
            "grpc.client.maxMaxAttempts": 5,
            # After a kill, CheckHealth tells of the dead components until their leases end:
            # 8 s instead of 58 s.
            "common.session.ttl": 10,
        }
        settings |= {name: self._ports[name] for name in _PORTS}
        settings |= {f"{component}.ip": "127.0.0.1" for component in ("proxy", *_COMPONENTS)}
        if self._tls:
            settings |= {
                "common.security.tlsMode": self._tls.mode,
                "tls.serverPemPath": str(self._tls.cert),
                "tls.serverKeyPath": str(self._tls.key),
                "tls.caPemPath": str(self._tls.ca),
            }
        return settings

    def _etcd_settings(self) -> dict[str, object]:
        peer = f"http://127.0.0.1:{self._ports['etcd peer']}"
        client = f"http://127.0.0.1:{self._ports['etcd client']}"
        return {
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            # It is alone, so it need not wait for others' votes; and may lose data with the power.
            "heartbeat-interval": 50,
            "election-timeout": 250,
            "unsafe-no-fsync": True,
        }


class RunningMilvus:
    """A server with authorization that somebody else runs on this machine; it knows `CREDENTIALS`.

    Args:
        uri: Where it listens: `http://`, on loopback.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
            raise ValueError(f"ZILLIZ_TEST_URI is not http:// to {' or '.join(_LOOPBACK)}: {uri}")
        self.port = parts.port or 19530
        self.uri = f"http://127.0.0.1:{self.port}"

        self.version = ""

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        """Wait until it answers, and keep the `version` that it says it is."""
        deadline = time.monotonic() + timeout_s
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            while (version := _asked_version(channel, 5.0)) is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no Milvus answers at {self.uri} with {CREDENTIALS}")
                time.sleep(0.5)
        self.version = version


def _asked_version(channel: grpc.Channel, timeout_s: float) -> str | None:
    from zconfig._channel.messages import VersionReply

    metadata = (("authorization", base64.b64encode(CREDENTIALS.encode()).decode()),)
    get_version = channel.unary_unary(_GET_VERSION, bytes, VersionReply.decode)
    try:
        return str(get_version(b"", timeout=timeout_s, metadata=metadata).version)
    except grpc.RpcError:
        return None


@cache
def _binaries() -> Path:
    """Extract the server once for all servers, runs and processes; some 6 s and 246 MB."""
    import fcntl

    import milvus

    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        milvus._initialize_data_files(str(CACHE))
    return CACHE / "bin"


def _find_free_ports() -> Iterator[int]:
    # Below the range from which outgoing connections take theirs, lest one takes a port while its
    # server restarts. Each process begins elsewhere, so that two at once don't pick the same, nor
    # one of a server that restarts: the golden section keeps those of 40 processes that follow each
    # other 150 ports apart.
    first, count, section = 20_000, 12_000, 7_417
    for number in range(count):
        port = first + (os.getpid() * section + number) % count
        if _is_free(port):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_free_ports = _find_free_ports()
