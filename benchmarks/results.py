"""The data of a run, and its file `results.json`, from which everything else is made."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.lines import Curves, Goal, Line
from benchmarks.soak.values import Summary
from zconfig import __version__

HERE = Path(__file__).resolve().parent
NAME = "results.json"
_DISTRIBUTIONS = {
    "pymilvus": "pymilvus",
    "Milvus": "milvus",
    "grpcio": "grpcio",
    "pydantic": "pydantic",
    "pydantic-settings": "pydantic-settings",
    "structlog": "structlog",
}


@dataclass(frozen=True, slots=True)
class Results:
    """What one run measured.

    Args:
        date: When it began.
        versions: Of what was measured, by name.
        machine: On what, without its name.
        measured: The lines and curves, in the order of the table.
        soak: What is told of the soak, if there was one.
    """

    date: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    measured: tuple[Line | Curves, ...]
    soak: Summary | None = None


def results_of(measured: tuple[Line | Curves, ...], soak: Summary | None = None) -> Results:
    """Return what was measured, with the date and the versions."""
    return Results(datetime.now(UTC).date().isoformat(), _versions(), _machine(), measured, soak)


def write(results: Results, directory: Path = HERE) -> None:
    """Write the file; of numbers six digits count."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(asdict(results)), indent=1, ensure_ascii=False)
    (directory / NAME).write_text(_on_one_line(text) + "\n", encoding="utf-8")


def read(directory: Path = HERE) -> Results:
    """Read the file."""
    data = json.loads((directory / NAME).read_text(encoding="utf-8"))
    measured = tuple(_measured(each) for each in data.pop("measured"))
    soak = data.pop("soak")
    return Results(**data, measured=measured, soak=soak and summary_of(soak))


def summary_of(data: Mapping[str, Any]) -> Summary:
    """Return what is told of a soak, from JSON."""
    rows = tuple((name, value) for name, value in data["rows"])
    return Summary(data["minutes"], data["seed"], rows, tuple(data["faults"]))


def _measured(data: dict[str, Any]) -> Line | Curves:
    goals = tuple(Goal(**goal) for goal in data.pop("goals"))
    if "samples" in data:
        return Line(**data | {"samples": _tuples(data["samples"])}, goals=goals)
    curves = _tuples(data["curves"])
    return Curves(**data | {"x": tuple(data["x"]), "curves": curves}, goals=goals)


def _tuples(lists: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in lists.items()}


def _rounded(value: Any) -> Any:
    """Return data with its numbers cut to what they tell."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _on_one_line(text: str) -> str:
    """Put the numbers of a list beside each other."""
    return re.sub(r"\[[\s\d.,e+-]*\]", lambda found: " ".join(found[0].split()), text)


def _versions() -> dict[str, str]:
    found = {name: metadata.version(of) for name, of in _DISTRIBUTIONS.items()}
    return {"zconfig": __version__, "Python": platform.python_version(), **found}


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "processor": _processor(),
    }


def _processor() -> str:
    """Return the processor's model, as Linux knows it."""
    known = Path("/proc/cpuinfo")
    if not known.exists():
        return platform.processor()
    lines = known.read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
