"""Programs that are forked begin and end as those of the environment do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import run


@pytest.fixture(params=["usual", "forked"])
def python(request: pytest.FixtureRequest, programs: Path) -> str:
    return sys.executable if request.param == "usual" else str(programs / "python")


def test_it_has_the_arguments_the_environment_and_the_directory(
    python: str, tmp_path: Path
) -> None:
    source = "import os, sys; print(sys.argv[1:], sys.path[0], os.environ['NAME'], os.getcwd())"
    Path("script.py").write_text(source)
    for start, first in ((["-c", source], ""), (["script.py"], tmp_path)):
        done = run([python, "-W", "error", *start, "-c", "x y"], environ={"NAME": "value"})
        assert done.stdout == f"['-c', 'x y'] {first} value {tmp_path}\n"
        assert (done.stderr, done.returncode) == ("", 0)


def test_it_imports_for_itself_what_reads_the_environment(python: str) -> None:
    ours = {"zconfig", "pymilvus", "milvus_lite", "grpc"}
    done = run([python, "-c", f"import sys; print({ours} & sys.modules.keys())"])
    assert done.stdout == "set()\n"


def test_an_error_is_told_and_fails(python: str) -> None:
    done = run([python, "-c", "import atexit; atexit.register(print, 'end'); 1 / 0"])
    assert (done.stdout, done.returncode) == ("end\n", 1)
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert run([python, "-c", "raise SystemExit(7)"]).returncode == 7


def test_its_objects_end_with_it(python: str) -> None:
    source = "class Last:\n def __del__(self): print('end')\nlast = Last()"
    assert run([python, "-c", source]).stdout == "end\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGPIPE, signal.SIGTERM])
def test_a_signal_that_ends_it_is_passed_on(python: str, number: signal.Signals) -> None:
    source = f"""if True:
        import os, signal
        if {number:d} != signal.SIGKILL:
            signal.signal({number:d}, signal.SIG_DFL)
        os.kill(os.getpid(), {number:d})
    """
    done = run([python, "-c", source])
    assert (done.returncode, done.stderr) == (-number, "")


def test_it_ends_when_it_is_killed(python: str) -> None:
    source = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen([python, "-c", source], stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
    while Path(f"/proc/{pid}/stat").exists():
        time.sleep(0.01)
