"""Convert the settings of one alias to an immutable connection specification, without I/O."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import NamedTuple, NoReturn

from zconfig._endpoint import Endpoint, TransportType
from zconfig._origin import Origin, anchored, working_directory
from zconfig._redaction import Hidden, Secret, redact_uri, secrets_in
from zconfig._settings.fields import (
    DEFAULT_DATABASE,
    ConnectionSettings,
    default_keepalive_s,
    endpoint_of,
)
from zconfig._settings.names import unset_name
from zconfig._value import Value, value
from zconfig.errors import ConflictError, Problem

# The settings that make up a field of a specification, if their names differ.
_SETTINGS = {
    "endpoint": ("uri",),
    "credentials": ("token", "password", "user"),
    "timeout_s": ("timeout",),
    "keepalive_s": ("keepalive",),
    "tls": ("tls_ca", "tls_cert", "tls_key", "tls_server_name"),
}
_MOST_HINTS = 3
_SPEC_FIELD = {setting: name for name, settings in _SETTINGS.items() for setting in settings}


@value
class Credentials(Value):
    """An API key, or a user and password. Never shown, never pickled.

    Args:
        secret: The key, or `user:password`.
        user: The user's name, which is not a secret; `None` for an API key.

    Examples:
        >>> Credentials(Secret("root:Milvus"), "root")
        Credentials(secret=<hidden>, user='root')
    """

    secret: Secret
    user: str | None = None

    @property
    def authorization(self) -> Secret:
        """The value of Milvus' `authorization` metadata: base64 of the secret."""
        return Secret(base64.b64encode(self.secret.reveal().encode()).decode("ascii"))

    def __deepcopy__(self, memo: object) -> Credentials:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials cannot be pickled: load the configuration in each process")


class TLSFiles(NamedTuple):
    """Absolute paths of PEM files, and the name to verify; `None` for the default."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


_NO_TLS_FILES = TLSFiles()


@value
class ConnectionSpec(Value):
    """The configuration of one connection, without its state.

    Args:
        alias: The name of the connection.
        endpoint: The server's endpoint.
        credentials: The credentials; `None` for a server without authorization.
        db_name: The Milvus database.
        timeout_s: Timeout of one connect, in seconds.
        required: Whether `autoconnect()` fails if this alias fails.
        tls: The TLS files.
        proxy: A proxy's URL, shown without userinfo, or `off`; `None` for the proxy that gRPC
            reads from the environment.
        keepalive_s: Interval between HTTP/2 pings in seconds; 0 disables them.
        pool_size: Number of HTTP/2 connections of the alias.
        origins: The origin of each field; ignored in comparisons.
        directory: The directory of relative paths in the origins; ignored in comparisons.
        hints: Pairs of a setting and a possible problem with it; ignored in comparisons.
    """

    alias: str
    endpoint: Endpoint
    credentials: Credentials | None = None
    db_name: str = DEFAULT_DATABASE
    timeout_s: float = 10.0
    required: bool = True
    tls: TLSFiles = _NO_TLS_FILES
    proxy: Secret | None = None
    keepalive_s: float = 30.0
    pool_size: int = 1
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)
    directory: Path = field(default=Path(), compare=False, repr=False)
    hints: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets to mask: the credentials, and the password of a proxy."""
        own = (self.credentials.secret,) if self.credentials else ()
        return (*own, *secrets_in({"proxy": self.proxy})) if self.proxy else own

    def hints_about(self, *names: str) -> tuple[str, ...]:
        """Return the first three hints about fields.

        Args:
            *names: Fields of this specification, e.g. `credentials`.
        """
        settings = [each for name in names for each in _SETTINGS.get(name, (name,))]
        return tuple(hint for setting, hint in self.hints if setting in settings)[:_MOST_HINTS]

    @property
    def name_to_verify(self) -> str | None:
        """The name to find in the server's certificate; `None` for the host as written."""
        name = self.tls.server_name or self.endpoint.host or ""
        # A final dot marks a complete name, and is not part of it: Go's TLS rejects it.
        differs = self.tls.server_name or (self.endpoint.secure and name.endswith("."))
        return name.removesuffix(".") if differs else None

    def origin(self, *names: str) -> Origin:
        """Return the origin of the first field that is set, or else that of the URI.

        Args:
            *names: Fields of this specification, e.g. `credentials`.
        """
        settings = [each for name in names for each in _SETTINGS.get(name, (name,))]
        found = (self.origins[each] for each in (*settings, "uri") if each in self.origins)
        return next(found, Origin("default", self.alias))

    def name_of(self, setting: str) -> str:
        """Return the variable or parameter of a setting, to be named in a remedy.

        Args:
            setting: A field of the settings, e.g. `tls_ca`; or `credentials` for all credentials
                that are set.

        Examples:
            >>> from zconfig._endpoint import parse_uri
            >>> ConnectionSpec("prod", parse_uri("http://db")).name_of("tls_ca")
            'ZILLIZ_PROD_TLS_CA'
        """
        uri = self.origins.get("uri")
        if setting == "credentials":
            return " and ".join(map(self.name_of, self._credential_settings))
        if setting == "db_name" and setting not in self.origins and self.endpoint.db_name:
            return f"the path of {self.name_of('uri')}"
        if setting == "uri" and uri and (uri.source, uri.key) == ("code", "secure"):
            return "the parameter uri"  # a URI has no place for `secure`
        if origin := self.origins.get(setting):
            is_userinfo = setting in _SETTINGS["credentials"] and origin == uri
            return f"the {setting} in {origin.name}" if is_userinfo else origin.name
        # If code sets the URI, no setting of the environment is used.
        return unset_name(self.alias, setting, uri)

    @property
    def _credential_settings(self) -> tuple[str, ...]:
        """The credentials that are set: the token, or the user and the password."""
        return ("token",) if "token" in self.origins else ("user", "password")


