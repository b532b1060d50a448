"""The report with a heading for each file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TextIO

from ampify.engine import Report
from ampify.report.paint import COLOURS, Line, paint
from ampify.report.text import mark


def render(report: Report, out: TextIO) -> None:
    paint(_lines(report), out)


def _lines(report: Report) -> Iterator[Line]:
    telling = (file for file in report.files if file.diagnostics)
    for path, files in groupby(telling, lambda file: file.path):  # a Markdown file has a part for each block
        rows = [(str(source.place(d.span.start)), d) for file in files for source in (file.source,)
                for d in file.diagnostics]  # fmt: skip
        width = max(len(place) for place, _ in rows)
        yield [(path, "bold"), (":", "")]
        for place, finding in rows:
            colour = COLOURS[finding.severity]
            yield [(f"  {place:<{width}}  ", ""), (finding.code, colour), (" ", ""), (mark(finding), "cyan"),
                   (finding.message, "")]  # fmt: skip
        yield []
