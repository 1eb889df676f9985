"""Find the cause and remedy of a failed RPC, with a staged probe where needed.

The functions block for one second at most.
"""

from __future__ import annotations

from zconfig._diagnosis.hints import HostEnvironment, advisories, environment_hints, hint
from zconfig._diagnosis.model import Diagnosis, ProbeTarget
from zconfig._diagnosis.probe import StageResult, stages
from zconfig._diagnosis.rules import diagnose, remedy_for, status_verdict
from zconfig._diagnosis.tls_files import check_material

__all__ = [
    "Diagnosis",
    "HostEnvironment",
    "ProbeTarget",
    "StageResult",
    "advisories",
    "check_material",
    "diagnose",
    "environment_hints",
    "hint",
    "remedy_for",
    "stages",
    "status_verdict",
]