def to_spec(
    alias: str,
    settings: ConnectionSettings,
    origins: Mapping[str, Origin],
    directory: Path | None = None,
) -> ConnectionSpec:
    """Convert validated settings to a specification.

    Args:
        alias: The name of the connection.
        settings: Its settings.
        origins: The origin of each field.
        directory: The directory of relative paths; the working directory by default.

    Examples:
        >>> from zconfig._settings.fields import ConnectionSettings
        >>> to_spec("prod", ConnectionSettings(uri="https://db.example/sales"), {}).db_name
        'sales'
    """
    endpoint = endpoint_of(settings)
    directory = working_directory() if directory is None else directory
    keepalive_s = settings.keepalive
    if keepalive_s is None:
        keepalive_s = default_keepalive_s(endpoint)
    return ConnectionSpec(
        alias=alias,
        endpoint=_absolute(endpoint, directory),
        credentials=_credentials(settings),
        db_name=settings.db_name or endpoint.db_name or DEFAULT_DATABASE,
        timeout_s=settings.timeout,
        required=settings.required,
        tls=_tls(settings, directory),
        proxy=_proxy(settings),
        keepalive_s=keepalive_s,
        pool_size=settings.pool_size,
        origins=origins,
        directory=directory,
    )


def to_settings(spec: ConnectionSpec) -> ConnectionSettings:
    """Convert a specification back, so that `to_spec` returns an equal one.

    Examples:
        >>> from zconfig._endpoint import parse_uri
        >>> to_settings(ConnectionSpec("prod", parse_uri("http://db"))).uri
        'http://db:19530'
    """
    secret = spec.credentials.secret.reveal() if spec.credentials else Hidden("")
    user, _, password = map(Hidden, secret.partition(":"))
    is_pair = bool(user and password)
    named = spec.endpoint.db_name or DEFAULT_DATABASE
    return ConnectionSettings.model_validate(
        {
            "uri": str(spec.endpoint),
            "token": None if is_pair else secret or None,
            "user": user if is_pair else None,
            "password": password if is_pair else None,
            "db_name": None if spec.db_name == named else spec.db_name,
            "timeout": spec.timeout_s,
            "required": spec.required,
            **{f"tls_{name}": path for name, path in spec.tls._asdict().items()},
            "proxy": spec.proxy.reveal() if spec.proxy else None,
            "keepalive": spec.keepalive_s,
            "pool_size": spec.pool_size,
        }
    )


