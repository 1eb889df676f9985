"""What pydantic found wrong → a `Problem`, without the input that was wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zconfig.errors import Problem
from zconfig.settings.fields import Variable

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from zconfig.origin import Origin


def problem_of(
    detail: ErrorDetails,
    variable: Variable,
    *,
    origin: Origin | None,
    alias: str | None = None,
    field: str | None = None,
) -> Problem:
    """Turn one of pydantic's error details into a problem.

    Our own validators say what is wrong and what to do. For pydantic's own checks the field's
    declaration does: their messages may repeat the value.

    Args:
        detail: One item of `ValidationError.errors()`.
        variable: The declaration of the field concerned.
        origin: Where the value stood.
        alias: The alias concerned.
        field: The field concerned.
    """
    context = detail.get("ctx", {})
    if "remedy" in context:
        return Problem(detail["type"], context["message"], context["remedy"], alias, field, origin)
    name = field or (origin.key if origin else "value")
    return Problem(
        f"bad_{str(detail['loc'][-1] if field is None else field).lower()}",
        f"is not {variable.expected}",
        f"write for example {origin.key if origin else name}={variable.example}",
        alias,
        field,
        origin,
    )


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
