"""Connection arguments for frameworks that create a `MilvusClient` themselves.

LangChain and Haystack accept them as `connection_args`, LlamaIndex as keyword arguments, and each
passes them to pymilvus unchanged (as of langchain-milvus 0.4.0, llama-index-vector-stores-milvus
1.2.0 and milvus-haystack 0.1.0). So one format is enough, that of pymilvus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

from zconfig._redaction import Hidden
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig._sources.environment import process_environment
from zconfig._sources.files import FileError
from zconfig._sources.pem import default_authorities, is_as_read
from zconfig._spec import ConnectionSpec
from zconfig.errors import ConfigurationError, Problem, with_names


class UsableToken(Hidden):
    """A token with a masked `repr` whose copies still work.

    Frameworks copy their arguments, and a copy of a `Hidden` would contain only the mask.

    Examples:
        >>> import copy
        >>> args = copy.deepcopy({"token": UsableToken("root:Milvus")})
        >>> args, str(args["token"])
        ({'token': <hidden>}, 'root:Milvus')
    """

    __slots__ = ()

    def __copy__(self) -> UsableToken:
        return self

    def __deepcopy__(self, memo: object) -> UsableToken:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a token cannot be pickled; call zconfig.connection_args() in each process")


def connection_args_of(
    spec: ConnectionSpec, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the parameters of a `MilvusClient`, or of a store with other names for them.

    Args:
        spec: The specification of the connection.
        names: The store's parameter names by pymilvus' names.

    Raises:
        ConfigurationError: pymilvus, or the store, has no parameter for one of the settings.
        ValueError: pymilvus has no parameter of a given name.

    Examples:
        >>> from zconfig._endpoint import parse_uri
        >>> endpoint = parse_uri("http://db/sales")
        >>> connection_args_of(ConnectionSpec("prod", endpoint, db_name="sales"))
        {'uri': 'http://db:19530', 'timeout': 10.0, 'db_name': 'sales'}
        >>> connection_args_of(ConnectionSpec("prod", endpoint, db_name="sales"), {"uri": "url"})
        {'url': 'http://db:19530', 'db_name': 'sales'}
    """
    return _args(spec) if names is None else _renamed(spec, names)


def _args(spec: ConnectionSpec) -> dict[str, Any]:
    return _place(spec) | (_tls_args(spec) if spec.endpoint.secure else {})


def _renamed(spec: ConnectionSpec, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters by a store's names; those of TLS and the timeout only if in `names`."""
    if unknown := names.keys() - {*_IN_EVERY_STORE, "timeout", *_TLS_SETTINGS}:
        listed = ", ".join(sorted(map(repr, unknown)))
        raise ValueError(f"names: pymilvus has no parameter {listed}")
    takes_tls = not names.keys().isdisjoint(_TLS_SETTINGS)
    needs_tls = spec.name_to_verify is not None or any(spec.tls)
    args = _args(spec) if takes_tls or needs_tls else _place(spec)
    for name, setting in _TLS_SETTINGS.items():
        # Without this argument, the store uses its own default authorities.
        is_default = name == "server_pem_path" and spec.tls.ca is None
        if name in args and name not in names and not is_default:
            problem = replace(_NOT_NAMED, message=_NOT_NAMED.message.format(name))
            raise _refused(spec, problem, setting)
    taken = {*_IN_EVERY_STORE, *names}
    return {names.get(name, name): value for name, value in args.items() if name in taken}


def _place(spec: ConnectionSpec) -> dict[str, Any]:
    """Return the parameters except those of TLS."""
    # The URI has no database: versions of pymilvus parse the path differently.
    args: dict[str, Any] = {
        "uri": replace(spec.endpoint, db_name=None).uri,
        "timeout": spec.timeout_s,
    }
    if spec.credentials:
        args["token"] = UsableToken(spec.credentials.secret.reveal())
    if spec.db_name != DEFAULT_DATABASE:
        args["db_name"] = spec.db_name
    return args


def _tls_args(spec: ConnectionSpec) -> dict[str, str]:
    """Return the TLS files as pymilvus' arguments.

    pymilvus reads `server_pem_path` or, if that is missing, all three others or none
    (`GrpcHandler._setup_grpc_channel` in 2.4.0 to 3.0.2). So an authority without a client
    certificate is a `server_pem_path`.
    """
    tls = spec.tls
    ca = _as_read(spec, "tls_ca", tls.ca) if tls.ca else _default_authorities(spec)
    name = {"server_name": spec.name_to_verify} if spec.name_to_verify else {}
    if not (tls.cert and tls.key):
        return {**name, **({"server_pem_path": ca} if ca else {})}
    if not ca:
        raise _refused(spec, _NO_AUTHORITY)
    return {
        **name,
        "ca_pem_path": ca,
        "client_pem_path": _as_read(spec, "tls_cert", tls.cert),
        "client_key_path": _as_read(spec, "tls_key", tls.key),
    }


def _as_read(spec: ConnectionSpec, field: str, path: str) -> str:
    """Return the path of a file, if pymilvus passes the same bytes to gRPC as zconfig does."""
    try:
        if is_as_read(path, "key" if field == "tls_key" else "certificates"):
            return path
        problem = _MARKED
    except FileError as error:
        problem = error.problem(spec.origin(field))
    raise _refused(spec, problem, field)


def _default_authorities(spec: ConnectionSpec) -> str | None:
    """Return a file with the authorities that zconfig trusts by default.

    `None` if these are gRPC's default authorities, which pymilvus trusts, too.
    """
    found = default_authorities(process_environment())
    if not found.read():
        return None
    if bundle := found.bundle:
        return str(Path(bundle).absolute())  # the working directory may change later
    what = f"pymilvus accepts one file of authorities, and none contains exactly {found}"
    raise _refused(spec, Problem("authorities_in_several_files", what, _ONE_FILE))


_IN_EVERY_STORE = ("uri", "token", "db_name")
# The settings that determine pymilvus' TLS parameters.
_TLS_SETTINGS = {
    "server_name": "tls_server_name",
    "server_pem_path": "tls_ca",
    "ca_pem_path": "tls_ca",
    "client_pem_path": "tls_cert",
    "client_key_path": "tls_key",
}
_NOT_NAMED = Problem(
    "no_parameter",
    "the alias requires pymilvus' parameter {}, which is not in names",
    "add it to names, if the store has such a parameter",
)
_ONE_FILE = "set {tls_ca} to one file with all trusted authorities"
_NO_AUTHORITY = Problem(
    "certificate_without_ca",
    "pymilvus uses a client certificate only together with an authority",
    "set {tls_ca}",
)
_MARKED = Problem(
    "byte_order_mark",
    "the file begins with a byte order mark, which pymilvus passes to gRPC",
    "save it without one",
)


def _refused(spec: ConnectionSpec, problem: Problem, field: str = "tls_ca") -> ConfigurationError:
    remedy, origin = with_names(problem.remedy, spec.name_of), spec.origin(field, "tls")
    found = replace(problem, remedy=remedy, alias=spec.alias, field=field, origin=origin)
    return ConfigurationError([found])
