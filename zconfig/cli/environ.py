"""One alias' values, as the variables that another program wants."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import click

from zconfig.cli.ending import fail
from zconfig.endpoint import Transport
from zconfig.redaction import Hidden
from zconfig.spec import ConnectionSpec

BY_DEFAULT = (
    ("URI", "MILVUS_URI"),
    ("TOKEN", "MILVUS_TOKEN"),
    ("USER", "MILVUS_USER"),
    ("PASSWORD", "MILVUS_PASSWORD"),
    ("DB_NAME", "MILVUS_DB_NAME"),
    ("DB_NAME", "MILVUS_DB"),
)
"""Pairs of a field and a variable that zconfig and, by convention, other Milvus programs read."""

FIELDS = (
    "URI",
    "ADDRESS",
    "HOST",
    "PORT",
    "TOKEN",
    "USER",
    "PASSWORD",
    "DB_NAME",
    "TIMEOUT",
    "TLS_CA",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_SERVER_NAME",
    "PROXY",
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# As shells and `env` say it.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def values_of(spec: ConnectionSpec) -> dict[str, str | None]:
    """Return what a connection is made of, by field; `None` where it has no such thing.

    Args:
        spec: What the connection is configured with.

    Example:
        >>> from zconfig.endpoint import parse
        >>> values = values_of(ConnectionSpec("prod", parse("http://db/sales"), db_name="sales"))
        >>> values["URI"], values["DB_NAME"], values["TOKEN"]
        ('http://db:19530', 'sales', None)
    """
    endpoint, tls = spec.endpoint, spec.tls
    secret = str(spec.credentials.secret.reveal()) if spec.credentials else None
    user = spec.credentials.user if spec.credentials else None
    return {
        # The database has a variable of its own: from the path, programs read it differently.
        "URI": replace(endpoint, db_name=None).uri,
        "ADDRESS": endpoint.address,
        "HOST": endpoint.host,
        "PORT": None if endpoint.port is None else str(endpoint.port),
        "TOKEN": secret,
        "USER": user,
        "PASSWORD": secret.partition(":")[2] if secret and user is not None else None,
        "DB_NAME": spec.db_name,
        "TIMEOUT": f"{spec.timeout_s:g}",
        "TLS_CA": tls.ca,
        "TLS_CERT": tls.cert,
        "TLS_KEY": tls.key,
        "TLS_SERVER_NAME": tls.server_name,
        "PROXY": str(spec.proxy.reveal()) if spec.proxy else None,
    }


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
    values = values_of(spec)
    wanted = {variable: values[field] for field, variable in mapping}
    kept = {name: value for name, value in environ.items() if name not in wanted}
    return kept | {name: Hidden(value) for name, value in wanted.items() if value is not None}


def reason_to_omit_uri(spec: ConnectionSpec) -> str | None:
    """Return why `MILVUS_URI` is not to be set; `None` if nothing is against it.

    pymilvus 2.4 to 3.0 cannot be imported with it set to anything but the URI of a named host or
    of an IPv4 address.

    Args:
        spec: What the connection is configured with.

    Example:
        >>> from zconfig.endpoint import parse
        >>> reason_to_omit_uri(ConnectionSpec("prod", parse("./app.db")))
        'a path of Milvus Lite'
        >>> reason_to_omit_uri(ConnectionSpec("prod", parse("http://db")))
    """
    endpoint = spec.endpoint
    if endpoint.transport is Transport.LITE:
        return "a path of Milvus Lite"
    if endpoint.transport is Transport.UNIX:
        return "a Unix socket"
    return "an IPv6 address" if ":" in (endpoint.host or "") else None


def pairs(
    _context: click.Context, _parameter: click.Parameter, values: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """Return `FIELD=VARIABLE` as pairs of both.

    Raises:
        click.BadParameter: There is no such field, or a variable cannot have that name.
    """
    return tuple(map(_pair, values))


def _pair(value: str) -> tuple[str, str]:
    field, _, variable = value.partition("=")
    if field.upper() not in FIELDS:
        raise click.BadParameter(f"`{field}` is not a field; known are {', '.join(FIELDS)}")
    if not _VARIABLE.fullmatch(variable):
        raise click.BadParameter(f"after {field}= the name of a variable is missing")
    return field.upper(), variable


def execute(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become another program: signals and the exit code are its own.

    Without such a program, or if it cannot be executed, the command ends.

    Args:
        command: Its name or path, and its arguments.
        environ: Its environment.
    """
    sys.stdout.flush()
    # Python ignores these, and a program inherits what is ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environ)  # noqa: S606 - no shell, and the user's command
    except (FileNotFoundError, NotADirectoryError):
        what, code = "command not found", _NOT_FOUND
    except OSError as error:
        what, code = os.strerror(error.errno or 0).lower(), _NOT_EXECUTABLE
    except ValueError:  # a null character, say; the error of Python's own might show the value
        what, code = "a value cannot be put into a variable", _NOT_EXECUTABLE
    fail(f"zconfig: {command[0]}: {what}", code)
