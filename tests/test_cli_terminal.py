"""The command on a real terminal and under signals: what is shown, and how it ends."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path

import click
import pytest
from rich.console import Console

from tests.support import PATIENCE_S
from tests.support.faults import refused
from tests.support.processes import REPOSITORY, run_python, run_zconfig
from zconfig._cli.app import zconfig
from zconfig._cli.options import Session
from zconfig._cli.progress import ConnectProgress, ProgressView, is_wanted
from zconfig.testing import FakeServer, fake_server

COMMAND = [sys.executable, "-m", "zconfig"]
CONTROL_C = b"\x03"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", **environ}


class Terminal:
    """A terminal with the command on it.

    Args:
        process: The command.
        master: The other end of what it writes on.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.output = ""

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def press_until_it_ends(self, keys: bytes) -> None:
        """Press keys, again and again.

        Python hears of a signal that comes just before a read when that read has ended.
        """
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < end:
            self.type(keys)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)

    def read_until(self, text: str) -> None:
        """Read until a text was shown, or for as long as nothing takes that is not stuck."""
        self._read(lambda: text in self.output)
        assert text in self.output, self.output

    def wait(self) -> int:
        """Read to the end, and return the exit code."""
        self._read(lambda: False)
        return self.process.wait(PATIENCE_S)

    @property
    def text(self) -> str:
        """What was shown, without colour and movement."""
        return SEQUENCE.sub("", self.output).replace("\r\n", "\n")

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def _read(self, is_enough: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not is_enough() and (left := end - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                return
            try:
                read = os.read(self._master, 65536)
            except OSError:  # nobody has the other end open any more
                return
            if not read:
                return
            self.output += self._decoder.decode(read)  # it may end within a character


@contextmanager
def terminal(
    *arguments: str, environ: Mapping[str, str], columns: int = 100, into: Path | None = None
) -> Iterator[Terminal]:
    """Run the command on a terminal of its own; its results may go into a file."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # A new session, whose terminal it becomes: that is what Ctrl-C is sent by.
    start = "import os, sys; os.setsid(); os.close(os.open(os.ttyname(2), os.O_RDWR)); "
    start += "os.execv(sys.executable, [sys.executable, '-m', 'zconfig', *sys.argv[1:]])"
    results = into.open("wb") if into else None
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", start, *arguments],
            env=environment(environ),
            stdin=slave,
            stdout=results or slave,
            stderr=slave,
        )
    finally:
        os.close(slave)
        if results:
            results.close()
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture(scope="module")
def held() -> Iterator[FakeServer]:
    """A server that takes calls, and does not answer."""
    with fake_server() as server:
        server.hold()
        yield server


@pytest.fixture(scope="module")
def answering() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


# --- the live view ------------------------------------------------------------------------------


def test_a_terminal_shows_how_each_alias_gets_on(
    held: FakeServer, answering: FakeServer, tmp_path: Path
) -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_HELD_URI": held.uri,
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_FINE_URI": answering.uri,
        }
        results = tmp_path / "results"
        with terminal("wait", "--timeout", "300", environ=environ, into=results) as shown:
            shown.read_until("attempt 2")
            shown.read_until("1 of 3 connected")
            shown.process.send_signal(signal.SIGTERM)
            assert shown.wait() == 143
    assert "of 300 s" in shown.text
    assert re.search(r"down +\S*retrying.* refused +http://127.0.0.1", shown.text)
    assert re.search(r"held +connecting", shown.text)
    assert re.search(r"fine +connected", shown.text)
    assert shown.output.count(HIDE_CURSOR) == shown.output.count(SHOW_CURSOR) == 1
    assert results.read_bytes() == b""


def test_a_narrow_terminal_cuts_long_uris_and_wraps_nothing(held: FakeServer) -> None:
    environ = {
        "ZILLIZ_URI": f"{held.uri}/{'a' * 120}",
        "ZILLIZ_EU_URI": f"{held.uri}/{'b' * 120}",
        "NO_COLOR": "1",
    }
    with terminal("check", environ=environ, columns=40) as shown:
        shown.read_until("connecting")
        shown.read_until("0 of 2 connected")
        shown.process.send_signal(signal.SIGTERM)
        assert shown.wait() == 143
    assert max(map(len, re.split(r"[\n\r]", shown.text))) <= 40, shown.text
    assert shown.text.partition("0 of 2 connected")[0].count("\n") == 2, "a row is a line"
    assert "\u2026" in shown.text
    assert not COLOUR.search(shown.output)


def test_on_80_columns_a_row_is_a_line_and_a_message_wraps_between_words() -> None:
    with refused() as port:
        environ = {
            "ZILLIZ_URI": f"http://127.0.0.1:{port}/{'a' * 60}",
            "ZILLIZ_ANALYTICS_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_ANALYTICS_REQUIRED": "false",
            "NO_COLOR": "1",
        }
        with terminal("check", environ=environ, columns=80) as shown:
            assert shown.wait() == 4
    lines = re.split(r"[\r\n]+", shown.text)
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines if re.search(r" failed.*: refused$", line)}
    assert rows.keys() == {"default", "analytics"}
    words = " ".join(lines).split()
    assert "ZILLIZ_ANALYTICS_URI" in words, "the message has the origin, the table does not"


def test_a_path_with_blanks_is_cut_too() -> None:
    console = Console(width=40, record=True, file=StringIO())
    console.print(
        ProgressView([("notes", ConnectProgress("/srv/my notes/of this year/and the last/n.db"))])
    )
    assert [line.split()[1] for line in console.export_text().splitlines()] == ["notes", "of"]


@pytest.mark.parametrize(
    ("chosen", "environ", "is_terminal", "expected"),
    [
        pytest.param({}, {}, True, True, id="a terminal"),
        pytest.param({}, {}, False, False, id="a log"),
        pytest.param({"quiet": True}, {}, True, False, id="quiet"),
        pytest.param({"verbose": True}, {}, True, False, id="verbose"),
        pytest.param({}, {"ZCONFIG_LOG_FORMAT": "json"}, True, False, id="a log on the terminal"),
        pytest.param({}, {"ZCONFIG_LOG_FORMAT": "none"}, True, True, id="no log"),
        pytest.param({}, {"TERM": "dumb"}, True, False, id="a dumb terminal"),
    ],
)
def test_the_view_leaves_the_terminal_to_others(
    chosen: dict[str, bool],
    environ: Mapping[str, str],
    is_terminal: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"TERM": "xterm", **environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    session = Session()
    session.chosen |= chosen
    console = Console(stderr=True, force_terminal=True)
    with click.Context(zconfig):
        assert is_wanted(session, console) is expected


def test_the_view_is_gone_when_the_result_comes(answering: FakeServer) -> None:
    with terminal("check", environ={"ZILLIZ_URI": answering.uri}) as shown:
        assert shown.wait() == 0
    after = shown.output.rpartition(SHOW_CURSOR)[2]
    assert "\x1b[1A\x1b[2K" in after
    assert "2.6.0" in after
    assert COLOUR.search(after)


def test_nothing_of_it_reaches_a_log_that_claims_to_have_colours(answering: FakeServer) -> None:
    # CI services set it, and what reads standard error there is no terminal.
    done = run_zconfig("wait", environ={"ZILLIZ_URI": answering.uri, "FORCE_COLOR": "1"})
    assert (done.returncode, done.stderr) == (0, "")


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("check",), ("doctor",), ("wait", "a")],
    ids=lambda arguments: arguments[0],
)
def test_ctrl_c_ends_a_connect_at_once(arguments: tuple[str, ...], held: FakeServer) -> None:
    environ = {f"ZILLIZ_{name}_URI": held.uri for name in "AB"}
    environ |= {f"ZILLIZ_{name}_TIMEOUT": "600" for name in "AB"}
    calls = len(held.calls("Connect"))
    with terminal(*arguments, environ=environ) as shown:
        held.wait_for("Connect", calls + 1, timeout=PATIENCE_S)
        shown.type(CONTROL_C)
        assert shown.wait() == 130
        held.wait_until_idle()
    assert "zconfig: interrupted\n" in shown.text
    assert "Traceback" not in shown.text
    assert shown.output.rfind(SHOW_CURSOR) > shown.output.rfind(HIDE_CURSOR)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_where_there_is_no_terminal(number: int, held: FakeServer) -> None:
    environ = environment({"ZILLIZ_URI": held.uri, "ZILLIZ_TIMEOUT": "600"})
    calls = len(held.calls("Connect"))
    with subprocess.Popen(
        [*COMMAND, "check"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        held.wait_for("Connect", calls + 1, timeout=PATIENCE_S)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number
    assert (out, err) == (
        "",
        f"zconfig: {'interrupted' if number == signal.SIGINT else 'terminated'}\n",
    )


def test_what_a_parent_ignores_stays_ignored(answering: FakeServer) -> None:
    # A shell without job control starts what is put into the background so.
    source = """
import signal
from zconfig._cli import exit as ending
signal.signal(signal.SIGINT, signal.SIG_IGN)
with ending._raised_by_signals():
    signal.raise_signal(signal.SIGINT)
    print(signal.getsignal(signal.SIGTERM) is ending._interrupt)
"""
    done = run_python(source)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_command_that_does_not_come_to_its_end_is_ended() -> None:
    source = """
import os, signal, threading, click
from zconfig._cli import exit as ending

@click.command()
def stuck():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        threading.Event().wait()

ending._GRACE_S = 0.1
ending.run(stuck)
"""
    done = run_python(source)
    assert (done.returncode, done.stderr) == (143, "")


def test_ctrl_c_at_a_prompt_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with terminal("init", "--uri", "./x.db", environ={}) as shown:
        shown.read_until("Token")
        assert not shown.echoes
        shown.press_until_it_ends(CONTROL_C)
        assert shown.wait() == 130
        assert shown.echoes
    assert "Traceback" not in shown.text
    assert not (tmp_path / ".env").exists()


# --- where the result cannot be written ---------------------------------------------------------


@pytest.mark.parametrize("arguments", [("list",), ("--help",)], ids=["result", "help"])
def test_a_full_disk_is_a_line_and_exit_1(arguments: tuple[str, ...], tmp_path: Path) -> None:
    # Files that may have no byte stand for a disk that has no room for one.
    start = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
    start += "os.execv(sys.executable, [sys.executable, '-B', '-m', 'zconfig', *sys.argv[1:]])"
    with (tmp_path / "results").open("wb") as full:
        code, told = complaint([sys.executable, "-c", start, *arguments], full.fileno())
    assert (code, len(told.splitlines())) == (1, 1)
    assert "file too large" in told


def test_a_closed_pipe_is_a_line_and_exit_1() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, told = complaint([*COMMAND, "list"], writer)
    finally:
        os.close(writer)
    assert code == 1
    assert told == "zconfig: the result cannot be written (broken pipe)\n"


def complaint(command: list[str], output: int) -> tuple[int, str]:
    """Return the exit code of a command, and what it writes on standard error."""
    environ = environment({"ZILLIZ_URI": "http://127.0.0.1:1"})
    with subprocess.Popen(
        command, env=environ, stdout=output, stderr=subprocess.PIPE, text=True
    ) as process:
        _, told = process.communicate(timeout=PATIENCE_S * 2)
    return process.returncode, told


def test_a_terminal_that_lacks_a_character_shows_another() -> None:
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1", "PYTHONIOENCODING": "latin-1"}
    done = run_zconfig("list", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "http://127.0.0.1:1" in done.stdout
