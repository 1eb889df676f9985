"""A secret's value appears nowhere: driven through every source and every failure, and looked for.

The secret has pieces without odd characters, which survive every escaping, and which are looked
for in plain text and in base64. Looked for in all that loggers, debuggers and error trackers take
from an error, and from every object of ours that can be reached.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import dataclasses
import gc
import inspect
import json
import logging
import os
import pickle
import socket
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import boto3  # type: ignore[import-untyped]  # it has no types of its own
import grpc
import orjson
import pydantic_core
import pytest
import structlog
from click.testing import CliRunner
from moto import mock_aws
from pydantic import BaseModel, TypeAdapter
from rich.traceback import Traceback

import zconfig
from tests.support import faults
from tests.support.certificates import Certificates
from tests.support.matrix import CELLS, Cell
from tests.support.processes import run_python
from tests.support.registries import registry
from tests.support.servers import RealMilvus
from zconfig import errors
from zconfig._channel import messages
from zconfig._cli.app import zconfig as command
from zconfig._cli.inspect import explanation_parts
from zconfig._cli.options import FORMATS
from zconfig._cli.render import draw, render, render_json
from zconfig._cli.report import check_aliases, list_aliases
from zconfig._connection.attempt import Attempt
from zconfig._connection.error_mapping import probe_target
from zconfig._diagnosis import HostEnvironment, stages
from zconfig._endpoint import EndpointError, parse_uri, split_userinfo
from zconfig._redaction import MASK
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig._sources import remote
from zconfig._sources.base import SourceResult
from zconfig._sources.dotenv import read_dotenv
from zconfig._sources.environment import (
    EnvironmentView,
    process_environment,
    read_environment,
    split_milvus,
)
from zconfig._sources.remote import manager_readings
from zconfig._sources.secrets_dir import read_secrets_dir
from zconfig._sources.service_binding import read_service_bindings
from zconfig.testing import fake_server

PACKAGE = Path(zconfig.__file__).parent

# --- the canary ------------------------------------------------------------------------------

PIECES = ("cAn4ry", "S3cret")
CANARY = "cAn4ry+S3cret/with?odd=char$"
# Renderers of tracebacks cut what is longer than 80 characters.
LONG_CANARY = f"cAn4ry-{'0123456789abcdef' * 12}/S3cret+x"


def aligned(piece: str) -> Iterator[str]:
    """Yield what base64 makes of a piece, wherever in the encoded text it stands."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + piece.encode()).decode()
        yield encoded[-(-8 * before // 6) : 8 * (before + len(piece)) // 6]


TRACES = (*PIECES, *(trace for piece in PIECES for trace in aligned(piece)))


def traces_in(text: str | bytes) -> list[str]:
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    return [trace for trace in TRACES if trace in text]


def assert_no_canary(*shown: str | bytes) -> None:
    for text in shown:
        assert not (found := traces_in(text)), f"{found} in: {text!r}"


@pytest.mark.parametrize("secret", [CANARY, LONG_CANARY])
@pytest.mark.parametrize(
    "form",
    [
        str,
        repr,
        json.dumps,
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"root:{text}".encode()).decode(),
        lambda text: base64.b64encode(f"db_admin:{text}".encode()).decode(),
        lambda text: repr(pickle.dumps(text)),
        lambda text: text[:10],
    ],
)
def test_the_canary_would_be_found(secret: str, form: Callable[[str], str]) -> None:
    assert traces_in(f"x{form(secret)}y")


# --- what is shown of an error ---------------------------------------------------------------


def shown_of(error: BaseException) -> Iterator[str]:
    """Yield all that loggers, debuggers and error trackers take from an error and its relatives."""
    seen: dict[int, object] = {}
    for each in family(error):
        yield f"{each!s} {each!r} {each.args!r} {vars(each)!r}"
        yield from serialised(each)
        yield from rendered(each.with_traceback(our_part(each.__traceback__)), seen)
    yield from reachable_texts(error)


def family(error: BaseException, known: tuple[BaseException, ...] = ()) -> list[BaseException]:
    """Return an error and those that it was raised from, was raised during, or holds."""
    if error in known:
        return []
    held = [*error.args, *vars(error).values()]
    held += [value for each in held if isinstance(each, Mapping) for value in each.values()]
    found = [error]
    for each in (error.__cause__, error.__context__, *held):
        if isinstance(each, BaseException):
            found += family(each, (*known, *found))
    return found


def our_part(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback from our first frame on: tests, which come before, have the secret."""
    while trace and not is_ours(trace.tb_frame):
        trace = trace.tb_next
    return trace


def is_ours(frame: types.FrameType) -> bool:
    return PACKAGE in Path(frame.f_code.co_filename).parents


def serialised(value: Any) -> Iterator[str]:
    """Yield what copying, pickling and JSON make of a value, or say why they cannot."""
    makers: list[Callable[[], object]] = [
        lambda: copy.copy(value),
        lambda: copy.deepcopy(value),
        lambda: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own
        *(lambda p=p: pickle.dumps(value, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
        lambda: json.dumps(value, default=vars),
        lambda: json.dumps(value, default=str),
        lambda: json.dumps(value, default=attributes_of),
        lambda: orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS),
        lambda: orjson.dumps(value, default=attributes_of, option=orjson.OPT_NON_STR_KEYS),
        lambda: pydantic_core.to_json(value, serialize_unknown=True),
        lambda: pydantic_core.to_json(value, fallback=str),
        lambda: pydantic_core.to_json(value, fallback=attributes_of),
        lambda: adapter(type(value)).dump_json(value, fallback=attributes_of),
    ]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        makers += [
            lambda: dataclasses.asdict(value),
            lambda: dataclasses.astuple(value),
            lambda: json.dumps(dataclasses.asdict(value), default=str),
        ]
    if isinstance(value, BaseModel):
        makers += [value.model_dump, value.model_dump_json, lambda: value.model_copy(deep=True)]
        makers += [lambda: value.model_dump(mode="json")]
    for name in ("errors", "json"):  # of pydantic's own, should one get out
        if callable(getattr(value, name, None)) and isinstance(value, ValueError):
            makers.append(getattr(value, name))
    for make in makers:
        try:
            yield repr(make())
        except Exception as error:  # noqa: BLE001 - what cannot be done must not tell either
            yield f"{error!r} {error.__context__!r}"


@cache
def adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def attributes_of(value: Any) -> Any:
    """Return what a serializer finds that walks the attributes of objects that it does not know."""
    if isinstance(value, Mapping) and not isinstance(value, Connections):
        return {str(name): each for name, each in value.items()}
    if not type(value).__module__.startswith("zconfig"):
        return str(value)  # in a `SecretStr` it finds the secret
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found |= getattr(value, "__dict__", {})
    return {name: each for name, each in found.items() if not callable(each)}


def rendered(error: BaseException, seen: dict[int, object]) -> Iterator[str]:
    """Yield an error with its traceback, as those render it who show local variables."""
    exc_info = (type(error), error, error.__traceback__)
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "".join(whole.format())
    yield logging.Formatter().formatException(exc_info)
    yield repr(structlog.tracebacks.ExceptionDictTransformer(show_locals=True)(exc_info))
    for stack in Traceback.extract(*exc_info, show_locals=True).stacks:
        for node in (node for frame in stack.frames for node in (frame.locals or {}).values()):
            yield node.render(max_width=400)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if is_ours(frame):
            yield from everything_inside(frame.f_locals, seen)


def reachable_texts(error: BaseException) -> Iterator[str]:
    """Yield every text that an error leads to, but for the frames of its traceback."""
    passed = (type, types.ModuleType, types.FunctionType, types.TracebackType)
    seen: dict[int, object] = {}
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, passed):
            continue
        seen[id(each)] = each
        if isinstance(each, str | bytes):
            yield str(each)
        waiting += gc.get_referents(each)


# --- what is shown of an object --------------------------------------------------------------


def everything_inside(value: Any, seen: dict[int, object] | None = None) -> Iterator[str]:
    """Yield the `repr` of an object and, of ours and of collections, all that they consist of."""
    seen = {} if seen is None else seen
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | types.ModuleType):
            continue
        seen[id(each)] = each
        yield repr(each)
        waiting += parts_of(each)


def parts_of(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping) and not isinstance(value, Connections):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if not type(value).__module__.startswith("zconfig") or isinstance(value, str):
        return []
    return attributes_of(value).values()


def shown_by(connections: Connections) -> Iterator[str]:
    """Yield all that a registry and what it holds show."""
    configuration = connections.configuration
    yield from everything_inside(connections)
    for whole in (connections, configuration, configuration.options, connections.secrets()):
        yield from serialised(whole)
    for each in (*configuration.problems, *configuration.aliases.values()):
        yield f"{each!s} {each!r}"
        yield from serialised(each)
    for alias in connections:
        spec = connections.spec(alias)
        yield f"{spec!s} {spec!r} {connections.get_connection_addr(alias)}"
        for each in (spec, spec.credentials, spec.secrets, spec.proxy):
            yield from serialised(each)


def printed_of(connections: Connections) -> Iterator[str]:
    """Yield what the command prints without connecting anything, and what it is made of."""
    explanation, report = connections.explain(), list_aliases(connections)
    yield from (*serialised(explanation), *serialised(report), report.summary())
    yield from (render(report, each, "list") for each in FORMATS)
    yield from (render_json(explanation), draw(explanation_parts(explanation)))


class Log(logging.Handler):
    """Everything that anything logs, with the records' own fields, and every event."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("botocore.", "urllib3.", "moto.")):
            return  # which at DEBUG show what they send and get, whoever asks them to
        self.names.add(record.name)
        self.texts.append(f"{self.format(record)} {record.getMessage()} {vars(record)!r}")

    def take(self, event: zconfig.events.Event) -> None:
        zconfig._log.log_event(event)
        self.texts += [repr(event), str(event.fields()), *serialised(event)]


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    """Log everything."""
    handler, root = Log(), logging.getLogger()
    root.addHandler(handler)
    before = root.level
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


# --- every source ----------------------------------------------------------------------------

Fields = Mapping[str, str]
"""Values by the names of fields."""

Environ = dict[str, str]

Declare = Callable[[Path], Environ]
"""Puts into a directory what is to be read there, and returns the environment."""


def variables(fields: Fields) -> Environ:
    return {f"ZILLIZ_{field.upper()}": value for field, value in fields.items()}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def file_forms(fields: Fields, directory: Path) -> Environ:
    with_form = {"uri", "token", "api_key", "user", "username", "password"}
    environ = variables({f: value for f, value in fields.items() if f not in with_form})
    for field in with_form & fields.keys():
        path = write(directory / "files" / field, fields[field])
        environ[f"ZILLIZ_{field.upper()}_FILE"] = str(path)
    return environ


def escaped(value: str, quote_: str) -> str:
    return value.replace("\\", "\\\\").replace(quote_, f"\\{quote_}")


def dotenv(line: Callable[[str, str], str]) -> Callable[[Fields, Path], Environ]:
    def declare(fields: Fields, directory: Path) -> Environ:
        lines = [line(name, value) for name, value in variables(fields).items()]
        write(directory / ".env", "\n".join(lines) + "\n")
        return {}

    return declare


def single(name: str, value: str) -> str:
    return f"{name}='{escaped(value, chr(39))}'"


def double(name: str, value: str) -> str:
    return f'{name}="{escaped(value, chr(34))}"'


def expanded(name: str, value: str) -> str:
    return f"{single(f'PART_OF_{name}', value)}\n{name}=${{PART_OF_{name}}}"


def from_the_environment(fields: Fields, directory: Path) -> Environ:
    dotenv(lambda name, _: f'{name}="${{OTHER_{name}}}"')(fields, directory)
    return {f"OTHER_{name}": value for name, value in variables(fields).items()}


def profile(fields: Fields, directory: Path) -> Environ:
    text = "\n".join(single(name, value) for name, value in variables(fields).items())
    write(directory / ".env.ci.local", text)
    return {"ZCONFIG_PROFILE": "ci"}


def secrets_dir(name_of: Callable[[str], str]) -> Callable[[Fields, Path], Environ]:
    def declare(fields: Fields, directory: Path) -> Environ:
        for field, value in fields.items():
            write(directory / "secrets" / name_of(field), value)
        return {"ZCONFIG_SECRETS_DIR": str(directory / "secrets")}

    return declare


def service_binding(fields: Fields, directory: Path) -> Environ:
    bound = {"uri", "endpoint", "token", "api_key", "user", "username", "password", "db_name"}
    write(directory / "bindings" / "default" / "type", "milvus")
    for field in bound & fields.keys():
        write(directory / "bindings" / "default" / field, fields[field])
    rest = variables({field: value for field, value in fields.items() if field not in bound})
    return {**rest, "SERVICE_BINDING_ROOT": str(directory / "bindings")}


def milvus_variables(fields: Fields, directory: Path) -> Environ:
    known = {"uri", "token", "user", "password", "db_name"}
    environ = {f"MILVUS_{f.upper()}": value for f, value in fields.items() if f in known}
    return environ | variables({f: value for f, value in fields.items() if f not in known})


def plugin(fields: Fields, directory: Path) -> Environ:
    return {"PLUGIN": str(write(directory / "plugin.json", json.dumps(variables(fields))))}


def read_plugin(environ: Mapping[str, str]) -> Any:
    """Be the source of an installed package."""
    return json.loads(Path(environ["PLUGIN"]).read_bytes()) if "PLUGIN" in environ else {}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint("canary", "tests.test_canary:read_plugin", remote.GROUP)
    monkeypatch.setattr(remote, "entry_points", lambda **_: (found,))


def aws(fields: Fields, directory: Path) -> Environ:
    name, held = directory.name, json.dumps(variables(fields))
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=held)
    return {"ZCONFIG_AWS_SECRET": name}


@pytest.fixture(autouse=True)
def _cloud(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the tests that say AWS find one of their own."""
    if "AWS" not in request.node.name:
        yield
        return
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        yield


AMBIENT: dict[str, Callable[[Fields, Path], Environ]] = {
    "environment": lambda fields, _: variables(fields),
    "_FILE": file_forms,
    ".env, bare": dotenv(lambda name, value: f"{name}={value}"),
    ".env, single quotes": dotenv(single),
    ".env, double quotes": dotenv(double),
    ".env, export": dotenv(lambda name, value: f"export {single(name, value)}"),
    ".env, expanded": dotenv(expanded),
    ".env, default": dotenv(lambda name, value: f"{name}=${{NOT_SET:-{value}}}"),
    ".env, from the environment": from_the_environment,
    ".env of a profile": profile,
    "secrets directory, flat": secrets_dir(lambda field: f"zilliz_{field}"),
    "secrets directory, with dashes": secrets_dir(lambda field: f"ZILLIZ-{field}"),
    "secrets directory, nested": secrets_dir(lambda field: f"default/{field}"),
    "service binding": service_binding,
    "MILVUS_*": milvus_variables,
    "plugin": plugin,
    "AWS Secrets Manager": aws,
}


def connect(connections: Connections, fields: Fields) -> None:
    connections.connect("default", **fields)


def add(connections: Connections, fields: Fields) -> None:
    connections.add_connection(default=fields)
    connections.autoconnect()


def override(connections: Connections, fields: Fields) -> None:
    with connections.override({"default": fields}):
        connections.autoconnect()


IN_CODE = {"connect": connect, "add_connection": add, "override": override}


def connections_of(environ: Mapping[str, str], directory: Path, log: Log) -> Connections:
    nowhere = str(directory / "none")
    connections = Connections(lambda: load(environ, directory, system_secrets=nowhere))
    connections.subscribe(log.take)
    return connections


# --- every source, with everything that can be wrong in it -------------------------------------


def declarations(secret: str, port: int) -> dict[str, Fields]:
    """Return what makes a connect fail, the values' mistakes first, by what is wrong."""
    uri = f"http://127.0.0.1:{port}"
    encoded = quote(secret, safe="")
    at = f"127.0.0.1:{port}"
    return {
        "a line end in it": {"uri": uri, "token": f"{secret}\nx"},
        "a line end after it": {"uri": uri, "token": f"root:{secret}\n\n"},
        "a letter that is not ASCII": {"uri": uri, "token": f"{secret}é"},
        "an invisible character": {"uri": uri, "user": "root", "password": f"{secret}\u200b"},
        "a NUL": {"uri": uri, "token": f"{secret}\0"},
        "a surrogate": {"uri": uri, "user": "root", "password": f"\ufeff{secret}"},
        "white space around it": {"uri": uri, "token": f" {secret} "},
        "quotes around it": {"uri": uri, "token": f'"{secret}"'},
        "pasted as the URI": {"uri": secret},
        "pasted as the URI, beside a token": {"uri": secret, "token": secret},
        "pasted as the host": {"uri": f"http://{secret}"},
        "pasted as the port": {"uri": f"http://127.0.0.1:{secret}"},
        "pasted as the path": {"uri": f"{uri}/x?token={secret}"},
        "pasted as a path of Milvus Lite": {"uri": f"./{secret}"},
        "pasted as a socket": {"uri": f"unix://{secret}"},
        "pasted as numbers": {
            "uri": uri,
            "timeout": secret,
            "pool_size": secret,
            "required": secret,
            "keepalive": secret,
        },
        "pasted as the proxy": {"uri": uri, "proxy": secret},
        "pasted as the user, with the password": {
            "uri": uri,
            "user": f"root:{secret}",
            "password": secret,
        },
        "in a proxy that is no URL": {"uri": uri, "proxy": f"socks5://root:{encoded}@{at}"},
        "in a proxy that refuses": {
            "uri": "http://localhost:1",
            "proxy": f"http://u:{encoded}@{at}",
        },
        "in userinfo that is not encoded": {"uri": f"http://root:{secret}@{at}"},
        "in userinfo with a bad escape": {"uri": f"http://root:%zz{secret}@{at}"},
        "in userinfo with a line end": {"uri": f"http://root:{encoded}%0A@{at}"},
        "in userinfo with an @": {"uri": f"http://root:{secret}@x@{at}"},
        "in userinfo, with a bad port": {"uri": f"http://root:{encoded}@127.0.0.1:0"},
        "in userinfo, with a bad scheme": {"uri": f"ftp://root:{encoded}@{at}"},
        "in userinfo without a user": {"uri": f"http://:{encoded}@{at}"},
        "in userinfo, of a file": {"uri": f"root:{encoded}@x.db"},
        "in userinfo, and another one beside it": {
            "uri": f"http://root:{encoded}@{at}",
            "user": "root",
            "password": f"{secret}2",
        },
        "in userinfo and in a token": {"uri": f"http://root:{encoded}@{at}", "token": secret},
        "a password alone": {"uri": uri, "password": secret},
        "a user alone": {"uri": uri, "user": secret},
        "a token beside a password": {
            "uri": uri,
            "token": secret,
            "user": "root",
            "password": secret,
        },
        "two spellings that differ": {"uri": uri, "token": secret, "api_key": f"{secret}2"},
        "without a URI": {"token": secret},
        "without a URI, a pair": {"user": "root", "password": secret},
        "beside a TLS file of no use": {"uri": uri, "token": secret, "tls_ca": "nowhere.pem"},
        "beside a TLS file that is missing": {
            "uri": uri.replace("http", "https"),
            "token": secret,
            "tls_ca": "nowhere.pem",
        },
        "beside the control plane": {"uri": "https://api.cloud.zilliz.com", "token": secret},
        "beside a directory that is missing": {"uri": "nowhere/x.db", "token": secret},
        "beside a database that is not the URI's": {
            "uri": f"{uri}/sales",
            "db_name": "other",
            "token": secret,
        },
        "a token that is refused a connection": {"uri": uri, "token": f"root:{secret}"},
        "a key that is refused a connection": {"uri": uri, "token": secret},
        "a pair that is refused a connection": {"uri": uri, "user": "root", "password": secret},
        "userinfo that is refused a connection": {"uri": f"http://root:{encoded}@{at}"},
        "a key in userinfo that is refused a connection": {"uri": f"http://{encoded}@{at}"},
    }


MISTAKES = tuple(declarations(CANARY, 1))


@pytest.fixture(scope="module")
def refused() -> Iterator[int]:
    with faults.refused() as port:
        yield port


@pytest.mark.parametrize("source", [*AMBIENT, *IN_CODE])
def test_no_source_shows_a_secret_that_fails(
    source: str, refused: int, tmp_path: Path, log: Log, subtests: pytest.Subtests
) -> None:
    secret = LONG_CANARY if "dir" in source or source in {"connect", "environment"} else CANARY
    for number, (mistake, fields) in enumerate(declarations(secret, refused).items()):
        log.texts.clear()
        directory = tmp_path / f"{number}"
        directory.mkdir()
        with subtests.test(mistake):
            environ = AMBIENT[source](fields, directory) if source in AMBIENT else {}
            assert_fails_without_a_secret(source, fields, connections_of(environ, directory, log))
            assert_no_canary(*log.texts)


def assert_fails_without_a_secret(source: str, fields: Fields, connections: Connections) -> None:
    with pytest.raises(zconfig.ZConfigError) as caught:
        connections.autoconnect() if source in AMBIENT else IN_CODE[source](connections, fields)
    assert_no_canary(*shown_of(caught.value), *everything_inside(connections))
    if source in {"environment", "_FILE", "connect"}:  # it takes its time
        assert_no_canary(*shown_by(connections), *printed_of(connections))


@pytest.mark.parametrize("source", AMBIENT)
def test_nothing_that_explains_or_lists_shows_a_secret(source: str, tmp_path: Path) -> None:
    encoded = quote(CANARY, safe="")
    fields = {
        "uri": f"http://root:{encoded}@127.0.0.1:1",
        "proxy": f"http://u:{encoded}@127.0.0.1:1",
    }
    environ = AMBIENT[source](fields, tmp_path)
    connections = connections_of(environ, tmp_path, Log())
    assert connections.configuration.errors == ()
    assert MASK in draw(explanation_parts(connections.explain("default")))
    assert MASK in render_json(connections.explain("default"))
    assert_no_canary(*printed_of(connections), *shown_by(connections))
    above = {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_API_KEY": f"{CANARY}-2"}
    connections = connections_of(environ | above, tmp_path, Log())
    assert_no_canary(*printed_of(connections), *shown_by(connections))


def everything_read(environ: Environ, directory: Path) -> tuple[SourceResult, ...]:
    fields = frozenset({"token", "uri"})
    return (
        read_dotenv(directory / ".env", environ),
        read_secrets_dir(directory / "secrets", field_names=fields),
        read_service_bindings(directory / "bindings"),
        *split_milvus(read_environment(environ)),
        *remote.plugin_readings(environ),
        *manager_readings(
            {name: environ[name] for name in environ if name == "ZCONFIG_AWS_SECRET"}
        ),
    )


@pytest.mark.parametrize("source", AMBIENT)
def test_what_a_source_hands_on_is_not_shown(source: str, tmp_path: Path) -> None:
    fields = {"uri": "http://127.0.0.1:1", "token": LONG_CANARY}
    environ = AMBIENT[source](fields, tmp_path)
    readings = everything_read(environ, tmp_path)
    assert any(reading.entries for reading in readings)
    for each in (*readings, *(entry for reading in readings for entry in reading.entries)):
        assert_no_canary(f"{each!s} {each!r}", *everything_inside(each), *serialised(each))


# --- every source, with everything that can be wrong with it -----------------------------------

OF_CANARY = f"root:{CANARY}\n"
URI = {"ZILLIZ_URI": "http://127.0.0.1:1"}


def named_file(prepare: Callable[[Path], object], name: str = "secret") -> Declare:
    """Have a variable name a file that something is wrong with."""

    def declare(directory: Path) -> Environ:
        prepare(directory / name)
        return {**URI, "ZILLIZ_TOKEN_FILE": str(directory / name)}

    return declare


def pasted(value: str) -> Declare:
    """Paste a secret where its file's path should be."""
    return lambda _: {**URI, "ZILLIZ_TOKEN_FILE": value}


def line(text: str, **environ: str) -> Declare:
    """Have a `.env` with this line among others."""

    def declare(directory: Path) -> Environ:
        write(directory / ".env", f"ZILLIZ_URI=http://127.0.0.1:1\n{text}\nOTHER=1\n")
        return environ

    return declare


def env_file(prepare: Callable[[Path], object]) -> Declare:
    def declare(directory: Path) -> Environ:
        prepare(directory / ".env")
        return dict(URI)

    return declare


def mounted(prepare: Callable[[Path], object]) -> Declare:
    """Have a file in a directory of secrets that something is wrong with."""

    def declare(directory: Path) -> Environ:
        write(directory / "secrets" / "zilliz_user", "root")
        prepare(directory / "secrets" / "zilliz_password")
        return {**URI, "ZCONFIG_SECRETS_DIR": str(directory / "secrets")}

    return declare


def bound(prepare: Callable[[Path], object], name: str = "token") -> Declare:
    """Have a file in a service binding that something is wrong with."""

    def declare(directory: Path) -> Environ:
        write(directory / "bindings" / "b" / "type", "milvus")
        write(directory / "bindings" / "b" / "uri", "http://127.0.0.1:1")
        write(directory / "bindings" / "b" / "token", OF_CANARY)
        prepare(directory / "bindings" / "b" / name)
        return {"SERVICE_BINDING_ROOT": str(directory / "bindings"), "ZCONFIG_STRICT": "1"}

    return declare


def too_large(path: Path) -> None:
    write(path, OF_CANARY * 400_000)


def not_utf8(path: Path) -> None:
    write(path, "")
    path.write_bytes(f"ZILLIZ_TOKEN={OF_CANARY}".encode() + b"\xff\xfe")


def with_nul(path: Path) -> None:
    write(path, f"ZILLIZ_TOKEN={OF_CANARY}\0")


def writable(path: Path) -> None:
    write(path, f"ZILLIZ_TOKEN={OF_CANARY}").chmod(0o666)


def unreadable(path: Path) -> None:
    os.mkfifo(path)


def leading_out(path: Path) -> None:
    path.symlink_to(write(path.parent.parent / "outside", OF_CANARY))


def in_a_circle(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path)


def aws_holding(text: str) -> Declare:
    def declare(_: Path) -> Environ:
        boto3.client("secretsmanager").create_secret(Name="canary", SecretString=text)
        return {**URI, "ZCONFIG_AWS_SECRET": "canary"}

    return declare


FAULTY: dict[str, Declare] = {
    "a path that is the secret": pasted(CANARY),
    "a path that is the secret, a pair": pasted(f"root:{CANARY}"),
    "a path that is the secret, and long": pasted(LONG_CANARY * 30),
    "a path that is the secret, with a line end": pasted(f"{CANARY}\n"),
    "a path that is the secret, with a NUL": pasted(f"{CANARY}\0"),
    "a path that is the secret, beginning with a slash": pasted(f"/{CANARY}"),
    "a path that is the secret, of a password": lambda _: {
        **URI,
        "ZILLIZ_USER": "root",
        "ZILLIZ_PASSWORD_FILE": CANARY,
    },
    "a path that is the secret, of a URI": lambda _: {
        "ZILLIZ_URI_FILE": f"http://root:{quote(CANARY, safe='')}@127.0.0.1:1"
    },
    "a path that is the secret, in a .env": line(f"ZILLIZ_TOKEN_FILE='{CANARY}'"),
    "a path that is the secret, beside the secret": lambda _: {
        **URI,
        "ZILLIZ_TOKEN": CANARY,
        "ZILLIZ_TOKEN_FILE": CANARY,
    },
    "a named file that is too large": named_file(too_large),
    "a named file that is not UTF-8": named_file(not_utf8),
    "a named file with a NUL": named_file(with_nul),
    "a named file that others may write to": named_file(writable),
    "a named file that is none": named_file(unreadable),
    "a named file that leads in a circle": named_file(in_a_circle),
    "a named file with a line end too many": named_file(lambda p: write(p, f"{OF_CANARY}\n")),
    "a named file that differs from the variable": lambda directory: {
        **named_file(lambda p: write(p, OF_CANARY))(directory),
        "ZILLIZ_TOKEN": f"{CANARY}-2",
    },
    "a line with a quote that is not closed": line(f'ZILLIZ_TOKEN="{CANARY}'),
    "a line with a quote that is not closed, single": line(f"ZILLIZ_TOKEN='{CANARY}"),
    "a line with more after the quote": line(f'ZILLIZ_TOKEN="x" {CANARY}'),
    "a line with a colon": line(f"ZILLIZ_TOKEN: {CANARY}"),
    "a line without an equals sign": line(f"ZILLIZ_TOKEN {CANARY}"),
    "a line that is the secret": line(f"{CANARY}\nZILLIZ_TOKEN=é"),
    "a line that is a URI": line(f"http://root:{CANARY}@host\nZILLIZ_TOKEN=é"),
    "a line whose key has it": line(f"ZILLIZ_TOKEN {CANARY}=x"),
    "a line that is twice there": line(f"ZILLIZ_TOKEN={CANARY}é\nZILLIZ_TOKEN={CANARY}ü"),
    "a line with a typo": line(f"ZILLIZ_TOKNE={CANARY}", ZCONFIG_STRICT="1"),
    "a line with a brace that is not closed": line(f"ZILLIZ_TOKEN=${{{CANARY}"),
    "a line with an operator that is none": line(f"ZILLIZ_TOKEN=${{X!{CANARY}}}"),
    "a line that insists": line(f"ZILLIZ_TOKEN=${{NOT_SET:?{CANARY}}}"),
    "a line beside one that is not defined": line(f"ZILLIZ_TOKEN={CANARY}${{NOT_SET}}"),
    "a line that grows": line(
        "A=" + LONG_CANARY * 8 + "\nB=${A}${A}${A}${A}\nC=${B}${B}${B}${B}\n"
        "ZILLIZ_TOKEN=${C}${C}${C}${C}"
    ),
    "a line that is expanded with what is no text": line(
        "ZILLIZ_TOKEN=${NO_TEXT}", NO_TEXT=f"{CANARY}\udcff"
    ),
    "a line of many": line(f'ZILLIZ_TOKEN="x\n{CANARY}\ny"'),
    "an option": line(f"ZCONFIG_WAIT='{CANARY}'\nZCONFIG_STRICT='{CANARY}'"),
    "a .env that is too large": env_file(lambda p: write(p, f"ZILLIZ_TOKEN={CANARY}\n" * 400_000)),
    "a .env that is not UTF-8": env_file(not_utf8),
    "a .env with a NUL": env_file(with_nul),
    "a .env that others may write to": env_file(writable),
    "a mounted file that is too large": mounted(too_large),
    "a mounted file that is not UTF-8": mounted(not_utf8),
    "a mounted file that others may write to": mounted(writable),
    "a mounted file that leads out": mounted(leading_out),
    "a mounted file with a letter that is not ASCII": mounted(lambda p: write(p, f"{CANARY}é")),
    "a bound file that is too large": bound(too_large),
    "a bound file that is not UTF-8": bound(not_utf8),
    "a bound file that others may write to": bound(writable),
    "a bound file that leads in a circle": bound(in_a_circle),
    "a bound host": bound(lambda p: write(p, CANARY), "uri"),
    "a variable that is no text": lambda _: {**URI, "ZILLIZ_TOKEN": f"{CANARY}\udcff"},
    "a variable with a typo": lambda _: {**URI, "ZILIZ_TOKEN": CANARY, "ZCONFIG_STRICT": "1"},
    "a plugin that fails": lambda directory: {
        **URI,
        "PLUGIN": str(write(directory / "plugin.json", f'{{"ZILLIZ_TOKEN": "{CANARY}')),
    },
    "a plugin that returns something else": lambda directory: {
        **URI,
        "PLUGIN": str(write(directory / "plugin.json", f'["{CANARY}"]')),
    },
    "a secret of AWS that is no JSON": aws_holding(f'{{"ZILLIZ_TOKEN": "{CANARY}'),
    "a secret of AWS that is a list": aws_holding(f'["{CANARY}"]'),
    "a secret of AWS that holds another": aws_holding(f'{{"ZILLIZ_TOKEN": {{"x": "{CANARY}"}}}}'),
    "a private key as the path of its file": lambda _: {
        "ZILLIZ_URI": "https://127.0.0.1:1",
        "ZILLIZ_TLS_CERT": __file__,
        "ZILLIZ_TLS_KEY": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    },
    **{
        f"a URL in {name}": lambda _, name=name: {
            "ZILLIZ_URI": "https://127.0.0.1:1",
            name: f"https://root:{CANARY}@db",
        }
        for name in ("ZILLIZ_TLS_CA", "ZILLIZ_TLS_SERVER_NAME", "ZILLIZ_DB_NAME")
    },
}


@pytest.mark.parametrize("fault", FAULTY)
def test_no_faulty_source_shows_a_secret(fault: str, tmp_path: Path, log: Log) -> None:
    connections = connections_of(FAULTY[fault](tmp_path), tmp_path, log)
    with pytest.raises(zconfig.ZConfigError) as caught:
        connections.autoconnect()
    assert_no_canary(*shown_of(caught.value), *shown_by(connections), *log.texts)
    assert_no_canary(*printed_of(connections))


# --- every failure of a connect ----------------------------------------------------------------

Server = Callable[[Certificates], contextlib.AbstractContextManager[str]]
"""Serves badly, and returns the URI."""


def at(serve: Callable[[], contextlib.AbstractContextManager[int]], scheme: str = "http") -> Server:
    @contextlib.contextmanager
    def server(_: Certificates) -> Iterator[str]:
        with serve() as port:
            yield f"{scheme}://127.0.0.1:{port}"

    return server


def answers(method: faults.Method, name: str = "Connect") -> Server:
    """Serve gRPC with one method."""
    return at(lambda: faults.grpc_server({name: method}))


def says(code: grpc.StatusCode, form: Callable[[str], str] = str) -> Server:
    """Serve gRPC that repeats the credentials it was sent in its error."""

    def method(_: bytes, context: Any) -> bytes:
        sent = dict(context.invocation_metadata())["authorization"]
        secret = base64.b64decode(sent).decode()
        context.abort(code, form(secret))
        return b""

    return answers(method)


def reports(form: Callable[[str], str]) -> Server:
    """Serve gRPC that repeats the credentials in the status of its reply."""

    def method(_: bytes, context: Any) -> bytes:
        secret = base64.b64decode(dict(context.invocation_metadata())["authorization"]).decode()
        status = messages.Status(code=1100, reason=form(secret))
        return messages.ConnectReply(status).encode()

    return answers(method)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


Code = grpc.StatusCode

SERVERS: dict[str, Server] = {
    "a socket that does not exist": lambda _: contextlib.nullcontext("unix:/nowhere.sock"),
    "repeats it": says(Code.UNAUTHENTICATED),
    "repeats it, unavailable": says(Code.UNAVAILABLE),
    "repeats it, internal": says(Code.INTERNAL),
    "repeats it as repr": says(Code.UNKNOWN, repr),
    "repeats it in JSON": says(Code.UNKNOWN, lambda secret: json.dumps({"token": secret})),
    "repeats it percent-encoded": says(Code.UNKNOWN, lambda secret: quote(secret, safe="")),
    "repeats it in base64": says(Code.UNKNOWN, lambda secret: f"Authorization {base64_of(secret)}"),
    "repeats it in a URI": says(Code.UNKNOWN, lambda secret: f"http://{secret}@host/{secret}"),
    "repeats it after many words": says(Code.UNKNOWN, lambda secret: f"{'x ' * 90}{secret}"),
    "repeats it on two lines": says(Code.UNKNOWN, lambda secret: f"bad\n{secret}\nsorry"),
    "repeats the password alone": says(Code.UNKNOWN, lambda secret: secret.partition(":")[2]),
    "repeats it in its status": reports(str),
    "repeats it in its status, in base64": reports(base64_of),
    "repeats it in its status, after many words": reports(lambda secret: f"{'x ' * 90}{secret}"),
}

CALLS: dict[str, Callable[[Connections, str], object]] = {
    "autoconnect": lambda c, _: c.autoconnect(),
    "lookup": lambda c, _: c["default"],
    "default": lambda c, _: c.default,
    "token": lambda c, uri: c.connect("a", uri=uri, token=f"root:{CANARY}"),
    "pair": lambda c, uri: c.connect("a", uri=uri, user="root", password=CANARY),
    "userinfo": lambda c, uri: c.connect(
        "a", uri=uri.replace("//", f"//root:{quote(CANARY, safe='')}@")
    ),
    "other credentials": lambda c, _: c.connect("default", token=f"root:{CANARY}-2"),
    "added": lambda c, uri: add(c, {"uri": uri, "token": f"root:{CANARY}"}),
}


def declared(uri: str) -> Environ:
    return {"ZILLIZ_URI": uri, "ZILLIZ_TOKEN": f"root:{CANARY}"}


def assert_fails_quietly(
    connections: Connections, log: Log, call: Callable[[], object]
) -> zconfig.ZConfigError:
    with pytest.raises(zconfig.ZConfigError) as caught:
        call()
    assert_no_canary(*shown_of(caught.value), *everything_inside(connections), *log.texts)
    return caught.value


@pytest.mark.parametrize("server", SERVERS)
def test_no_failed_connect_shows_a_secret(
    server: str, certificates: Certificates, tmp_path: Path, log: Log
) -> None:
    with SERVERS[server](certificates) as uri:
        connections = connections_of(declared(uri), tmp_path, log)
        assert_fails_quietly(connections, log, connections.autoconnect)
        report = check_aliases(connections, (), wait=None, timeout=None)
    assert_no_canary(*(render(report, each, "check") for each in FORMATS))
    assert "zconfig.connection.failed" in "".join(log.texts)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_no_cause_of_a_failure_shows_a_secret(
    cell: Cell, certificates: Certificates, tmp_path: Path, log: Log
) -> None:
    with cell.environ(certificates) as fields:
        encoded = quote(CANARY, safe="")
        environ = {name: text.replace("s3cret-canary", encoded) for name, text in fields.items()}
        if cell.error is not errors.MissingCredentialsError:
            environ["ZILLIZ_PROD_TOKEN"] = f"root:{CANARY}"
        connections = connections_of(environ, tmp_path, log)
        error = assert_fails_quietly(connections, log, connections.autoconnect)
    assert isinstance(error, errors.AutoconnectError)
    assert type(error.failures["prod"]) is cell.error


MATERIAL: dict[str, tuple[Callable[[str], Environ], type[errors.ConnectError]]] = {
    "as authorities": (
        lambda path: {"ZILLIZ_URI": "https://127.0.0.1:1", "ZILLIZ_TLS_CA": path},
        errors.TLSMaterialError,
    ),
    "as a certificate and its key": (
        lambda path: {
            "ZILLIZ_URI": "https://127.0.0.1:1",
            "ZILLIZ_TLS_CERT": path,
            "ZILLIZ_TLS_KEY": path,
        },
        errors.TLSMaterialError,
    ),
    "as a database": (lambda path: {"ZILLIZ_URI": path}, errors.EmbeddedServerError),
}


@pytest.mark.parametrize("material", MATERIAL)
def test_no_file_that_is_opened_is_shown(material: str, tmp_path: Path, log: Log) -> None:
    path = write(tmp_path / "x.db", f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n")
    environ, expected = MATERIAL[material][0](str(path)), MATERIAL[material][1]
    connections = connections_of({**environ, "ZILLIZ_TOKEN": CANARY}, tmp_path, log)
    error = assert_fails_quietly(connections, log, connections.autoconnect)
    assert isinstance(error, errors.AutoconnectError)
    assert type(error.failures["default"]) is expected


@pytest.mark.parametrize("call", CALLS)
def test_no_call_that_is_refused_shows_a_secret(
    call: str, refused: int, tmp_path: Path, log: Log
) -> None:
    uri = f"http://127.0.0.1:{refused}"
    connections = connections_of(declared(uri), tmp_path, log)
    assert_fails_quietly(connections, log, lambda: CALLS[call](connections, uri))


@pytest.mark.parametrize("call", CALLS)
def test_no_rejected_credentials_are_shown(
    call: str, milvus: RealMilvus, tmp_path: Path, log: Log
) -> None:
    connections = connections_of(declared(milvus.uri), tmp_path, log)
    assert_fails_quietly(connections, log, lambda: CALLS[call](connections, milvus.uri))


def repeating_proxy(conn: socket.socket) -> None:
    """Repeat the credentials that were sent, encoded and not."""
    sent = faults.read_head(conn).decode().partition("Basic ")[2].split("\r\n")[0]
    conn.sendall(f"HTTP/1.1 407 {sent} {base64.b64decode(sent).decode()}\r\n\r\n".encode())


@pytest.mark.parametrize("proxied_by", ["PROXY", "http_proxy"])
@pytest.mark.parametrize(
    "handle",
    [faults.connect_refused, faults.hang_up, faults.connect_proxy, repeating_proxy],
    ids=["forbids", "hangs up", "connects", "repeats"],
)
def test_no_proxy_shows_its_password(
    proxied_by: str, handle: faults.Handler, tmp_path: Path, log: Log, refused: int
) -> None:
    with faults.listening(handle) as port, pytest.MonkeyPatch.context() as patch:
        url = f"http://root:{quote(CANARY, safe='')}@127.0.0.1:{port}"
        environ = declared(f"http://127.0.0.1:{refused}")
        if proxied_by == "PROXY":
            environ["ZILLIZ_PROXY"] = url
        else:
            patch.setenv("http_proxy", url)
        connections = connections_of(environ, tmp_path, log)
        error = assert_fails_quietly(connections, log, connections.autoconnect)
        found = stages(probe_target(connections.spec("default")), time.monotonic() + 10)
        assert_no_canary(repr(found))
    assert "proxy" in str(error)


def test_what_a_diagnosis_works_with_is_not_shown(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://root:{quote(CANARY, safe='')}@127.0.0.1:1")
    spec = connections_of(declared("http://127.0.0.1:1"), tmp_path, log).spec("default")
    target = probe_target(spec)
    assert traces_in(str(target.via_proxy))
    assert_no_canary(
        repr(target), repr(HostEnvironment.detect(os.environ)), repr(Attempt(spec, 0, 0))
    )


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if "URI" in name or "info" in name])
@pytest.mark.parametrize("read", [parse_uri, split_userinfo])
def test_no_parser_of_a_uri_shows_a_secret(read: Callable[[str], object], mistake: str) -> None:
    for uri in (declarations(CANARY, 1)[mistake].get("uri", CANARY), f"http://{CANARY}@h/{CANARY}"):
        try:
            found = read(uri)
        except EndpointError as error:
            assert_no_canary(*shown_of(error))
        else:
            assert_no_canary(repr(found))


# --- while it lives ----------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path, log: Log) -> Iterator[Connections]:
    """Connections to a server that takes any credentials."""
    with fake_server() as server:
        environ = declared(server.uri) | {"ZILLIZ_DB_NAME": "default"}
        connections = connections_of(environ, tmp_path, log)
        connections.autoconnect()
        yield connections
        connections.close()


def test_what_is_public_can_be_copied_whole(live: Connections) -> None:
    connection, spec = live["default"], live.spec()
    connection.ping()
    for each in (
        *(live.configuration, live.configuration.options, live.secrets(), live.explain()),
        *(connection, connection.channel, connection.server, connection.endpoint),
        *(spec, spec.credentials, live.stats()["default"], connection.health()),
    ):
        # What a copy cannot take leaves a part of one in a local, whose `repr` fails in trackers.
        assert repr(copy.deepcopy(each)) == repr(each)
    assert dataclasses.asdict(live.stats()["default"])["failures"] == {}


def test_a_live_connection_shows_no_secret(live: Connections, log: Log) -> None:
    connection = live["default"]
    shown = [
        connection,
        connection.spec,
        connection.channel,
        connection.server,
        connection.health(),
    ]
    for each in shown:
        assert_no_canary(f"{each!s} {each!r}", *everything_inside(each), *serialised(each))
    assert_no_canary(*shown_by(live), *printed_of(live), *log.texts)


def repeating_milvus() -> dict[str, Any]:
    """Return methods that succeed, and repeat the credentials that were sent, encoded and not."""

    def sent(context: grpc.ServicerContext) -> str:
        encoded = str(dict(context.invocation_metadata())["authorization"])
        return f"{encoded} {base64.b64decode(encoded).decode()}"

    def connect(_: bytes, context: grpc.ServicerContext) -> bytes:
        server = messages.ServerInfo(build_tags=sent(context), deploy_mode=sent(context))
        return messages.ConnectReply(server_info=server).encode()

    return {
        "Connect": connect,
        "GetVersion": lambda _, context: messages.VersionReply(version=sent(context)).encode(),
        "CheckHealth": lambda _, context: messages.HealthReply(reasons=(sent(context),)).encode(),
    }


@pytest.mark.parametrize("left_out", ["", "Connect"])
def test_a_server_that_repeats_the_credentials_is_not_believed(
    left_out: str, tmp_path: Path, log: Log
) -> None:
    methods = {name: each for name, each in repeating_milvus().items() if name != left_out}
    with faults.grpc_server(methods) as port:
        connections = connections_of(declared(f"http://127.0.0.1:{port}"), tmp_path, log)
        connections.autoconnect()
        connection = connections["default"]
        for each in (connection.server, connection.health()):
            assert MASK in repr(each)
            assert_no_canary(f"{each!s} {each!r}", *everything_inside(each), *serialised(each))
        assert_no_canary(*shown_by(connections), *printed_of(connections), *log.texts)
        connections.close()


def test_an_alias_that_nothing_configures_is_told_without_a_secret(
    live: Connections, log: Log
) -> None:
    error = assert_fails_quietly(live, log, lambda: live.connect("other", token=CANARY))
    assert isinstance(error, errors.UnknownAliasError)


def test_a_conflict_shows_no_secret(live: Connections, log: Log) -> None:
    uri = str(live["default"].endpoint)
    assert_fails_quietly(live, log, lambda: live.connect("default", uri=uri, token=f"{CANARY}-2"))
    assert_fails_quietly(
        live, log, lambda: live.add_connection(default={"uri": uri, "token": CANARY})
    )


def test_a_call_on_the_channel_that_fails_shows_no_secret(live: Connections) -> None:
    call: Any = live["default"].channel.unary_unary("/milvus.proto.milvus.MilvusService/Nothing")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=5)
    assert_no_canary(*shown_of(caught.value))
    with pytest.raises(grpc.RpcError) as caught:
        call.with_call(b"", timeout=5)
    assert_no_canary(*shown_of(caught.value))


def test_a_connection_that_is_lost_shows_no_secret(tmp_path: Path, log: Log) -> None:
    with fake_server() as server:
        connections = connections_of(declared(server.uri), tmp_path, log)
        connections.autoconnect()
    connection = connections["default"]
    assert_fails_quietly(connections, log, lambda: connection.ping(timeout=1))
    assert_fails_quietly(connections, log, lambda: connection.health(timeout=1))
    connections.close()
    assert_fails_quietly(connections, log, connection.ping)


def test_rotation_shows_neither_secret(milvus: RealMilvus, tmp_path: Path, log: Log) -> None:
    environ = {"ZILLIZ_URI": milvus.uri, "ZILLIZ_TOKEN": "root:Milvus"}
    connections = connections_of(environ, tmp_path, log)
    connections.autoconnect()
    environ["ZILLIZ_TOKEN"] = f"root:{CANARY}"
    changes = connections.reload()
    assert changes.kept == ("default",)
    assert_no_canary(f"{changes!r}", *serialised(changes), *shown_by(connections), *log.texts)
    connections.close()


def test_a_client_of_pymilvus_shows_no_secret(milvus: RealMilvus, log: Log) -> None:
    from zconfig.interop.pymilvus import client_of

    connections = Connections(lambda: load({}, Path("nowhere"), system_secrets="nowhere"))
    root = connections.connect("root", uri=milvus.uri, token="root:Milvus")
    client_of(root).create_user("canary", CANARY)
    client = client_of(
        connections.connect("canary", uri=milvus.uri, user="canary", password=CANARY)
    )
    with pytest.raises(grpc.RpcError) as caught:  # pymilvus lets it through
        client.drop_user("root")
    client_of(root).drop_user("canary")
    connections.close()
    assert_no_canary(*shown_of(caught.value), repr(client), repr(vars(client)), *log.texts)


# --- what a traceback with locals would show of the loader -------------------------------------


def locals_of_calls(call: Callable[[], object]) -> list[tuple[str, str, str]]:
    """Return what each function of ours has in a local while it calls another."""
    seen: dict[tuple[str, str, str], None] = {}

    def look(frame: types.FrameType, event: str, _argument: object) -> None:
        caller = frame.f_back
        if event == "call" and caller is not None:
            file, function = Path(caller.f_code.co_filename), caller.f_code.co_name
            if file.is_relative_to(PACKAGE):
                for name, value in caller.f_locals.items():
                    # Of an object that is half made, and of a validator of pydantic at work.
                    with contextlib.suppress(AttributeError, RuntimeError):
                        where = f"{file.relative_to(PACKAGE)}:{function}"
                        seen[where, name, repr(value)] = None

    sys.setprofile(look)
    threading.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(seen)


def test_no_local_of_the_loader_shows_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "http://127.0.0.1:1"
    environ = everywhere(tmp_path, uri) | {"AWS_SECRET_ACCESS_KEY": CANARY, "ACME": CANARY}
    environ |= {"ZCONFIG_WAIT": "1"}
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"{dotenv.read_text()}\nX={CANARY}\nZILLIZ_I_TOKEN=${{X}}${{ACME}}\n")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = EntryPoint(name="acme", value=f"{__name__}:plugin", group=remote.GROUP)
    monkeypatch.setattr(remote, "entry_points", lambda **_: [found])
    shown = locals_of_calls(lambda: load(process_environment(), tmp_path))
    found_in = {(where, name) for where, name, text in shown if traces_in(text)}
    # What is raised by the functions that take a text apart is raised anew by their callers.
    leaves = ("_endpoint/", "_sources/files.py:_read_content")
    assert {"environ", "text", "value"} <= {name for _, name, _ in shown}
    assert not [each for each in found_in if not each[0].startswith(leaves)]


def plugin(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {"ZILLIZ_ACME_TOKEN": environ["ACME"]}


def test_the_environment_shows_no_value_however_it_is_taken_apart() -> None:
    environ = EnvironmentView({"ZILLIZ_TOKEN": CANARY})
    assert dict(environ) == {"ZILLIZ_TOKEN": CANARY}
    assert_no_canary(
        repr(environ), repr(dict(environ)), str(list(environ.values())), str(environ.items())
    )


# --- what a call was given that is wrong -------------------------------------------------------

URI_OF_CANARY = f"https://root:{CANARY}@127.0.0.1:1"
NO_ALIASES: dict[str, Any] = {
    "a URI": URI_OF_CANARY,
    "a secret": "cAn4ry$S3cret",
    "bytes": URI_OF_CANARY.encode(),
    "parameters": {"uri": URI_OF_CANARY, "token": CANARY},
    "a list": [URI_OF_CANARY],
}
# To these a name that nothing configures is no error.
CALM = {"disconnect", "remove_connection", "get_connection_addr", "has_connection"}


def calls_with_an_alias() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield everything public that takes an alias, or several, first."""
    from zconfig.interop import pymilvus

    owners = {"zconfig": zconfig, "connections": zconfig.connections}
    for where, owner in (owners | {"aio": zconfig.aio, "pymilvus": pymilvus}).items():
        for name in dir(type(owner) if where == "connections" else owner):
            if (not name.startswith("_") or name == "__getitem__") and name != "default":
                member = getattr(owner, name)
                if inspect.isroutine(member) and takes_an_alias(member):
                    yield f"{where}.{name}", member


def takes_an_alias(call: Callable[..., Any]) -> bool:
    is_imported = call.__module__.startswith("zconfig._settings.")
    parameters = () if is_imported else inspect.signature(call).parameters
    return next(iter(parameters), None) in ("alias", "aliases")


ALIAS_CALLS = dict(calls_with_an_alias())


def raised_by(call: Callable[[], Any]) -> Exception | None:
    """Return the exception that a call raises, or returns; coroutines are run."""
    try:
        result = call()
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except Exception as error:  # noqa: BLE001 - whichever it is
        return error
    values = result.values() if isinstance(result, dict) else ()
    return next((each for each in values if isinstance(each, Exception)), None)


def assert_tells_nothing(error: Exception | None) -> None:
    assert error is not None
    for text in shown_of(error):  # an alias is in small letters once it is folded
        assert "can4ry" not in text.lower(), text


def test_every_public_call_with_an_alias_is_looked_at() -> None:
    assert {
        *("zconfig.autoconnect", "zconfig.async_client", "zconfig.client", "zconfig.explain"),
        *("zconfig.connection_args", "connections.__getitem__", "connections.connect"),
        *("connections.spec", "aio.get", "aio.connect", "aio.disconnect", "pymilvus.install"),
    } <= ALIAS_CALLS.keys()


@pytest.mark.parametrize("name", ALIAS_CALLS)
def test_no_frame_shows_what_was_passed_for_an_alias(name: str) -> None:
    for wrong in NO_ALIASES.values():
        error = raised_by(lambda wrong=wrong: ALIAS_CALLS[name](wrong))
        if error or not isinstance(wrong, str) or name.partition(".")[2] not in CALM:
            assert_tells_nothing(error)


def in_override(connections: Any) -> None:
    with zconfig.connections.override(connections):
        pass


A_TEXT: Any = URI_OF_CANARY
WRONG_ARGUMENTS: dict[str, Callable[[], Any]] = {
    "an alias of add_connection": lambda: zconfig.connections.add_connection(
        **{URI_OF_CANARY: {"uri": "http://127.0.0.1:1"}}
    ),
    "an alias of override": lambda: in_override({URI_OF_CANARY: {"uri": "http://127.0.0.1:1"}}),
    "bytes in override": lambda: in_override({CANARY.encode(): {"uri": "http://127.0.0.1:1"}}),
    "no mapping in override": lambda: in_override({"x": URI_OF_CANARY}),
    "a URI in override": lambda: in_override(URI_OF_CANARY),
    "a list in override": lambda: in_override([URI_OF_CANARY]),
    "the wait of autoconnect": lambda: zconfig.autoconnect(wait=A_TEXT),
    "the timeout of autoconnect": lambda: zconfig.autoconnect(timeout=A_TEXT),
    "the timeout of a ping on asyncio": lambda: asyncio.run(zconfig.aio.ping(timeout=A_TEXT)),
    "the wait of autoconnect on asyncio": lambda: asyncio.run(zconfig.aio.autoconnect(wait=A_TEXT)),
    "the wait of attempt": lambda: zconfig.connections.attempt("x", wait=A_TEXT),
    "the format of a log": lambda: zconfig.configure_logging(A_TEXT),
    "the level of a log": lambda: zconfig.configure_logging(level=A_TEXT),
    "a parameter of override": lambda: in_override({"x": {URI_OF_CANARY: 1}}),
    **{
        f"{what} of {where}.connect": lambda connect=connect, given=given: connect("x", **given)
        for where, connect in (
            ("connections", zconfig.connections.connect),
            ("aio", zconfig.aio.connect),
        )
        for what, given in {
            "a misspelt password": {"passwrd": CANARY},
            "a parameter": {URI_OF_CANARY: True},
            "an odd parameter": {"cAn4ry$S3cret": True},
            "bytes": {"token": CANARY.encode()},
            "a mapping": {"headers": {"authorization": CANARY}},
            "a token as the database": {"db_name": CANARY},
        }.items()
    },
    **{
        f"{what} of {name}": lambda call=call, given=given: call("nothing", **given)
        for name, call in (
            ("client", zconfig.client),
            ("async_client", zconfig.async_client),
        )
        for what, given in {
            "an unknown option": {"authorization": CANARY},
            "an unknown name": {URI_OF_CANARY: 1},
            "a refused option": {"token": CANARY},
            "a mapping": {"headers": {"authorization": CANARY}},
        }.items()
    },
}


@pytest.mark.parametrize("no_mapping", [URI_OF_CANARY, None, [("x", {})]])
def test_what_is_no_mapping_of_connections_is_told_with_what_to_pass(no_mapping: Any) -> None:
    error = raised_by(lambda: in_override(no_mapping))
    assert isinstance(error, zconfig.ConfigurationError)
    [problem] = error.problems
    assert (problem.code, problem.alias) == ("bad_argument", None)
    assert problem.message == f"must be a mapping by alias, not {type(no_mapping).__name__}"
    in_override(json.loads(problem.remedy.removeprefix("pass e.g. ")))


@pytest.mark.parametrize("what", WRONG_ARGUMENTS)
def test_no_frame_shows_an_argument_that_is_wrong(what: str) -> None:
    assert_tells_nothing(raised_by(WRONG_ARGUMENTS[what]))


def test_no_frame_shows_a_secret_while_its_fingerprint_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hashlib.pbkdf2_hmac", object)  # raises, without a frame of its own
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": f"root:{CANARY}"}
    with registry(**environ) as connections:
        assert_tells_nothing(raised_by(connections.explain))


def test_no_frame_shows_a_number_as_a_misspelt_password() -> None:
    error = raised_by(lambda: zconfig.connections.connect("x", uri="http://h", passwrd=90817263))
    assert error
    assert not [text for text in shown_of(error) if "90817263" in text]


def test_no_frame_shows_the_options_of_a_client_that_cannot_be_made(
    live: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zconfig.interop import pymilvus

    def refuse(**_: Any) -> None:
        del _
        raise ValueError("no")

    monkeypatch.setattr(pymilvus, "_class", lambda _: refuse)
    option = {"headers": {"authorization": CANARY}}
    assert_tells_nothing(raised_by(lambda: pymilvus.client_of(live["default"], **option)))


# --- what is printed ---------------------------------------------------------------------------


def everywhere(directory: Path, uri: str) -> Environ:
    """Declare secrets in every source at once, right and wrong."""
    encoded = quote(CANARY, safe="")
    write(directory / "password", f"{CANARY}\n\n")
    write(
        directory / ".env", f"ZILLIZ_E_URI={uri}\nZILLIZ_E_TOKEN='{CANARY}'\nZILLIZ_TOKNE={CANARY}"
    )
    secrets_dir(lambda field: f"f/{field}")({"uri": uri, "token": f"{CANARY}é"}, directory)
    service_binding({"uri": uri, "token": CANARY}, directory)
    return {
        "ZILLIZ_URI": uri,
        "ZILLIZ_TOKEN": f"root:{CANARY}",
        "ZILLIZ_B_URI": f"http://root:{encoded}@127.0.0.1:1",
        "ZILLIZ_C_URI": f"http://root:{CANARY}@h:0",
        "ZILLIZ_D_URI": "http://127.0.0.1:1",
        "ZILLIZ_D_USER": "root",
        "ZILLIZ_D_PASSWORD_FILE": str(directory / "password"),
        "ZILLIZ_G_URI": uri,
        "ZILLIZ_G_TOKEN_FILE": CANARY,
        "ZILLIZ_H_URI": "http://localhost:1",
        "ZILLIZ_H_PROXY": f"http://root:{encoded}@127.0.0.1:1",
        "ZILLIZ_REQUIRED": CANARY,
        "MILVUS_TOKEN": CANARY,
        "SERVICE_BINDING_ROOT": str(directory / "bindings"),
        "ZCONFIG_SECRETS_DIR": str(directory / "secrets"),
        "ZCONFIG_WAIT": CANARY,
        "ZCONFIG_LOG_LEVEL": "debug",
        "ZCONFIG_LOG_FORMAT": "json",
    }


COMMAND_LINES = (
    ("check",),
    ("--strict", "check", "--format", "json"),
    ("check", "--format", "github", "--timeout", "2", "default", "b"),
    ("check", "--quiet"),
    ("list",),
    ("doctor", "--timeout", "2"),
    ("check", "--watch", "1", "-n", "1"),
    ("check", "--watch", "1", "-n", "1", "--format", "json"),
    ("explain",),
    ("explain", "--format", "json"),
    ("explain", "default"),
)
RUN_ALL = """
import json, os
from click.testing import CliRunner
from zconfig._cli.app import zconfig

for arguments in json.loads(os.environ["COMMAND_LINES"]):
    done = CliRunner().invoke(zconfig, ["--verbose", *arguments])
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""


def test_the_command_prints_no_secret(milvus: RealMilvus, tmp_path: Path) -> None:
    environ = {"COMMAND_LINES": json.dumps(COMMAND_LINES), **everywhere(tmp_path, milvus.uri)}
    done = run_python(RUN_ALL, environ=environ)
    assert_no_canary(done.stdout, done.stderr)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for arguments, (code, out, err) in zip(COMMAND_LINES, results, strict=True):
        assert code == 3, arguments
        assert len(out + err) > 100, arguments
        assert_no_canary(out, err)


def test_the_command_that_makes_a_file_prints_no_secret(tmp_path: Path) -> None:
    for token in (CANARY, f"{CANARY}é", CANARY):
        path = str(tmp_path / "made.env")
        done = CliRunner().invoke(command, ["init", "--uri", "./x.db", "--file", path], input=token)
        assert_no_canary(done.output, repr(done.exception), repr(done.exc_info))
    assert done.exit_code == 3
    assert traces_in((tmp_path / "made.env").read_text())


def test_an_error_that_nobody_catches_prints_no_secret(tmp_path: Path) -> None:
    source = """
        import logging, rich.traceback
        logging.basicConfig(level=logging.DEBUG)
        rich.traceback.install(show_locals=True, width=300)
        import zconfig
        zconfig.autoconnect()
    """
    done = run_python(source, environ=everywhere(tmp_path, "http://127.0.0.1:1"))
    assert done.returncode == 1
    assert "ConfigurationError" in done.stderr
    assert_no_canary(done.stdout, done.stderr)
