"""A secret's value appears in no output of any failing path."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
from rich.console import Console
from rich.traceback import Traceback

import zconfig
from tests.support.faults import refused
from tests.support.processes import run_zconfig
from tests.support.servers import RealMilvus
from zconfig.registry import Connections
from zconfig.settings.load import load

CANARY = "cAn4ry+S3cret/with?odd=char$"

FORMS = {
    "plain": CANARY,
    "percent-encoded": quote(CANARY, safe=""),
    "base64": base64.b64encode(CANARY.encode()).decode()[:-4],
    "authorization": base64.b64encode(f"root:{CANARY}".encode()).decode()[8:-4],
    "a part of it": "S3cret",
}


def assert_no_canary(text: str) -> None:
    found = [name for name, form in FORMS.items() if form in text]
    assert not found, f"{found} in: {text}"


def connections_of(environ: dict[str, str], directory: Path) -> Connections:
    return Connections(lambda: load(environ, directory, system_secrets=str(directory / "none")))


def everything_shown_of(error: BaseException) -> str:
    """All that loggers, debuggers and error trackers take from an exception.

    Of our frames: the caller's own, which are these tests', have the secret by themselves.
    """
    trace = error.__traceback__
    while trace and "zconfig" not in Path(trace.tb_frame.f_code.co_filename).parent.parts[-2:]:
        trace = trace.tb_next
    assert trace is not None
    error = error.with_traceback(trace)
    shown = io.StringIO()
    Console(file=shown, width=400).print(
        Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True)
    )
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=True)(
        (type(error), error, error.__traceback__)
    )
    chain, each = [], error
    while each is not None:
        chain.append(f"{each!r} {each!s} {each.args!r} {vars(each)!r}")
        each = each.__cause__ or each.__context__
    parts = [
        *chain,
        *traceback.format_exception(error),
        shown.getvalue(),
        repr(frames),
        repr(pickle.dumps(error)),
    ]
    return "\n".join(parts)


BAD_CONFIGURATIONS: dict[str, dict[str, str]] = {
    "a token with a line end": {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": f"{CANARY}\nx"},
    "a token that is not ASCII": {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": f"{CANARY}é"},
    "a token pasted as the URI": {"ZILLIZ_URI": CANARY},
    "a token pasted as a number": {
        "ZILLIZ_URI": "http://127.0.0.1:1",
        "ZILLIZ_TIMEOUT": CANARY,
        "ZILLIZ_POOL_SIZE": CANARY,
        "ZILLIZ_REQUIRED": CANARY,
        "ZCONFIG_WAIT": CANARY,
    },
    "a bad port beside userinfo": {"ZILLIZ_URI": f"http://root:{quote(CANARY, safe='')}@h:0"},
    "userinfo that is not encoded": {"ZILLIZ_URI": f"http://root:{CANARY}@127.0.0.1:19530"},
    "a password alone": {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_PASSWORD": CANARY},
    "a token beside a password": {
        "ZILLIZ_URI": "http://127.0.0.1:1",
        "ZILLIZ_TOKEN": CANARY,
        "ZILLIZ_USER": "root",
        "ZILLIZ_PASSWORD": CANARY,
    },
    "a token without a URI": {"ZILLIZ_PROD_TOKEN": CANARY},
    "two spellings that differ": {
        "ZILLIZ_URI": "http://127.0.0.1:1",
        "ZILLIZ_TOKEN": CANARY,
        "ZILLIZ_API_KEY": f"{CANARY}2",
    },
    "a typo": {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKNE": CANARY, "ZCONFIG_STRICT": "1"},
    "the secret as the path of its file": {
        "ZILLIZ_URI": "http://127.0.0.1:1",
        "ZILLIZ_USER": CANARY,
        "ZILLIZ_PASSWORD": CANARY,
        "ZILLIZ_TLS_CA": "nowhere.pem",
    },
}


@pytest.mark.parametrize("environ", BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS.keys())
def test_no_bad_configuration_shows_a_secret(environ: dict[str, str], tmp_path: Path) -> None:
    connections = connections_of(environ, tmp_path)
    with pytest.raises(zconfig.ConfigurationError) as caught:
        connections.autoconnect()
    assert_no_canary(everything_shown_of(caught.value))
    assert_no_canary(repr(connections.configuration) + repr(connections))


@pytest.mark.parametrize("environ", BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS.keys())
def test_no_dotenv_file_shows_a_secret(environ: dict[str, str], tmp_path: Path) -> None:
    lines = [f"{name}='{value}'" for name, value in environ.items()]
    (tmp_path / ".env").write_text("\n".join(lines) + f'\nZILLIZ_BROKEN="{CANARY}\n')
    connections = connections_of({}, tmp_path)
    with pytest.raises(zconfig.ConfigurationError) as caught:
        connections.autoconnect()
    assert_no_canary(everything_shown_of(caught.value))
    assert_no_canary(repr(connections.configuration))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that anything logs meanwhile, with the records' own fields."""
    stream = io.StringIO()

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stream.write(f"{record.getMessage()} {vars(record)!r}\n")

    handler, root = Everything(), logging.getLogger()
    root.addHandler(handler)
    before = root.level
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def failing_calls(uri: str) -> dict[str, Callable[[Connections], object]]:
    return {
        "connect by token": lambda c: c.connect("a", uri=uri, token=f"root:{CANARY}"),
        "connect by password": lambda c: c.connect("a", uri=uri, user="root", password=CANARY),
        "connect by userinfo": lambda c: c.connect(
            "a", uri=uri.replace("//", f"//root:{quote(CANARY, safe='')}@")
        ),
        "autoconnect": lambda c: c.autoconnect(),
        "lookup": lambda c: c["default"],
        "other credentials": lambda c: c.connect("default", token=f"root:{CANARY}-2"),
    }


