"""All masking of secrets: nothing else in the package decides what may be shown."""

from __future__ import annotations

import re
from typing import SupportsIndex

MASK = "********"

_AUTHORITY = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<rest>.*)$", re.DOTALL)
_QUERY = re.compile(r"([?#]).*$", re.DOTALL)


class Hidden(str):
    """A raw value on its way through the loader, with a representation that shows nothing.

    Tracebacks with locals, debug printing and pickles take a value's `repr` or its state; a
    plain `str` would give the secret away there. `str` methods still see the value.

    Example:
        >>> Hidden("s3cret")
        <hidden>
        >>> Hidden("s3cret") == "s3cret"
        True
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[type[Hidden], tuple[str]]:
        return Hidden, (MASK,)


def redact_uri(text: str) -> str:
    """Return a URI with its userinfo and query masked, whether or not it is well formed.

    Args:
        text: A URI, or whatever stood where one was expected.

    Returns:
        The same text, with anything before the last `@` of the authority and anything after
        the first `?` or `#` replaced by a mask.

    Example:
        >>> redact_uri("https://root:Milvus@db.example:19530/sales")
        'https://********@db.example:19530/sales'
    """
    # A password may hold any unescaped delimiter, so the last `@` of the whole text is what
    # counts, and it is looked for before anything else is.
    head, at, rest = text.rpartition("@")
    rest = _QUERY.sub(rf"\1{MASK}", rest)
    if not at:
        return rest
    scheme = _AUTHORITY.match(head)
    prefix = f"{scheme['scheme'] or ''}//" if scheme else ""
    return f"{prefix}{MASK}@{rest}"
