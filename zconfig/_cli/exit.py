"""Output, errors, signals and the exit code of the command."""

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
# Time to restore the terminal's echo, delete temporary files and close connections.
_GRACE_S = 2.0
_ON_SIGNALS = 128  # shells add this to the number of the signal


class Interrupted(BaseException):
    """A signal ends the command; only `run` catches it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def fail(message: str, code: int = 1) -> NoReturn:
    """Write a message to standard error, and end the command.

    Args:
        message: The reason.
        code: The exit code.
    """
    write_error(message)
    sys.exit(code)


def write_error(message: str) -> None:
    """Write a message to standard error, and ignore an error of writing."""
    with suppress(OSError):
        click.echo(without_commands(message), err=True)


def write(text: str, *, nl: bool = True) -> None:
    """Write a result to standard output; end the command if that fails.

    Args:
        text: The result.
        nl: Whether a line end follows.
    """
    try:
        click.echo(text, nl=nl)
    except OSError as error:
        fail(f"zconfig: the result cannot be written ({_reason(error)})")


def write_result(session: Session, report: Report, result: str) -> None:
    """Write a result to standard output; with `--quiet`, only the failures to standard error."""
    if not session.is_quiet:
        write(result)
    elif report.exit_code:
        write_error(report.summary())


def finish(session: Session, report: Report, result: str) -> NoReturn:
    """Write a result, and end with the exit code of the report."""
    write_result(session, report, result)
    sys.exit(report.exit_code)


def run(command: click.Command) -> NoReturn:
    """Run a command, and end the process: with 130 after Ctrl-C, and with 143 after SIGTERM."""
    _show_what_can_be_shown()
    try:
        with _raised_by_signals():
            code = _outcome(command)
            _forget_output()
    except Interrupted as interrupted:
        # The current line of a terminal shows `^C`, or a prompt.
        line_end = "\n" if sys.stderr and sys.stderr.isatty() else ""
        write_error(f"{line_end}zconfig: {_SIGNALS[signal.Signals(interrupted.number)]}")
        # A regular exit would wait for threads, for example for one that resolves a name.
        os._exit(_ON_SIGNALS + interrupted.number)
    sys.exit(code)


def _show_what_can_be_shown() -> None:
    """Replace the characters that a terminal cannot show, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _outcome(command: click.Command) -> int:
    """Run a command, report its error, and return its exit code."""
    try:
        code = command.main(prog_name="zconfig", standalone_mode=False)
    except SystemExit as error:  # from this package, or from click after a closed pipe
        return error.code if isinstance(error.code, int) else 1
    except click.Abort:  # the input ended at a prompt
        write_error("zconfig: aborted")
        return 1
    except click.ClickException as error:
        error.show(shown := StringIO())
        # The message quotes an unexpected argument, which may be a URI with a password.
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
    """Discard output that cannot be written: the interpreter would write it again, and warn."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # none, if it was closed before
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def catch_sigint() -> Iterator[None]:
    """Let Ctrl-C end a `with` block; the command continues after it."""
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
    """Let Ctrl-C and SIGTERM end a `with` block, and end the process at once after it."""
    # A signal that the parent ignores stays ignored: shells do that for background jobs.
    heard = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, _end_at_once)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    """Raise `Interrupted`; end the process if it takes too long to stop."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    timer = threading.Timer(_GRACE_S, _end_at_once, (number, None))
    timer.daemon = True
    timer.start()
    raise Interrupted(number)


def _end_at_once(number: int, _: FrameType | None) -> NoReturn:
    os._exit(_ON_SIGNALS + number)
