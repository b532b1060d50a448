"""Markdown files as documents: each fenced block of Python is a program of its own; all else stays as it is."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ampify.source import magics, python
from ampify.source.document import ASSUMED, Aside, Page, Part, Undecodable, Unwritable
from ampify.source.edits import Edit, splice
from ampify.source.text import SourceText, Span

_OPENING = re.compile(
    r"^[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?P<fence>`{3,}(?=[^`\r\n]*\r?$)|~{3,})[ \t]*(?P<info>[^\r\n]*)", re.M
)
_LANGUAGE = re.compile(r"\{?\s*\.?(?P<word>[\w+#-]*)")
_PYTHON = {"python", "py", "python3", "py3"}
_USUAL = {"torch": "torch", "nn": "torch.nn", "F": "torch.nn.functional", "optim": "torch.optim"}
"""What readers take these names for in an excerpt that does not import them."""


@dataclass(frozen=True, slots=True)
class _Block:
    """The lines between two fences; ``indent`` stands before each of them that is not blank."""

    span: Span
    indent: str
    head: str
    """The lines of a cell magic, which stay."""
    code: str
    assumed: tuple[str, ...] = ()
    """Lines above the code that are not in the file: imports that it counts on."""

    @property
    def text(self) -> str:
        return "".join(self.assumed) + self.code

    def written(self, text: str) -> str:
        """The code of ``text`` as it stands in the file."""
        code = "".join(line for line in re.split(r"(?<=\n)", text) if line not in self.assumed)
        source = magics.unmask(code)
        if ASSUMED in code or magics.read(self.head + source) != magics.Cell(self.head, code):
            raise Unwritable("an edit has changed a magic, or an import that is not shown")
        return _indented(self.head + source, self.indent)


@dataclass(frozen=True, slots=True)
class MarkdownDocument:
    """An ``.md`` file."""

    file: python.PythonDocument
    """Its text, with encoding and newlines."""
    blocks: tuple[_Block, ...]
    parts: tuple[Part, ...]

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def lint_only(self) -> bool:
        return False

    def pages(self, texts: Sequence[str]) -> list[Page]:
        pairs = zip(self.blocks, texts, strict=True)
        edits = [Edit(block.span, block.written(text)) for block, text in pairs if text != block.text]
        return [Page(str(self.path), splice(self.file.text, edits))]

    def encode(self, texts: Sequence[str]) -> bytes:
        (page,) = self.pages(texts)
        return self.file.encode([page.text])


def decode(path: Path, raw: bytes) -> MarkdownDocument:
    """The Markdown that ``raw`` holds, in UTF-8; raises `Undecodable`."""
    encoding = "utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"
    try:
        file = python.PythonDocument(path, raw.decode(encoding), encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Undecodable("AMP900", f"This is not UTF-8 text: {error.reason}", line) from None
    source = SourceText(file.text)
    found = [b for span in _fenced(source) if (b := _block(source[span], span)) is not None]
    imports = _imports(found)
    blocks = tuple(replace(block, assumed=tuple(_assumed(block.code, imports))) for block in found)
    return MarkdownDocument(file, blocks, tuple(_parts(source, blocks)))


def _parts(source: SourceText, blocks: Sequence[_Block]) -> Iterator[Part]:
    for block in blocks:
        others = tuple(Aside(f"line {source.line(o.span.start)}", o.code) for o in blocks if o is not block)
        above = source.line(block.span.start) - 1 + block.head.count("\n")
        yield Part(block.text, above, len(block.indent), fragment=True, asides=others)


def _fenced(source: SourceText) -> Iterator[Span]:
    """The lines inside the fences of Python; a fence that is never closed opens nothing."""
    text, at = source.text, 0
    while opening := _OPENING.search(text, at):
        at = opening.end()
        closing = re.compile(rf"^[ \t]*{opening['fence'][0]}{{{len(opening['fence'])},}}[ \t]*\r?$", re.M)
        if (end := closing.search(text, at)) is None:
            continue
        start, at = min(at + len(source.newline(at)), end.start()), end.end()
        language = _LANGUAGE.match(opening["info"])
        if language and language["word"].lower() in _PYTHON:
            yield Span(start, end.start())


def _block(text: str, span: Span) -> _Block | None:
    """The block that some lines are; None for one that is foreign, or not indented as one."""
    if magics.RESERVED.search(text):
        return None
    indent = _common([line for line in text.split("\n") if line.strip()])
    plain = re.sub(rf"^{indent}(?=[^\r\n]*\S)", "", text, flags=re.M)
    cell = magics.read(plain)
    if cell.code is None or cell.whole != plain or _indented(plain, indent) != text:
        return None
    return _Block(span, indent, cell.head, cell.code)


def _imports(blocks: Iterable[_Block]) -> dict[str, str]:
    """What the blocks of a file mean by the usual names; a name with several meanings is left out."""
    said: dict[str, set[str]] = {}
    for name, path in (found for block in blocks for found in _imported(block.code)):
        said.setdefault(name, set()).add(path)
    meant = {name: said.get(name, {usual}) for name, usual in _USUAL.items()}
    return {name: next(iter(paths)) for name, paths in meant.items() if len(paths) == 1}


def _imported(code: str) -> Iterator[tuple[str, str]]:
    """The names that the imports of a block bind, with their paths."""
    for node in _walk(code):
        match node:
            case ast.Import(names=names):
                yield from ((a.asname, a.name) if a.asname else (a.name.partition(".")[0],) * 2 for a in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from ((a.asname or a.name, "." * level + f"{module or ''}.{a.name}") for a in names)


def _assumed(code: str, imports: dict[str, str]) -> Iterator[str]:
    """The imports that a block counts on."""
    nodes = [*_walk(code)]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | {name for name, _ in _imported(code)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    free = {node.id for node in names} - bound if "__future__" not in code else set()
    for name in sorted(free & {*imports}):
        package, _, last = imports[name].rpartition(".")
        yield f"from {package} import {last} as {name}{ASSUMED}\n" if package else f"import {last}{ASSUMED}\n"


def _walk(code: str) -> Iterator[ast.AST]:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.walk(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return iter(())


def _common(lines: list[str]) -> str:
    """The blanks that all lines begin with."""
    blanks = [line[: len(line) - len(line.lstrip(" \t"))] for line in lines]
    shortest = min(blanks, key=len, default="")
    return shortest if all(blank.startswith(shortest) for blank in blanks) else ""


def _indented(text: str, indent: str) -> str:
    return re.sub(r"^(?=[^\r\n]*\S)", indent, text, flags=re.M)
