"""Workflow commands of GitHub Actions, which become annotations of the lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ampify.diagnostic import Severity
from ampify.engine import Report
from ampify.report.found import Found, found

_COMMANDS = {Severity.INFO: "notice", Severity.WARNING: "warning", Severity.ERROR: "error"}
_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = _DATA | str.maketrans({":": "%3A", ",": "%2C"})


def render(report: Report, out: TextIO) -> None:
    for each in found(report):
        properties = ",".join(f"{name}={value.translate(_PROPERTY)}" for name, value in _properties(each))
        out.write(f"::{_COMMANDS[each.finding.severity]} {properties}::{each.details.translate(_DATA)}\n")


def _properties(each: Found) -> Iterator[tuple[str, str]]:
    yield "title", f"ampify ({each.finding.code})"
    yield "file", each.path
    start, end = each.start, each.end
    if start.cell is not None:  # the message names it; GitHub counts in the file as it is stored
        yield "line", str(each.source.stored(each.finding.span.start))
        return
    yield from (("line", str(start.line)), ("endLine", str(end.line)))
    if start.line == end.line:  # columns are refused over several lines
        yield from (("col", str(start.column)), ("endColumn", str(end.column)))