@pytest.mark.parametrize("call", failing_calls("").keys())
def test_no_refused_connect_shows_a_secret(call: str, tmp_path: Path, log: io.StringIO) -> None:
    with refused() as port:
        uri = f"http://127.0.0.1:{port}"
        environ = {"ZILLIZ_URI": uri, "ZILLIZ_TOKEN": f"root:{CANARY}"}
        connections = connections_of(environ, tmp_path)
        connections.subscribe(zconfig.log.log_event)
        with pytest.raises(zconfig.ZConfigError) as caught:
            failing_calls(uri)[call](connections)
    assert_no_canary(everything_shown_of(caught.value))
    assert_no_canary(log.getvalue())
    assert "zconfig.connection.failed" in log.getvalue()


@pytest.mark.parametrize("call", failing_calls("").keys())
def test_no_rejected_credentials_are_shown(
    call: str, milvus: RealMilvus, tmp_path: Path, log: io.StringIO
) -> None:
    environ = {"ZILLIZ_URI": milvus.uri, "ZILLIZ_TOKEN": f"root:{CANARY}"}
    connections = connections_of(environ, tmp_path)
    connections.subscribe(zconfig.log.log_event)
    with pytest.raises(zconfig.ZConfigError) as caught:
        failing_calls(milvus.uri)[call](connections)
    assert_no_canary(everything_shown_of(caught.value))
    assert_no_canary(log.getvalue())


def test_a_live_connection_shows_no_secret(milvus: RealMilvus, tmp_path: Path) -> None:
    connections = connections_of({}, tmp_path)
    connections.connect("a", uri=milvus.uri, user="root", password="Milvus")
    shown = [connections["a"], connections, connections["a"].spec, connections["a"].channel]
    with pytest.raises(zconfig.ConflictError) as caught:
        connections.connect("a", uri=milvus.uri, user="root", password=CANARY)
    connections.close()
    assert_no_canary(everything_shown_of(caught.value))
    assert "Milvus" not in repr(shown).replace("MilvusL", "")


@pytest.mark.parametrize("format_", ["table", "json", "github"])
@pytest.mark.parametrize("command", ["check", "list"])
def test_the_command_shows_no_secret(
    command: str, format_: str, milvus: RealMilvus, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(CANARY + "\n\n")
    environ = {
        "ZILLIZ_URI": milvus.uri,
        "ZILLIZ_TOKEN": f"root:{CANARY}",
        "ZILLIZ_B_URI": f"http://root:{quote(CANARY, safe='')}@127.0.0.1:1",
        "ZILLIZ_C_URI": f"http://root:{CANARY}@h:0",
        "ZILLIZ_D_URI": "http://127.0.0.1:1",
        "ZILLIZ_D_USER": "root",
        "ZILLIZ_D_PASSWORD_FILE": str(tmp_path / "password"),
        "ZCONFIG_LOG_FORMAT": "json",
        "ZCONFIG_LOG_LEVEL": "debug",
        "PYDANTIC_SETTINGS_DEBUG": "1",
    }
    done = run_zconfig("--verbose", command, "--format", format_, environ=environ)
    assert done.returncode == 3
    assert_no_canary(done.stdout + done.stderr)
    if format_ == "json":
        assert json.loads(done.stdout)["exit_code"] == 3
