"""JUnit XML: a suite for each file, a case for each finding; one that does not make the check fail is skipped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import groupby
from typing import TextIO

from ampify.engine import Report
from ampify.report.found import Found, found
from ampify.report.xml import clean, write


def render(report: Report, out: TextIO) -> None:
    suites = [_suite(path, map(_case, findings)) for path, findings in groupby(found(report), lambda each: each.path)]
    if report.errors:
        suites.append(_suite("ampify", map(_error, report.errors)))
    if not suites:
        suites.append(_suite("ampify", [ET.Element("testcase", classname="ampify", name="nothing to report")]))
    root = ET.Element("testsuites", name="ampify")
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.extend(suites)
    write(root, out)


def _suite(name: str, cases: Iterable[ET.Element]) -> ET.Element:
    suite = ET.Element("testsuite", name=clean(name))
    suite.extend(cases)
    suite.set("tests", str(len(suite)))
    for count, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(kind) is not None for case in suite)))
    return suite


def _case(each: Found) -> ET.Element:
    name, path, message = f"{each.finding.code} {each.start}", clean(each.path), clean(each.finding.message)
    case = ET.Element("testcase", classname=path, name=name, file=path)
    if each.fails:
        ET.SubElement(case, "failure", message=message, type=each.finding.code).text = clean(each.details)
    else:
        ET.SubElement(case, "skipped", message=f"{each.finding.severity.name.lower()}: {message}")
    return case


def _error(error: str) -> ET.Element:
    case = ET.Element("testcase", classname="ampify", name=clean(error.partition(": ")[0]))
    ET.SubElement(case, "error", message=clean(error), type="ampify")
    return case
