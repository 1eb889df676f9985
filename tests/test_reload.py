"""Reading the configuration again: only what changed is applied, and nothing good is lost."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support.fake_milvus import PATIENCE_S, fake_milvus
from tests.support.servers import RealMilvus
from zconfig import events
from zconfig.registry import Connections
from zconfig.registry.keeper import Keeper
from zconfig.settings.load import load

Write = Callable[..., None]


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    # Or it may notice a new file before the test asks for it.
    monkeypatch.setattr(Keeper, "call", lambda _, **__: None)
    registry = Connections(lambda: load({}, tmp_path, system_secrets=str(tmp_path / "none")))
    yield registry
    registry.close()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the `.env` anew."""

    def write(**variables: str) -> None:
        text = "".join(f"ZILLIZ_{name}={value}\n" for name, value in variables.items())
        (tmp_path / ".env").write_text(text)

    return write


def heard(connections: Connections) -> list[events.Event]:
    seen: list[events.Event] = []
    connections.subscribe(seen.append)
    return seen


def test_without_a_change_nothing_is_touched(
    connections: Connections, write: Write, lite_uri: str
) -> None:
    write(A_URI=lite_uri)
    connections.reload()
    live = connections["a"]
    assert not connections.reload()
    assert connections["a"] is live
    assert live.is_open


def test_aliases_that_are_new_or_gone_are_named_and_applied(
    connections: Connections, write: Write, lite_uri: str
) -> None:
    write(A_URI=lite_uri)
    connections.reload()
    live = connections["a"]
    write(B_URI="http://127.0.0.1:1")
    changes = connections.reload()
    assert (changes.added, changes.removed, changes.changed) == (("b",), ("a",), {})
    assert list(connections) == ["b"]
    assert not live.is_open


def test_a_changed_endpoint_opens_again_on_the_next_use(
    connections: Connections, write: Write, tmp_path: Path
) -> None:
    write(A_URI=str(tmp_path / "one.db"))
    connections.reload()
    live = connections["a"]
    write(A_URI=str(tmp_path / "two.db"))
    assert connections.reload().changed == {"a": ("endpoint",)}
    assert not live.is_open
    assert connections["a"].endpoint.path == str(tmp_path / "two.db")


def test_another_endpoint_is_followed_at_once_by_those_whose_connect_is_under_way(
    connections: Connections, write: Write
) -> None:
    with fake_milvus() as silent, fake_milvus() as well, ThreadPoolExecutor(3) as threads:
        silent.hold()
        write(PROD_URI=silent.uri, PROD_TIMEOUT="60")
        connections.reload()
        asking = [threads.submit(lambda: connections["prod"]) for _ in range(3)]
        silent.wait_for(1)
        write(PROD_URI=well.uri, PROD_TIMEOUT="60")
        connections.reload()
        opened = {each.result(PATIENCE_S) for each in asking}
        assert [str(each.endpoint) for each in opened] == [well.uri]
        assert (silent.count("Connect"), well.count("Connect")) == (1, 1)
        assert connections["prod"] in opened
        silent.let_go()


def test_a_field_that_concerns_no_channel_is_taken_up_at_once(
    connections: Connections, write: Write, lite_uri: str
) -> None:
    write(A_URI=lite_uri)
    connections.reload()
    live = connections["a"]
    write(A_URI=lite_uri, A_TIMEOUT="3", A_REQUIRED="false")
    assert connections.reload().changed == {"a": ("timeout_s", "required")}
    assert connections["a"] is live
    assert live.spec.timeout_s == 3


