"""The stages of a connection one by one, with what was seen in each."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zconfig.diagnosis.probe import Probe, Seen, Step
from zconfig.diagnosis.verdict import StageError
from zconfig.errors import ConnectError, Stage
from zconfig.redaction import evidence

if TYPE_CHECKING:
    from zconfig.diagnosis.certificates import Validity
    from zconfig.diagnosis.target import ProbeTarget


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage of the probe came to.

    Args:
        stage: Which stage.
        elapsed_ms: Milliseconds it took.
        detail: What was seen, redacted.
        error: The class that stands for what went wrong; `None` if nothing did.
        certificate: When the server's certificate is valid, where one was seen.
    """

    stage: Stage
    elapsed_ms: float
    detail: str
    error: type[ConnectError] | None = None
    certificate: Validity | None = None

    @property
    def ok(self) -> bool:
        """Whether the stage was passed."""
        return self.error is None


def stages(target: ProbeTarget, deadline: float) -> tuple[StageResult, ...]:
    """Go through the stages of a connection until one fails; credentials are not sent.

    Args:
        target: Where to.
        deadline: The monotonic instant to stop at.

    Returns:
        The stages gone through, in order; all but the last are passed.
    """
    results: list[StageResult] = []
    with contextlib.closing(Probe(target, deadline)) as probe:
        for stage, step in probe.steps():
            results.append(_take(stage, step))
            if not results[-1].ok:
                break
    return _with_late_alert(*results)


def _take(stage: Stage, step: Step) -> StageResult:
    began = time.monotonic()
    error = None
    try:
        seen = step()
    except StageError as failed:
        error, seen = failed.error, Seen(failed.detail)
    elapsed_ms = (time.monotonic() - began) * 1e3
    return StageResult(stage, elapsed_ms, evidence(seen.detail), error, seen.certificate)


def _with_late_alert(*results: StageResult) -> tuple[StageResult, ...]:
    """Count an alert that came on the first read after the TLS handshake for that stage.

    With TLS 1.3 the client has done its part before the server looks at its certificate.
    """
    *before, last = results
    is_late = before and before[-1].stage is Stage.TLS
    if not (is_late and last.error and last.error.stage is Stage.TLS):
        return results
    shaken = before.pop()
    elapsed_ms = shaken.elapsed_ms + last.elapsed_ms
    failed = replace(shaken, error=last.error, detail=last.detail, elapsed_ms=elapsed_ms)
    return (*before, failed)
