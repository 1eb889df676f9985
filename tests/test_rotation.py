"""New credentials: taken up without a reconnect, and without a failed call."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support import PATIENCE_S
from tests.support.ears import Ears
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig import events
from zconfig._channel.bound_channel import BoundChannel
from zconfig._connection import State, credentials, monitor
from zconfig._registry import Connections
from zconfig._registry.background import BackgroundWorker
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.base import SourceResult
from zconfig.errors import (
    AutoconnectError,
    ClosedError,
    ConnectError,
    RejectedCredentialsError,
)
from zconfig.testing import FakeServer, fake_server

pytestmark = pytest.mark.usefixtures("patient_diagnosis")

GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        fake.accept("key-1")
        yield fake


class Source:
    """A `.env` with a URI, and a secret file that it names.

    Attributes:
        reads: How often reading them has begun.
        answered: How often it has ended.
    """

    def __init__(self, directory: Path, uri: str) -> None:
        self._directory = directory
        self.secret = directory / "token"
        self.reads = self.answered = 0
        self.on_read: Callable[[], object] = lambda: None
        self.point_at(uri)

    def point_at(self, uri: str, *others: str) -> None:
        names = [f"ZILLIZ_{alias.upper()}" for alias in ("prod", *others)]
        text = "".join(f"{n}_URI={uri}\n{n}_TOKEN_FILE={self.secret}\n" for n in names)
        (self._directory / ".env").write_text(text)

    def write(self, secret: str) -> None:
        """Write the secret anew, as those do who know how: never half of it."""
        new = self.secret.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(f"{secret}\n")
        new.rename(self.secret)

    @contextmanager
    def connections(self) -> Iterator[Connections]:
        def read() -> Any:
            self.reads += 1
            if self.reads > 1:
                self.on_read()
            self.answered += 1
            return load({}, self._directory, system_secrets=str(self._directory / "none"))

        registry = Connections(read)
        try:
            yield registry
        finally:
            registry.close()


@pytest.fixture
def source(tmp_path: Path, server: FakeServer) -> Source:
    source = Source(tmp_path, server.uri)
    source.write("key-1")
    return source


def sent(server: FakeServer, method: str = "GetVersion") -> list[str]:
    """Return the secrets that came along with the calls of a method."""
    return [call.token.reveal() for call in server.calls(method) if call.token]


# --- a secret file that is rewritten --------------------------------------------------------


def test_a_rewritten_secret_file_rotates_by_itself(source: Source, server: FakeServer) -> None:
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        server.accept("key-1", "key-2")
        source.write("key-2")
        rotated = ears.wait_for(events.ConnectionRotated)
        assert (rotated.alias, rotated.endpoint) == ("prod", server.uri)
        assert str(source.secret) in rotated.origin
        assert rotated.elapsed_ms > 0
        connection.ping()
    assert sent(server) == ["key-2"]
    assert len(server.peers()) == 1
    assert not ears.of(events.ConnectionLost)


def test_what_code_connects_just_as_it_is_configured_takes_newer_credentials_and_goes_on_rotating(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections:
        ears = Ears(connections)
        assert connections.configuration.aliases  # read with the first key
        source.write("key-2")
        server.accept("key-2")
        connections.connect("prod", db_name="default").ping()
        assert connections.spec("prod").credentials == connections["prod"].spec.credentials
        server.accept("key-2", "key-3")
        source.write("key-3")
        ears.wait_for(events.ConnectionRotated)
    assert sent(server, "Connect")[:2] == ["key-1", "key-2"]


@pytest.mark.parametrize("form", ["dotenv", "named file", "secrets directory"])
def test_a_file_with_a_relative_path_rotates_after_a_change_of_directory(
    form: str, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, file = {
        "dotenv": ("", tmp_path / ".env"),
        "named file": ("ZILLIZ_TOKEN_FILE=./token", tmp_path / "token"),
        "secrets directory": ("ZCONFIG_SECRETS_DIR=secrets", tmp_path / "secrets" / "zilliz_token"),
    }[form]

    def write(secret: str) -> None:
        file.parent.mkdir(exist_ok=True)
        text = f"ZILLIZ_URI={server.uri}\nZILLIZ_TOKEN={secret}\n" if form == "dotenv" else secret
        file.touch(mode=0o600)
        file.write_text(text)

    (tmp_path / ".env").write_text(f"ZILLIZ_URI={server.uri}\n{line}\n")
    write("key-1")
    server.accept("key-1", "key-2")
    connections = Connections(lambda: load({}, tmp_path, system_secrets=str(tmp_path / "none")))
    with closing(connections):
        ears = Ears(connections)
        assert connections.default.ping() > 0
        monkeypatch.chdir("/")
        write("key-2")
        ears.wait_for(events.ConnectionRotated)


def test_the_swap_of_a_whole_directory_rotates(
    source: Source, server: FakeServer, tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "token").write_text(f"key-{number}")
    (tmp_path / "..data").symlink_to("..1")
    source.secret.unlink()
    source.secret.symlink_to(Path("..data") / "token")
    server.accept("key-1", "key-2")
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        ears.wait_for(events.ConnectionRotated)
        connection.ping()
    assert sent(server) == ["key-2"]


def test_wrong_new_credentials_are_refused_and_reported_once_and_the_old_stay(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        source.write("key-of-nobody")
        problem = ears.wait_for(events.ConfigProblem)
        assert (problem.code, problem.alias) == ("rotation_refused", "prod")
        assert problem.origin
        assert str(source.secret) in problem.origin
        assert "key-of-nobody" not in problem.problem
        assert connection.ping() > 0
        assert connection.state is State.READY
        assert sent(server, "Connect").count("key-of-nobody") == 1
        assert len(ears.of(events.ConfigProblem)) == 1
    assert sent(server) == ["key-1"]


def test_credentials_for_another_endpoint_are_not_sent_to_this_one(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections, fake_server() as other:
        connection = connections["prod"]
        before = source.reads
        source.point_at(other.uri)
        source.write("key-of-the-other")
        while source.reads == before:  # the keeper has read them
            threading.Event().wait(0.01)
        assert connection.ping() > 0
        assert set(sent(server, "Connect")) == set(sent(server)) == {"key-1"}
        connections.reload()
        assert connections["prod"].ping() > 0
        assert set(sent(other)) == {"key-of-the-other"}


def test_what_code_configured_is_not_replaced_by_a_file(source: Source, server: FakeServer) -> None:
    with source.connections() as connections:
        connection = connections.connect("prod", token="key-1")
        server.accept("key-2")
        source.write("key-2")
        with pytest.raises(RejectedCredentialsError):
            connection.ping()


# --- credentials that are refused ------------------------------------------------------------


def calls(connection: Any) -> list[Callable[[], object]]:
    stub = connection.channel.unary_unary(GET_VERSION)
    return [
        connection.ping,
        lambda: stub(b"", timeout=PATIENCE_S),
        lambda: stub.with_call(b"", timeout=PATIENCE_S),
        lambda: stub.future(b"", timeout=PATIENCE_S).result(),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_call_whose_credentials_were_replaced_succeeds_with_the_new_ones(
    source: Source, server: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        server.accept("key-2")
        source.write("key-2")
        calls(connection)[number]()
        assert len(ears.of(events.ConnectionRotated)) == 1
    assert sent(server) == ["key-1", "key-2"]


@contextmanager
def slow(source: Source) -> Iterator[threading.Event]:
    """Have the source not answer before an event is set; it is when this ends."""
    answers = threading.Event()
    source.on_read = lambda: answers.wait(PATIENCE_S)
    try:
        yield answers
    finally:
        answers.set()


SHORT_S = 1.5  # for an answer, and to wait in vain for what the answer leads to


@pytest.mark.parametrize("how", ["ping", "health", "call", "with_call", "future"])
def test_a_call_waits_no_longer_for_a_slow_source_than_its_timeout_and_the_next_one_has_the_answer(
    source: Source, server: FakeServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections, slow(source) as answers:
        ears = Ears(connections)
        connection = connections["prod"]
        stub = connection.channel.unary_unary(GET_VERSION)
        call: Callable[[], object] = {
            "ping": lambda: connection.ping(SHORT_S),
            "health": lambda: connection.health(SHORT_S),
            "call": lambda: stub(b"", timeout=SHORT_S),
            "with_call": lambda: stub.with_call(b"", timeout=SHORT_S),
            "future": lambda: stub.future(b"", timeout=SHORT_S).result(),
        }[how]
        server.accept("key-2")
        source.write("key-2")
        for _ in range(2):
            with pytest.raises((grpc.RpcError, RejectedCredentialsError)):
                call()
            assert source.answered == 1
        assert source.reads == 2  # the second call waits for what the first one began
        answers.set()
        ears.wait_for(events.ConnectionRotated)
        call()


def test_a_connect_waits_no_longer_for_a_slow_source_than_its_timeout(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections, slow(source) as answers:
        server.accept("key-2")
        source.write("key-2")
        for _ in range(2):
            with pytest.raises(AutoconnectError, match="rejected"):
                connections.autoconnect(timeout=SHORT_S)
            assert source.answered == 1
        assert source.reads == 2
        answers.set()
        assert connections.autoconnect()["prod"].is_open


def test_a_slow_source_of_one_alias_keeps_no_other_one_waiting(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    source.point_at(server.uri, "other")
    with source.connections() as connections, slow(source):
        one, other = connections["prod"], connections["other"]
        server.accept("key-2")
        source.write("key-2")
        with pytest.raises(RejectedCredentialsError):
            one.ping(SHORT_S)
        source.on_read = lambda: None
        assert other.ping() > 0
        assert source.answered == 2


def test_only_the_source_that_the_refused_credentials_came_from_is_read_again(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, token = [], {"a": "key-1", "b": "key-1"}

    def plugin(alias: str) -> SimpleNamespace:
        def variables(environ: Mapping[str, str]) -> dict[str, str]:
            if environ.get("READ_FOR") == "this test":  # and for no other registry of the process
                read.append(alias)
            name = f"ZILLIZ_{alias.upper()}"
            return {f"{name}_URI": server.uri, f"{name}_TOKEN": token[alias]}

        return SimpleNamespace(name=alias, value=f"{alias}:read", load=lambda: variables)

    def everything(known: Sequence[SourceResult] = ()) -> Configuration:
        nowhere = str(tmp_path / "none")
        return load({"READ_FOR": "this test"}, tmp_path, system_secrets=nowhere, known=known)

    plugins = [plugin("a"), plugin("b")]
    monkeypatch.setattr("zconfig._sources.remote.entry_points", lambda **_: plugins)
    connections = Connections(everything, load_beside=everything)
    with closing(connections):
        one, other = connections["a"], connections["b"]
        assert read == ["a", "b"]
        server.accept("key-2")
        token["b"] = "key-2"
        assert other.ping() > 0
        assert read == ["a", "b", "b"]
        token["a"] = "key-2"
        assert one.ping() > 0
        assert read == ["a", "b", "b", "a"]


def rotate_twice(source: Source, server: FakeServer) -> None:
    """Have the first new credentials refused, and others there when they are read once more."""
    server.accept("key-3")
    source.write("key-2")
    first = source.reads + 1
    source.on_read = lambda: source.reads > first and source.write("key-3")


@pytest.mark.parametrize("number", range(4))
def test_a_call_outlives_a_second_rotation_that_follows_the_first_closely(
    source: Source, server: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        rotate_twice(source, server)
        calls(connection)[number]()
        assert len(ears.of(events.ConnectionRotated)) == 1
        assert not ears.of(events.ConfigProblem)
    assert sent(server, "Connect") == ["key-1", "key-2", "key-3"]


def rotate_and_leave(source: Source, server: FakeServer, calls_away: int) -> None:
    """Have the server go away before it can say what it thinks of new credentials."""

    def leave() -> None:
        server.fail(grpc.StatusCode.UNAVAILABLE, "it is away", times=calls_away)
        source.on_read = lambda: None

    server.accept("key-2")
    source.write("key-2")
    source.on_read = leave


@pytest.mark.parametrize("number", range(4))
def test_a_call_whose_server_goes_away_while_it_is_renewed_fails_of_that(
    source: Source, server: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        rotate_and_leave(source, server, calls_away=99)
        with pytest.raises((ConnectError, grpc.RpcError)) as caught:
            calls(connection)[number]()
        assert not isinstance(caught.value, RejectedCredentialsError)
        if isinstance(caught.value, grpc.RpcError):
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not ears.of(events.ConfigProblem)


@pytest.mark.parametrize("number", range(4))
def test_a_call_whose_server_is_back_at_once_is_made_with_the_new_credentials(
    source: Source, server: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections:
        connection = connections["prod"]
        rotate_and_leave(source, server, calls_away=1)
        calls(connection)[number]()
    assert sent(server)[-1] == "key-2"


def test_calls_that_are_refused_together_ask_a_server_that_goes_away_once(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackgroundWorker, "call", lambda *_, **__: None)  # or it would ask as well
    with source.connections() as connections, ThreadPoolExecutor(8) as pool:
        connection = connections["prod"]
        rotate_and_leave(source, server, calls_away=9)
        everyone = threading.Barrier(8, timeout=PATIENCE_S)
        renew = connection._managed.refresher.renew

        def together(line: BoundChannel, timeout_s: float | None) -> BoundChannel | None:
            everyone.wait()
            return renew(line, timeout_s)

        monkeypatch.setattr(connection._managed.refresher, "renew", together)
        failures = list(pool.map(lambda n: refused(calls(connection)[1 + n % 3]), range(8)))
        assert {each.code() for each in failures} == {grpc.StatusCode.UNAVAILABLE}
    assert sent(server, "Connect").count("key-2") == 1


def refused(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("number", range(4))
def test_a_call_whose_connection_is_closed_while_it_is_renewed_hears_of_that(
    source: Source, server: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections:
        connection = connections["prod"]
        server.accept("key-2")
        source.on_read = lambda: connections.disconnect("prod")
        with pytest.raises(ClosedError):
            calls(connection)[number]()


@pytest.mark.parametrize("number", range(4))
def test_a_call_whose_connection_is_reopened_while_it_is_renewed_is_made_there(
    source: Source, server: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing

    def reopen() -> None:
        server.accept("key-1")
        connection._managed.replace_spec(replace(connection.spec, pool_size=2))

    with source.connections() as connections:
        connection = connections["prod"]
        server.accept("key-of-another")
        source.on_read = reopen
        calls(connection)[number]()
    assert len(server.peers()) == 2


def test_a_future_of_a_connection_that_is_closed_while_it_is_renewed_has_the_error(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections:
        future = connections["prod"].channel.unary_unary(GET_VERSION).future
        server.accept("key-2")
        source.on_read = lambda: connections.disconnect("prod")
        refused = future(b"")
        assert isinstance(refused.exception(), ClosedError)
        with pytest.raises(ClosedError):
            refused.result()
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED


def test_new_credentials_that_stay_refused_are_reported_once(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "credentials_stamp", lambda _: {})  # the keeper sees nothing
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        server.accept("key-3")
        source.write("key-2")
        with pytest.raises(RejectedCredentialsError):
            connection.ping()
        assert [each.code for each in ears.of(events.ConfigProblem)] == ["rotation_refused"]
    assert sent(server, "Connect") == ["key-1", *["key-2"] * (1 + len(credentials.PAUSES_S))]


def test_credentials_that_were_replaced_before_the_first_connect_are_found(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections, ThreadPoolExecutor(8) as pool:
        server.accept("key-2")
        source.write("key-2")
        found = set(pool.map(lambda _: id(connections["prod"]), range(8)))
        assert found == {id(connections["prod"])}
        assert connections.autoconnect()["prod"].ping() > 0
        assert source.reads == 2
    # Who had looked the alias up before the others read again may have tried the old one once more.
    tried = sent(server, "Connect")
    assert (tried[0], set(tried[:-1]), tried[-1]) == ("key-1", {"key-1"}, "key-2")


def test_who_looked_an_alias_up_before_its_rotation_gets_its_connection(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections:
        registry = connections._registry
        looked_up = registry.table.spec("prod")
        server.accept("key-2")
        source.write("key-2")
        connection = connections["prod"]
        assert registry.open(looked_up, registry.intent(looked_up)) is connection


def test_what_a_reload_is_refused_with_is_not_tried_by_the_keeper_once_more(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source.connections() as connections:
        ears = Ears(connections)
        monkeypatch.setattr(BackgroundWorker, "call", lambda *_, **__: None)
        connections["prod"]
        reading, noticed = threading.Event(), threading.Event()
        source.on_read = lambda: (reading.set(), noticed.wait(PATIENCE_S))
        source.write("wrong")
        with ThreadPoolExecutor(2) as pool:
            reloaded = pool.submit(connections.reload)
            assert reading.wait(PATIENCE_S)
            (chore,) = connections._registry._tasks()
            looked = pool.submit(chore.check)
            wait([looked], 0.2)  # it has seen the new file, and waits for who reads it
            noticed.set()
            assert reloaded.result().kept == ("prod",)
            looked.result()
        assert source.reads == 2
        assert len(ears.of(events.ConfigProblem)) == 1


def test_a_connect_that_is_refused_reads_the_sources_once_more_and_gives_up(
    source: Source, server: FakeServer
) -> None:
    server.accept("key-of-another")
    with source.connections() as connections:
        with pytest.raises(RejectedCredentialsError):
            connections["prod"]
        assert source.reads == 2
    assert sent(server, "Connect") == ["key-1"]


def test_credentials_in_code_that_are_refused_are_not_replaced(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections:
        with pytest.raises(RejectedCredentialsError):
            connections.connect("prod", token="wrong")
        assert connections["prod"].ping() > 0
    assert sent(server, "Connect") == ["wrong", "key-1"]


def test_refused_credentials_are_read_again_once_and_not_for_each_call(
    source: Source, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "BETWEEN_RENEWALS_S", 3600.0)  # the calls may take long here
    with source.connections() as connections, ThreadPoolExecutor(8) as pool:
        connection = connections["prod"]
        before = source.reads
        server.accept("key-of-another")

        def fail(number: int) -> None:
            with pytest.raises((RejectedCredentialsError, grpc.RpcError)):
                calls(connection)[number % 4]()

        list(pool.map(fail, range(200)))
        assert source.reads == before + 1
        assert len(sent(server)) == 200


def test_a_connection_that_is_refused_for_good_is_lost_until_it_has_new_credentials(
    source: Source, server: FakeServer
) -> None:
    with source.connections() as connections:
        ears = Ears(connections)
        connection = connections["prod"]
        server.accept("key-of-another")
        connection._managed.report_failure(connection._managed.bound)  # type: ignore[arg-type] # open
        assert ears.wait_for(events.ConnectionLost).cause == RejectedCredentialsError.cause
        server.accept("key-2")
        source.write("key-2")
        ears.wait_for(events.ConnectionRotated)
        ears.wait_for(events.ConnectionRecovered)
        assert connection.ping() > 0


# --- the real server, under load -------------------------------------------------------------


@pytest.fixture
def change_password(milvus: RealMilvus) -> Iterator[Callable[[str, str], None]]:
    """Have a user `turner` with the password `First-1`; return what changes it."""
    secret = base64.b64encode(CREDENTIALS.encode()).decode()
    metadata = (("authorization", secret),)
    with grpc.insecure_channel(milvus.uri.removeprefix("http://")) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)

        def encoded(password: str) -> str:
            return base64.b64encode(password.encode()).decode()

        def change(old: str, new: str) -> None:
            request = milvus_pb2.UpdateCredentialRequest(
                username="turner", oldPassword=encoded(old), newPassword=encoded(new)
            )
            assert stub.UpdateCredential(request, timeout=10, metadata=metadata).code == 0

        request = milvus_pb2.CreateCredentialRequest(username="turner", password=encoded("First-1"))
        assert stub.CreateCredential(request, timeout=10, metadata=metadata).code == 0
        yield change
        gone = milvus_pb2.DeleteCredentialRequest(username="turner")
        stub.DeleteCredential(gone, timeout=10, metadata=metadata)


@contextmanager
def under_load(connection: Any) -> Iterator[list[object]]:
    """Call from four threads, in each way; return what failed."""
    failures: list[object] = []
    stop = threading.Event()

    def call_until_stopped(call: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                call()
            except Exception as error:  # noqa: BLE001 - each one counts
                failures.append(error)

    threads = [threading.Thread(target=call_until_stopped, args=[c]) for c in calls(connection)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def test_a_changed_password_costs_no_call_under_load(
    tmp_path: Path, milvus: RealMilvus, change_password: Callable[[str, str], None]
) -> None:
    source = Source(tmp_path, milvus.uri)
    source.write("turner:First-1")
    with source.connections() as connections:
        ears = Ears(connections)
        with under_load(connections["prod"]) as failures:
            for number, (old, new) in enumerate([("First-1", "Second-2"), ("Second-2", "Third-3")]):
                source.write(f"turner:{new}")
                change_password(old, new)
                ears.wait_for(events.ConnectionRotated, number + 1)
        assert failures == []
        assert ears.names().count("connected") == 1
        assert not ears.of(events.ConnectionLost)


def test_a_reload_rotates_without_a_failed_call_under_load(
    tmp_path: Path, milvus: RealMilvus, change_password: Callable[[str, str], None]
) -> None:
    source = Source(tmp_path, milvus.uri)
    source.write("turner:First-1")
    with source.connections() as connections:
        ears = Ears(connections)
        with under_load(connections["prod"]) as failures:
            for secret in (CREDENTIALS, "turner:First-1", CREDENTIALS):
                source.write(secret)
                connections.reload()
        assert failures == []
        assert ears.names().count("connected") == 1
        assert connections.spec("prod").credentials is not None
        assert connections.spec("prod").credentials.user == "root"  # type: ignore[union-attr] # above
