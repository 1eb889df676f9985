"""The fields of a connection, each declared once: name, synonyms, type, default, meaning.

The name parser, the messages, `.env.example` and the reference are generated from these
declarations, so that they agree.
"""

# Without `from __future__ import annotations`: pydantic would compile each text on import.

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, NoReturn, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import (
    ErrorDetails,
    InitErrorDetails,
    PydanticCustomError,
    PydanticKnownError,
    core_schema,
)

from zconfig._endpoint import (
    Endpoint,
    EndpointError,
    Family,
    is_proxy_url,
    parse_uri,
    split_userinfo,
)
from zconfig._redaction import MASK, Hidden, Secret, redact_uri
from zconfig.errors import with_names

CREDENTIALS = ("token", "user", "password")
"""The fields that form one value: the highest layer with any of them sets all of them."""


class Variable(NamedTuple):
    """The external form of a field, declared with its type.

    Args:
        meaning: The description of the field, for the reference.
        expected: The description of a valid value, to complete "is not ...".
        example: A valid value.
        synonyms: Other names of the field, in lower case.
        secret: Whether the value is never shown.
        file_form: Whether a `_FILE` variable may name a file that contains the value.
    """

    meaning: str
    expected: str
    example: str
    synonyms: tuple[str, ...] = ()
    secret: bool = False
    file_form: bool = False

    @classmethod
    def of(cls, model: type[BaseModel], field: str) -> Self:
        """Return the declaration of one field of a settings model."""
        return next(m for m in model.model_fields[field].metadata if isinstance(m, cls))


class Sealed(SecretStr):
    """A `SecretStr` that also hides its value from tools that walk the attributes of objects.

    Args:
        value: The secret.

    Examples:
        >>> secret = Sealed(SecretStr("s3cret"))
        >>> secret, vars(secret), secret == SecretStr("s3cret"), len(secret)
        (SecretStr('**********'), {'_secret_value': <hidden>}, True, 6)
    """

    def __init__(self, value: SecretStr) -> None:
        self._secret_value = Secret(value.get_secret_value())  # type: ignore[assignment]

    def get_secret_value(self) -> str:
        """Return the secret."""
        return str(Secret(self._secret_value).reveal())

    def __len__(self) -> int:
        return len(self.get_secret_value())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self.get_secret_value() == other.get_secret_value()

    __hash__ = SecretStr.__hash__

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"


# --- checks of single values, beyond their types; no message quotes the value -----------------


def reject(code: str, message: str, remedy: str) -> PydanticCustomError:
    """Return an error for a validator to raise, without the input."""
    return PydanticCustomError(code, "{message}; {remedy}", {"message": message, "remedy": remedy})


def to_uri(value: Any) -> str:
    """Return a URI in its normal form, without credentials."""
    if value is None or isinstance(value, (bytes, int, float)):
        raise PydanticKnownError("string_type")
    try:
        return str(parse_uri(_revealed(value)).uri)
    except EndpointError as error:
        refusal = reject(error.code, error.message, error.remedy)
    raise refusal


def _revealed(value: Any) -> Hidden:
    """Return the text of a value, which may be a `SecretStr`."""
    return Hidden(value.get_secret_value() if isinstance(value, SecretStr) else value)


def to_printable(value: Any) -> Any:
    """Reject characters that gRPC metadata cannot contain; gRPC reports only `Invalid metadata`."""
    text = _revealed(value)
    if text and not text.strip("*"):
        raise reject(
            "masked_value",
            "contains only asterisks, like a masked secret",
            "write the value itself",
        )
    if text.isascii() and text.isprintable():
        return value
    if re.search(r"[\r\n]", text):
        raise reject("line_end", "contains a line end", "write it on one line, without a line end")
    raise reject(
        "not_printable",
        "contains characters other than printable ASCII",
        "remove them; likely ones are a byte order mark and a smart quote",
    )


def to_user(value: str) -> str:
    """Reject a name with a colon, after which the server would read the password."""
    if ":" in value:
        raise reject(
            "colon_in_user",
            "contains a colon, at which Milvus ends the user name",
            "use a user name without a colon, or set a token if this is user:password",
        )
    return value


def to_shown(value: str) -> str:
    """Reject a URL, which may contain a password, since a name or a path is shown."""
    if "://" in value:
        raise reject("url_elsewhere", "is a URL", "write only the name or the path")
    return value


def to_path(value: str) -> str:
    """Reject the content of a file in place of its path, since a path is shown and a key is not."""
    if "\n" in value or "-----" in value:
        raise reject(
            "not_a_path",
            "is not the path of a file",
            "write the PEM text to a file, and set the path of the file",
        )
    return value


