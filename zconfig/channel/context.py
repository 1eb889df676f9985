"""What calls carry of the context that they are made in, such as the trace they belong to."""

from __future__ import annotations

from collections.abc import Callable

Carrier = Callable[[], tuple[tuple[str, str], ...]]

carriers: tuple[Carrier, ...] = ()
"""What is asked, for each call of an application, for more metadata of it; nothing by default."""


def carried() -> tuple[tuple[str, str], ...]:
    """Return what the call that is being made carries of its context; each key once."""
    return tuple({key: value for carrier in carriers for key, value in carrier()}.items())
