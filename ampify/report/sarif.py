"""SARIF 2.1.0, for code scanning and editors. Columns count code points, from 1."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TextIO

from ampify import __version__
from ampify.diagnostic import Diagnostic, Note, Severity
from ampify.engine import Report
from ampify.report.found import Found, found, uri
from ampify.rule import page
from ampify.source.document import Located
from ampify.source.edits import Fix
from ampify.source.text import Span

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HOME = "https://pypi.org/project/ampify/"
_BRACKET = re.compile(r"\[(?=[^\[\]]*\]\()")
_NUMBERED = re.compile(r"\{(\d+)\}")
LEVELS = {Severity.INFO: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}


def render(report: Report, out: TextIO) -> None:
    results = [*found(report)]
    rules = {each.finding.code: each.finding for each in results}
    codes = sorted(rules)
    run = {
        "tool": {"driver": driver([rules[code] for code in codes])},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report)],
        "results": [_result(each, codes) for each in results],
    }
    json.dump(log(run), out, indent=2)
    out.write("\n")


def log(run: dict[str, Any]) -> dict[str, Any]:
    """The whole of a file with one run."""
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def driver(examples: Sequence[Diagnostic]) -> dict[str, Any]:
    """ampify itself, with the rules of some findings."""
    return {
        "name": "ampify",
        "informationUri": _HOME,
        "semanticVersion": __version__,
        "rules": [_rule(example) for example in examples],
    }


def _rule(example: Diagnostic) -> dict[str, Any]:
    text = page(example.code)
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    reason = paragraphs.index("## Why") + 1 if "## Why" in paragraphs else 1
    return {
        "id": example.code,
        "name": example.name,
        "shortDescription": {"text": paragraphs[1]},
        "fullDescription": {"text": paragraphs[reason]},
        "help": {"text": text, "markdown": text},
    }


def _invocation(report: Report) -> dict[str, Any]:
    told = [{"level": "error", "message": message(error)} for error in report.errors]
    return {"executionSuccessful": not told, "toolExecutionNotifications": told}


def _result(each: Found, codes: Sequence[str]) -> dict[str, Any]:
    finding = each.finding
    notes = [{**_related(each, note), "message": message(note.message)} for note in finding.notes]
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": LEVELS[finding.severity],
        "message": message(each.message),
        "locations": [_location(each, finding.span)],
        "relatedLocations": [{"id": number, **note} for number, note in enumerate(notes, 1)],
        "partialFingerprints": {"ampify/v1": each.fingerprint},
        "fixes": [_fix(each, finding.fix)] if finding.fix and each.edits else [],
    }


def _related(each: Found, note: Note) -> dict[str, Any]:
    if (there := note.elsewhere) is None:
        return _location(each, note.span)
    (line, column), (last, end) = there.start, there.end
    region = {"startLine": line, "startColumn": column, "endLine": last, "endColumn": end}
    return {"physicalLocation": {"artifactLocation": {"uri": uri(there.path)}, "region": region}}


def message(text: str) -> dict[str, str]:
    """Words in which nothing that was quoted is a link, as ``steps[0](x)`` would be, or a placeholder as ``{0}``."""
    return {"text": _NUMBERED.sub(r"{{\1}}", _BRACKET.sub(r"\[", text))}


def _location(each: Found, span: Span) -> dict[str, Any]:
    """In a notebook the cell is named, and the line is that of the file as it is stored."""
    place, artifact = each.source.place(span.start), {"artifactLocation": _artifact(each)}
    if place.cell is None:
        return {"physicalLocation": {**artifact, "region": _region(each.source, span)}}
    cell = {"name": f"cell {place.cell}", "fullyQualifiedName": f"{each.path}:{place}"}
    return {
        "physicalLocation": {**artifact, "region": {"startLine": each.source.stored(span.start)}},
        "logicalLocations": [cell],
    }


def _artifact(each: Found) -> dict[str, str]:
    return {"uri": uri(each.finding.path)}


def _region(source: Located, span: Span) -> dict[str, int]:
    start, end = source.place(span.start), source.place(span.end)
    return {"startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column}


def _fix(each: Found, fix: Fix) -> dict[str, Any]:
    replacements = [
        {"deletedRegion": _region(each.source, edit.span), "insertedContent": {"text": edit.text}}
        for edit in each.edits
    ]
    return {
        "description": {"text": fix.title},
        "artifactChanges": [{"artifactLocation": _artifact(each), "replacements": replacements}],
        "properties": {"applicability": fix.applicability.name.lower()},
    }