def to_keepalive(value: float) -> float:
    """Reject an interval that servers would penalise as too many pings."""
    lowest_s = 10  # Milvus accepts a ping every 5 s; gRPC's own minimum is 10 s
    if value != 0 and value < lowest_s:
        message = f"{value:g} is neither 0 nor at least 10 seconds"
        raise reject("bad_keepalive", message, "use 0, or at least 10")
    return value


def to_proxy(value: SecretStr) -> SecretStr:
    """Return `off`, or a proxy's URL."""
    text = _revealed(value)
    if text.lower() == "off":
        return Sealed(SecretStr("off"))
    if re.fullmatch(r"http://[^\s/?#]+/?", text, re.IGNORECASE) and is_proxy_url(text):
        return value
    raise reject(
        "bad_proxy",
        "is neither `off` nor a proxy URL of the form http://host:port",
        "write off or http://host:port, with user and password percent-encoded",
    )


# --- the fields ----------------------------------------------------------------------------

SealedText = Annotated[SecretStr, AfterValidator(Sealed)]
Credential = Annotated[SealedText, AfterValidator(to_printable)]
Printable = Annotated[str, AfterValidator(to_printable)]
Name = Annotated[Printable, AfterValidator(to_shown)]
FilePath = Annotated[str, AfterValidator(to_path), AfterValidator(to_shown)]
LONGEST_S = 86_400
"""One day in seconds: the longest timeout, since gRPC does not accept every number."""

DEFAULT_DATABASE = "default"
"""The database that Milvus uses if none is named."""

# Milvus accepts a ping every 5 s. Managed endpoints behind a gateway are guaranteed to accept only
# the default of gRPC servers, one ping in five minutes (grpc/proposal A8, A9).
_KEEPALIVE_S = {
    Family.MILVUS: 30.0,
    Family.DEDICATED: 30.0,
    Family.LITE: 0.0,
}
_CAUTIOUS_KEEPALIVE_S = 300.0


def endpoint_of(settings: "ConnectionSettings") -> Endpoint:
    """Return the endpoint of a connection."""
    return parse_uri(settings.uri)


def default_keepalive_s(endpoint: Endpoint) -> float:
    """Return the seconds between HTTP/2 pings that an endpoint's family is known to accept."""
    return _KEEPALIVE_S.get(endpoint.family, _CAUTIOUS_KEEPALIVE_S)


Seconds = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
PEM = "the path of a PEM file"


FROM_SOURCES = object()
"""The context of a validation after `resolve_layers`, and before `problem_of`.

Credentials are already one value then, and problems are reported with the names of variables.
"""


def _without_userinfo(values: Any) -> Any:
    """Return values with the credentials of the URI in their own fields, if these are empty.

    As in `resolve_layers`, `key@` is a token, unless a password is set.
    """
    if not isinstance(values, Mapping) or "@" not in (text := _revealed(values.get("uri"))):
        return values
    given = {name for name in CREDENTIALS if values.get(name)}
    try:
        userinfo = split_userinfo(text)
    except EndpointError:  # which the validator of the field reports
        return values
    alone = userinfo.password is None and "password" not in given
    named = {"token" if alone else "user": userinfo.user, "password": userinfo.password}
    found = {name: each.reveal() for name, each in named.items() if each is not None}
    if given & {"token", "user", *found} or not found:
        return values
    return {**values, "uri": userinfo.uri, **found}


def _masked(error: ValidationError) -> ValidationError:
    """Return an error with its input masked, since an outer model may show the input."""
    told = [_told(each) for each in error.errors(include_url=False)]
    return ValidationError.from_exception_data(error.title, told, hide_input=True)


def _told(detail: ErrorDetails) -> InitErrorDetails:
    code, context = detail["type"], detail.get("ctx")
    kind: str | PydanticCustomError = PydanticCustomError(code, detail["msg"], context)
    if code in get_args(core_schema.ErrorType):
        kind = code
    elif context and "remedy" in context:
        kind = reject(code, *(with_names(context[each], str) for each in ("message", "remedy")))
    told = InitErrorDetails(type=kind, loc=detail["loc"], input=MASK)
    return InitErrorDetails(**told, ctx=context) if context else told


