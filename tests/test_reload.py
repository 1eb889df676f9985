"""Reading the configuration again: only what changed is applied, and nothing good is lost."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from tests.support import PATIENCE_S
from tests.support.servers import RealMilvus
from zconfig import events
from zconfig._registry import Connections, registry_of, specs
from zconfig._registry.autoconnect import select_aliases
from zconfig._registry.background import BackgroundWorker
from zconfig._registry.config_events import events_of
from zconfig._registry.specs import SpecTable
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.environment import fingerprint
from zconfig._spec import ConnectionSpec
from zconfig.aio.async_connections import AsyncConnections
from zconfig.errors import ClosedError, EmbeddedServerError, RefusedError, UnknownAliasError
from zconfig.health import Readiness
from zconfig.testing import fake_server

Write = Callable[..., None]


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    # Or it may notice a new file before the test asks for it.
    monkeypatch.setattr(BackgroundWorker, "call", lambda *_, **__: None)
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
    with fake_server() as silent, fake_server() as well, ThreadPoolExecutor(3) as threads:
        silent.hold()
        write(PROD_URI=silent.uri, PROD_TIMEOUT="60")
        connections.reload()
        asking = [threads.submit(lambda: connections["prod"]) for _ in range(3)]
        silent.wait_for("Connect")
        write(PROD_URI=well.uri, PROD_TIMEOUT="60")
        connections.reload()
        opened = {each.result(PATIENCE_S) for each in asking}
        assert [str(each.endpoint) for each in opened] == [well.uri]
        assert (len(silent.calls("Connect")), len(well.calls("Connect"))) == (1, 1)
        assert connections["prod"] in opened
        silent.recover()


def test_a_lookup_that_a_reload_overtakes_connects_to_the_new_endpoint(
    connections: Connections, write: Write
) -> None:
    with fake_server() as old, fake_server() as new:
        write(PROD_URI=old.uri)
        connections.reload()
        registry, looked_up = connections._registry, connections.spec("prod")
        intent = registry.intent(looked_up)
        write(PROD_URI=new.uri)
        connections.reload()
        assert str(registry.open(looked_up, intent).endpoint) == new.uri
        assert len(old.calls("Connect")) == 0


def remove_by_call(connections: Connections, write: Write) -> None:
    connections.remove_connection("prod")


def remove_by_reload(connections: Connections, write: Write) -> None:
    write()
    connections.reload()


@pytest.mark.parametrize("remove", [remove_by_call, remove_by_reload])
def test_a_lookup_that_a_removal_overtakes_connects_nowhere(
    connections: Connections, write: Write, remove: Callable[[Connections, Write], None]
) -> None:
    with fake_server() as server:
        write(PROD_URI=server.uri)
        connections.reload()
        registry, looked_up = connections._registry, connections.spec("prod")
        intent = registry.intent(looked_up)
        remove(connections, write)
        with pytest.raises(ClosedError):
            registry.open(looked_up, intent)
        assert not connections.has_connection("prod")
        assert len(server.calls("Connect")) == 0


def test_an_alias_that_is_used_while_it_is_removed_is_not_opened_again(
    connections: Connections, write: Write
) -> None:
    def use(_: events.Event) -> None:
        with suppress(UnknownAliasError):
            connections["prod"].ping()
        used.append("prod")

    used: list[str] = []
    with fake_server() as server:
        write(PROD_URI=server.uri)
        connections.reload()
        connections["prod"].ping()
        connections.subscribe(use, events.ConnectionClosed)
        connections.remove_connection("prod")
        assert used == ["prod"]
        assert not connections.has_connection("prod")


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


# --- between the import and the first use -------------------------------------------------------


class Imported:
    """A registry as `import zconfig` makes it, of an environment that changes afterwards."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.environ = dict(environ)
        self.reads = 0
        self._directory = directory
        at_import = fingerprint(self.environ)
        self.connections = Connections(
            self.read, self.read, lambda: fingerprint(self.environ) != at_import
        )

    def read(self) -> Configuration:
        self.reads += 1
        return load(self.environ, self._directory, system_secrets=str(self._directory / "none"))


async def on_a_loop(connections: Connections) -> None:
    faces = AsyncConnections(connections)
    with pytest.raises(RefusedError):
        await faces.get("late")
    await faces.close()


def dialed(connections: Connections) -> None:
    with pytest.raises(RefusedError):
        connections["late"]


FIRST_USES: dict[str, Callable[[Connections], object]] = {
    "looked up": dialed,
    "in": lambda connections: "late" in connections or pytest.fail("it is not there"),
    "listed": lambda connections: connections.list_connections(),
    "explained": lambda connections: connections.explain("late"),
    "specified": lambda connections: connections.spec("late"),
    "an address": lambda connections: connections.get_connection_addr("late")["uri"],
    "health": lambda connections: Readiness(connections).status().aliases["late"],
    "asyncio": lambda connections: asyncio.run(on_a_loop(connections)),
    "code adds": lambda connections: connections.add_connection(more={"uri": "./x.db"}),
}


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES.keys())
def test_what_is_set_after_the_import_is_read_by_the_first_use(
    use: Callable[[Connections], object], tmp_path: Path
) -> None:
    imported = Imported(tmp_path, ZILLIZ_OLD_URI="http://127.0.0.1:1")
    connections = imported.connections
    imported.environ |= {"ZILLIZ_LATE_URI": "http://127.0.0.1:1", "ZILLIZ_OLD_TOKEN": "key"}
    assert "late" not in repr(connections)
    with closing(connections):
        use(connections)
        assert imported.reads == 2
        assert "late" in connections
        assert connections.spec("old").credentials is not None


