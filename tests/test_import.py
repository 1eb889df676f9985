"""What `import zconfig` does, and what it leaves alone; in fresh processes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.processes import run_python


def printed(source: str, **environ: str) -> object:
    done = run_python(f"import json\n{source}", environ=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_aliases_are_there_and_nothing_is_connected() -> None:
    source = "import zconfig; print(json.dumps(zconfig.connections.list_connections()))"
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_EU_URI": "https://127.0.0.1:1"}
    assert printed(source, **environ) == [["default", None], ["eu", None]]


def test_a_dotenv_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_PROD_URI=http://127.0.0.1:1\n")
    assert printed("import zconfig; print(json.dumps(list(zconfig.connections)))") == ["prod"]


def test_a_dotenv_file_in_a_parent_directory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_PROD_URI=http://127.0.0.1:1\n")
    below = tmp_path / "below"
    below.mkdir()
    source = f"import os; os.chdir({str(below)!r}); import zconfig; print(len(zconfig.connections))"
    assert printed(source) == 0


def test_a_reload_after_a_change_of_directory_reads_the_files_of_the_import(tmp_path: Path) -> None:
    for name, key in (("", "ours"), ("other", "theirs")):
        (tmp_path / name).mkdir(exist_ok=True)
        uri = "http://127.0.0.1:1"
        (tmp_path / name / ".env").write_text(f"ZILLIZ_URI={uri}\nZILLIZ_TOKEN_FILE=token\n")
        (tmp_path / name / "token").write_text(key)
    source = """
import os, zconfig
os.chdir("other")
changes = zconfig.reload()
token = zconfig.connections.settings("default").token.get_secret_value()
print(json.dumps([bool(changes), token]))
"""
    assert printed(source) == [False, "ours"]


def test_what_only_a_use_needs_is_not_imported() -> None:
    source = """
import sys, zconfig
late = ("grpc", "pymilvus", "milvus_lite", "click", "structlog", "rich", "pydantic_settings")
print(json.dumps([name for name in late if name in sys.modules]))
"""
    assert printed(source, ZILLIZ_URI="./x.db") == []


def test_nothing_global_changes(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_URI=http://127.0.0.1:1\nOTHER=1\n")
    source = """
import logging, os, sys, threading, warnings, signal
import pydantic_settings, structlog
def look():
    return [
        dict(os.environ), threading.active_count(), os.getcwd(),
        [repr(h) for h in logging.getLogger().handlers], logging.getLogger().level,
        logging.getLogger("zconfig").level, logging.getLogger("zconfig").propagate,
        structlog.is_configured(), repr(warnings.filters), sys.excepthook is sys.__excepthook__,
        repr(signal.getsignal(signal.SIGTERM)),
    ]
before = look()
import zconfig
print(json.dumps(before == look()))
"""
    assert printed(source) is True


def test_no_socket_is_opened() -> None:
    source = """
import socket
def refuse(*_, **__): raise SystemExit("a socket was opened")
socket.socket.__init__ = refuse
import zconfig
print(json.dumps(list(zconfig.connections)))
"""
    assert printed(source, ZILLIZ_URI="http://127.0.0.1:1") == ["default"]


def test_nothing_is_printed_not_even_for_a_bad_configuration() -> None:
    bad = {"ZILLIZ_URI": "nonsense", "ZILLIZ_PROD_TOKEN": "x", "ZCONFIG_LOG_FORMAT": "json"}
    done = run_python("import zconfig", environ=bad)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bad_configuration_is_kept_for_the_first_use() -> None:
    source = """
import zconfig
try:
    zconfig.autoconnect()
except zconfig.ConfigurationError as error:
    print(json.dumps([[p.code, p.alias] for p in error.problems]))
