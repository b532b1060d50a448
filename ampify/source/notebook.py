"""Jupyter notebooks as documents: all code cells are one program; only the source of a changed cell is rewritten."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from json.decoder import JSONDecoder
from pathlib import Path
from typing import Any

from ampify.source import magics
from ampify.source.document import Aside, Broken, Page, Part, Undecodable, Unwritable, join, split
from ampify.source.edits import Edit, splice
from ampify.source.text import SourceText, Span

_BLANKS = re.compile(r"[ \t\r\n]*")
_PIECE = re.compile(r"(?:[^\\]|\\[^n])*?(?:\\n|\Z)")
"""A line of a JSON string as it is written."""
_FOREIGN = re.compile(r"(ir|julia|bash|javascript|scala|rust|xcpp)\b")
"""Names of kernels that say their language themselves."""
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_DECODER = JSONDecoder()

Reader = Callable[[int], tuple[Any, int]]


@dataclass(frozen=True, slots=True)
class _Source:
    """The source of a cell in the JSON text: a string, or a list of strings; where it stands, and each string."""

    span: Span
    strings: tuple[Span, ...]
    value: str
    listed: bool


@dataclass(frozen=True, slots=True)
class _Cell:
    number: int
    source: _Source
    read: magics.Cell
    code: str
    """As it stands in the text of the part; a cell that does not parse is muted there."""


@dataclass(frozen=True, slots=True)
class NotebookDocument:
    """An ``.ipynb`` file; its code has borders between the cells (see `document`) and masks over magics."""

    path: Path
    json: str
    mark: bytes
    cells: tuple[_Cell, ...]
    """Those whose code takes part in the program."""
    parts: tuple[Part, ...]

    @property
    def lint_only(self) -> bool:
        return False

    def pages(self, texts: Sequence[str]) -> list[Page]:
        return [Page(f"{self.path}:cell {cell.number}", source) for cell, source in self.sources(texts)]

    def encode(self, texts: Sequence[str]) -> bytes:
        changed = ((c.source, new) for c, new in self.sources(texts) if new != c.source.value)
        edits = [Edit(source.span, _written(self.json, source, new)) for source, new in changed]
        return self.mark + splice(self.json, edits).encode()

    def sources(self, texts: Sequence[str]) -> Iterator[tuple[_Cell, str]]:
        """The cells, each with its source once ``texts`` are the program."""
        codes = [found for text in texts for found in split(text)]
        if [number for number, _ in codes] != [cell.number for cell in self.cells] and texts:
            raise Unwritable("an edit goes over the border between two cells")
        for cell, (_, code) in zip(self.cells, codes, strict=True):
            head = cell.read.head
            if code and head and not head.endswith("\n"):  # a magic alone, and now code below it
                head += "\n"
            source = head + magics.unmask(code)
            if code != cell.code and magics.read(source) != magics.Cell(head, code):
                raise Unwritable(f"an edit has changed a magic of cell {cell.number}")
            yield cell, source


def decode(path: Path, raw: bytes) -> NotebookDocument:
    """The notebook that ``raw`` holds; raises `Undecodable`."""
    mark = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    try:
        text = raw.removeprefix(mark).decode()
        found, metadata = _scanned(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Undecodable("AMP900", f"This is not UTF-8 text: {error.reason}", line) from None
    except (json.JSONDecodeError, RecursionError) as error:
        line, message = getattr(error, "lineno", 1), getattr(error, "msg", "nested too deeply")
        raise Undecodable("AMP900", f"This is not a notebook: {message}", line) from None
    if not _is_python(metadata):
        return NotebookDocument(path, text, mark, (), ())
    return _document(path, text, mark, found)


def _document(path: Path, text: str, mark: bytes, found: list[tuple[int, _Source]]) -> NotebookDocument:
    cells, asides, broken = list[_Cell](), list[Aside](), list[Broken]()
    for number, source in found:
        if magics.RESERVED.search(source.value):
            raise Undecodable("AMP905", f"Cell {number} holds characters that ampify uses for itself")
        cell = magics.read(source.value)
        seen = "" if cell.code is None else magics.hidden(cell.code)
        if cell.code is not None and (flaw := magics.flaw(cell.code)) is not None:
            broken.append(Broken(number, flaw[1] + cell.above, f"This cell does not parse: {flaw[0]}"))
            cells.append(_Cell(number, source, cell, magics.mute(source.value.removeprefix(cell.head))))
        elif cell.code is not None:
            cells.append(_Cell(number, source, cell, cell.code))
        hidden = source.value if cell.code is None or (broken and broken[-1].cell == number) else seen
        asides.append(Aside(f"cell {number}", hidden))
    whole = join([(c.number, c.read.above, c.code) for c in cells])
    file = SourceText(text)
    stored = tuple((cell.number, tuple(_rows(file, cell.source))) for cell in cells)
    part = Part(whole, asides=tuple(a for a in asides if a.text), broken=tuple(broken), stored=stored)
    document = NotebookDocument(path, text, mark, tuple(cells), (part,))
    if any(source != cell.source.value for cell, source in document.sources([whole])):
        raise Undecodable("AMP905", "The magics of a cell cannot be masked and given back, so it is left alone")
    return document


def _rows(file: SourceText, source: _Source) -> Iterator[int]:
    """The line of the file in which each line of a source begins."""
    fresh = True
    for span in source.strings:
        pieces = _lines(json.loads(file[span]))
        yield from (file.line(span.start) for _ in pieces[0 if fresh else 1 :])
        fresh = not pieces or pieces[-1].endswith(("\n", "\r"))


def _is_python(metadata: dict[str, Any]) -> bool:
    """Whether the kernel of a notebook runs Python; one that does not say is taken for one that does."""
    info, kernel = (_table(metadata.get(name)) for name in ("language_info", "kernelspec"))
    said = (word for word in (info.get("name"), kernel.get("language")) if isinstance(word, str) and word)
    language = next(said, None)
    return "python" in language.lower() if language else not _FOREIGN.match(str(kernel.get("name")))


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ---------------------------------------------------------------------- the JSON


def _scanned(text: str) -> tuple[list[tuple[int, _Source]], dict[str, Any]]:
    """The code cells of a notebook with their numbers, and its metadata; raises `json.JSONDecodeError`."""
    scan = _Scan(text)
    whole = scan.document()
    version = whole.get("nbformat")
    if version not in (3, 4):
        raise Undecodable("AMP905", f"Notebooks of format {version} are not known: format 4 is, and format 3")
    cells: list[dict[str, Any]] = whole.get("cells") or []
    if version == 3:
        cells = [cell for sheet in whole.get("worksheets") or [] for cell in sheet]
    code = [
        (number, cell["source"])
        for number, cell in enumerate(cells, 1)
        if cell.get("cell_type") == "code" and "source" in cell and _runs(cell)
    ]
    return code, _table(whole.get("metadata"))


def _runs(cell: dict[str, Any]) -> bool:
    """Whether a code cell is in the language of the notebook, as far as it says."""
    editor = _table(_table(cell.get("metadata")).get("vscode"))
    return "python" in str(cell.get("language") or editor.get("languageId") or "python")


class _Scan:
    """Reads JSON as far as a notebook's cells, with the places of their sources."""

    def __init__(self, text: str) -> None:
        self.text = text

    def document(self) -> dict[str, Any]:
        keys: dict[str, Reader] = {"cells": self._cells, "worksheets": self._worksheets}
        whole, at = self._object(self._skip(0), keys)
        if self._skip(at) != len(self.text):
            raise json.JSONDecodeError("Extra data", self.text, at)
        return whole

    def _skip(self, at: int) -> int:
        match = _BLANKS.match(self.text, at)
        return match.end() if match else at

    def _expect(self, sign: str, at: int) -> int:
        if not self.text.startswith(sign, at):
            raise json.JSONDecodeError(f"Expecting '{sign}'", self.text, at)
        return self._skip(at + 1)

    def _value(self, at: int) -> tuple[Any, int]:
        return _DECODER.raw_decode(self.text, at)

    def _object(self, at: int, readers: dict[str, Reader]) -> tuple[dict[str, Any], int]:
        """An object whose values at some keys are read in a way of their own."""
        found: dict[str, Any] = {}
        at = self._expect("{", at)
        while not self.text.startswith("}", at):
            key, at = self._string(at)
            at = self._expect(":", self._skip(at))
            found[key], at = readers.get(key, self._value)(at)
            at = self._next(at, "}")
        return found, at + 1

    def _array(self, at: int, reader: Reader) -> tuple[list[Any], int]:
        found = []
        at = self._expect("[", at)
        while not self.text.startswith("]", at):
            value, at = reader(at)
            found.append(value)
            at = self._next(at, "]")
        return found, at + 1

    def _next(self, at: int, end: str) -> int:
        """The place of the next member, or of the end; a comma before the end is an error."""
        at = self._skip(at)
        if self.text.startswith(end, at):
            return at
        at = self._expect(",", at)
        if self.text.startswith(end, at):
            raise json.JSONDecodeError(f"Unexpected '{end}'", self.text, at)
        return at

    def _string(self, at: int) -> tuple[str, int]:
        if not self.text.startswith('"', at):
            raise json.JSONDecodeError("Expecting a string", self.text, at)
        return _DECODER.raw_decode(self.text, at)

    def _worksheets(self, at: int) -> tuple[list[Any], int]:
        sheets, at = self._array(at, lambda at: self._object(at, {"cells": self._cells}))
        return [sheet.get("cells") or [] for sheet in sheets], at

    def _cells(self, at: int) -> tuple[list[Any], int]:
        return self._array(at, self._cell)

    def _cell(self, at: int) -> tuple[dict[str, Any], int]:
        cell, at = self._object(at, {"source": self._source, "input": self._source})
        return ({"source": cell["input"], **cell} if "input" in cell else cell), at

    def _source(self, at: int) -> tuple[_Source, int]:
        start, spans, values = at, list[Span](), list[str]()

        def string(at: int) -> tuple[None, int]:
            value, end = self._string(at)
            spans.append(Span(at, end))
            values.append(value)
            return None, end

        listed = self.text.startswith("[", at)
        at = self._array(at, string)[1] if listed else string(at)[1]
        return _Source(Span(start, at), tuple(spans), "".join(values), listed), at


def _written(text: str, source: _Source, new: str) -> str:
    """``new`` in the place of a source, as the file writes its strings; lines that were there are copied."""
    known: dict[str, str] = {}
    for span in source.strings:
        for piece in _PIECE.findall(text[span.start + 1 : span.end - 1]):
            known.setdefault(json.loads(f'"{piece}"'), piece)
    ascii_only = _NOT_ASCII.search(text) is None
    lines = [known[line] if line in known else json.dumps(line, ensure_ascii=ascii_only)[1:-1] for line in _lines(new)]
    if not source.listed:
        return f'"{"".join(lines)}"'
    first = source.strings[0].start if source.strings else source.span.end - 1
    last = source.strings[-1].end if source.strings else source.span.end - 1
    opening, closing = text[source.span.start : first], text[last : source.span.end]
    again = len(source.strings) > 1
    separator = text[source.strings[0].end : source.strings[1].start] if again else f",{opening[1:] or ' '}"
    return opening + separator.join(f'"{line}"' for line in lines) + closing


def _lines(text: str) -> list[str]:
    found = SourceText(text)
    ends = [*found.line_starts[1:], len(text)]
    return [line for start, end in zip(found.line_starts, ends, strict=True) if (line := text[start:end])]
