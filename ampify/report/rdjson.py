"""The format of reviewdog. Columns count bytes of UTF-8, from 1."""

from __future__ import annotations

import json
from typing import Any, TextIO

from ampify.engine import Report
from ampify.report.found import Found, found
from ampify.source.document import Located
from ampify.source.edits import Applicability
from ampify.source.text import Span


def render(report: Report, out: TextIO) -> None:
    json.dump(
        {"source": {"name": "ampify"}, "diagnostics": [_diagnostic(each) for each in found(report)]}, out, indent=2
    )
    out.write("\n")


def _diagnostic(each: Found) -> dict[str, Any]:
    finding = each.finding
    related = [{"message": note.message, "location": _location(each, note.span)} for note in finding.notes]
    return {
        "message": each.message,
        "location": _location(each, finding.span),
        "severity": finding.severity.name,
        "code": {"value": finding.code},
        "suggestions": _suggestions(each),
        "relatedLocations": related,
    }


def _location(each: Found, span: Span) -> dict[str, Any]:
    place = {} if each.start.cell is not None else {"range": _range(each.source, span)}
    return {"path": each.path, **place}


def _suggestions(each: Found) -> list[dict[str, Any]]:
    """Suggestions are taken one by one and do not say how safe they are: a fix must be safe, and a single edit."""
    fix = each.finding.fix
    if fix is None or fix.applicability is not Applicability.SAFE or len(each.edits) != 1:
        return []
    return [{"range": _range(each.source, edit.span), "text": edit.text} for edit in each.edits]


def _range(source: Located, span: Span) -> dict[str, Any]:
    return {"start": _position(source, span.start), "end": _position(source, span.end)}


def _position(source: Located, offset: int) -> dict[str, int]:
    place = source.place(offset)
    before = source.text[source.line_start(offset) : offset]
    return {"line": place.line, "column": place.column + len(before.encode("utf-8", "replace")) - len(before)}
