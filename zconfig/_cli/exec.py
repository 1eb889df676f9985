"""`zconfig exec`: run a program with the values of one alias as environment variables."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import click

from zconfig._cli.exit import fail, write_error
from zconfig._cli.options import Session, complete_alias, epilog, pass_session
from zconfig._cli.programs import (
    BY_DEFAULT,
    FIELDS,
    PROGRAMS,
    environment_with,
    reason_to_omit_uri,
)
from zconfig._cli.progress import show_progress
from zconfig._cli.report import check_aliases
from zconfig._sources.environment import process_environment
from zconfig._spec import ConnectionSpec

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USAGE = 2
# The exit codes of shells and `env`.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def _pair(value: str) -> tuple[str, str]:
    """Parse `FIELD=VARIABLE`.

    Raises:
        click.BadParameter: The field is unknown, or the name of the variable is invalid.
    """
    field, _, variable = value.partition("=")
    if field.upper() not in FIELDS:
        raise click.BadParameter(f"{field!r} is not a field; use one of {', '.join(FIELDS)}")
    if not _VARIABLE.fullmatch(variable):
        raise click.BadParameter(
            f"{field} requires the name of a variable; write e.g. {field}=DB_{field.upper()}"
        )
    return field.upper(), variable


def execute(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Replace this process with a program, which then receives signals and sets the exit code.

    On Windows the program is a child process instead: it handles Ctrl-C, and this process exits
    with its exit code. If the program is not found or cannot be executed, the command fails.

    Args:
        command: The name or path of the program, and its arguments.
        environ: The environment of the program.
    """
    sys.stdout.flush()
    try:
        if hasattr(os, "fork"):
            # Python ignores these signals, and a program inherits ignored signals.
            for name in ("SIGPIPE", "SIGXFSZ"):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            os.execvpe(command[0], list(command), environ)  # noqa: S606 - no shell, and the user's command
        sys.exit(_run_child(command, environ))
    except (FileNotFoundError, NotADirectoryError):
        what, code = "command not found", _NOT_FOUND
    except OSError as error:
        what, code = os.strerror(error.errno or 0).lower(), _NOT_EXECUTABLE
    except ValueError:  # for example a null character; Python's message might show the value
        what, code = "a value cannot be stored in an environment variable", _NOT_EXECUTABLE
    fail(f"zconfig: {command[0]}: {what}", code)


def _run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run another program, and return its exit code."""
    # A console sends Ctrl-C to both processes. The child does not inherit a handler, as it would
    # inherit an ignored signal.
    signal.signal(signal.SIGINT, lambda *_: None)
    program = shutil.which(command[0], path=environ.get("PATH")) or command[0]
    return subprocess.run([program, *command[1:]], env=environ, check=False).returncode  # noqa: S603 - no shell, and the user's command


_NO_DASHES = "-- must precede the command to run; write e.g. zconfig exec prod -- python app.py"


class _AfterDashes(click.Command):
    """A command whose own arguments end at `--`; those of the program to run follow."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before `--`, and fail if `--` is missing."""
        asks_for_help = not set(args).isdisjoint(self.get_help_option_names(ctx))
        if "--" not in args:
            if asks_for_help or ctx.resilient_parsing:
                return super().parse_args(ctx, args)
            raise click.UsageError(_NO_DASHES, ctx)
        at = args.index("--")
        rest = super().parse_args(ctx, args[:at])
        if ctx.params["command"]:
            raise click.UsageError(_NO_DASHES, ctx)
        ctx.params["command"] = tuple(args[at + 1 :])
        if not any(ctx.params["command"][:1]):  # a variable of the shell may be empty
            raise click.UsageError("the command to run is missing; put it after --", ctx)
        return rest


@click.command(
    "exec",
    cls=_AfterDashes,
    epilog=epilog(
        "zconfig exec -- python app.py",
        "zconfig exec prod --for milvus-cli -- milvus_cli",
        "zconfig exec prod --map URI=DB_URL --map TOKEN=DB_KEY -- ./migrate.sh",
        "zconfig exec prod --check -- python app.py",
    ),
)
@click.argument("alias", required=False, shell_complete=complete_alias)
@click.option(
    "--for",
    "program",
    type=click.Choice(list(PROGRAMS)),
    metavar="PROGRAM",
    help=f"Set the variables of a known program: {', '.join(PROGRAMS)}.",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=VARIABLE",
    type=_pair,
    help="Set VARIABLE to the value of FIELD; repeatable.",
)
@click.option("--check", is_flag=True, help="Connect first, and run COMMAND only on success.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]...")
@pass_session
def exec_(  # noqa: PLR0913 - one parameter an option
    session: Session,
    alias: str | None,
    program: str | None,
    mapping: tuple[tuple[str, str], ...],
    command: tuple[str, ...],
    *,
    check: bool,
) -> None:
    """Run a program with an alias' values in its environment.

    Runs COMMAND with the values of ALIAS, by default of the default alias, in environment
    variables. Without --for and --map these are MILVUS_URI, MILVUS_TOKEN, MILVUS_USER,
    MILVUS_PASSWORD, MILVUS_DB_NAME, MILVUS_DB and MILVUS_DATABASE, which zconfig and, by
    convention, other Milvus programs read. Of these, pymilvus.connections reads only MILVUS_URI,
    and MilvusClient() reads none.

    With --for they are the variables of a known program. The command fails if these variables
    cannot describe the alias, for example if it has a TLS_CA and the program has no variable for
    that.

    The fields for --map are URI (without credentials and database), URI_DB_NAME (with the
    database), ADDRESS, HOST, PORT, TOKEN, API_KEY, USER, PASSWORD, DB_NAME, TIMEOUT, TLS_CA,
    TLS_CERT, TLS_KEY, TLS_SERVER_NAME, PROXY and CONTROL_PLANE. A variable whose field has no value
    is removed from the environment. All other variables stay.

    The program replaces this process, so it receives signals and sets the exit code. The exit code
    is 127 if the program is not found, and 126 if it cannot be executed. If --check fails or the
    alias cannot be used, the exit codes are those of zconfig.
    """
    if program and mapping:
        raise click.UsageError("--for and --map cannot be combined")
    variables = [variable for _, variable in mapping]
    if repeated := next((each for each in variables if variables.count(each) > 1), None):
        raise click.UsageError(f"--map sets {repeated} twice; remove one of the two")
    spec = session.connections.spec(alias)
    environ = _environment(session, spec, program, mapping)
    if check:
        with show_progress(session, [spec.alias]):
            report = check_aliases(session.connections, [spec.alias], wait=None, timeout=None)
        if report.exit_code:
            fail(report.summary(), report.exit_code)
    session.connections.close()
    execute(command, environ)


def _environment(
    session: Session,
    spec: ConnectionSpec,
    program: str | None,
    mapping: tuple[tuple[str, str], ...],
) -> dict[str, str]:
    """Return the environment of the program; fail if its variables cannot describe the alias."""
    inherited = process_environment()
    if program:
        reason = PROGRAMS[program].reason_to_refuse(spec)
        if reason:
            fail(f"zconfig: {spec.alias}: not usable with {program}: {reason}", _USAGE)
        return PROGRAMS[program].environment(inherited, spec)
    environ = environment_with(inherited, spec, mapping or BY_DEFAULT)
    reason = None if mapping else reason_to_omit_uri(spec)
    if reason:
        del environ["MILVUS_URI"]
        if not session.is_quiet:
            omitted = f"MILVUS_URI is not set: pymilvus cannot be imported with {reason} in it"
            write_error(f"zconfig: {omitted}; use --map URI=VARIABLE")
    return environ
