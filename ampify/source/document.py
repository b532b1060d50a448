"""What the engine needs of a file: its code in parts, and the way back to bytes. Knows no file format.

A part is code that runs as one program: a module, all the cells of a notebook, one block of a Markdown file. The text
of a notebook has a border above each cell, a comment that no person writes; it goes through edits as any comment does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ampify.source.magics import prefixed, unmask
from ampify.source.text import SourceText

BORDER = "#\uf8a7"
"""Begins a border; the number of the cell and the lines of it that are left out above its code follow."""
ASSUMED = "#\uf8aa"
"""Ends an import that an excerpt does not show; such lines stand above its code."""
_BORDER = re.compile(rf"^{BORDER}(\d+)\+(\d+)\n", re.M)


@dataclass(frozen=True, slots=True)
class Aside:
    """Text that is no part of a program that can be read, and yet may name what is defined in one."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A cell that does not parse: the line to show, counted in the cell, and why."""

    cell: int
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Part:
    """Code that runs as one program, and where it stands in its file."""

    text: str
    above: int = 0
    """Lines of the file above it."""
    left: int = 0
    """Columns of the file left of it."""
    fragment: bool = False
    """An excerpt, which need not parse."""
    asides: tuple[Aside, ...] = ()
    broken: tuple[Broken, ...] = ()
    """Cells that do not parse: their lines are comments here."""
    stored: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """By cell, the lines of the file in which the lines of its source are stored."""

    def names(self, words: frozenset[str]) -> str | None:
        """Where the asides name one of ``words``."""
        return next((a.place for a in self.asides if words & {*re.findall(r"\w+", a.text)}), None)


@dataclass(frozen=True, slots=True)
class Place:
    """A place as people look for it; lines and columns count from 1."""

    cell: int | None
    line: int
    column: int

    @property
    def row(self) -> str:
        return f"{self.line}" if self.cell is None else f"cell {self.cell}:{self.line}"

    def __str__(self) -> str:
        return f"{self.row}:{self.column}"


@dataclass(frozen=True, slots=True)
class Page:
    """What a person sees as one text: a file, or a cell of a notebook."""

    title: str
    text: str


class Document(Protocol):
    """Python code that came from a file."""

    @property
    def path(self) -> Path: ...

    @property
    def parts(self) -> tuple[Part, ...]: ...

    @property
    def lint_only(self) -> bool:
        """Whether fixes are shown only, never written."""

    def pages(self, texts: Sequence[str]) -> list[Page]:
        """The file once ``texts`` stand in the places of its parts; raises `Unwritable`."""

    def encode(self, texts: Sequence[str]) -> bytes:
        """The bytes of the file once ``texts`` stand in the places of its parts; raises `Unwritable`."""


class Undecodable(ValueError):
    """Bytes that are no usable text: ``code`` is AMP900 (cannot be decoded) or AMP905 (could not be written back)."""

    def __init__(self, code: str, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.code, self.line = code, line


class Unwritable(ValueError):
    """A text that would not be read back as what it is: an edit has torn a border or a magic."""


@dataclass(frozen=True, slots=True)
class _Border:
    line: int
    """Of the text; the cell begins below it."""
    cell: int
    above: int


@dataclass(frozen=True)
class Located(SourceText):
    """The text of a part, before or after its fixes, with the places in the file."""

    part: Part = Part("")

    @cached_property
    def _borders(self) -> list[_Border]:
        return [_Border(self.line(m.start()), int(m[1]), int(m[2])) for m in _BORDER.finditer(self.text)]

    @cached_property
    def _assumed(self) -> int:
        return self.text.count(f"{ASSUMED}\n")

    def _border(self, line: int) -> _Border | None:
        return next((b for b in reversed(self._borders) if b.line <= line), None)

    def place(self, offset: int) -> Place:
        line, column = self.line(offset), self.column(offset) + 1
        if (border := self._border(line)) is not None:
            column += prefixed(self.text_of_line(line))
            return Place(border.cell, max(line - border.line + border.above, 1), column)
        return Place(None, max(line - self._assumed, 1) + self.part.above, column + self.part.left)

    def stored(self, offset: int) -> int:
        """The line of the file in which the line of a cell is stored; 1 where nothing is known of it."""
        place = self.place(offset)
        lines = dict(self.part.stored).get(place.cell or 0, ())
        return lines[place.line - 1] if place.line <= len(lines) and self.text == self.part.text else 1

    def line_at(self, cell: int | None, line: int) -> int | None:
        """The line of the text that stands at ``line`` of the file, or of its ``cell``; None if it is not in here."""
        if self._borders:
            found = (b.line + line - b.above for b in self._borders if b.cell == cell and line > b.above)
        else:
            found = (n for n in (line - self.part.above + self._assumed,) if cell is None)
        return next((n for n in found if n in self.around(n, 0)), None)

    def around(self, line: int, margin: int) -> range:
        """The lines next to ``line``, no further than the text or the cell goes."""
        starts = [b.line for b in self._borders]
        first = max((start + 1 for start in starts if start < line), default=1 + self._assumed)
        last = min((start - 1 for start in starts if start > line), default=len(self.line_starts))
        return range(max(first, line - margin), min(last, line + margin) + 1)

    def shown(self, line: int) -> str:
        """A line as it is in the file."""
        return unmask(self.text_of_line(line))


def borders(text: str) -> list[int]:
    """Where the cells of a text begin: no edit may span one of these places."""
    return [match.start() for match in _BORDER.finditer(text)] if BORDER in text else []


def join(cells: Sequence[tuple[int, int, str]]) -> str:
    """The text of a part from its cells: number, lines left out above, code."""
    return "".join(
        f"{BORDER}{cell}+{above}\n{code}" + ("\r\n" if "\r\n" in code else "\n") for cell, above, code in cells
    )


def split(text: str) -> Iterator[tuple[int, str]]:
    """The cells of a text that `join` has made: number and code."""
    pieces = _BORDER.split(text)[1:]
    for cell, code in zip(pieces[::3], pieces[2::3], strict=True):
        yield int(cell), code.removesuffix("\r\n") if code.endswith("\r\n") else code.removesuffix("\n")
