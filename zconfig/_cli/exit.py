"""How the command ends: with an exit code and a short message, never with a traceback."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO, TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from zconfig._cli.options import Session
from zconfig._redaction import MASK, without_commands

if TYPE_CHECKING:
    from zconfig._cli.report import Report

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# What is under way is given back meanwhile: a terminal's echo, a temporary file, connections.
_GRACE_S = 2.0
_ON_SIGNALS = 128  # as shells count


class Interrupted(BaseException):
    """A signal asks the command to end; nothing but `run` catches it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def fail(message: str, code: int = 1) -> NoReturn:
    """Write a message on standard error, and end the command.

    Args:
        message: Why.
        code: What it exits with.
    """
    write_error(message)
    sys.exit(code)


def write_error(message: str) -> None:
    """Write a message on standard error, if that is possible."""
    with suppress(OSError):
        click.echo(without_commands(message), err=True)


def write(text: str, *, nl: bool = True) -> None:
    """Write a result on standard output, or end the command if that cannot be done.

    Args:
        text: The result.
        nl: Whether a line end follows.
    """
    try:
        click.echo(text, nl=nl)
    except OSError as error:
        fail(f"zconfig: the result cannot be written ({_reason(error)})")


def write_result(session: Session, report: Report, result: str) -> None:
    """Write a result on standard output; with `--quiet`, what is wrong on standard error."""
    if not session.is_quiet:
        write(result)
    elif report.exit_code:
        write_error(report.summary())


def finish(session: Session, report: Report, result: str) -> NoReturn:
    """Write a result where it belongs, and end with the report's exit code."""
    write_result(session, report, result)
    sys.exit(report.exit_code)


def run(command: click.Command) -> NoReturn:
    """Run a command as the process' own, and end the process.

    Args:
        command: Exits 130 on Ctrl-C and 143 on SIGTERM, as shells count signals.
    """
    _show_what_can_be_shown()
    try:
        with _raised_by_signals():
            code = _outcome(command)
            _forget_output()
    except Interrupted as interrupted:
        # A terminal has shown `^C`, or a prompt, on the line that it is at.
        line_end = "\n" if sys.stderr and sys.stderr.isatty() else ""
        write_error(f"{line_end}zconfig: {_SIGNALS[signal.Signals(interrupted.number)]}")
        # Threads that still look up a name, say, would be waited for otherwise.
        os._exit(_ON_SIGNALS + interrupted.number)
    sys.exit(code)


def _show_what_can_be_shown() -> None:
    """Have a terminal that lacks a character show another one, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _outcome(command: click.Command) -> int:
    """Run a command, say what went wrong, and return its exit code."""
    try:
        code = command.main(prog_name="zconfig", standalone_mode=False)
    except SystemExit as error:  # a code of ours, or one of click's after a closed pipe
        return error.code if isinstance(error.code, int) else 1
    except click.Abort:  # the end of the input, where something is asked for
        write_error("zconfig: aborted")
        return 1
    except click.ClickException as error:
        error.show(shown := StringIO())
        # It repeats an argument that it did not expect, which may be a URI with a password.
        write_error(re.sub(r"(?<=://)\S*@", f"{MASK}@", shown.getvalue().rstrip()))
        return error.exit_code
    except OSError as error:  # help, on a full disk
        write_error(f"zconfig: {_reason(error)}")
        return 1
    return code if isinstance(code, int) else 0


def _reason(error: OSError) -> str:
    reason = os.strerror(error.errno or 0).lower()
    return f"{reason}: {error.filename}" if error.filename else reason


def _forget_output() -> None:
    """Let go what could not be written, or the interpreter would try again and complain."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # none, if it was closed before
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def catch_sigint() -> Iterator[None]:
    """Have Ctrl-C end a `with` block, and no more than that: the command goes on behind it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _raised_by_signals() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end a `with` block, and what comes after it at once."""
    # What a parent has told us to ignore, as a shell does in the background, stays ignored.
    heard = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, _end_at_once)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    """End what is under way; if that takes too long, end the process."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    timer = threading.Timer(_GRACE_S, _end_at_once, (number, None))
    timer.daemon = True
    timer.start()
    raise Interrupted(number)


def _end_at_once(number: int, _: FrameType | None) -> NoReturn:
    os._exit(_ON_SIGNALS + number)
