"""The report with one line for each finding, as compilers print it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ampify.engine import Report
from ampify.report.paint import COLOURS, Line, paint
from ampify.report.text import mark


def render(report: Report, out: TextIO) -> None:
    paint(_lines(report), out)


def _lines(report: Report) -> Iterator[Line]:
    for file in report.files:
        source = file.source
        for finding in file.diagnostics:
            place = f"{file.path}:{source.place(finding.span.start)}: "
            message = (finding.message, "")
            yield [(place, ""), (finding.code, COLOURS[finding.severity]), (" ", ""), (mark(finding), "cyan"), message]
