"""The example applications as processes of their own, and requests to them, alone and many."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import PATIENCE_S
from tests.support.faults import LOOPBACK
from tests.support.processes import REPOSITORY

# Tasks are tried again after up to 30 s, and a machine under load starts processes slowly.
LONGEST_WAIT_S = 6 * PATIENCE_S
_BETWEEN_REQUESTS_S = 0.01


class Answer(NamedTuple):
    """What a request came to.

    Args:
        status: Of HTTP.
        document: What stood in the body.
    """

    status: int
    document: Any


@dataclass(frozen=True)
class Application:
    """An example that runs.

    Args:
        process: Where.
        log_file: All that it printed.
        port: Where it answers, if it does.
    """

    process: subprocess.Popen[bytes]
    log_file: Path
    port: int = 0

    @property
    def log(self) -> str:
        """What it has printed until now."""
        return self.log_file.read_text(errors="replace")

    def ask(self, path: str, method: str = "GET") -> Answer:
        """Make one request.

        Raises:
            OSError: Nobody answered.
        """
        client = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_S)
        try:
            client.request(method, path)
            response = client.getresponse()
            return Answer(response.status, json.loads(response.read() or "null"))
        except http.client.HTTPException as error:  # it ended in the middle of an answer
            raise ConnectionError(str(error)) from error
        finally:
            client.close()

    def wait_for(self, path: str, status: int, in_a_row: int = 1) -> Answer:
        """Ask until a status is answered so many times in a row; return the last answer."""
        seen: list[Answer] = []

        def has_come() -> bool:
            seen.append(self.attempt(path))
            return [each.status for each in seen[-in_a_row:]] == [status] * in_a_row

        eventually(has_come, lambda: f"{self.log}\n{seen[-5:]}")
        return seen[-1]

    def attempt(self, path: str) -> Answer:
        """Make one request; the status is 0 where nobody answered."""
        try:
            return self.ask(path)
        except OSError as error:
            assert self.process.poll() is None, self.log
            return Answer(0, str(error))

    def stop(self, signal_number: int) -> int:
        """End it with a signal, and return its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(LONGEST_WAIT_S)


@contextmanager
def running(
    *arguments: str, directory: Path, port: int = 0, fds: tuple[int, ...] = (), **environ: str
) -> Iterator[Application]:
    """Run a module beside the test, where the examples can be imported.

    Args:
        *arguments: The module, and its arguments.
        directory: A directory of its own; its log is written there.
        port: Where it will answer.
        fds: What it inherits.
        **environ: What is in its environment besides.
    """
    path = os.pathsep.join(str(each) for each in (REPOSITORY, REPOSITORY / "examples"))
    log_file = directory / "output.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, "PYTHONPATH": path, "HOME": str(directory), **environ},
            cwd=directory,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Application(process, log_file, port)
    finally:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, at once; they may have ended already."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def eventually(has_come: Callable[[], object], explain: Callable[[], str] = str) -> None:
    """Wait until something is true.

    Args:
        has_come: Whether it is.
        explain: What to say if it never is.
    """
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not has_come():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)


def rewrite(secret: Path, text: str) -> None:
    """Replace a secret file at once, as those do that rotate secrets."""
    new = secret.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(secret)


@dataclass
class Load:
    """Requests from several threads.

    Attributes:
        answers: What was answered.
        unanswered: What was not.
    """

    answers: list[Answer] = field(default_factory=list)
    unanswered: list[OSError] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether no more requests are made."""
        return self._is_over.is_set()

    @property
    def failures(self) -> list[Answer]:
        """The answers that say that something failed."""
        return [each for each in self.answers if each.status != 200]

    def stop(self) -> None:
        """Make no more requests."""
        self._is_over.set()

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until so many more are answered, well or not."""
        enough = len(self.answers) + count
        eventually(lambda: len(self.answers) >= enough)

    def wait_until_well(self, in_a_row: int = 40) -> None:
        """Wait until nothing has failed for a while."""
        self.wait_for_more(in_a_row)
        eventually(lambda: {each.status for each in self.answers[-in_a_row:]} == {200})

    @contextmanager
    def on(self, application: Application, path: str, threads: int = 3) -> Iterator[None]:
        """Make requests during a `with` block."""

        def make_requests() -> None:
            while not self._is_over.wait(_BETWEEN_REQUESTS_S):
                try:
                    self.answers.append(application.ask(path))
                except OSError as error:
                    self.unanswered.append(error)

        callers = [threading.Thread(target=make_requests) for _ in range(threads)]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            self.stop()
            for caller in callers:
                caller.join()


@contextmanager
def under_load(application: Application, path: str) -> Iterator[Load]:
    """Make requests during a `with` block, from before it begins to after it ends."""
    load = Load()
    with load.on(application, path):
        load.wait_for_more()
        yield load
        if not load.is_over:
            load.wait_for_more()
