"""Source text as a LibCST tree, with names, positions and the blocks that statements stand in."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, TypeVar

import libcst as cst
from libcst._nodes.internal import CodegenState

from ampify.source.document import borders
from ampify.source.text import SourceText, Span
from ampify.syntax.links import Links
from ampify.syntax.names import REMEMBERED, Names
from ampify.syntax.plain import kids

_DEEPEST = 600
"""LibCST overflows Python's stack near 1,000 nested nodes and crashes the process near 12,000."""

_BLANK = {cst.SimpleWhitespace, cst.ParenthesizedWhitespace, cst.TrailingWhitespace, cst.Newline, cst.EmptyLine}
"""Nobody asks where they stand, and they are half of all nodes."""

Kind = TypeVar("Kind", bound=cst.CSTNode)


class Unreadable(ValueError):
    """A text that cannot be analysed: ``code`` is AMP900 (does not parse) or AMP905 (is left alone)."""

    def __init__(self, code: str, message: str, line: int = 1, column: int = 0) -> None:
        super().__init__(message)
        self.code, self.line, self.column = code, line, column


class _Positions(CodegenState):
    """Writes a module out once and notes between which tokens each node stands: round trip and spans in one pass."""

    def __init__(self, module: cst.Module) -> None:
        super().__init__(module.default_indent, module.default_newline)
        self._between: dict[cst.CSTNode, tuple[int, int]] = {}
        self._starts: list[int] = []
        self._ended = True

    @property
    def text(self) -> str:
        return "".join(self.tokens if self._ended else self.tokens[:-1])

    def find(self, node: cst.CSTNode) -> Span | None:
        """Where a node stands; None if it is not of this module."""
        between = self._between.get(node)
        return Span(self._at[between[0]], self._at[between[1]]) if between is not None else None

    @cached_property
    def _at(self) -> list[int]:
        """Where each token begins."""
        return [0, *accumulate(map(len, self.tokens))]

    def pop_trailing_newline(self) -> None:
        self._ended = not self.tokens

    def before_codegen(self, node: cst.CSTNode) -> None:
        self._starts.append(len(self.tokens))

    def after_codegen(self, node: cst.CSTNode) -> None:
        start = self._starts.pop()
        if type(node) not in _BLANK:
            self._between.setdefault(node, (start, len(self.tokens)))

    @contextmanager
    def record_syntactic_position(
        self, node: cst.CSTNode, *, start_node: cst.CSTNode | None = None, end_node: cst.CSTNode | None = None
    ) -> Iterator[None]:
        start = len(self.tokens)
        yield
        first = self._between[start_node][0] if start_node is not None else start
        last = self._between[end_node][1] if end_node is not None else len(self.tokens)
        self._between[node] = first, last


class Tree:
    """One parsed text, of one file or of several that belong together, whose ``paths`` tell what they import.

    Raises `Unreadable` where the text cannot be parsed and written back unchanged.
    """

    def __init__(self, text: str, paths: Sequence[str] = ()) -> None:
        self.source = SourceText(text)
        self.paths = paths
        if paths and len(self.source.files) != len(paths):
            line = self.source.line(self.source.files[0].end)
            raise Unreadable("AMP900", "source code cannot contain null bytes", line)
        parts = [text[span.start : span.end] for span in self.source.files]
        read = [_read(part, parts[:number].count(part)) for number, part in enumerate(parts)]
        self.asts = [syntax for syntax, _, _ in read]
        self.modules = [module for _, module, _ in read]
        self._positions = [positions for _, _, positions in read]
        self._spans: dict[cst.CSTNode, Span] = {}

    @cached_property
    def names(self) -> Names:
        return Names(self.modules, Links(self.paths))

    def module(self, node: cst.CSTNode) -> cst.Module:
        """The file that ``node`` stands in."""
        return self.modules[self.source.file(self.span(node).start)]

    def path(self, node: cst.CSTNode) -> str | None:
        """The path of the file that ``node`` stands in, where paths were given."""
        return self.paths[self.source.file(self.span(node).start)] if self.paths else None

    def nodes(self) -> Iterator[cst.CSTNode]:
        """Every node of every file, in source order."""
        return iter(self.names.parent)

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Every node of one kind, in source order."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> dict[type, list[Any]]:
        found: dict[type, list[Any]] = {}
        for node in self.nodes():
            found.setdefault(type(node), []).append(node)
        return found

    def span(self, node: cst.CSTNode) -> Span:
        """Where the code of ``node`` stands: parentheses belong to it, comments and blank lines around it do not."""
        if node not in self._spans:
            outer = isinstance(node, cst.BaseExpression) and node.lpar
            first, last = (node.lpar[0], node.rpar[-1]) if outer else (node, node)  # type: ignore[attr-defined]
            self._spans[node] = Span(self._bare(first).start, self._bare(last).end)
        return self._spans[node]

    def _bare(self, node: cst.CSTNode) -> Span:
        """Where ``node`` stands without its parentheses."""
        for positions, file in zip(self._positions, self.source.files, strict=True):
            if (found := positions.find(node)) is not None:
                return Span(file.start + found.start, file.start + found.end)
        raise KeyError(node)

    def head(self, statement: cst.CSTNode) -> Span:
        """The first line of a compound statement, without its colon's body."""
        start = self.span(statement).start
        return Span(start, min(self.span(statement).end, self.source.line_end(start)))

    def text(self, node: cst.CSTNode) -> str:
        return self.source[self.span(node)]

    def line(self, node: cst.CSTNode) -> int:
        """The line of its file that ``node`` begins on."""
        start = self.span(node).start
        return self.source.line(start) - self.source.line(self.source.files[self.source.file(start)].start) + 1

    def parents(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The ancestors of ``node``, nearest first."""
        parent = self.names.parent[node]
        while parent is not None:
            yield parent
            parent = self.names.parent[parent]

    @cached_property
    def _borders(self) -> list[int]:
        return borders(self.source.text)

    def parted(self, statement: cst.CSTNode, following: cst.CSTNode) -> bool:
        """Whether two statements stand in different cells of a notebook: no block of new code can hold both."""
        start, end = self.span(statement).end, self.span(following).start
        return any(start <= border < end for border in self._borders)

    def contains(self, outer: cst.CSTNode, node: cst.CSTNode) -> bool:
        return outer is node or any(p is outer for p in self.parents(node))


@lru_cache(REMEMBERED)
def _read(text: str, _twin: int) -> tuple[ast.Module, cst.Module, _Positions]:
    """A file and where its nodes stand; files with equal texts in one tree are twins and share no nodes."""
    syntax = _parse(text)
    try:
        module = cst.parse_module(text)
        positions = _Positions(module)
        module._codegen(positions)
    except cst.ParserSyntaxError as error:
        raise Unreadable("AMP900", error.message, error.raw_line, error.raw_column) from None
    except RecursionError:
        raise Unreadable("AMP905", "The file is nested too deeply to be analysed") from None
    if positions.text != text:
        raise Unreadable("AMP905", "LibCST does not reproduce this file byte for byte, so it is left alone")
    return syntax, module, positions


def _parse(text: str) -> ast.Module:
    """The text as `ast` sees it: its messages have positions, and it survives depths that kill LibCST."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL byte, before Python 3.12
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        raise Unreadable("AMP900", getattr(error, "msg", None) or str(error), line, column - 1) from None
    except (RecursionError, MemoryError):
        raise Unreadable("AMP905", "The file is nested too deeply to be analysed") from None
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [kid for node in level for kid in kids(node)]
        if not level:
            return tree
    raise Unreadable("AMP905", "The file is nested too deeply to be analysed")
