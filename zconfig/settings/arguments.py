"""Arguments in code → fields: the highest source, with the parameter names of pymilvus.

The parameters are those of the documented `Connections` class; see `connections.connect` and
`connections.add_connection` of the pymilvus reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zconfig.errors import ConfigurationError, Problem
from zconfig.origin import Origin
from zconfig.redaction import Hidden
from zconfig.settings.fields import ConnectionSettings
from zconfig.settings.grouping import Declared, Layer
from zconfig.settings.model import validate
from zconfig.settings.names import Word, check_alias, fold
from zconfig.settings.precedence import Resolution, resolve
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


def fold_alias(alias: object) -> str:
    """Return an alias from code in its folded form.

    Raises:
        ConfigurationError: If it is not a string, or cannot be an alias.

    Example:
        >>> fold_alias("eu-Prod")
        'eu_prod'
    """
    if not isinstance(alias, str):
        raise ConfigurationError(
            [Problem("bad_alias", f"an alias is a string, not {type(alias).__name__}", "pass one")]
        )
    complaint = check_alias(fold(alias))
    if complaint:
        raise ConfigurationError(
            [Problem(complaint.code, complaint.message, "choose another alias", alias=alias)]
        )
    return fold(alias)


def names_a_place(arguments: Mapping[str, Any]) -> bool:
    """Tell whether any argument says where to connect to."""
    return any(arguments.get(name) not in (None, "") for name in PLACES)


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
    unknown = [_unknown(alias, name, call) for name in arguments if name not in _KNOWN]
    if unknown:
        raise ConfigurationError(unknown)
    fields = _fields({k: v for k, v in arguments.items() if v is not None and v != ""})
    resolution = _resolve(alias, fields, call)
    settings, invalid = validate(resolution)
    problems = (*resolution.problems, *invalid)
    if problems:
        raise ConfigurationError(problems)
    return settings[alias], {f: p.origin for (_, f), p in resolution.provenance.items()}


def _unknown(alias: str, name: str, call: str) -> Problem:
    known = ", ".join(sorted(_KNOWN))
    origin = Origin("code", name, path=call)
    return Problem("unknown_argument", "is not a parameter", f"use {known}", alias, None, origin)


def _resolve(alias: str, fields: Mapping[str, Any], call: str) -> Resolution:
    """Take the arguments as a layer, so that they are treated as every other source."""
    declared = {
        name: (Declared(Word(name, is_file=False), _entry(name, value, call)),)
        for name, value in fields.items()
    }
    return resolve([Layer(call, {alias: declared})], lambda *_: (None, ()))


def _entry(name: str, value: Any, call: str) -> Entry:
    return Entry(name, Hidden(value), Origin("code", name, path=call))


def _fields(arguments: dict[str, Any]) -> dict[str, Any]:
    """Rename pymilvus' parameters, and make one URI of those that say where."""
    fields = {_RENAMED.get(k, k): v for k, v in arguments.items() if k not in PLACES | {"secure"}}
    if isinstance(fields.get("keepalive"), bool):
        del fields["keepalive"]  # in pymilvus it means "reconnect", which we always do
    if names_a_place(arguments):
        fields["uri"] = _uri(arguments)
    if fields.get("db_name") == "default":
        del fields["db_name"]  # the parameter's own default: a database in the URI's path counts
    return fields


def _uri(arguments: Mapping[str, Any]) -> str:
    """Return the URI, else one made of the address, else of host and port."""
    scheme = "https" if arguments.get("secure") else "http"
    if "uri" in arguments:
        uri = str(arguments["uri"])
        upgrade = arguments.get("secure") and uri.lower().startswith("http://")
        return f"https{uri[4:]}" if upgrade else uri
    address = arguments.get("address")
    if address is None:
        host = arguments.get("host", _DEFAULT_HOST)
        address = f"{host}:{arguments.get('port', _DEFAULT_PORT)}"
    return address if str(address).startswith("unix:") else f"{scheme}://{address}"
