"""What pydantic found wrong → a `Problem`, without the input that was wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zconfig.errors import Problem, with_names
from zconfig.redaction import SHORTEST
from zconfig.settings.fields import Variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

    from zconfig.origin import Origin


def problem_of(  # noqa: PLR0913 - a problem says all that is known
    detail: ErrorDetails,
    variable: Variable,
    *,
    origin: Origin | None,
    value: str | None = None,
    alias: str | None = None,
    field: str | None = None,
    name_of: Callable[[str], str] = str,
) -> Problem:
    """Turn one of pydantic's error details into a problem.

    Our own validators say what is wrong and what to do. For pydantic's own checks the field's
    declaration does: their messages may repeat the value.

    Args:
        detail: One item of `ValidationError.errors()`.
        variable: The declaration of the field concerned.
        origin: Where the value stood.
        value: The value, which is shown if it cannot be a secret.
        alias: The alias concerned.
        field: The field concerned.
        name_of: Returns the variable or parameter of a field, for which `{field}` stands in what
            our validators say.
    """
    context = detail.get("ctx", {})
    if "remedy" in context:
        message, remedy = (with_names(context[each], name_of) for each in ("message", "remedy"))
        return Problem(detail["type"], message, remedy, alias, field, origin)
    name = field or (origin.key if origin else "value")
    shown = None if variable.secret or value is None else _harmless(value)
    return Problem(
        f"bad_{str(detail['loc'][-1] if field is None else field).lower()}",
        f"{shown} is not {variable.expected}" if shown else f"is not {variable.expected}",
        f"write for example {origin.key if origin else name}={variable.example}",
        alias,
        field,
        origin,
    )


def _harmless(text: str) -> str | None:
    """Return a value as it may be shown, or `None`: a secret may stand in the wrong variable."""
    return repr(str(text)) if len(text) < SHORTEST and text.isprintable() else None


def sent_in_the_clear(alias: str, host: str | None, origin: Origin) -> Problem:
    """Return the warning of credentials that can be read on their way to a host.

    Args:
        alias: The alias concerned.
        host: Where they are sent.
        origin: Where the URI stood.
    """
    return Problem(
        "credentials_in_the_clear",
        f"the credentials are sent to {host} without TLS",
        f"use https:// in {origin.key} if the server has TLS",
        alias,
        "uri",
        origin,
        "warning",
    )