def test_a_bad_configuration_leaves_the_old_in_place_and_says_so(
    connections: Connections, write: Write, lite_uri: str
) -> None:
    write(A_URI=lite_uri, B_URI="http://127.0.0.1:1")
    connections.reload()
    live = connections["a"]
    seen = heard(connections)
    write(A_URI="nonsense", B_URI="http://127.0.0.1:2")
    changes = connections.reload()
    assert (changes.kept, changes.changed) == (("a",), {"b": ("endpoint",)})
    assert [problem.code for problem in changes.problems] == ["missing_scheme"]
    assert connections["a"] is live
    told = [event for event in seen if isinstance(event, events.ConfigProblem)]
    assert [(event.code, event.alias) for event in told] == [("missing_scheme", "a")]


def test_what_was_added_in_code_stays(
    connections: Connections, write: Write, lite_uri: str
) -> None:
    connections.add_connection(mine={"uri": lite_uri})
    live = connections["mine"]
    write(A_URI="http://127.0.0.1:1", MINE_URI="http://127.0.0.1:2")
    assert connections.reload().added == ("a",)
    assert connections["mine"] is live


@pytest.fixture
def rotor(milvus: RealMilvus, connections: Connections) -> Iterator[Callable[[str, str], None]]:
    """Have a user `rotor` with the password `First-1`; return what changes it."""
    root = connections.connect("root", uri=milvus.uri, token="root:Milvus")
    stub = milvus_pb2_grpc.MilvusServiceStub(root.channel)

    def encoded(password: str) -> str:
        return base64.b64encode(password.encode()).decode()

    def change(old: str, new: str) -> None:
        request = milvus_pb2.UpdateCredentialRequest(
            username="rotor", oldPassword=encoded(old), newPassword=encoded(new)
        )
        assert stub.UpdateCredential(request, timeout=10).code == 0

    request = milvus_pb2.CreateCredentialRequest(username="rotor", password=encoded("First-1"))
    assert stub.CreateCredential(request, timeout=10).code == 0
    yield change
    stub.DeleteCredential(milvus_pb2.DeleteCredentialRequest(username="rotor"), timeout=10)


def test_a_changed_password_rotates_without_a_reconnect(
    connections: Connections,
    write: Write,
    milvus: RealMilvus,
    rotor: Callable[[str, str], None],
) -> None:
    write(A_URI=milvus.uri, A_USER="rotor", A_PASSWORD="First-1")
    connections.reload()
    live, channel = connections["a"], connections["a"].channel
    seen = heard(connections)
    rotor("First-1", "Second-2")
    write(A_URI=milvus.uri, A_USER="rotor", A_PASSWORD="Second-2")
    assert connections.reload().changed == {"a": ("credentials",)}
    assert connections["a"] is live
    assert live.channel is channel
    assert live.ping() > 0
    (rotated,) = [event for event in seen if isinstance(event, events.ConnectionRotated)]
    assert (rotated.alias, rotated.origin) == ("a", "ZILLIZ_A_PASSWORD (.env:3)")
    assert not any(isinstance(event, events.ConnectionClosed) for event in seen)


def test_new_credentials_that_the_server_rejects_are_not_taken_up(
    connections: Connections, write: Write, milvus: RealMilvus
) -> None:
    write(A_URI=milvus.uri, A_TOKEN="root:Milvus")
    connections.reload()
    live = connections["a"]
    seen = heard(connections)
    write(A_URI=milvus.uri, A_TOKEN="root:wrong")
    changes = connections.reload()
    assert (changes.kept, changes.changed) == (("a",), {})
    assert connections["a"] is live
    assert live.ping() > 0
    told = [event for event in seen if isinstance(event, events.ConfigProblem)]
    assert [(event.code, event.alias) for event in told] == [("rotation_refused", "a")]
    assert not any("wrong" in repr(event) for event in seen)


def test_an_alias_that_is_not_connected_takes_up_anything(
    connections: Connections, write: Write, milvus: RealMilvus
) -> None:
    write(A_URI=milvus.uri, A_TOKEN="root:wrong")
    connections.reload()
    write(A_URI=milvus.uri, A_TOKEN="root:Milvus")
    assert connections.reload().changed == {"a": ("credentials",)}
    assert connections["a"].ping() > 0
