"""One alias' values, as the variables that another program wants."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import click

from zconfig._cli.exit import fail, write_error
from zconfig._cli.options import Session, complete_alias, epilog, pass_session
from zconfig._cli.progress import show_progress
from zconfig._cli.report import check_aliases
from zconfig._endpoint import TransportType
from zconfig._redaction import Hidden
from zconfig._sources.environment import process_environment
from zconfig._spec import ConnectionSpec

BY_DEFAULT = (
    ("URI", "MILVUS_URI"),
    ("TOKEN", "MILVUS_TOKEN"),
    ("USER", "MILVUS_USER"),
    ("PASSWORD", "MILVUS_PASSWORD"),
    ("DB_NAME", "MILVUS_DB_NAME"),
    ("DB_NAME", "MILVUS_DB"),
)
"""Pairs of a field and a variable that zconfig and, by convention, other Milvus programs read."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# As shells and `env` say it.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def _user(spec: ConnectionSpec) -> str | None:
    return spec.credentials.user if spec.credentials else None


def _token(spec: ConnectionSpec) -> str | None:
    return str(spec.credentials.secret.reveal()) if spec.credentials else None


def _password(spec: ConnectionSpec) -> str | None:
    return None if _user(spec) is None else (_token(spec) or "").partition(":")[2]


FIELDS: dict[str, Callable[[ConnectionSpec], str | None]] = {
    # The database has a variable of its own: from the path, programs read it differently.
    "URI": lambda spec: replace(spec.endpoint, db_name=None).uri,
    "ADDRESS": lambda spec: spec.endpoint.address,
    "HOST": lambda spec: spec.endpoint.host,
    "PORT": lambda spec: str(spec.endpoint.port) if spec.endpoint.port else None,
    "TOKEN": _token,
    "USER": _user,
    "PASSWORD": _password,
    "DB_NAME": lambda spec: spec.db_name,
    "TIMEOUT": lambda spec: f"{spec.timeout_s:g}",
    "TLS_CA": lambda spec: spec.tls.ca,
    "TLS_CERT": lambda spec: spec.tls.cert,
    "TLS_KEY": lambda spec: spec.tls.key,
    "TLS_SERVER_NAME": lambda spec: spec.tls.server_name,
    "PROXY": lambda spec: str(spec.proxy.reveal()) if spec.proxy else None,
}
"""What a connection is made of, by field; `None` where it has no such thing."""


