"""A `python` and a `zconfig` that start fast: as forks of a process that waits.

It has imported packages that zconfig, pymilvus and Milvus Lite need. None of them reads what
configures an application: its environment, its working directory. pymilvus, gRPC and zconfig do:
each program imports these itself. The interpreter has started before, so PYTHON variables change
nothing. A signal that ends what a test started kills the program.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import types
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGES = (
    *("click", "pydantic_settings", "rich.console", "rich.live", "rich.table"),
    *("faiss", "google.protobuf.json_format", "pandas", "pyarrow.compute", "requests"),
)

# It hands over its arguments and descriptors, and ends as the fork does.
_PROGRAM = """#!{python} -SEs
import _signal, _socket, marshal, os, sys
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
server.connect({address!r})
start = marshal.dumps((os.path.basename(sys.argv[0]), sys.argv[1:], dict(os.environ), os.getcwd()))
descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
server.sendmsg([start], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
code = int(server.recv(16))
if code < 0:
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""

programs = Path(sys.executable).parent
"""Where a `python` and a `zconfig` are; while tests run, those of `forked_programs`."""


@contextmanager
def forked_programs() -> Iterator[Path]:
    """Yield a directory with `python` and `zconfig`; elsewhere than on Linux the usual one."""
    if sys.platform != "linux":
        yield Path(sys.executable).parent
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with TemporaryDirectory(prefix="zconfig-tests-") as directory, listener:
        address = f"\0{Path(directory).name}"
        for name in ("python", "zconfig"):
            program = Path(directory, name)
            program.write_text(_PROGRAM.format(python=sys.executable, address=address))
            program.chmod(0o700)
        listener.bind(address)
        listener.listen()
        # It ends when its standard input does. Ctrl-C is for the process that runs the tests.
        with subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            process_group=0,
            pass_fds=[listener.fileno()],
            # No threads of NumPy and Faiss, which a fork would be without.
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"},
        ) as server:
            listener.close()  # should the server end, programs fail, rather than wait for it
            try:
                yield Path(directory)
            finally:
                server.kill()


def serve(listener: socket.socket) -> None:
    """Fork for each program that connects, until the standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            attend(client)
            return
        client.close()


def attend(client: socket.socket) -> None:
    """Run a program in one more fork, and tell how it ended; kill it when its client is."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    start, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 3)
    pid = os.fork()
    if pid == 0:
        client.close()
        become(*marshal.loads(start), descriptors)  # noqa: S302 - our own
        return
    for each in descriptors:
        os.close(each)
    if client in select.select([client, os.pidfd_open(pid)], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        client.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(
    name: str,
    arguments: list[str],
    environ: Mapping[str, str],
    directory: str,
    descriptors: list[int],
) -> None:
    """Run, in a fork, what the command line says: an option `-W`, and `-c`, `-m` or a script."""
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    if name == "zconfig":
        arguments = [str(Path(sys.executable).with_name(name)), *arguments]
    if arguments[0] == "-W":
        warnings.simplefilter(arguments[1])  # type: ignore[arg-type]
        arguments = arguments[2:]
    if arguments[0] == "-m":
        import runpy

        sys.argv, sys.path[0] = arguments[1:], directory
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        source = arguments[1]
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        source = Path(arguments[0]).read_text(encoding="utf-8")
        main.__file__ = arguments[0]
    exec(compile(source, main.__dict__.get("__file__", "<string>"), "exec"), main.__dict__)  # noqa: S102


def skip_teardown_of_imports() -> None:
    """Have forks end without clearing, object by object, the packages imported until now."""
    ours = {*sys.stdlib_module_names, "__main__"}
    packages = [name for name in sys.modules if name.partition(".")[0] not in ours]

    @atexit.register
    def forget() -> None:
        for name in packages:
            sys.modules.pop(name, None)


if __name__ == "__main__":
    for package in PACKAGES:
        with suppress(Exception):  # a program that needs it says why it cannot be imported
            importlib.import_module(package)
    skip_teardown_of_imports()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
