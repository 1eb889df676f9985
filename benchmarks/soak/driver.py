"""The application's process, as the soak sees it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from benchmarks.soak.values import Call, Child, End, Holdings
from tests.support.processes import REPOSITORY

_PATIENCE_S = 180.0
_DUMPING_S = 2.0
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


class StuckError(Exception):
    """The application does not answer any more; its log has the stacks of its threads."""


class Application:
    """A process that is under load from when it starts.

    Args:
        directory: Where its `.env` is; its log is written there.
        aliases: What it calls on.
        threads: How many threads and how many tasks call.
        seed: What their choices follow from.
    """

    def __init__(self, directory: Path, aliases: Sequence[str], threads: int, seed: int) -> None:
        self.log = directory / "application.log"
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # gRPC would say of each fork during a call that it does not handle it.
        quiet = {"GRPC_VERBOSITY": "NONE", "PYTHONPATH": str(REPOSITORY)}
        program = ("-m", "benchmarks.soak.application", ",".join(aliases), str(threads), str(seed))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - it is our own
                [sys.executable, *program],
                cwd=directory,
                env=kept | quiet,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> Self:
        self._answer("start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, command: str, *arguments: Any) -> Any:
        """Have it carry a command out, and return the answer; see `application.Application`.

        Raises:
            StuckError: It does not answer, or has ended.
        """
        stdin = cast("IO[bytes]", self._process.stdin)
        try:
            stdin.write(f"{json.dumps([command, *arguments])}\n".encode())
            stdin.flush()
        except BrokenPipeError:
            raise StuckError(self._end(command)) from None
        return self._answer(command)

    def fork(self, second: float, count: int, aliases: Sequence[str], seed: int) -> list[Child]:
        """Have it fork, and return its children."""
        fates = self.ask("fork", count, list(aliases), seed)
        return [Child(second, fault, without_asyncio) for fault, without_asyncio in fates]

    def hold(self) -> Holdings:
        """Return what it holds."""
        return Holdings(**self.ask("hold"))

    def calls(self, start: float) -> list[Call]:
        """Return the calls that did not go well since this was last asked.

        Args:
            start: The monotonic instant that their seconds are counted from.
        """
        return _calls(self.ask("calls"), start)

    def end(self, start: float) -> tuple[dict[str, int], list[Call]]:
        """Return how many calls went well, and those that have not ended; `start` as above."""
        fine, unfinished = self.ask("end")
        return fine, _calls(unfinished, start)

    def _answer(self, command: str) -> Any:
        stdout = cast("IO[bytes]", self._process.stdout)
        if not select.select([stdout], [], [], _PATIENCE_S)[0]:
            self._process.send_signal(signal.SIGUSR1)
            select.select([stdout], [], [], _DUMPING_S)
            raise StuckError(f"{command}: no answer for {_PATIENCE_S:.0f} s")
        line = stdout.readline()
        if not line:
            raise StuckError(self._end(command))
        return json.loads(line)

    def _end(self, command: str) -> str:
        return f"{command}: the application has ended with {self._process.wait()}"


def _calls(found: Iterable[Mapping[str, Any]], start: float) -> list[Call]:
    return [
        Call(**{**each, "end": End(each["end"]), "began": each["began"] - start}) for each in found
    ]
