"""The pages of the documentation, taken at their word: their blocks, and a shell that follows them.

A block with a title is a file: ```` ```python title="app.py" ````. The lines of `sh` blocks, and
those of `console` blocks that begin with `$`, are commands. What follows one in a `console` block
is what it prints, and so is a `text` block right after a `python` one; `...` stands for anything.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_PATIENCE_S = 90.0
_BETWEEN = {"|", "||", "&", "&&", ";", "(", ")", "until", "while", "if", "then", "do"}
_END = "--- end of the command:"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `output` is the text block that follows it."""

    page: Path
    line: int
    language: str
    title: str | None
    code: str
    output: str | None

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line for the shell, and what it prints as far as the page says so."""

    code: str
    output: str | None

    @property
    def programs(self) -> list[str]:
        """The programs in it: the first word of each part that a shell would run by itself."""
        words = shlex.shlex(self.code, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        found, is_first = [], True
        for word in words:
            is_between = word in _BETWEEN
            if is_first and not is_between and not re.fullmatch(r"\w+=.*", word):
                found.append(word)
                is_first = False
            is_first = is_first or is_between
        return found


def name_of(page: Path) -> str:
    """Return a page's name within the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    blocks = []
    for each, following in itertools.zip_longest(found, found[1:]):
        is_output = following is not None and following["language"] == "text"
        between = text[each.end() : following.start()].strip() if following else "-"
        blocks.append(
            Block(
                page,
                text.count("\n", 0, each.start()) + 1,
                each["language"],
                each["title"],
                textwrap.dedent(each["code"]),
                following["code"] if following and is_output and not between else None,
            )
        )
    return blocks


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a `sh` or `console` block; of any other, none."""
    if block.title or block.language not in {"sh", "console"}:
        return []
    code = block.code.replace("\\\n", "")
    if block.language == "sh":
        return [Command(line, None) for line in code.splitlines() if is_command(line)]
    commands = []
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        commands.append(Command(line, output or None))
    return commands


def is_command(line: str) -> bool:
    """Tell a command from a comment and an empty line."""
    return bool(line.strip()) and not line.lstrip().startswith("#")


class TopologyCache:
    """A bash that runs what a page says, command by command, in one directory.

    Args:
        directory: Where it starts.
        stand_ins: What stands here for what the page says, e.g. a port that is free.
        programs: Where programs are that come before those of the environment.
    """

    def __init__(
        self, directory: Path, stand_ins: Mapping[str, str], programs: Path | None = None
    ) -> None:
        self._directory = directory
        self._stand_ins = stand_ins
        environment = Path(sys.executable).parent
        self._bash = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env={
                "PATH": f"{programs or environment}:{environment}:{os.environ['PATH']}",
                "HOME": str(directory),
                "PYTHONPATH": str(REPOSITORY),
            },
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()

    def write(self, block: Block) -> None:
        """Make the file that a block with a title is."""
        assert block.title
        path = self._directory / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(block.code), encoding="utf-8")
        path.chmod(0o600)

    def run(self, command: str) -> str:
        """Run a command, and return what it printed.

        Raises:
            AssertionError: It failed, or did not end.
        """
        stdin = self._bash.stdin
        assert stdin
        # Braces, so that what the command reads is not what we write next.
        stdin.write(f"{{ {self._here(command)}\n}} </dev/null\nprintf '\\n{_END} %d\\n' $?\n")
        stdin.flush()
        *printed, end = self._until_end()
        output = self._there("".join(printed)).removesuffix("\n")
        assert end == f"{_END} 0\n", f"$ {command}\n{output}"
        return output

    def _until_end(self) -> list[str]:
        """Return the lines that a command printed, and the one that tells how it ended."""
        watchdog = threading.Timer(_PATIENCE_S, os.killpg, (self._bash.pid, signal.SIGKILL))
        watchdog.start()
        lines = [""]
        assert self._bash.stdout
        try:
            while not lines[-1].startswith(_END) and (line := self._bash.stdout.readline()):
                lines.append(line)
        finally:
            watchdog.cancel()
        return lines

    def _here(self, text: str) -> str:
        for said, stand_in in self._stand_ins.items():
            text = text.replace(said, stand_in)
        return text

    def _there(self, text: str) -> str:
        for said, stand_in in self._stand_ins.items():
            text = text.replace(stand_in, said)
        return text.replace(str(self._directory), "/app")


def follow(
    page: Path, follower: TopologyCache, *, run: AbstractSet[str], not_run: AbstractSet[str]
) -> None:
    """Do what a page says, from its top: make its files, run its commands, look at what they print.

    Args:
        page: The page.
        follower: Who does it.
        run: Programs that may be run; no other is.
        not_run: Programs whose commands are left out.
    """
    for block in blocks_of(page):
        if block.title:
            follower.write(block)
        for command in commands_of(block):
            programs = set(command.programs)
            assert programs <= run | not_run, f"{block}: {command.code}"
            if not programs & not_run:
                output, said = follower.run(command.code), command.output
                assert said is None or agrees(output, said), f"{block}: {command.code}\n{output}"


def agrees(output: str, expected: str) -> bool:
    """Tell whether something printed what a page says, but for times and the widths of tables."""
    pattern = re.escape(masked(expected)).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, masked(output), re.DOTALL) is not None


def masked(text: str) -> str:
    """Return a text without what differs from run to run."""
    text = re.sub(r"\d+\.\d+(?= ms)|(?<=_ms\": )\d+\.\d+", "1.0", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "2000-01-01T00:00:00Z", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(re.sub("[\u2500-\u257f]+", "─", line) for line in lines if line)
