"""What later tests rely on: the servers answer as real ones do, and end when they should."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from milvus_lite.server_manager import server_manager_instance
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from tests.conftest import fenced, serving
from tests.support.certificates import Certificates, trusting
from tests.support.servers import CACHE, CREDENTIALS, RealMilvus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Starts a server, names its port, and hangs; as does a forked child, which inherits all it can.
STARTS_A_SERVER_AND_HANGS = """
import os, pathlib, signal, sys
from tests.support.servers import RealMilvus
server = RealMilvus(pathlib.Path(sys.argv[1]))
server.start()
server.wait_ready()
child = os.fork()
if child:
    print(server.port, child, flush=True)
signal.pause()
"""


REPOSITORY = Path(__file__).resolve().parents[1]


@contextmanager
def stub(server: RealMilvus, tls: grpc.ChannelCredentials | None = None) -> Iterator[Any]:
    target = f"127.0.0.1:{server.port}"
    with grpc.secure_channel(target, tls) if tls else grpc.insecure_channel(target) as channel:
        yield milvus_pb2_grpc.MilvusServiceStub(channel)


def header(login: str) -> list[tuple[str, str]]:
    return [("authorization", base64.b64encode(login.encode()).decode())]


ROOT = header(CREDENTIALS)


def version(
    server: RealMilvus,
    metadata: list[tuple[str, str]] = ROOT,
    tls: grpc.ChannelCredentials | None = None,
) -> str:
    with stub(server, tls) as milvus:
        reply = milvus.GetVersion(milvus_pb2.GetVersionRequest(), metadata=metadata, timeout=10)
    return str(reply.version)


def refusal(*args: Any, **kwargs: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        version(*args, **kwargs)
    return caught.value.code(), str(caught.value.details())


def create_database(server: RealMilvus, name: str) -> None:
    with stub(server) as milvus:
        request = milvus_pb2.CreateDatabaseRequest(db_name=name)
        status = milvus.CreateDatabase(request, metadata=ROOT, timeout=10)
    assert status.code == 0, status.reason


def databases(server: RealMilvus) -> set[str]:
    with stub(server) as milvus:
        reply = milvus.ListDatabases(milvus_pb2.ListDatabasesRequest(), metadata=ROOT, timeout=10)
    return set(reply.db_names)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def test_two_servers_answer_side_by_side(milvus: RealMilvus, milvus_b: RealMilvus) -> None:
    assert milvus.port != milvus_b.port
    assert (version(milvus), version(milvus_b)) == (milvus.version, milvus_b.version)


def test_each_server_has_data_of_its_own(milvus: RealMilvus, milvus_b: RealMilvus) -> None:
    create_database(milvus, "only_here")

    assert "only_here" in databases(milvus)
    assert "only_here" not in databases(milvus_b)


def test_a_wrong_password_is_unauthenticated(milvus: RealMilvus) -> None:
    code, details = refusal(milvus, header("root:wrong"))

    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "auth check failure" in details


def test_no_credentials_are_unauthenticated(milvus: RealMilvus) -> None:
    code, details = refusal(milvus, [])

    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "missing authorization in header" in details


def test_a_missing_database_is_told_in_the_answer_to_connect(milvus: RealMilvus) -> None:
    request = milvus_pb2.ConnectRequest(client_info=common_pb2.ClientInfo(sdk_type="test"))
    with stub(milvus) as calls:
        missing = calls.Connect(request, metadata=[*ROOT, ("dbname", "nowhere")], timeout=10)
        present = calls.Connect(request, metadata=[*ROOT, ("dbname", "default")], timeout=10)

    assert missing.status.code == 800
    assert present.status.code == 0


@pytest.mark.usefixtures("server_wheel")
def test_a_server_without_authorization_takes_any_client(tmp_path: Path) -> None:
    server = RealMilvus(tmp_path, authorization=False)

    with serving(server):
        assert version(server, []) == server.version


def test_a_restart_keeps_port_and_data(own_milvus: RealMilvus) -> None:
    port = own_milvus.port
    create_database(own_milvus, "kept")

    own_milvus.restart()
    own_milvus.wait_ready()

    assert own_milvus.port == port
    assert "kept" in databases(own_milvus)


def test_a_stopped_server_refuses_connections(own_milvus: RealMilvus) -> None:
    own_milvus.stop()

    assert not own_milvus.running
    assert not listens(own_milvus.port)


def test_tls_serves_those_who_trust_the_authority(
    milvus_tls: RealMilvus, certificates: Certificates
) -> None:
    assert milvus_tls.uri == f"https://127.0.0.1:{milvus_tls.port}"
    assert version(milvus_tls, tls=trusting(certificates.ca)) == milvus_tls.version


def test_tls_fails_for_those_who_do_not(milvus_tls: RealMilvus, certificates: Certificates) -> None:
    code, details = refusal(milvus_tls, tls=trusting(certificates.other_ca))

    assert code is grpc.StatusCode.UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in details


def test_tls_does_not_serve_plaintext(milvus_tls: RealMilvus) -> None:
    assert refusal(milvus_tls)[0] is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_serves_a_client_of_the_authority(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    tls = trusting(certificates.ca, certificates.client)

    assert version(milvus_mtls, tls=tls) == milvus_mtls.version


@pytest.mark.parametrize("client", [None, "other_authority", "expired"])
def test_mutual_tls_refuses_other_clients(
    milvus_mtls: RealMilvus, certificates: Certificates, client: str | None
) -> None:
    tls = trusting(certificates.ca, getattr(certificates, client) if client else None)

    assert refusal(milvus_mtls, tls=tls)[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.usefixtures("server_wheel")
def test_a_server_that_dies_shows_its_log(tmp_path: Path) -> None:
    server = RealMilvus(tmp_path)
    server.data_dir.write_text("a file where its directory should be")

    with pytest.raises(RuntimeError, match="not a directory"), serving(server):
        pass

    assert not server.running


@pytest.mark.usefixtures("server_wheel")
def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_SERVER_AND_HANGS, str(tmp_path)],
        env={"PYTHONPATH": str(REPOSITORY), "ZCONFIG_TEST_CACHE": str(CACHE)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout
    port, child = map(int, starter.stdout.readline().split())
    assert listens(port)

    starter.kill()
    try:
        wait_until(lambda: not listens(port))
    finally:
        os.kill(child, signal.SIGKILL)
        starter.communicate()
        shutil.rmtree(RealMilvus(tmp_path).data_dir)


def test_milvus_lite_serves_a_path(lite_uri: str) -> None:
    uri = server_manager_instance.start_and_get_uri(lite_uri)
    try:
        with grpc.insecure_channel(uri.removeprefix("http://")) as channel:
            calls = milvus_pb2_grpc.MilvusServiceStub(channel)
            reply = calls.ListDatabases(milvus_pb2.ListDatabasesRequest(), timeout=10)
    finally:
        server_manager_instance.release_server(lite_uri)

    assert "default" in reply.db_names


def test_the_developers_settings_are_hidden_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {"ZILLIZ_URI", "ZCONFIG_WAIT", "MILVUS_URI", "SERVICE_BINDING_ROOT", "https_proxy"}
    for name in foreign | {"NO_PROXY", "PROXY_MODE"}:
        monkeypatch.setenv(name, "x")
    before = dict(os.environ)

    with fenced():
        within = set(os.environ)
        os.environ["ZILLIZ_TOKEN"] = "x"

    assert within == before.keys() - foreign - {"NO_PROXY"}
    assert dict(os.environ) == before
