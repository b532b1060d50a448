"""How many findings each rule has made."""

from __future__ import annotations

from collections import Counter
from typing import TextIO

from ampify.engine import Report
from ampify.report.paint import COLOURS, paint
from ampify.report.text import mark


def render(report: Report, out: TextIO) -> None:
    found = [d for file in report.files for d in file.diagnostics]
    counts = Counter(d.code for d in found)
    first = {d.code: d for d in reversed(found)}
    width = len(str(max(counts.values(), default=0)))
    paint(
        (
            [(f"{count:>{width}}  ", "bold"), (code, COLOURS[d.severity]), (f"  {mark(d) or '    '}{d.name}", "")]
            for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            for d in (first[code],)
        ),
        out,
    )
