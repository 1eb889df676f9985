"""A process that has what Windows has: without forks, owners, and the signals of POSIX."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import PATIENCE_S
from tests.support.processes import REPOSITORY, run_python
from zconfig.testing import FakeServer, fake_server

# The standard library's own modules are imported before, for they ask which system they are on.
WITHOUT_POSIX = """
import asyncio, logging.config, multiprocessing, os, random, selectors, signal, socket, ssl
import subprocess, sys, tempfile, uuid

pair = socket.socketpair
socket.socketpair = lambda *given, family=socket.AF_UNIX: pair(*(given or (family,)))
GONE = {
    os: "O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH chown fchmod fchown fork"
        " forkpty getegid geteuid getgid getgroups getloadavg getpgid getsid getuid killpg lchown"
        " mkfifo openpty register_at_fork sched_getaffinity setsid setuid statvfs"
        " uname",
    signal: "ITIMER_REAL SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIGXFSZ"
        " alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigwait",
    socket: "AF_UNIX SO_REUSEPORT",
}
for module, names in GONE.items():
    for name in names.split():
        vars(module).pop(name, None)
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        fake.accept("root:Milvus")
        yield fake


@pytest.fixture(autouse=True)
def project(tmp_path: Path, server: FakeServer) -> Path:
    """The working directory, with a `.env` that anybody may write, as modes say on Windows."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"ZILLIZ_URI={server.uri}\nZILLIZ_TOKEN=root:Milvus\n", encoding="utf-8")
    dotenv.chmod(0o666)
    return tmp_path


def run(code: str, **environ: str) -> list[str]:
    """Run a program without what only POSIX has, and return the lines that it printed."""
    done = run_python(WITHOUT_POSIX + code, environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def command(*arguments: str) -> Sequence[str]:
    """Return what starts the command in such a process."""
    code = f"{WITHOUT_POSIX}\nfrom zconfig._cli import main\nmain()"
    return (sys.executable, "-c", code, *arguments)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        command(*arguments),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit code and the output of a command that ends by itself."""
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    return process.returncode, stdout, stderr


def test_a_dotenv_file_is_read_and_an_alias_connected() -> None:
    code = """
import zconfig, zconfig.health
zconfig.configure_logging("json")
zconfig.configure_logging("none")
print(*zconfig.autoconnect(), zconfig.connections.configuration.problems)
print(zconfig.connections.default.ping() > 0, zconfig.health.Readiness().status().is_ready)
zconfig.connections.close()
"""
    assert run(code) == ["default ()", "True True"]


def test_event_loops_of_both_kinds_of_waiting_connect() -> None:
    code = """
import zconfig.aio
async def main():
    async with zconfig.aio.lifespan():
        print(await zconfig.aio.ping() > 0)
asyncio.run(main())
asyncio.run(main())
"""
    assert run(code) == ["True", "True"]


def test_what_cannot_be_reached_is_diagnosed() -> None:
    code = """
import zconfig
for alias in ("default", "local"):
    try:
        zconfig.connections[alias]
    except zconfig.ConnectError as error:
        print(type(error).__name__, "Unix sockets" in str(error))
"""
    environ = {"ZILLIZ_URI": "http://127.0.0.1:9", "ZILLIZ_LOCAL_URI": "unix:/nowhere.sock"}
    assert run(code, **environ) == ["RefusedError False", "HostUnreachableError True"]


def test_credentials_are_rotated_by_a_file(project: Path, server: FakeServer) -> None:
    server.accept("key-1", "key-2")
    (project / "token").write_text("key-1", encoding="utf-8")
    code = """
import pathlib, threading, zconfig
from zconfig import events
rotated = threading.Event()
zconfig.connections.subscribe(lambda _: rotated.set(), events.ConnectionRotated)
zconfig.connections["prod"].ping()
pathlib.Path("token").write_text("key-2")
print(rotated.wait(20))
"""
    assert run(code, ZILLIZ_PROD_URI=server.uri, ZILLIZ_PROD_TOKEN_FILE="token") == ["True"]


def test_the_fixtures_for_applications_work() -> None:
    code = """
import zconfig
from zconfig.testing import fake_server
with fake_server() as server, zconfig.connections.override({"app": {"uri": server.uri}}):
    print(zconfig.connections["app"].ping() > 0)
"""
    assert run(code) == ["True"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("check",), "default"),
        (("list",), "default"),
        (("explain",), ".env:1"),
        (("doctor",), "credentials"),
        (("wait", "--timeout", "5"), "default"),
    ],
    ids=str,
)
def test_the_command_works(arguments: tuple[str, ...], shown: str) -> None:
    code, stdout, stderr = ended(start(*arguments))
    assert (code, stderr) == (0, "")
    assert shown in stdout


def test_the_command_writes_a_file(project: Path) -> None:
    code, _, stderr = ended(
        start("init", "--alias", "eu", "--uri", "http://127.0.0.1:1", "--no-token")
    )
    assert code == 0, stderr
    assert "ZILLIZ_EU_URI" in (project / ".env").read_text(encoding="utf-8")


def test_a_program_that_the_command_runs_is_a_child_whose_exit_code_is_passed_on() -> None:
    program = "import os, sys; print(os.environ['MILVUS_TOKEN'], os.getppid()); sys.exit(7)"
    process = start("exec", "--", sys.executable, "-c", program)
    code, stdout, stderr = ended(process)
    assert (code, stdout, stderr) == (7, f"root:Milvus {process.pid}\n", "")


def test_ctrl_c_is_for_the_program_that_the_command_runs() -> None:
    program = """
import sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(9)
"""
    process = start("exec", "--", sys.executable, "-c", program)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (9, "", "")


def test_a_program_that_is_not_there_is_reported() -> None:
    code, _, stderr = ended(start("exec", "--", "no-such-program"))
    assert (code, stderr) == (127, "zconfig: no-such-program: command not found\n")


def test_a_command_that_hangs_is_ended_by_a_signal(server: FakeServer) -> None:
    server.hold()
    process = start("check", "--timeout", "60")
    server.wait_for("Connect", timeout=PATIENCE_S)
    process.send_signal(signal.SIGINT)
    code, _, stderr = ended(process)
    assert (code, stderr) == (130, "zconfig: interrupted\n")
