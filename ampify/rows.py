"""Reports as JSON, without their texts, which are in the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ampify.diagnostic import Diagnostic, Elsewhere, Note, Severity
from ampify.inspection import FileReport
from ampify.source.document import Part, Undecodable
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.formats import decode
from ampify.source.text import Span

_EMPTY = Part("")
"""What is reported on of a file that cannot be read."""


def parts(path: Path, raw: bytes | None = None) -> tuple[Part, ...]:
    """The parts that a file has, as it is or with the bytes ``raw``; of one that cannot be read none. Raises
    `OSError`."""
    try:
        return decode(path, path.read_bytes() if raw is None else raw).parts
    except Undecodable:
        return ()


def row(report: FileReport, parts: Sequence[Part]) -> list[Any] | None:
    """A report on one of the parts; None for one that cannot be kept."""
    known = (*parts, _EMPTY)
    index = next((i for i, part in enumerate(known) if part == report.part and part.text == report.after), None)
    if index is None or report.fixed or report.before != report.after:
        return None
    return [report.path, index, int(report.level), [_diagnostic_row(d) for d in report.diagnostics]]


def report(row: Sequence[Any], parts: Sequence[Part]) -> FileReport:
    """Raises `ValueError` and its like for what `row` has not made."""
    path, index, level, found = row
    part = (*parts, _EMPTY)[index]
    return FileReport(path, part.text, part.text, tuple(map(_diagnostic, found)), (), Severity(level), part)


def _diagnostic_row(d: Diagnostic) -> list[Any]:
    fix = d.fix and [d.fix.title, [[e.span.start, e.span.end, e.text] for e in d.fix.edits], int(d.fix.applicability)]
    notes = [[note.message, note.span.start, note.span.end, _there(note.elsewhere)] for note in d.notes]
    return [d.path, d.span.start, d.span.end, d.code, d.name, int(d.severity), d.message, notes, fix]


def _there(place: Elsewhere | None) -> list[Any] | None:
    return None if place is None else [place.path, *place.start, *place.end]


def _diagnostic(row: list[Any]) -> Diagnostic:
    path, start, end, code, name, severity, message, notes, fix = row
    told = tuple(Note(text, Span(first, last), _elsewhere(there)) for text, first, last, there in notes)
    mended = fix and Fix(fix[0], tuple(Edit(Span(a, b), text) for a, b, text in fix[1]), Applicability(fix[2]))
    return Diagnostic(path, Span(start, end), code, name, Severity(severity), message, told, mended)


def _elsewhere(there: list[Any] | None) -> Elsewhere | None:
    return None if there is None else Elsewhere(there[0], (there[1], there[2]), (there[3], there[4]))
