"""The checks of single values, beyond what their types say. No refusal repeats the value."""

from __future__ import annotations

import re
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from zconfig._endpoint import Endpoint, EndpointError, is_proxy_url, parse_uri
from zconfig._redaction import Hidden


def reject(code: str, message: str, remedy: str) -> PydanticCustomError:
    """Return the error that a validator raises: it carries no input."""
    return PydanticCustomError(code, "{message}", {"message": message, "remedy": remedy})


def to_endpoint(value: Any) -> Endpoint:
    """Parse a URI."""
    try:
        return value if isinstance(value, Endpoint) else parse_uri(str(value))
    except EndpointError as error:
        refusal = reject(error.code, error.message, error.remedy)
    raise refusal


def to_printable(value: Any) -> Any:
    """Refuse what gRPC metadata cannot carry; it would only say `Invalid metadata` later."""
    text = Hidden(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if text.isascii() and text.isprintable():
        return value
    if re.search(r"[\r\n]", text):
        raise reject("line_end", "holds a line end", "write it on one line, without a line end")
    raise reject(
        "not_printable",
        "holds characters other than printable ASCII",
        "write it again without them; a byte order mark or a smart quote is a likely one",
    )


def to_user(value: str) -> str:
    """Refuse a name that the server would take for a shorter one and a part of the password."""
    if ":" in value:
        raise reject(
            "colon_in_user",
            "holds a colon, which is where Milvus takes the name to end",
            "use a user without one, or a token if this is user:password",
        )
    return value


def to_path(value: str) -> str:
    """Refuse the contents of a file in place of its path: a key would be shown as one."""
    if "\n" in value or "-----" in value:
        raise reject(
            "not_a_path",
            "is not the path of a file",
            "write the PEM text to a file, and give its path",
        )
    return value


def to_keepalive(value: float) -> float:
    """Refuse what servers would punish as too many pings."""
    lowest_s = 10  # Milvus accepts a ping every 5 s, gRPC itself none more often than every 10 s
    if value != 0 and value < lowest_s:
        message = f"{value:g} is neither 0 nor at least 10 seconds"
        raise reject("bad_keepalive", message, "use 0 or 10 or more")
    return value


def to_proxy(value: SecretStr) -> SecretStr:
    """Return `off`, or a proxy's URL."""
    text = Hidden(value.get_secret_value())
    if text.lower() == "off":
        return SecretStr("off")
    if re.fullmatch(r"http://[^\s/?#]+/?", text, re.IGNORECASE) and is_proxy_url(text):
        return value
    raise reject(
        "bad_proxy",
        "is neither `off` nor a proxy that gRPC can use, http://host:port",
        "write off or http://host:port, a user and password in it percent-encoded",
    )
