"""JUnit XML: a suite for each script, a case for each level."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import TextIO

from ampify.report.xml import clean, write
from ampify.verify.report.text import text
from ampify.verify.verdict import Level, Verdict, count


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    root = ET.Element("testsuites", name="ampify verify")
    root.extend(_suite(verdict) for verdict in verdicts)
    write(root, out)


def _suite(verdict: Verdict) -> ET.Element:
    cases = [_case(verdict, level) for level in verdict.levels]
    if verdict.status == 2:
        cases.append(_unusable(verdict))
    suite = ET.Element("testsuite", name=clean(verdict.title), tests=str(len(cases)))
    for kind in ("failure", "error", "skipped"):
        suite.set(
            {"failure": "failures", "error": "errors"}.get(kind, kind),
            str(sum(c.find(kind) is not None for c in cases)),
        )
    suite.set("time", f"{sum(run.seconds for run in verdict.runs):.3f}")
    properties = ET.SubElement(suite, "properties")
    for name, value in (("verdict", verdict.word), ("mode", verdict.mode or ""), ("reason", verdict.reason)):
        ET.SubElement(properties, "property", name=name, value=clean(value))
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = clean(text(verdict))
    return suite


def _case(verdict: Verdict, level: Level) -> ET.Element:
    case = ET.Element("testcase", classname=clean(verdict.title), name=f"{level.name} {level.statement}")
    match level.status:
        case "fails":
            kinds = sorted({difference.channel for difference in level.differences})
            said = "\n".join(difference.message for difference in level.differences)
            summary = level.summary or count(len(level.differences), "difference")
            failure = ET.SubElement(case, "failure", message=clean(summary), type="AMP901 " + ", ".join(kinds))
            failure.text = clean(said)
        case "not run" | "not applicable" | "band":
            ET.SubElement(case, "skipped", message=clean(f"{level.status}: {level.summary}"))
    return case


def _unusable(verdict: Verdict) -> ET.Element:
    case = ET.Element("testcase", classname=clean(verdict.title), name=verdict.word)
    error = ET.SubElement(case, "error", message=clean(verdict.reason or verdict.word), type="AMP902")
    error.text = clean(verdict.details)
    return case
