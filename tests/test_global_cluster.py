"""A global cluster: the connection follows the primary, and says when that moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest

from tests.support import PATIENCE_S
from tests.support.certificates import Certificates
from tests.support.ears import Ears
from tests.support.faults import BreakableProxy, breakable_proxy
from tests.support.processes import call_zconfig
from tests.support.registries import registry
from tests.support.topology import (
    PRIMARY,
    READ_ONLY,
    TopologyServer,
    answering_http,
    demote,
    document,
    routing_proxy,
    telling,
    topology_server,
)
from zconfig import _topology, events
from zconfig._connection import State, managed
from zconfig.aio.async_connections import AsyncConnections
from zconfig.errors import (
    ConnectError,
    MalformedTopologyError,
    NoPrimaryError,
    NotGlobalClusterError,
    RefusedError,
    RejectedCredentialsError,
    TopologyUnavailableError,
)
from zconfig.testing import FakeServer, fake_server

HOST = "x-global-cluster.test"
ENDPOINT = f"https://{HOST}:443"
MEMBERS = ("in01-a.test:19530", "in01-b.test:19530")
GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@dataclass
class Cluster:
    """Two Milvus of which one is the primary, and the service that says which.

    Attributes:
        members: The servers.
        paths: What can be cut before each.
        topology: The service.
        environ: The variables of an alias `world` that leads there.
    """

    members: list[FakeServer]
    paths: list[BreakableProxy]
    topology: TopologyServer
    environ: dict[str, str]
    version: int = 1

    def promote(self, number: int) -> None:
        """Make one of them the primary."""
        self.version += 1
        self.topology.answers = [told(self.version, number)]


def told(version: int, primary: int) -> Any:
    bits = {MEMBERS[n]: PRIMARY if n == primary else READ_ONLY for n in (0, 1)}
    named = {f"c{n}": (f"https://{member}", bits[member]) for n, member in enumerate(MEMBERS)}
    return telling(document(str(version), **named))


@pytest.fixture
def cluster(certificates: Certificates) -> Iterator[Cluster]:
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with ExitStack() as stack:
        tls = grpc.ssl_server_credentials([pair])
        members = [stack.enter_context(fake_server(credentials=tls)) for _ in MEMBERS]
        paths = [stack.enter_context(breakable_proxy(member.port)) for member in members]
        topology = stack.enter_context(topology_server(certificates, told(1, 0)))
        ports = {f"{HOST}:443": topology.port}
        ports |= {name: path.port for name, path in zip(MEMBERS, paths, strict=True)}
        environ = {
            "ZILLIZ_WORLD_URI": f"https://{HOST}",
            "ZILLIZ_WORLD_TOKEN": "the-key",
            "ZILLIZ_WORLD_TLS_CA": str(certificates.ca),
            "ZILLIZ_WORLD_TLS_SERVER_NAME": "localhost",
            "ZILLIZ_WORLD_PROXY": stack.enter_context(routing_proxy(ports)),
        }
        yield Cluster(members, paths, topology, environ)


def test_the_primary_is_asked_for_with_the_token_and_dialed(cluster: Cluster) -> None:
    with registry(**cluster.environ) as connections:
        connection = connections["world"]
        assert connection.ping() > 0
        assert connection.target.endswith(MEMBERS[0])
        assert str(connection.endpoint) == ENDPOINT
    assert len(cluster.members[0].calls("Connect")) == 1
    assert cluster.members[1].calls() == []
    (request,) = cluster.topology.requests
    assert request.line == "GET /global-cluster/topology HTTP/1.1"
    assert request.headers["authorization"] == "Bearer the-key"


def test_a_primary_that_is_gone_is_followed_to_the_new_one(cluster: Cluster) -> None:
    with registry(**cluster.environ) as connections:
        ears = Ears(connections)
        connection = connections["world"]
        stub: Any = connection.channel.unary_unary(GET_VERSION)
        stub(b"", timeout=PATIENCE_S)
        cluster.promote(1)
        cluster.paths[0].cut()
        moved = ears.wait_for(events.ConnectionMoved)
        assert (moved.alias, moved.endpoint) == ("world", ENDPOINT)
        assert moved.previous.endswith(MEMBERS[0])
        assert moved.target.endswith(MEMBERS[1])
        stub(b"", timeout=PATIENCE_S)
        assert connection.ping() > 0
        assert connection.state is State.READY
        assert connections["world"] is connection
    assert len(cluster.members[1].calls("GetVersion")) == 2


def test_a_primary_is_lost_until_another_one_is_told_of(cluster: Cluster) -> None:
    with registry(**cluster.environ) as connections:
        ears = Ears(connections)
        connection = connections["world"]
        cluster.paths[0].cut()
        assert ears.wait_for(events.ConnectionLost).cause == "proxy"  # which cannot reach it
        with pytest.raises(ConnectError):
            connection.ping()
        cluster.promote(1)
        ears.wait_for(events.ConnectionMoved)
        ears.wait_for(events.ConnectionRecovered)
        assert connection.ping() > 0


def test_roles_that_are_swapped_while_all_is_well_are_followed_when_it_is_time(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_topology, "REFRESH_S", 0.1)
    with registry(**cluster.environ) as connections:
        ears = Ears(connections)
        connection = connections["world"]
        for number in (1, 0, 1):
            cluster.promote(number)
            moved = ears.wait_for(events.ConnectionMoved, len(ears.of(events.ConnectionMoved)) + 1)
            assert moved.target.endswith(MEMBERS[number])
            connection.ping()
            assert len(cluster.members[number].calls("GetVersion")) >= 1
        assert not ears.of(events.ConnectionLost)


@pytest.mark.parametrize("how", ["call", "future", "asyncio"])
@pytest.mark.parametrize("says", ["reply", "error"])
def test_a_primary_that_says_it_is_one_no_longer_is_followed_to_the_new_one(
    cluster: Cluster, says: Literal["reply", "error"], how: str
) -> None:
    with registry(**cluster.environ) as connections:
        ears = Ears(connections)
        demote(cluster.members[0], says)
        with suppress(grpc.RpcError):
            if how == "asyncio":
                asyncio.run(demoted_on_a_loop(AsyncConnections(connections), cluster, ears))
            else:
                stub: Any = connections["world"].channel.unary_unary(GET_VERSION)
                cluster.promote(1)
                call = stub if how == "call" else lambda *a, **k: stub.future(*a, **k).result()
                call(b"", timeout=PATIENCE_S)
        assert ears.wait_for(events.ConnectionMoved).target.endswith(MEMBERS[1])
    assert not ears.of(events.ConnectionLost)


async def demoted_on_a_loop(aio: AsyncConnections, cluster: Cluster, ears: Ears) -> None:
    connection = await aio.get("world")
    cluster.promote(1)
    with suppress(grpc.RpcError):
        await connection.channel.unary_unary(GET_VERSION)(b"", timeout=PATIENCE_S)
    await asyncio.to_thread(ears.wait_for, events.ConnectionMoved)


def test_a_new_primary_that_does_not_accept_us_is_not_followed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_topology, "REFRESH_S", 0.1)
    cluster.members[1].accept("another-key")
    with registry(**cluster.environ) as connections:
        ears = Ears(connections)
        connection = connections["world"]
        cluster.promote(1)
        lost = ears.wait_for(events.ConnectionLost)
        assert lost.cause == RejectedCredentialsError.cause
        assert not ears.of(events.ConnectionMoved)
        cluster.members[1].accept()
        assert connection.target.endswith(MEMBERS[0])


def test_credentials_that_are_new_while_the_primary_moves_are_applied_to_the_next(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_topology, "REFRESH_S", 0.1)
    verify = managed.verify

    def verify_late(*args: Any) -> Any:
        if not ears.of(events.ConnectionMoved):
            cluster.promote(1)
            ears.wait_for(events.ConnectionMoved)
        return verify(*args)

    monkeypatch.setattr(managed, "verify", verify_late)
    del cluster.environ["ZILLIZ_WORLD_TOKEN"]
    key = tmp_path / "key"
    key.write_text("the-key")
    key.chmod(0o600)
    with registry(**cluster.environ, ZILLIZ_WORLD_TOKEN_FILE=str(key)) as connections:
        ears = Ears(connections)
        connection = connections["world"]
        key.write_text("the-next-key")
        connections.reload()
        assert len(ears.of(events.ConnectionRotated)) == 1
        assert not ears.of(events.ConnectionClosed)
        assert connection.target.endswith(MEMBERS[1])
        assert connection.ping() > 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answering_http(401), RejectedCredentialsError),
        (answering_http(404), NotGlobalClusterError),
        (answering_http(503), TopologyUnavailableError),
        (telling({"code": 0, "data": "nothing"}), MalformedTopologyError),
        (telling(document("1", a=(f"https://{MEMBERS[0]}", READ_ONLY))), NoPrimaryError),
    ],
    ids=["401", "404", "503", "malformed", "no primary"],
)
def test_a_topology_that_cannot_be_had_is_diagnosed_as_anything_else(
    cluster: Cluster, answer: Any, error: type[ConnectError]
) -> None:
    cluster.topology.answers = [answer]
    with registry(**cluster.environ) as connections:
        ears = Ears(connections)
        with pytest.raises(error) as caught:
            connections["world"]
        failure = caught.value
        assert (failure.alias, failure.endpoint) == ("world", ENDPOINT)
        assert failure.origin.startswith("ZILLIZ_WORLD_")
        assert failure.remedy
        assert failure.elapsed_ms > 0
        assert "the-key" not in repr(failure) + str(failure)
        assert ears.wait_for(events.ConnectionFailed).cause == error.cause
    assert not any(member.calls() for member in cluster.members)


def test_a_topology_service_that_cannot_be_reached_is_diagnosed(cluster: Cluster) -> None:
    environ = {**cluster.environ, "ZILLIZ_WORLD_PROXY": "off"}
    with registry(**environ) as connections, pytest.raises(ConnectError) as caught:
        connections["world"]
    assert caught.value.stage == "DNS"
    assert not isinstance(caught.value, RefusedError)


def test_a_topology_that_comes_late_is_waited_for(cluster: Cluster) -> None:
    cluster.topology.answers = [answering_http(503)] * 4 + [told(1, 0)]
    with registry(**cluster.environ) as connections:
        connections.autoconnect(wait=PATIENCE_S)
        assert connections["world"].ping() > 0


def test_the_doctor_looks_at_the_way_to_the_primary(cluster: Cluster) -> None:
    done = call_zconfig("doctor", "--format", "json", environ=cluster.environ)
    assert done.returncode == 0, done.stderr
    (examined,) = json.loads(done.stdout)["aliases"]
    steps = {step["stage"]: step for step in examined["stages"]}
    assert {step["state"] for step in steps.values()} == {"ok"}
    assert MEMBERS[0] in steps["TCP"]["seen"]


def test_the_doctor_says_why_there_is_no_primary(cluster: Cluster) -> None:
    cluster.topology.answers = [answering_http(404)]
    done = call_zconfig("doctor", environ=cluster.environ)
    assert done.returncode == NotGlobalClusterError.exit_code
    assert "404" in done.stdout
