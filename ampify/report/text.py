"""The report for people: every finding with the lines around it, its notes, and what ``--fix`` would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ampify.diagnostic import Diagnostic
from ampify.engine import Report
from ampify.inspection import FileReport
from ampify.report.paint import COLOURS, Line, paint
from ampify.source.document import Located
from ampify.source.edits import Applicability
from ampify.source.text import Span

_AROUND = 2
_FRAME = "blue"
_UNSAFE = " (with `--unsafe-fixes`)"


def render(report: Report, out: TextIO) -> None:
    paint(_lines(report), out)


def mark(finding: Diagnostic) -> str:
    """``[*]`` where ``--fix`` mends the finding, ``[-]`` where only ``--unsafe-fixes`` does."""
    marks = {Applicability.SAFE: "[*] ", Applicability.UNSAFE: "[-] ", Applicability.MANUAL: ""}
    return marks[finding.fix.applicability] if finding.fix else ""


def _lines(report: Report) -> Iterator[Line]:
    for file in report.files:
        source = file.source
        for finding in file.diagnostics:
            yield from _finding(file, source, finding)
            yield []


def _finding(file: FileReport, source: Located, finding: Diagnostic) -> Iterator[Line]:
    colour = COLOURS[finding.severity]
    yield [(finding.code, colour), (" ", ""), (mark(finding), "cyan"), (finding.message, "bold")]
    yield from _place(file.path, source, finding.span, "^", colour, _AROUND)
    for note in finding.notes:
        yield [("note: ", "bold"), (note.message, "")]
        yield from _place(file.path, source, note.span, "-", _FRAME, 0)
    if finding.fix:
        unsafe = _UNSAFE if finding.fix.applicability is Applicability.UNSAFE else ""
        yield [("help: ", "bold green"), (finding.fix.title + unsafe, "")]


def _place(path: str, source: Located, span: Span, sign: str, colour: str, around: int) -> Iterator[Line]:
    """Where a span is, its first line underlined, with the lines around it."""
    line, column = source.line(span.start), source.column(span.start)
    yield [("  --> ", _FRAME), (f"{path}:{source.place(span.start)}", "")]
    shown = {n: source.place(source.offset(n, 0)).line for n in _trimmed(source, source.around(line, around), line)}
    if not shown:
        return
    width = len(str(max(shown.values())))
    bar: Line = [(" " * width + " |", _FRAME)]
    yield bar
    for number, label in shown.items():
        yield [(f"{label:>{width}} | ", _FRAME), (source.shown(number), "")]
        if number == line:
            length = max(min(span.end, source.line_end(span.start)) - span.start, 1)
            blanks = "".join("\t" if char == "\t" else " " for char in source.text_of_line(line)[:column])
            yield [*bar, (" " + blanks, ""), (sign * length, colour)]
    yield bar


def _trimmed(source: Located, lines: range, line: int) -> list[int]:
    """``lines`` without the blank ones at both ends; none at all in an empty text."""
    numbers = list(lines) if source.text else []
    while numbers and numbers[0] < line and not source.text_of_line(numbers[0]).strip():
        numbers.pop(0)
    while numbers and numbers[-1] > line and not source.text_of_line(numbers[-1]).strip():
        numbers.pop()
    return numbers
