"""Text and positions in it; a text may hold several files. Knows nothing of Python or PyTorch."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

SEAM = "\0"
"""Stands between the files of a text of several: no Python source holds it."""

_NEWLINE = re.compile(r"\r\n|\n|\r")  # not str.splitlines(): that also splits on \f, \x1c, \u2028 …
_LINE_END = re.compile(rf"{_NEWLINE.pattern}|{SEAM}")
_BLANKS = re.compile(r"[ \t\f]*")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open range of code points, ``start`` to ``end``."""

    start: int
    end: int

    def __contains__(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: Span) -> bool:
        """Whether both share a character; an insertion overlaps only what it stands strictly inside of."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class SourceText:
    """A text with its lines; lines and columns count from 1 and 0 as in ``ast``."""

    text: str

    @cached_property
    def files(self) -> list[Span]:
        """Where each of its files stands."""
        starts = [0, *(m.end() for m in re.finditer(SEAM, self.text))]
        return [
            Span(start, end) for start, end in zip(starts, [*(s - 1 for s in starts[1:]), len(self.text)], strict=True)
        ]

    def file(self, offset: int) -> int:
        """Which of its files ``offset`` lies in, from 0."""
        return bisect_right(self.files, offset, key=lambda span: span.start) - 1

    @cached_property
    def line_starts(self) -> list[int]:
        return [0, *(m.end() for m in _LINE_END.finditer(self.text))]

    def offset(self, line: int, column: int) -> int:
        return self.line_starts[line - 1] + column

    def line(self, offset: int) -> int:
        return bisect_right(self.line_starts, offset)

    def column(self, offset: int) -> int:
        return offset - self.line_start(offset)

    def line_start(self, offset: int) -> int:
        return self.line_starts[self.line(offset) - 1]

    def line_end(self, offset: int) -> int:
        """Where the line of ``offset`` ends, before its newline."""
        return m.start() if (m := _LINE_END.search(self.text, offset)) else len(self.text)

    def text_of_line(self, line: int) -> str:
        """The text of a line without its newline; empty outside the text."""
        if not 1 <= line <= len(self.line_starts):
            return ""
        start = self.line_starts[line - 1]
        return self.text[start : self.line_end(start)]

    def indent(self, offset: int) -> str:
        """The blanks at the head of the line of ``offset``."""
        match = _BLANKS.match(self.text, self.line_start(offset))
        return match[0] if match else ""

    def newline(self, offset: int) -> str:
        """The line ending in use at ``offset``, so that a CRLF file gets CRLF insertions."""
        file = self.files[self.file(offset)]
        if match := _NEWLINE.search(self.text, offset, file.end):
            return match[0]
        used = [match[0] for match in _NEWLINE.finditer(self.text, file.start, file.end)]
        return used[-1] if used else "\n"

    def __getitem__(self, span: Span) -> str:
        return self.text[span.start : span.end]
