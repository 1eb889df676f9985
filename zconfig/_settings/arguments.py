"""Convert arguments in code to fields: the highest source, with pymilvus' parameter names.

The parameters are those of the documented `Connections` class; see `connections.connect` and
`connections.add_connection` of the pymilvus reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import SecretStr

from zconfig._origin import Origin
from zconfig._redaction import MASK, Hidden, Secret
from zconfig._settings.fields import (
    CREDENTIALS,
    LONGEST_S,
    ConnectionSettings,
    Variable,
    endpoint_of,
)
from zconfig._settings.names import DEFAULT_ALIAS, Spelling, check_alias, nearest, normalize_alias
from zconfig._settings.precedence import Layer, Resolution, Setting, resolve_layers
from zconfig._settings.validation import tls_remedy, validate
from zconfig._sources.base import Entry
from zconfig.errors import ConfigurationError, Problem

SecretText = str | SecretStr
"""A secret in code: text, or pydantic's `SecretStr`."""

PLACES = frozenset({"uri", "address", "host", "port"})
"""Parameters that name a server: with any of them, settings of other sources are ignored."""

_DEFAULT_HOST, _DEFAULT_PORT = "localhost", 19530

_RENAMED = {
    "ca_pem_path": "tls_ca",
    "server_pem_path": "tls_ca",
    "client_pem_path": "tls_cert",
    "client_key_path": "tls_key",
    "server_name": "tls_server_name",
    "keep_alive": "keepalive",
}
SETTINGS = "settings"
"""The parameter that takes a `ConnectionSettings`."""

_OF_ONE_FIELD = PLACES | {"secure"} | _RENAMED.keys() | ConnectionSettings.model_fields.keys()
PARAMETERS = _OF_ONE_FIELD | {SETTINGS}
"""Every parameter of `connect`."""

_SYNONYMS = {
    synonym: field
    for field in ConnectionSettings.model_fields
    for synonym in Variable.of(ConnectionSettings, field).synonyms
}
_ELSEWHERE = {"http": "uri", "https": "uri", "db": "db_name", "ssl": "secure", "tls": "secure"}
_MEANT = {name: name for name in PARAMETERS} | _SYNONYMS | _ELSEWHERE
"""Names that other programs use for a parameter, and the parameter."""

_OF_A_CLIENT = frozenset({"db_name", "timeout"})
"""Parameters that are also options of a pymilvus client."""

_NAME = r"[\w .-]*"  # names that are shown unmasked, valid or not

_WHOLE = "its parameters"  # stands for all parameters of an alias
_ALL = "the connections"  # stands for the parameters of all aliases

_INSTEAD = {
    "_async": "use zconfig.aio, whose connections are asynchronous",
    "_unbind_with_db": "use zconfig.client, which has the alias' database",
    "grpc_options": "use the parameters keepalive, proxy, pool_size and server_name",
    "option": "remove it",
}
"""Parameters of pymilvus that are rejected unless they have their default, with a remedy."""


class Unusable(NamedTuple):
    """An argument of an unsupported type: the name of the type, in place of the value."""

    type_name: str


def hide_alias(alias: Any) -> Any:
    """Hide an alias from tracebacks, unless it is a name.

    A value passed as an alias by mistake may contain a password. Every public function and method
    calls this first, so that no local variable of a traceback holds the original value.

    Args:
        alias: The alias; `None`, for the default one, is returned unchanged.

    Examples:
        >>> hide_alias("eu-Prod"), hide_alias("https://root:Milvus@db"), hide_alias(b"prod")
        ('eu-Prod', <hidden>, Unusable(type_name='bytes'))
    """
    if alias is None or isinstance(alias, (str, Unusable)):
        return _hidden_name(alias) if isinstance(alias, str) else alias
    return Unusable(type(alias).__name__)


def hide_aliases(aliases: Iterable[Any]) -> tuple[Any, ...]:
    """Call `hide_alias` on several aliases."""
    return tuple(map(hide_alias, aliases))