def _hide_input(values: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    if info.context is FROM_SOURCES:
        return handler(values)
    try:
        return handler(values)
    except ValidationError as error:
        masked = _masked(error)
    raise masked


class HidesInput(BaseModel):
    """A model whose validation errors show a mask in place of the input, in any other model."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        # Not a validator of the model: those of a subclass would be outside of it. Other fields of
        # the same type use the schema by its reference.
        schema: Any = dict(handler(source))
        ref = schema.pop("ref", None)
        return core_schema.with_info_wrap_validator_function(_hide_input, schema, ref=ref)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Validate JSON, as pydantic does; an error shows none of it."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            masked = _masked(error)
        del json_data  # or a traceback that shows locals would show it
        raise masked

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            return super().__setattr__(name, value)
        except ValidationError as error:  # it is frozen
            masked = _masked(error)
        del value
        raise masked


_SEALED = frozenset({"token", "password", "proxy"})


def _sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that pydantic does not validate, with the secrets hidden."""
    moved = _without_userinfo(values)
    if moved is not values:
        moved = {**dict.fromkeys(CREDENTIALS), **moved}
    return {name: _seal(name, each) for name, each in moved.items()}


def _seal(name: str, value: Any) -> Any:
    if name in _SEALED and isinstance(value, (str, SecretStr)):
        return Sealed(value if isinstance(value, SecretStr) else SecretStr(value))
    if name == "uri" and isinstance(value, str) and "@" in value:
        return Hidden(value)  # which is reported when it is used
    return value


class ConnectionSettings(HidesInput):
    """The settings of one connection, as a pydantic model.

    Use it as a field of your own settings, or as their base class. Pass it to
    `connections.connect("prod", settings=...)` or `connections.add_connection(prod=...)`;
    `connections.settings("prod")` returns one. `uri` is text in its normal form, without
    credentials, which are moved to their own fields. Secrets are hidden in the `repr`, in
    `model_dump` and in JSON. Validation errors do not show the input, even in your own model.

    Examples:
        >>> from zconfig import ConnectionSettings
        >>> settings = ConnectionSettings(uri="https://root:Milvus@db.example/sales")
        >>> settings.uri, settings.user, settings.password
        ('https://db.example:443/sales', 'root', SecretStr('**********'))
    """

    # A check across fields is in the validator of the later field, so that pydantic reports it
    # together with all other errors.

    model_config = ConfigDict(extra="forbid")

    uri: Annotated[
        str,
        BeforeValidator(to_uri),
        Variable(
            meaning="URI of the server: https://, http://, unix:/path, or a path ending in .db "
            "for Milvus Lite",
            expected="a URI",
            example="http://localhost:19530",
            synonyms=("endpoint",),
            file_form=True,
        ),
    ]
    token: Annotated[
        Credential | None,
        Variable(
            meaning="API key, or user:password",
            expected="an API key or user:password",
            example="root:Milvus",
            synonyms=("api_key",),
            secret=True,
            file_form=True,
        ),
    ] = None
    user: Annotated[
        Annotated[Printable, AfterValidator(to_user)] | None,
        Variable(
            meaning="user name, with PASSWORD instead of TOKEN",
            expected="a user name",
            example="root",
            synonyms=("username",),
            file_form=True,
        ),
    ] = None
    password: Annotated[
        Credential | None,
        Field(validate_default=True),
        Variable(
            meaning="password, with USER instead of TOKEN",
            expected="a password",
            example="Milvus",
            secret=True,
            file_form=True,
        ),
    ] = None
    db_name: Annotated[
        Name | None,
        Variable(
            meaning="database; by default the path of the URI, or else `default`",
            expected="a database name",
            example="default",
            synonyms=("database",),
        ),
    ] = None
    timeout: Annotated[
        Seconds,
        Variable(
            meaning="timeout of a connection attempt in seconds: DNS, TCP, TLS and handshake",
            expected=f"a number of seconds greater than 0 and at most {LONGEST_S}",
            example="10",
        ),
    ] = 10.0
    required: Annotated[
        bool,
        Variable(
            meaning="whether autoconnect() fails if this alias fails",
            expected="true or false",
            example="true",
        ),
    ] = True
    tls_ca: Annotated[
        FilePath | None,
        Variable(
            meaning="PEM file of the authorities to trust; by default the system's authorities",
            expected=PEM,
            example="/etc/ssl/milvus/ca.pem",
        ),
    ] = None
    tls_cert: Annotated[
        FilePath | None,
        Variable(
            meaning="PEM file of the client certificate, with TLS_KEY",
            expected=PEM,
            example="/etc/ssl/milvus/client.pem",
        ),
    ] = None
    tls_key: Annotated[
        FilePath | None,
        Field(validate_default=True),
        Variable(
            meaning="PEM file of the private key of the client certificate, with TLS_CERT",
            expected=PEM,
            example="/etc/ssl/milvus/client.key",
        ),
    ] = None
    tls_server_name: Annotated[
        Name | None,
        Variable(
            meaning="name to verify in the server's certificate; by default the host of the URI",
            expected="a host name",
            example="milvus.internal",
        ),
    ] = None
    proxy: Annotated[
        Annotated[SealedText, AfterValidator(to_proxy)] | None,
        PlainSerializer(
            lambda url: url and redact_uri(url.get_secret_value()), str | None, when_used="json"
        ),
        Variable(
            meaning="URL of an HTTP CONNECT proxy, http:// only, or `off`; by default gRPC reads "
            "`https_proxy`, `http_proxy` and `no_proxy`",
            expected="`off` or a proxy's URL",
            example="http://proxy.internal:3128",
        ),
    ] = None
    keepalive: Annotated[
        Annotated[float, Field(le=LONGEST_S, allow_inf_nan=False), AfterValidator(to_keepalive)]
        | None,
        Variable(
            meaning="seconds between HTTP/2 pings, or 0 to disable them; "
            "the default depends on the kind of endpoint",
            expected=f"0 or a number of seconds from 10 to {LONGEST_S}",
            example="30",
        ),
    ] = None
    pool_size: Annotated[
        int,
        Field(ge=1, le=64),
        Variable(
            meaning="number of HTTP/2 connections of the alias",
            expected="a whole number from 1 to 64",
            example="1",
        ),
    ] = 1

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Create a model without validation, as pydantic does; its secrets are hidden."""
        return super().model_construct(_fields_set, **_sealed(values))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the model, as pydantic does; the secrets of the update are hidden."""
        return super().model_copy(update=_sealed(update or {}), deep=deep)

    def __setattr__(self, name: str, value: Any) -> None:
        return super().__setattr__(name, _seal(name, value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("settings cannot be pickled: load the configuration in each process")

    @model_validator(mode="before")
    @classmethod
    def _move_userinfo(cls, values: Any, info: ValidationInfo) -> Any:
        return values if info.context is FROM_SOURCES else _without_userinfo(values)

    @field_validator("uri", mode="before")
    @classmethod
    def _has_no_userinfo(cls, value: Any) -> Any:
        try:
            userinfo = split_userinfo(_revealed(value))
        except EndpointError as error:
            refusal = reject(error.code, error.message, error.remedy)
        else:
            if userinfo.user is None and userinfo.password is None:
                return value
            # `_without_userinfo` left the userinfo there, since other credentials are set.
            refusal = reject(
                "two_credentials",
                "contains credentials, and others are set",
                "keep one of the two",
            )
        raise refusal

    @field_validator("password")
    @classmethod
    def _is_of_one_value(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.context is FROM_SOURCES or not {"token", "user"} <= info.data.keys():
            return value
        token, user = info.data["token"], info.data["user"]
        if token and (user or value):
            other = "user" if user else "password"
            raise reject(
                "two_credentials",
                f"{{{other}}} and {{token}} are both set",
                "remove {token}, or {user} and {password}",
            )
        if bool(user) != bool(value):
            present, absent = ("user", "password") if user else ("password", "user")
            raise reject(
                "half_credentials",
                f"{{{present}}} is set without {{{absent}}}",
                f"set {{{absent}}} too, or {{token}} instead of both",
            )
        return value

    @field_validator("db_name")
    @classmethod
    def _agrees_with_the_path(cls, value: str | None, info: ValidationInfo) -> str | None:
        in_uri = parse_uri(info.data["uri"]).db_name if "uri" in info.data else None
        if value and in_uri and value != in_uri:
            raise reject(
                "database_conflict",
                "names a different database from the path of {uri}",
                "keep one of the two",
            )
        return value

    @field_validator("tls_ca", "tls_cert", "tls_key", "tls_server_name")
    @classmethod
    def _needs_tls(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and "uri" in info.data and not parse_uri(info.data["uri"]).secure:
            raise reject(
                "tls_on_plaintext",
                "is set, but {uri} is not https://",
                f"use https:// in {{uri}}, or remove {{{info.field_name}}}",
            )
        return value

    @field_validator("tls_key")
    @classmethod
    def _pairs_with_the_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "tls_cert" in info.data and bool(value) != bool(info.data["tls_cert"]):
            present, absent = ("tls_key", "tls_cert") if value else ("tls_cert", "tls_key")
            raise reject(
                "tls_pair",
                f"is set without {{{absent}}}",
                f"set {{{absent}}} too, or remove {{{present}}}",
            )
        return value