def override(spec: ConnectionSpec, other: ConnectionSpec) -> ConnectionSpec:
    """Override the fields of a specification, except the endpoint, with those of another one.

    Args:
        spec: The configured specification.
        other: The specification that takes precedence; only the fields in its `origins` are used.

    Examples:
        >>> from zconfig._endpoint import parse_uri
        >>> spec = ConnectionSpec("prod", parse_uri("http://db:19530"), timeout_s=3)
        >>> other = ConnectionSpec("prod", parse_uri("http://x"), db_name="sales",
        ...                        origins={"db_name": Origin("code", "db_name")})
        >>> changed = override(spec, other)
        >>> changed.db_name, changed.timeout_s, changed.endpoint.host
        ('sales', 3, 'db')
    """
    given = {name: origin for name, origin in other.origins.items() if name != "uri"}
    changes = {_SPEC_FIELD.get(name, name) for name in given}
    values = {name: getattr(other, name) for name in changes}
    if "tls" in changes:
        files = {name.removeprefix("tls_") for name in given if name.startswith("tls_")}
        values["tls"] = spec.tls._replace(**{name: getattr(other.tls, name) for name in files})
    if "db_name" in changes:
        values["endpoint"] = replace(spec.endpoint, db_name=None)
    # Credentials are one value: replace all of their origins.
    gone = _SETTINGS["credentials"] if "credentials" in changes else ()
    kept = {name: origin for name, origin in spec.origins.items() if name not in gone}
    hints = (each for each in spec.hints if each[0] not in {*gone, *given})
    return replace(spec, **values, origins={**kept, **given}, hints=(*hints, *other.hints))


def differences(one: ConnectionSpec, other: ConnectionSpec) -> tuple[str, ...]:
    """Return the names, and not the values, of the fields in which two specifications differ.

    Examples:
        >>> from zconfig._endpoint import parse_uri
        >>> spec = ConnectionSpec("prod", parse_uri("http://db:19530"))
        >>> differences(spec, replace(spec, db_name="sales"))
        ('db_name',)
    """
    names = (each.name for each in fields(ConnectionSpec) if each.compare)
    return tuple(name for name in names if getattr(one, name) != getattr(other, name))


def _credentials(settings: ConnectionSettings) -> Credentials | None:
    if settings.token:
        secret = settings.token.get_secret_value()
        user, colon, _ = secret.partition(":")
        return Credentials(Secret(secret), user if colon else None)
    if settings.user and settings.password:
        password = settings.password.get_secret_value()
        return Credentials(Secret(f"{settings.user}:{password}"), settings.user)
    return None


def _proxy(settings: ConnectionSettings) -> Secret | None:
    if settings.proxy is None:
        return None
    url = Hidden(settings.proxy.get_secret_value())
    return Secret(url, redact_uri(url))


def _tls(settings: ConnectionSettings, directory: Path) -> TLSFiles:
    written = (settings.tls_ca, settings.tls_cert, settings.tls_key)
    ca, cert, key = (path and anchored(path, directory) for path in written)
    name = settings.tls_server_name
    return TLSFiles(ca, cert, key, name) if name or any(written) else _NO_TLS_FILES


def _absolute(endpoint: Endpoint, directory: Path) -> Endpoint:
    """Make the path of Milvus Lite absolute, so that a `chdir` does not change it."""
    if endpoint.transport is not TransportType.LITE or endpoint.path is None:
        return endpoint
    return replace(endpoint, path=anchored(endpoint.path, directory))


def require_same(spec: ConnectionSpec, wanted: ConnectionSpec) -> None:
    """Require that a live connection has the wanted specification.

    Raises:
        ConflictError: They differ; the message names the fields.
    """
    names = differences(spec, wanted)
    if names:
        raise ConflictError(
            [
                Problem(
                    "live_with_another_configuration",
                    f"the open connection differs in {' and '.join(names)}",
                    f"call connections.disconnect({spec.alias!r}) first",
                    alias=spec.alias,
                    origin=wanted.origin(*names),
                )
            ]
        )
