"""JUnit XML: a suite for each script, a case for each level."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import TextIO

from ampify.verify.report.text import text
from ampify.verify.verdict import Level, Verdict, count

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, such as the colour codes in a traceback."""


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    root = ET.Element("testsuites", name="ampify verify")
    root.extend(_suite(verdict) for verdict in verdicts)
    ET.indent(root)
    out.write('<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n")


def _suite(verdict: Verdict) -> ET.Element:
    cases = [_case(verdict, level) for level in verdict.levels]
    if verdict.status == 2:
        cases.append(_unusable(verdict))
    suite = ET.Element("testsuite", name=_clean(verdict.title), tests=str(len(cases)))
    for kind in ("failure", "error", "skipped"):
        suite.set(
            {"failure": "failures", "error": "errors"}.get(kind, kind),
            str(sum(c.find(kind) is not None for c in cases)),
        )
    suite.set("time", f"{sum(run.seconds for run in verdict.runs):.3f}")
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = _clean(text(verdict))
    return suite


def _case(verdict: Verdict, level: Level) -> ET.Element:
    case = ET.Element("testcase", classname=_clean(verdict.title), name=f"{level.name} {level.statement}")
    match level.status:
        case "fails":
            kinds = sorted({difference.channel for difference in level.differences})
            said = "\n".join(difference.message for difference in level.differences)
            summary = level.summary or count(len(level.differences), "difference")
            failure = ET.SubElement(case, "failure", message=_clean(summary), type="AMP901 " + ", ".join(kinds))
            failure.text = _clean(said)
        case "not run" | "not applicable" | "band":
            ET.SubElement(case, "skipped", message=_clean(f"{level.status}: {level.summary}"))
    return case


def _unusable(verdict: Verdict) -> ET.Element:
    case = ET.Element("testcase", classname=_clean(verdict.title), name=verdict.word)
    error = ET.SubElement(case, "error", message=_clean(verdict.reason or verdict.word), type="AMP902")
    error.text = _clean(verdict.details)
    return case


def _clean(words: str) -> str:
    return _FORBIDDEN.sub("", words)
