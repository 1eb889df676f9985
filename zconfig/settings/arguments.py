"""Arguments in code → fields: the highest source, with the parameter names of pymilvus.

The parameters are those of the documented `Connections` class; see `connections.connect` and
`connections.add_connection` of the pymilvus reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from zconfig.errors import ConfigurationError, Problem
from zconfig.origin import Origin
from zconfig.redaction import Hidden, Secret
from zconfig.settings.fields import CREDENTIALS, LONGEST_S, ConnectionSettings
from zconfig.settings.grouping import Declared, Layer
from zconfig.settings.model import validate
from zconfig.settings.names import Word, check_alias, fold
from zconfig.settings.precedence import resolve
from zconfig.sources.entry import Entry

PLACES = frozenset({"uri", "address", "host", "port"})
"""Parameters that say where: with any of them, nothing ambient is mixed in."""

_DEFAULT_HOST, _DEFAULT_PORT = "localhost", 19530

_RENAMED = {
    "ca_pem_path": "tls_ca",
    "server_pem_path": "tls_ca",
    "client_pem_path": "tls_cert",
    "client_key_path": "tls_key",
    "server_name": "tls_server_name",
    "keep_alive": "keepalive",
}
_KNOWN = PLACES | {"secure"} | _RENAMED.keys() | ConnectionSettings.model_fields.keys()

_INSTEAD = {
    "_async": "use zconfig.aio, whose connections are asynchronous",
    "_unbind_with_db": "use zconfig.client, which has the alias' database",
    "grpc_options": "use the parameters keepalive, proxy, pool_size and server_name",
    "option": "leave it out",
}
"""What pymilvus takes and we don't, unless it is its default, with what is there instead."""


def as_alias(alias: object) -> str:
    """Return an alias from code in its folded form; it may be one that nobody can configure.

    Raises:
        ConfigurationError: If it is not a string.

    Example:
        >>> as_alias("eu-Prod")
        'eu_prod'
    """
    if isinstance(alias, str):
        return fold(alias)
    what = f"an alias is a string, not {type(alias).__name__}"
    raise ConfigurationError([Problem("bad_alias", what, "pass a string")])


def fold_alias(alias: object) -> str:
    """Return an alias that is to be configured in its folded form.

    Raises:
        ConfigurationError: If it is not a string, or cannot be an alias.
    """
    name = as_alias(alias)
    complaint = check_alias(name)
    if complaint is None:
        return name
    problem = Problem(complaint.code, complaint.message, "choose another alias", alias=str(alias))
    raise ConfigurationError([problem])


def check_seconds(alias: str | None, **durations: float) -> None:
    """Make sure that durations from code are numbers of seconds that can be waited for.

    Raises:
        ConfigurationError: With everything that is wrong with them.

    Example:
        >>> check_seconds("prod", timeout=3, wait=0)
    """
    problems = [
        Problem(
            f"bad_{name}",
            f"{name} is not a number of seconds from 0 to {LONGEST_S}",
            f"pass for example {name}=10",
            alias=alias,
        )
        for name, value in durations.items()
        if not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_S
    ]
    if problems:
        raise ConfigurationError(problems)


def hide(arguments: Any) -> dict[str, Any]:
    """Return the same arguments, texts and credentials as values that no traceback shows.

    A number as a password is its text.

    Example:
        >>> hide({"password": 1234, "port": 19530, "token": None})
        {'password': <hidden>, 'port': 19530, 'token': None}
    """
    if not isinstance(arguments, Mapping):
        what = f"the parameters of a connection are a mapping, not {type(arguments).__name__}"
        raise ConfigurationError([Problem("bad_argument", what, 'pass e.g. {"uri": "./x.db"}')])
    return {
        name: Hidden(value) if isinstance(value, str) or _is_credential(name, value) else value
        for name, value in arguments.items()
    }


def _is_credential(name: str, value: Any) -> bool:
    return name in CREDENTIALS and isinstance(value, int)


def names_a_place(arguments: Mapping[str, Any]) -> bool:
    """Tell whether any argument says where to connect to."""
    return any(arguments.get(name) not in (None, "") for name in PLACES)


def say_anything(arguments: Mapping[str, Any]) -> bool:
    """Tell whether any argument is more than its default.

    Example:
        >>> say_anything({"user": "", "db_name": "default"}), say_anything({"timeout": 3})
        (False, True)
    """
    return any(
        name not in _KNOWN or (each not in (None, "") and not _is_default(name, each))
        for name, each in arguments.items()
    )