"""
    problems = printed(source, ZILLIZ_URI="http://127.0.0.1:0", ZILLIZ_B_URI="gopher://x")
    assert problems == [["bad_port", "default"], ["bad_scheme", "b"]]


def test_the_public_names_are_these() -> None:
    source = "import zconfig; print(json.dumps(sorted(zconfig.__all__)))"
    assert printed(source) == sorted(
        [
            "AliasStats",
            "AuthenticationError",
            "AutoconnectError",
            "Changes",
            "ClosedError",
            "ConfigurationError",
            "ConflictError",
            "ConnectError",
            "Connection",
            "ConnectionSettings",
            "Connections",
            "DatabaseMissingError",
            "Explanation",
            "Health",
            "MissingExtraError",
            "NotMilvusError",
            "Problem",
            "RoundTrips",
            "Server",
            "Source",
            "State",
            "TLSError",
            "UnknownAliasError",
            "UnreachableError",
            "ZConfigError",
            "ZillizSettings",
            "__version__",
            "async_client",
            "autoconnect",
            "client",
            "configure_logging",
            "connection_args",
            "connections",
            "events",
            "explain",
            "masking_filter",
            "masking_processor",
            "reload",
        ]
    )


def test_every_public_name_is_there_and_listed_and_no_other_is() -> None:
    source = """
import zconfig
listed = dir(zconfig)
print(json.dumps([
    [n for n in listed if not hasattr(zconfig, n)],
    sorted(set(listed) ^ set(zconfig.__all__)),
]))
"""
    assert printed(source) == [[], ["aio", "errors", "health", "interop"]]


def test_what_is_set_after_a_use_failed_is_told_with_the_call_that_reads_it() -> None:
    source = """
import os
os.environ["ZILLIZ_WRONG_URI"] = "nonsense://"
import zconfig
def problem(call, *arguments):
    try:
        return call(*arguments).endpoint.uri
    except zconfig.ConfigurationError as error:
        return error.problems[0].remedy
def late(): return problem(zconfig.connections.spec, "late")
def wrong(): return problem(zconfig.connections.spec, "wrong")
def start(): return problem(zconfig.autoconnect)
def default(): return problem(zconfig.connections.spec)
zconfig.connections.add_connection(a={"uri": "http://127.0.0.1:1"}, b={"uri": "./b.db"})
before = late(), wrong(), start(), default()
os.environ |= {"ZILLIZ_LATE_URI": "http://127.0.0.1:1", "ZILLIZ_WRONG_URI": "http://127.0.0.1:2"}
os.environ["ZCONFIG_DEFAULT_ALIAS"] = "late"
changed = late(), wrong(), start(), default()
zconfig.reload()
print(json.dumps([before, changed, (late(), wrong(), default())]))
"""
    before, changed, after = printed(source)
    assert before[0].startswith("set ZILLIZ_LATE_URI")
    assert before[1] == before[2]
    assert before[1].startswith("use https://")
    assert before[3] == "pass an alias or set ZCONFIG_DEFAULT_ALIAS"
    assert changed == ["variables have changed since they were read; call zconfig.reload()"] * 4
    assert after == [f"http://127.0.0.1:{number}" for number in (1, 2, 1)]


def test_what_is_set_after_the_import_counts_on_the_first_use_of_the_package() -> None:
    source = """
import os, zconfig
os.environ["ZILLIZ_LATE_URI"] = "./made-later/late.db"
os.environ["ZILLIZ_OLD_URI"] = "http://127.0.0.1:2"
first = zconfig.connection_args("old")["uri"], list(zconfig.connections)
os.environ["ZILLIZ_OLD_URI"] = "http://127.0.0.1:3"
second = zconfig.connection_args("old")["uri"]
zconfig.reload()
print(json.dumps([*first, second, zconfig.connection_args("old")["uri"]]))
"""
    first, aliases, second, third = printed(source, ZILLIZ_OLD_URI="http://127.0.0.1:1")
    assert aliases == ["old", "late"]
    assert [first, second, third] == [f"http://127.0.0.1:{port}" for port in (2, 2, 3)]