def hide_seconds(seconds: Any) -> Any:
    """Hide a number of seconds from tracebacks if it is not a number.

    Examples:
        >>> hide_seconds(2.5), hide_seconds(None), hide_seconds("https://root:Milvus@db")
        (2.5, None, Unusable(type_name='str'))
    """
    is_number = seconds is None or isinstance(seconds, (int, float))
    return seconds if is_number else Unusable(type(seconds).__name__)


def _hidden_name(name: Any) -> str:
    """Return the name of an alias or a parameter, hidden if it is not a valid name."""
    is_name = isinstance(name, str) and (name.isidentifier() or re.fullmatch(_NAME, name))
    return name if is_name else Hidden(name)


def as_alias(alias: object) -> str:
    """Return an alias from code in its folded form, without checking that it is valid.

    Raises:
        ConfigurationError: The alias is not a string.

    Examples:
        >>> as_alias("eu-Prod")
        'eu_prod'
    """
    if isinstance(alias, str):
        return _hidden_name(normalize_alias(alias))
    type_name = alias.type_name if isinstance(alias, Unusable) else type(alias).__name__
    what = f"an alias must be a string, not {type_name}"
    raise ConfigurationError([Problem("bad_alias", what, "pass a string")])


_SET_IT = "set ZILLIZ_URI or ZILLIZ_<ALIAS>_URI to it, or pass it to connections.connect as uri"


def wanted_alias(alias: object, of_a_uri: str = _SET_IT) -> str:
    """Return an alias to look up in its folded form.

    Args:
        alias: The alias.
        of_a_uri: The remedy for a URI.

    Raises:
        ConfigurationError: The alias is not a string, or is a URI, which the message does not quote
            since it may contain a password.
    """
    name = as_alias(alias)
    if re.search(r"[:/@]|\.db$", str(alias)):
        what = "an alias must be a name, not a URI"
        raise ConfigurationError([Problem("bad_alias", what, of_a_uri)])
    return name


def fold_alias(alias: object, of_a_uri: str = _SET_IT) -> str:
    """Return an alias to configure in its folded form.

    Args:
        alias: The alias.
        of_a_uri: The remedy for a URI.

    Raises:
        ConfigurationError: The alias is not a string, or is not valid.
    """
    name = wanted_alias(alias, of_a_uri)
    if problem := bad_alias(str(alias)):
        raise ConfigurationError([problem])
    return name


def bad_alias(alias: str) -> Problem | None:
    """Return the problem of an invalid alias, or `None`."""
    complaint = check_alias(normalize_alias(alias))
    if complaint is None:
        return None
    shown = alias if re.fullmatch(_NAME, alias) else None
    return Problem(complaint.code, complaint.message, "choose another alias", alias=shown)


def check_seconds(alias: str | None, **durations: float) -> None:
    """Require that durations from code are numbers of seconds in the supported range.

    Raises:
        ConfigurationError: With every problem of the durations.

    Examples:
        >>> check_seconds("prod", timeout=3, wait=0)
    """
    problems = [
        Problem(
            f"bad_{name}",
            f"{name} is not a number of seconds from 0 to {LONGEST_S}",
            f"pass e.g. {name}=10",
            alias=alias,
        )
        for name, value in durations.items()
        if not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_S
    ]
    if problems:
        raise ConfigurationError(problems)


def hide(arguments: Any) -> dict[str, Any]:
    """Return arguments as values that no traceback shows.

    A number as a password, and pydantic's secrets and URLs, are converted to text. A value of an
    unsupported type is replaced with the name of its type, for `check_arguments` to report.

    Examples:
        >>> hide({"password": 1234, "port": 19530, "token": b"key"})
        {'password': <hidden>, 'port': 19530, 'token': Unusable(type_name='bytes')}
    """
    if isinstance(arguments, ConnectionSettings):
        return {SETTINGS: _hidden(SETTINGS, arguments)}
    if not isinstance(arguments, Mapping):
        return {_WHOLE: Unusable(type(arguments).__name__)}
    return {_hidden_name(name): _hidden(name, value) for name, value in arguments.items()}