def environment_with(
    environ: Mapping[str, str], spec: ConnectionSpec, mapping: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Return an environment with a connection's values in it.

    A variable whose field has no value is taken out: what another server's was must not go with
    this one's.

    Args:
        environ: What there is.
        spec: What the connection is configured with.
        mapping: Pairs of a field and a variable.
    """
    values = {variable: FIELDS[field](spec) for field, variable in mapping}
    kept = {name: value for name, value in environ.items() if name not in values}
    return kept | {name: Hidden(each) for name, each in values.items() if each is not None}


def reason_to_omit_uri(spec: ConnectionSpec) -> str | None:
    """Return why `MILVUS_URI` is not to be set; `None` if nothing is against it.

    pymilvus 2.4 to 3.0 cannot be imported with it set to anything but the URI of a named host or
    of an IPv4 address.

    Args:
        spec: What the connection is configured with.

    Example:
        >>> from zconfig._endpoint import parse_uri
        >>> reason_to_omit_uri(ConnectionSpec("prod", parse_uri("./app.db")))
        'a path of Milvus Lite'
        >>> reason_to_omit_uri(ConnectionSpec("prod", parse_uri("http://db")))
    """
    endpoint = spec.endpoint
    if endpoint.transport is TransportType.LITE:
        return "a path of Milvus Lite"
    if endpoint.transport is TransportType.UNIX:
        return "a Unix socket"
    return "an IPv6 address" if ":" in (endpoint.host or "") else None


def _pair(value: str) -> tuple[str, str]:
    """Return `FIELD=VARIABLE` as a pair of both.

    Raises:
        click.BadParameter: There is no such field, or a variable cannot have that name.
    """
    field, _, variable = value.partition("=")
    if field.upper() not in FIELDS:
        raise click.BadParameter(f"`{field}` is not a field; known are {', '.join(FIELDS)}")
    if not _VARIABLE.fullmatch(variable):
        raise click.BadParameter(f"after {field}= the name of a variable is missing")
    return field.upper(), variable


def execute(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become another program: signals and the exit code are its own.

    Windows cannot do that: there the program is a child, Ctrl-C is its own, and its exit code is
    passed on. Without such a program, or if it cannot be executed, the command ends.

    Args:
        command: Its name or path, and its arguments.
        environ: Its environment.
    """
    sys.stdout.flush()
    try:
        if hasattr(os, "fork"):
            # Python ignores these, and a program inherits what is ignored.
            for name in ("SIGPIPE", "SIGXFSZ"):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            os.execvpe(command[0], list(command), environ)  # noqa: S606 - no shell, and the user's command
        sys.exit(_run_child(command, environ))
    except (FileNotFoundError, NotADirectoryError):
        what, code = "command not found", _NOT_FOUND
    except OSError as error:
        what, code = os.strerror(error.errno or 0).lower(), _NOT_EXECUTABLE
    except ValueError:  # a null character, say; the error of Python's own might show the value
        what, code = "a value cannot be put into a variable", _NOT_EXECUTABLE
    fail(f"zconfig: {command[0]}: {what}", code)


def _run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run another program, and return its exit code."""
    # A console sends Ctrl-C to both; a handler, unlike an ignored signal, is not inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    program = shutil.which(command[0], path=environ.get("PATH")) or command[0]
    return subprocess.run([program, *command[1:]], env=environ, check=False).returncode  # noqa: S603 - no shell, and the user's command


_NO_DASHES = "write -- before the command to run"


class _AfterDashes(click.Command):
    """A command whose own arguments and options end at `--`: the other program's follow."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what follows the dashes as it is, and ask for them where they are missing."""
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
        if not ctx.params["command"]:
            raise click.UsageError("write the command to run after --", ctx)
        return rest


@click.command(
    "exec",
    cls=_AfterDashes,
    epilog=epilog(
        "zconfig exec -- python app.py",
        "zconfig exec prod --map URI=DB_URL --map TOKEN=DB_KEY -- ./migrate.sh",
        "zconfig exec prod --check -- python app.py",
        exit_codes=False,
    ),
)
@click.argument("alias", required=False, shell_complete=complete_alias)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=VARIABLE",
    type=_pair,
    help="A variable for the command; repeatable.",
)
@click.option("--check", is_flag=True, help="Connect first, and run it only if that succeeds.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]...")
@pass_session
def exec_(
    session: Session,
    alias: str | None,
    mapping: tuple[tuple[str, str], ...],
    command: tuple[str, ...],
    *,
    check: bool,
) -> None:
    """Run COMMAND with the values of ALIAS, by default the default one, as environment variables.

    Without --map these are MILVUS_URI, MILVUS_TOKEN, MILVUS_USER, MILVUS_PASSWORD, MILVUS_DB_NAME
    and MILVUS_DB, which zconfig and, by convention, other Milvus programs read. pymilvus itself
    reads MILVUS_URI alone, and MilvusClient() not even that. The fields for --map are URI (without
    credentials and database), ADDRESS, HOST, PORT, TOKEN, USER, PASSWORD, DB_NAME, TIMEOUT, TLS_CA,
    TLS_CERT, TLS_KEY, TLS_SERVER_NAME and PROXY. A variable whose field has no value is taken out
    of the environment; the rest of it stays.

    The command takes this process' place: signals and the exit code are its own. It exits with 127
    if there is no such command, with 126 if it cannot be executed, and otherwise as `check` does.
    """
    spec = session.connections.spec(alias)
    if check:
        with show_progress(session, [spec.alias]):
            report = check_aliases(session.connections, [spec.alias], wait=None, timeout=None)
        if report.exit_code:
            fail(report.summary(), report.exit_code)
    environ = environment_with(process_environment(), spec, mapping or BY_DEFAULT)
    reason = None if mapping else reason_to_omit_uri(spec)
    if reason:
        del environ["MILVUS_URI"]
        if not session.is_quiet:
            omitted = f"MILVUS_URI is not set: pymilvus cannot be imported with {reason} in it"
            write_error(f"zconfig: {omitted}; use --map URI=VARIABLE")
    session.connections.close()
    execute(command, environ)