def test_without_a_change_of_our_variables_the_first_use_reads_nothing(tmp_path: Path) -> None:
    imported = Imported(tmp_path, ZILLIZ_URI="http://127.0.0.1:1")
    imported.environ["HOME"] = "/elsewhere"
    assert list(imported.connections) == ["default"]
    imported.environ["ZILLIZ_LATE_URI"] = "http://127.0.0.1:1"
    assert list(imported.connections) == ["default"]  # the first use was before
    assert imported.reads == 1


def test_what_is_set_after_the_import_is_read_once_by_many_threads(tmp_path: Path) -> None:
    imported = Imported(tmp_path)
    imported.environ["ZILLIZ_LATE_URI"] = "http://127.0.0.1:1"
    heard_of = heard(imported.connections)
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: "late" in imported.connections, range(8)))
    assert (found, imported.reads) == ([True] * 8, 2)
    imported.connections.keep_trying("late")
    imported.connections.close()
    assert [event.aliases for event in heard_of if isinstance(event, events.ConfigLoaded)] == [
        ("late",)
    ]


def test_a_problem_of_the_import_that_is_corrected_before_the_first_use_is_gone(
    tmp_path: Path,
) -> None:
    imported = Imported(tmp_path, ZILLIZ_URI="nonsense")
    imported.environ["ZILLIZ_URI"] = "http://127.0.0.1:1"
    assert imported.connections.configuration.problems == ()


@pytest.mark.parametrize(
    ("environ", "made"),
    [
        ({}, ".env"),
        ({"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN_FILE": "tok"}, "tok"),
        ({"ZCONFIG_ENV_FILE": "late.env"}, "late.env"),
        ({"ZILLIZ_URI": "http://127.0.0.1:1", "ZCONFIG_SECRETS_DIR": "made"}, "made/zilliz_token"),
    ],
)
def test_a_file_that_was_missing_at_the_import_is_read_by_the_first_use(
    environ: dict[str, str], made: str, tmp_path: Path
) -> None:
    imported = Imported(tmp_path, **environ)
    path = tmp_path / made
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_text("key" if "tok" in made else "ZILLIZ_URI=http://127.0.0.1:1\nZILLIZ_TOKEN=key\n")
    spec = imported.connections.spec("default")
    assert (spec.endpoint.uri, bool(spec.credentials)) == ("http://127.0.0.1:1", True)
    assert imported.connections.configuration.errors == ()


def test_an_override_before_the_first_use_leaves_that_to_come(tmp_path: Path) -> None:
    imported = Imported(tmp_path)
    imported.environ["ZILLIZ_LATE_URI"] = "http://127.0.0.1:1"
    with imported.connections.override({"docs": {"uri": "http://127.0.0.1:1"}}):
        assert list(imported.connections) == ["docs"]
    assert list(imported.connections) == ["late"]


def test_a_database_may_get_its_directory_after_it_was_configured(
    connections: Connections, write: Write, tmp_path: Path
) -> None:
    write(URI=f"{tmp_path}/data/app.db")
    connections.reload()
    assert connections.configuration.problems == ()
    with pytest.raises(EmbeddedServerError, match=r"the directory .*data does not exist"):
        connections.connect()
    (tmp_path / "data").mkdir()
    assert connections.connect().is_open


def test_a_reload_keeps_an_override(connections: Connections, write: Write) -> None:
    write(PROD_URI="http://127.0.0.1:9", PROD_TOKEN="of-production")
    with connections.override({"docs": {"uri": "http://127.0.0.1:1"}}):
        assert not connections.reload()
        assert [*connections] == ["docs"]
    assert connections.reload().added == ("prod",)


LISTING: dict[str, Callable[[Connections], object]] = {
    "stats": Connections.stats,
    "secrets": Connections.secrets,
    "reload": Connections.reload,
    "autoconnect": lambda connections: select_aliases(registry_of(connections).known, ()),
    "events": lambda connections: events_of(registry_of(connections).known),
}


@pytest.mark.parametrize("listed", LISTING.values(), ids=LISTING.keys())
def test_an_alias_that_is_removed_while_the_aliases_are_listed_disturbs_nobody(
    listed: Callable[[Connections], object],
    connections: Connections,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convert, compare = specs.spec_of, specs.differences

    def converted(alias: str, configuration: Configuration) -> ConnectionSpec:
        if alias == "a":
            listed_on.remove_connection("b")
        return convert(alias, configuration)

    def compared(old: ConnectionSpec, new: ConnectionSpec) -> tuple[str, ...]:
        listed_on.remove_connection("b")
        return compare(old, new)

    write(A_URI="http://127.0.0.1:9", B_URI="http://127.0.0.1:9")
    connections.reload()
    with closing(Connections(lambda: connections.configuration)) as listed_on:
        monkeypatch.setattr(specs, "spec_of", converted)
        monkeypatch.setattr(specs, "differences", compared)
        listed(listed_on)


def test_what_is_added_while_a_reload_replaces_the_aliases_is_not_lost(
    connections: Connections, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add() -> None:
        connections.add_connection(c={"uri": "http://127.0.0.1:9"})

    class Table(SpecTable):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            tables.append(self)
            if len(tables) == 3:  # the one that replaces that of the registry
                thread.start()
                thread.join(1)  # it may go on only after the reload

    tables: list[SpecTable] = []
    thread = Thread(target=add)
    write(A_URI="http://127.0.0.1:9")
    list(connections.stats())
    monkeypatch.setattr("zconfig._registry.registry.SpecTable", Table)
    connections.reload()
    thread.join()

    assert [*connections] == ["a", "c"]
