"""What the client has open, texts and notebooks, as documents of ampify, and the way back to their URIs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.uris import to_fs_path
from pygls.workspace import PositionCodec, TextDocument, Workspace

from ampify.source import markdown, notebook
from ampify.source.document import Document, Undecodable
from ampify.source.python import PythonDocument
from ampify.source.text import SourceText


class _Lines(TextDocument):
    """A text whose lines end where the protocol says; pygls splits at form feeds too, and would lose its place."""

    @property
    def lines(self) -> Sequence[str]:
        starts = SourceText(self.source).line_starts
        pieces = zip(starts, [*starts[1:], len(self.source)], strict=True)
        return tuple(line for start, end in pieces if (line := self.source[start:end]))


def _document(
    workspace: Workspace,
    uri: str,
    source: str | None = None,
    version: int | None = None,
    language_id: str | None = None,
) -> TextDocument:
    codec: PositionCodec = workspace.position_codec
    return _Lines(uri, source, version, language_id, position_codec=codec)


def keep_lines(workspace: Workspace) -> None:
    """Have the workspace count lines as the protocol does."""
    workspace._create_text_document = MethodType(_document, workspace)  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True)
class Paper:
    """One document that is open: a text, or a notebook with its cells."""

    uri: str
    document: Document
    pages: dict[int | None, tuple[str, int | None]]
    """URI and version by the number of the cell; of a text by None."""

    @property
    def path(self) -> Path:
        return self.document.path

    def uri_of(self, cell: int | None) -> str:
        return self.pages[cell][0] if cell in self.pages else self.uri

    def target(self, title: str) -> tuple[str, int | None] | None:
        """URI and version of what a change with this title is about."""
        titles = {f"{self.path}:cell {cell}" if cell else str(self.path): page for cell, page in self.pages.items()}
        return titles.get(title)


class Papers:
    """The documents of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def all(self) -> Iterator[Paper]:
        """Everything that is open and can be read."""
        books = [*self.workspace.notebook_documents.values()]
        inside = {cell.document for book in books for cell in book.cells}
        uris = [text.uri for text in self.workspace.text_documents.values() if text.uri not in inside]
        for uri in (*(book.uri for book in books), *uris):
            if (paper := self.paper(uri)) is not None:
                yield paper

    def home(self, uri: str) -> str:
        """The URI of the notebook that a cell is in; that of a text stays."""
        book = self.workspace.get_notebook_document(cell_uri=uri)
        return uri if book is None else book.uri

    def cell(self, uri: str) -> int | None:
        """The number of a cell in its notebook, None for another text."""
        if (book := self.workspace.get_notebook_document(cell_uri=uri)) is None:
            return None
        return next((n for n, cell in enumerate(book.cells, 1) if unquote(cell.document) == unquote(uri)), None)

    def paper(self, uri: str) -> Paper | None:
        """A document that is open, None if it cannot be read."""
        try:
            book = self.workspace.get_notebook_document(notebook_uri=uri)
            return self._text(uri) if book is None else self._notebook(book)
        except (Undecodable, UnicodeEncodeError, OSError):
            return None

    def root(self, path: Path) -> Path | None:
        """The innermost folder of the workspace that a file lies in."""
        uris = [*self.workspace.folders, *([self.workspace.root_uri] if self.workspace.root_uri else [])]
        folders = [Path(folder) for uri in uris if (folder := to_fs_path(uri))]
        around = [folder for folder in folders if path.is_relative_to(folder)]
        return max(around, key=lambda folder: len(folder.parts), default=None)

    def _text(self, uri: str) -> Paper:
        text, path = self.workspace.get_text_document(uri), _path(uri)
        if path.suffix == ".md":
            return Paper(uri, markdown.decode(path, text.source.encode()), {None: (uri, text.version)})
        return Paper(uri, PythonDocument(path, text.source, "utf-8"), {None: (uri, text.version)})

    def _notebook(self, book: types.NotebookDocument) -> Paper:
        texts = [self.workspace.get_text_document(cell.document) for cell in book.cells]
        cells = [_cell(cell, text) for cell, text in zip(book.cells, texts, strict=True)]
        whole = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        pages: dict[int | None, tuple[str, int | None]] = {
            number: (cell.document, text.version)
            for number, (cell, text) in enumerate(zip(book.cells, texts, strict=True), 1)
            if cell.kind == types.NotebookCellKind.Code
        }
        return Paper(book.uri, notebook.decode(_path(book.uri, ".ipynb"), whole.encode()), pages)


def _cell(cell: types.NotebookCell, text: TextDocument) -> dict[str, object]:
    """A cell as a file of Jupyter has it."""
    kind = "code" if cell.kind == types.NotebookCellKind.Code else "markdown"
    language = {"vscode": {"languageId": text.language_id or "python"}}
    return {"cell_type": kind, "source": text.source, "metadata": language}


def _path(uri: str, suffix: str = ".py") -> Path:
    """The file that a URI leads to; a text that was never saved has a name all the same."""
    if (path := to_fs_path(uri)) and urlsplit(uri).scheme == "file":
        return Path(path)
    return Path(unquote(urlsplit(uri).path) or "untitled").with_suffix(suffix)
