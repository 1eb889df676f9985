"""What will make a connection fail later, or is unwise, though it works now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from zconfig.diagnosis.certificates import validities
from zconfig.diagnosis.surroundings import Surroundings, observations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from zconfig.diagnosis.stages import StageResult
    from zconfig.diagnosis.target import ProbeTarget

SOON = timedelta(days=30)
"""How long before its end a certificate is warned about."""


def warnings(
    target: ProbeTarget,
    results: Iterable[StageResult],
    surroundings: Surroundings,
    now: datetime,
) -> tuple[str, ...]:
    """Return what to look after, a sentence each; TLS files are read for it.

    Args:
        target: The connection.
        results: The stages gone through, for the server's certificate.
        surroundings: What the process runs in.
        now: The time, with its zone.
    """
    ends = ((whose, end) for whose, end in _ends(target, results) if end - now < SOON)
    return (
        *(_expiry(whose, end, now) for whose, end in ends),
        *observations(target, surroundings),
    )


def _ends(target: ProbeTarget, results: Iterable[StageResult]) -> Iterator[tuple[str, datetime]]:
    """Yield whose certificate ends when."""
    for result in results:
        if result.certificate:
            yield "the server's certificate", result.certificate.end
    if target.cert and (chain := validities(target.cert)):
        yield f"the client certificate in TLS_CERT {target.cert}", chain[0].end
    # A bundle holds old authorities beside new ones: it fails when the last of them does.
    if target.ca and (authorities := validities(target.ca)):
        last = max(authority.end for authority in authorities)
        yield f"the authority in TLS_CA {target.ca}", last


def _expiry(whose: str, end: datetime, now: datetime) -> str:
    if end < now:
        return f"{whose} expired on {end:%Y-%m-%d}: renew it"
    days = (end - now).days
    return f"{whose} expires on {end:%Y-%m-%d}, in {days} day{'' if days == 1 else 's'}: renew it"
