"""Whether what is wanted is what is live."""

from __future__ import annotations

from zconfig.errors import ConflictError, Problem
from zconfig.spec import ConnectionSpec, differences


def check_agreement(spec: ConnectionSpec, wanted: ConnectionSpec) -> None:
    """Make sure that what is wanted is what is live.

    Raises:
        ConflictError: It is not; the message names the fields that differ.
    """
    names = differences(spec, wanted)
    if names:
        raise ConflictError(
            [
                Problem(
                    "live_with_another_configuration",
                    f"is connected, and differs in {' and '.join(names)}",
                    f"call connections.disconnect({spec.alias!r}) first",
                    alias=spec.alias,
                    origin=wanted.origin(*names),
                )
            ]
        )
