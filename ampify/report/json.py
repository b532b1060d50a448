"""The report for programs. Lines and columns count from 1, in a notebook within the cell, which is named too."""

from __future__ import annotations

import json
from typing import Any, TextIO

from ampify.diagnostic import Diagnostic
from ampify.engine import Report
from ampify.source.document import Located
from ampify.source.edits import Fix
from ampify.source.magics import unmask
from ampify.source.text import Span


def render(report: Report, out: TextIO) -> None:
    found, fixed = [], []
    for file in report.files:
        source = file.source
        found += [described(source, d) for d in file.diagnostics]
        fixed += [{"path": d.path, **_rule(d), "title": d.fix.title if d.fix else ""} for d in file.fixed]
    whole = {"checked": report.checked, "diagnostics": found, "fixed": fixed, "errors": list(report.errors)}
    json.dump(whole, out, indent=2)
    out.write("\n")


def described(source: Located, finding: Diagnostic) -> dict[str, Any]:
    """The members of one finding."""
    return {
        "path": finding.path,
        **_range(source, finding.span),
        **_rule(finding),
        "notes": [{"message": note.message, **_range(source, note.span)} for note in finding.notes],
        "fix": _fix(source, finding.fix) if finding.fix else None,
    }


def _rule(finding: Diagnostic) -> dict[str, str]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.name.lower(),
        "message": finding.message,
    }


def _fix(source: Located, fix: Fix) -> dict[str, Any]:
    return {
        "title": fix.title,
        "applicability": fix.applicability.name.lower(),
        "edits": [{**_range(source, edit.span), "text": unmask(edit.text)} for edit in fix.edits],
    }


def _range(source: Located, span: Span) -> dict[str, dict[str, int]]:
    return {"start": _point(source, span.start), "end": _point(source, span.end)}


def _point(source: Located, offset: int) -> dict[str, int]:
    place = source.place(offset)
    cell = {} if place.cell is None else {"cell": place.cell}
    return {**cell, "line": place.line, "column": place.column}