def from_arguments(
    alias: str, arguments: Mapping[str, Any], call: str
) -> tuple[ConnectionSettings, dict[str, Origin]]:
    """Validate what was passed in code for one alias.

    Args:
        alias: The alias, folded.
        arguments: Parameters by name; `None` and empty strings count as not passed.
        call: The call they were passed to, e.g. `connections.connect`.

    Returns:
        The settings, and where each field was set.

    Raises:
        ConfigurationError: With everything that is wrong with them.
    """
    arguments = {name: each for name, each in arguments.items() if name not in _INSTEAD or each}
    unknown = [_unknown(alias, name, call) for name in arguments if name not in _KNOWN]
    if unknown:
        raise ConfigurationError(unknown)
    given = {name: each for name, each in arguments.items() if each is not None and each != ""}
    odd = [*_odd(alias, given, call)]
    if odd:
        raise ConfigurationError(odd)
    if not names_a_place(given):
        raise ConfigurationError([_placeless(alias, call)])
    layer = Layer(call, {alias: tuple(_declared(given, call))})
    resolution = resolve([layer], lambda *_: (None, ()))
    settings, invalid = validate(resolution)
    problems = (*resolution.problems, *invalid)
    if problems:
        raise ConfigurationError(problems)
    return settings[alias], {f: p.origin for (_, f), p in resolution.provenance.items()}


def _unknown(alias: str, name: str, call: str) -> Problem:
    remedy = _INSTEAD.get(name) or f"use {', '.join(sorted(_KNOWN))}"
    origin = Origin("code", name, path=call)
    return Problem("unknown_argument", "is not a parameter", remedy, alias, None, origin)


def _odd(alias: str, arguments: Mapping[str, Any], call: str) -> Iterator[Problem]:
    """Yield what is wrong with the types: `secure="false"` would switch TLS on."""
    for name, value in arguments.items():
        origin = Origin("code", name, path=call)
        if name == "secure" and not isinstance(value, bool):
            what, remedy = "is not True or False", "pass secure=True, or use https:// in the URI"
            yield Problem("bad_argument", what, remedy, alias, None, origin)
        elif not isinstance(value, (str, int, float, os.PathLike)):
            what, remedy = "is not text or a number", "pass a str"
            yield Problem("bad_argument", what, remedy, alias, None, origin)


def _placeless(alias: str, call: str) -> Problem:
    remedy = "pass uri, address, or host and port"
    origin = Origin("code", "uri", path=call)
    return Problem("missing_uri", "is missing", remedy, alias, "uri", origin)


def _declared(arguments: Mapping[str, Any], call: str) -> Iterator[Declared]:
    """Take the arguments as a layer, so that they are treated as every other source."""
    place, uri = _place(arguments)
    yield _declare("uri", place, uri, call)
    for name, value in arguments.items():
        if name not in PLACES | {"secure"} and not _is_default(name, value):
            yield _declare(_RENAMED.get(name, name), name, value, call)


def _declare(field: str, name: str, value: Any, call: str) -> Declared:
    entry = Entry(name, Secret(value), Origin("code", name, path=call))
    return Declared(Word(field, is_file=False), entry, call)


def _is_default(name: str, value: Any) -> bool:
    """Tell what stands for nothing: the parameter's default, or what we do anyway."""
    if name == "db_name":
        return bool(value == "default")  # so that a database in the URI's path counts
    return name == "keep_alive" and isinstance(value, bool)  # in pymilvus it means "reconnect"


def _place(arguments: Mapping[str, Any]) -> tuple[str, Hidden]:
    """Return what says where to connect to, and the URI it makes.

    As in pymilvus, an address takes precedence over a URI, and both over host and port.
    """
    secure = arguments.get("secure")
    if "uri" in arguments and "address" not in arguments:
        uri = Hidden(arguments["uri"])
        scheme, separator, rest = uri.partition("://")
        upgrade = secure and separator and scheme.lower() in {"http", "tcp", "grpc"}
        return "uri", Hidden(f"https://{_with_port(rest)}") if upgrade else uri
    host, port = arguments.get("host", _DEFAULT_HOST), arguments.get("port", _DEFAULT_PORT)
    address = Hidden(arguments.get("address", f"{host}:{port}"))
    names = [name for name in ("host", "port") if name in arguments]
    name = "address" if "address" in arguments else " and ".join(names)
    if address.startswith("unix:"):
        return name, address
    return name, Hidden(f"{'https' if secure else 'http'}://{address}")


def _with_port(rest: str) -> str:
    """Return a URI's part after the scheme with the port that it has without TLS."""
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    has_port = ":" in host.rpartition("]")[2]  # not those of an IPv6 address
    return f"{authority}{'' if has_port else f':{_DEFAULT_PORT}'}{slash}{path}"
