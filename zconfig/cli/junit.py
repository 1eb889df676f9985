"""A report → JUnit XML: a CI shows each alias as a test case.

There is no one standard. What all readers know is used, with a `classname` for each case: by it
and the name GitLab tells cases apart (gitlab-org/gitlab-foss#50964).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from zconfig.cli.render import untold
from zconfig.cli.report import Failure, Report, Row
from zconfig.redaction import without_commands

# All that XML 1.0 cannot hold, not even escaped.
_UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report, name: str, besides: Mapping[str, str] | None = None) -> str:
    """Return a test suite with a test case for each alias.

    Args:
        report: What was found out.
        name: The command that found it out.
        besides: By alias what else there is to read.
    """
    cases = [_case(row, name, (besides or {}).get(row.alias, "")) for row in report.rows]
    general = [p for p in untold(report) if p.startswith("error")]
    if general:
        cases.append(_general("\n".join(general), name))
    counted = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": _seconds(report.elapsed_ms),
    }
    suites = ET.Element("testsuites", {"name": "zconfig", **counted})
    ET.SubElement(suites, "testsuite", {"name": f"zconfig {name}", **counted}).extend(cases)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _case(row: Row, name: str, besides: str) -> ET.Element:
    failure = row.failure
    took_ms = (failure.elapsed_ms if failure else row.round_trip_ms) or 0.0
    case = _element("testcase", classname=f"zconfig.{name}", name=row.alias, time=_seconds(took_ms))
    if failure and failure.file:
        case.set("file", _fit(failure.file))
    if failure and row.required:
        case.append(_failure(failure))
    elif failure:
        case.append(_element("skipped", message=f"optional: {failure.message}"))
    elif row.state != "connected":
        case.append(_element("skipped", message=row.state))
    if besides:
        case.append(_element("system-out", besides))
    return case


def _failure(failure: Failure) -> ET.Element:
    what = failure.problem or failure.message
    return _element("failure", failure.message, type=failure.cause, message=what)


def _general(message: str, name: str) -> ET.Element:
    """Return what is wrong, and concerns no alias in particular."""
    case = _element("testcase", classname=f"zconfig.{name}", name="configuration", time="0")
    what = "the configuration is wrong"
    case.append(_element("error", message, type="configuration", message=what))
    return case


def _element(tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    element = ET.Element(tag, {name: _fit(each) for name, each in attributes.items()})
    element.text = None if text is None else _fit(text)
    return element


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.6f}"


def _fit(text: str) -> str:
    return without_commands(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text))