def hide_each(connections: Any) -> dict[str, dict[str, Any]]:
    """Call `hide` on the arguments of several aliases, by alias."""
    if not isinstance(connections, Mapping):
        return {DEFAULT_ALIAS: {_ALL: Unusable(type(connections).__name__)}}
    return {hide_alias(alias): hide(each) for alias, each in connections.items()}


def _hidden(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == SETTINGS and isinstance(value, ConnectionSettings):
        # A subclass may have more fields; and `model_copy` does not validate.
        return hide({each: getattr(value, each, None) for each in ConnectionSettings.model_fields})
    if isinstance(value, ConnectionSettings):
        return Unusable(ConnectionSettings.__name__)
    if hasattr(value, "get_secret_value"):  # pydantic's SecretStr and Secret[str]
        value = value.get_secret_value()
    elif hasattr(value, "unicode_string"):  # pydantic's URL types, of every version
        value = str(value)
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return Hidden(str.__str__(value))  # the value of a member of an enumeration
    if isinstance(value, (int, float, Unusable)):
        # A number under an unknown name is hidden, too: it may be a password.
        is_secret = name in CREDENTIALS or name not in PARAMETERS | _INSTEAD.keys()
        return Hidden(value) if is_secret and isinstance(value, (int, float)) else value
    return Unusable(type(value).__name__)


def has_endpoint(arguments: Mapping[str, Any]) -> bool:
    """Return whether any argument names a server."""
    return any(arguments.get(name) not in (None, "") for name in PLACES)


def has_overrides(arguments: Mapping[str, Any]) -> bool:
    """Return whether any argument differs from its default.

    Examples:
        >>> has_overrides({"user": "", "db_name": None}), has_overrides({"timeout": 3})
        (False, True)
    """
    return any(
        name not in PARAMETERS or (each not in (None, "") and not _is_default(name, each))
        for name, each in arguments.items()
    )


def from_arguments(
    alias: str,
    arguments: Mapping[str, Any],
    call: str,
    place: Origin | None = None,
    within: str = "",
) -> tuple[ConnectionSettings, dict[str, Origin]]:
    """Validate the arguments that code passes for one alias.

    Args:
        alias: The alias, folded.
        arguments: Parameters by name; `None` and empty strings count as not passed.
        call: The call that they are passed to, e.g. `connections.connect`.
        place: The origin of the URI, if it is not an argument.
        within: The prefix of each name in messages, e.g. `settings.`.

    Returns:
        The settings, and the origin of each field.

    Raises:
        ConfigurationError: With every problem of the arguments.
    """
    check_arguments(alias, arguments, call, within)
    given = {name: each for name, each in arguments.items() if name in _OF_ONE_FIELD}
    given = {name: each for name, each in given.items() if each is not None and each != ""}
    if not has_endpoint(given):
        origin = Origin("code", f"{within}uri", path=call)
        remedy = "pass uri, address, or host and port"
        if within:
            remedy = "create the model with a uri"
        raise ConfigurationError(
            [Problem("missing_uri", "is missing", remedy, alias, "uri", origin)]
        )
    layer = Layer(call, {alias: tuple(_declared(given, call, place, within))})
    resolution = resolve_layers([layer], lambda *_: (None, ()))
    settings, invalid = validate(resolution)
    if problems := (*resolution.problems, *invalid):
        raise ConfigurationError(_by_secure(each, resolution) for each in problems)
    if given.get("secure") and not endpoint_of(settings[alias]).secure:
        origin, what = Origin("code", "secure", path=call), "is True, but a path does not use TLS"
        problem = Problem("tls_on_plaintext", what, "remove it", alias, None, origin)
        raise ConfigurationError([problem])
    return settings[alias], {f: p.origin for (_, f), p in resolution.provenance.items()}


def _by_secure(problem: Problem, resolution: Resolution) -> Problem:
    """Return a problem with the remedy `secure`, if no URI is passed that could have https://."""
    uri = resolution.provenance.get((problem.alias or "", "uri"))
    if uri is None:
        return problem
    remedy = problem.remedy.replace(f"use https:// in {uri.origin.name}", tls_remedy(uri.origin))
    return replace(problem, remedy=remedy)


def check_arguments(alias: str, arguments: Mapping[str, Any], call: str, within: str = "") -> None:
    """Check the names and the types of arguments.

    Args:
        alias: The alias, folded.
        arguments: The result of `hide`.
        call: The call that they are passed to.
        within: The prefix of each name in messages.

    Raises:
        ConfigurationError: With every problem of the arguments.
    """
    concerned = None if _ALL in arguments else alias
    problems = [
        replace(fault, alias=concerned, origin=Origin("code", f"{within}{_shown(name)}", path=call))
        for name, value in arguments.items()
        if (
            fault := _fault(name, value)
            or _missing_host(name, arguments)
            or _beside_settings(name, arguments)
        )
    ]
    if problems:
        raise ConfigurationError(problems)


def _shown(name: str) -> str:
    """Return the name of a parameter for a message; a hidden one may contain a secret."""
    return MASK if isinstance(name, Hidden) else name


def _fault(name: str, value: Any) -> Problem | None:
    """Return the problem of the name or the type of one argument, or `None`."""
    if name == _WHOLE and isinstance(value, Unusable):
        what = f"must be a mapping, not {value.type_name}"
        return Problem("bad_argument", what, 'pass e.g. {"uri": "./x.db"}')
    if name == _ALL and isinstance(value, Unusable):
        what = f"must be a mapping by alias, not {value.type_name}"
        return Problem("bad_argument", what, 'pass e.g. {"default": {"uri": "./x.db"}}')
    if name not in PARAMETERS:
        is_default = name in _INSTEAD and not value
        remedy = _instead_of(name)
        return None if is_default else Problem("unknown_argument", "is not a parameter", remedy)
    if name == SETTINGS or isinstance(value, Unusable):
        return _bad_type(name, value)
    # `secure="false"` would enable TLS.
    if name == "secure" and value not in (None, "") and not isinstance(value, bool):
        remedy = "pass secure=True, or use https:// in the URI"
        return Problem("bad_argument", "must be True or False", remedy)
    return _odd_place(name, str(value))


def _bad_type(name: str, value: Any) -> Problem | None:
    """Return the problem of an argument that is neither text nor a number, or `None`."""
    if name != SETTINGS:
        what = f"must be text or a number, not {value.type_name}"
        is_model = value.type_name == ConnectionSettings.__name__
        return Problem("bad_argument", what, "pass it as settings" if is_model else "pass a str")
    if value is None or isinstance(value, Mapping):
        return None
    remedy = "pass a ConnectionSettings, or its fields as parameters"
    return Problem("bad_argument", "must be a ConnectionSettings", remedy)


def _beside_settings(name: str, arguments: Mapping[str, Any]) -> Problem | None:
    """Return the problem of settings with another URI: neither takes precedence."""
    if name != SETTINGS or not arguments[SETTINGS] or not has_endpoint(arguments):
        return None
    place = next(each for each in arguments if each in PLACES and arguments[each])
    return Problem("conflict", f"has a URI, but {place} is also passed", "pass one of the two")


def _odd_place(name: str, value: str) -> Problem | None:
    """Return the problem of a host or an address that contains other parts of a URI."""
    if name in ("host", "address") and "://" in value:
        return Problem("bad_host", "is a URI", "pass it as uri")
    if name == "host" and value.count(":") == 1:
        return Problem("bad_host", "has a port", "pass the port as port, or both as address")
    if name == "host" and "/" in value:
        return Problem("bad_host", "has a path", "pass the database as db_name")
    return None


def _missing_host(name: str, arguments: Mapping[str, Any]) -> Problem | None:
    """Return the problem of a host that is `None`, if only a port is passed with it."""
    places = {each for each in PLACES if arguments.get(each) not in (None, "")}
    if name != "host" or arguments["host"] is not None or places != {"port"}:
        return None
    what = "is None, but port is passed: the variable of the host may be unset"
    return Problem("missing_host", what, "pass the server's host")


def _instead_of(name: str) -> str:
    """Return the remedy for a parameter that does not exist."""
    if name in _INSTEAD:
        return _INSTEAD[name]
    meant = _meant(name)
    return f"did you mean {meant}?" if meant else f"use {', '.join(sorted(PARAMETERS))}"


def _meant(name: str) -> str | None:
    nearby = nearest(str(name).lower(), _MEANT)
    return _MEANT[nearby] if nearby else None


def check_client_options(options: Iterable[str], call: str) -> None:
    """Require that no option of a pymilvus client configures the connection.

    pymilvus ignores such options if it is given a channel: the client would use another server or
    user than the option names.

    Args:
        options: The names of the options, from `hide`.
        call: The call that they are passed to.

    Raises:
        ConfigurationError: With every rejected option.
    """
    problems = [problem for name in options if (problem := _refused_option(name, call))]
    if problems:
        raise ConfigurationError(problems)


def _refused_option(name: str, call: str) -> Problem | None:
    meant = name if name in ("channel", "grpc_options") else _meant(name)
    if meant is None or name in _OF_A_CLIENT:
        return None
    remedy = f"pass it to connections.connect(alias, {meant}=...), and get the client of that alias"
    if meant in _OF_A_CLIENT:
        remedy = f"did you mean {meant}?"
    elif meant not in PARAMETERS:
        remedy = "remove it"
    what = "is not a client option: the client uses the connection of its alias"
    return Problem("unknown_argument", what, remedy, origin=Origin("code", name, path=call))


def _declared(
    arguments: Mapping[str, Any], call: str, place: Origin | None, within: str
) -> Iterator[Setting]:
    """Yield the arguments as settings of a layer, to treat them like any other source."""
    name, uri = _place(arguments)
    yield _declare("uri", uri, place or Origin("code", f"{within}{name}", path=call), call)
    for name, value in arguments.items():
        if name not in PLACES | {"secure"} and not _is_default(name, value):
            origin = Origin("code", f"{within}{name}", path=call)
            yield _declare(_RENAMED.get(name, name), value, origin, call)


def _declare(field: str, value: Any, origin: Origin, call: str) -> Setting:
    entry = Entry(origin.key, Secret(value), origin)
    return Setting(Spelling(field, is_file=False), entry, call)


def _is_default(name: str, value: Any) -> bool:
    """Return whether a value is ignored: pymilvus' `keep_alive=True` reconnects, like zconfig."""
    return name == "keep_alive" and isinstance(value, bool)


def _place(arguments: Mapping[str, Any]) -> tuple[str, Hidden]:
    """Return the names of the parameters that name the server, and the URI that they make.

    As in pymilvus, an address takes precedence over a URI, and both over host and port.
    """
    secure = arguments.get("secure")
    if "uri" in arguments and "address" not in arguments:
        uri = Hidden(arguments["uri"])
        scheme, separator, rest = uri.partition("://")
        upgrade = secure and separator and scheme.lower() in {"http", "tcp", "grpc"}
        return "uri", Hidden(f"https://{_with_port(rest)}") if upgrade else uri
    host, port = arguments.get("host", _DEFAULT_HOST), arguments.get("port", _DEFAULT_PORT)
    if str(host).count(":") > 1 and not str(host).startswith("["):
        host = Hidden(f"[{host}]")  # an IPv6 address
    address = Hidden(arguments.get("address", f"{host}:{port}"))
    names = [name for name in ("host", "port") if name in arguments]
    name = "address" if "address" in arguments else " and ".join(names)
    if address.startswith("unix:"):
        return name, address
    return name, Hidden(f"{'https' if secure else 'http'}://{address}")


def _with_port(rest: str) -> str:
    """Return the part of a URI after its scheme, with the default port without TLS."""
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    has_port = ":" in host.rpartition("]")[2]  # ignores the colons of an IPv6 address
    return f"{authority}{'' if has_port else f':{_DEFAULT_PORT}'}{slash}{path}"
