"""A failed RPC and, where needed, a staged probe -> cause, evidence, remedy.

Everything here blocks for a second at most; call it from a thread where that is too long.
"""

from __future__ import annotations

from zconfig.diagnosis.material import check_material
from zconfig.diagnosis.rules import diagnose, remedy_for, status_verdict
from zconfig.diagnosis.stages import StageResult, stages
from zconfig.diagnosis.surroundings import Surroundings, hint, observations
from zconfig.diagnosis.target import ProbeTarget
from zconfig.diagnosis.verdict import Verdict
from zconfig.diagnosis.warnings import warnings

__all__ = [
    "ProbeTarget",
    "StageResult",
    "Surroundings",
    "Verdict",
    "check_material",
    "diagnose",
    "hint",
    "observations",
    "remedy_for",
    "stages",
    "status_verdict",
    "warnings",
]
