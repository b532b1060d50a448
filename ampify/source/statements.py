"""The statements of a text: their lines, where a comment may stand, their code without layout, what they are in."""

from __future__ import annotations

import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from ampify.source.text import SourceText, Span

_OPENING = {getattr(tokenize, f"{kind}STRING_START", None) for kind in "FT"} - {None}
_CLOSING = {getattr(tokenize, f"{kind}STRING_END", None) for kind in "FT"} - {None}
"""Since Python 3.12 (3.14) an f-string (t-string) is several tokens."""
_NAMED = re.compile(r"(?:async )?(?:def|class) (?P<name>\w+)")
_COMMA = re.compile(r",(?=[)\]}])")


@dataclass(frozen=True, slots=True)
class Statement:
    """A logical line; a compound statement is its head."""

    first: int
    last: int
    open: frozenset[int]
    """The lines at whose end a comment may stand: inside a string and before a backslash none may."""
    code: str
    """Without comments, and with no more blanks than it needs."""
    scope: str
    """The functions and classes it is in, such as ``Trainer.fit``."""


@dataclass(slots=True)
class _Open:
    """The statement that is being read."""

    first: int = 0
    ends: set[int] = field(default_factory=set)
    pieces: list[str] = field(default_factory=list)
    depth: int = 0
    string: int = 0
    """How deep in f-strings, and where the outermost one begins."""

    def add(self, piece: str) -> None:
        glued = self.pieces and re.match(r"\w", piece) and re.search(r"\w$", self.pieces[-1])
        self.pieces.append(f" {piece}" if glued else piece)

    @property
    def code(self) -> str:
        return _COMMA.sub("", "".join(self.pieces))


def statements(source: SourceText, file: Span) -> Iterator[Statement]:
    """The statements of one file of a text, as far as it can be read."""
    above, starts = source.line(file.start) - 1, source.line_starts
    now, scopes, name = _Open(), list[str](), ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source[file], newline="").readline):
            row = token.start[0] + above
            match token.type:
                case tokenize.NEWLINE if now.first:
                    code = now.code
                    yield Statement(now.first, row, frozenset({*now.ends, row}), code, ".".join(filter(None, scopes)))
                    name = found["name"] if (found := _NAMED.match(code)) else ""
                    now = _Open()
                case tokenize.NL if now.first:
                    now.ends.add(row)
                case tokenize.INDENT:
                    scopes.append(name)
                case tokenize.DEDENT:
                    scopes.pop()
                case tokenize.NL | tokenize.COMMENT | tokenize.ENDMARKER:
                    pass
                case _:
                    now.first = now.first or row
                    _take(now, token, source, starts[row - 1] + token.start[1], above)
    except (tokenize.TokenError, SyntaxError):
        return


def _take(now: _Open, token: tokenize.TokenInfo, source: SourceText, start: int, above: int) -> None:
    """Add a token to its statement; an f-string is one piece, as it is written."""
    if token.type in _OPENING:
        now.string = now.string if now.depth else start
        now.depth += 1
    elif token.type in _CLOSING:
        now.depth -= 1
        if not now.depth:
            now.add(source.text[now.string : source.offset(token.end[0] + above, token.end[1])])
    elif not now.depth:
        now.add(token.string)


def at(found: list[Statement], line: int) -> Statement | None:
    """The statement that a line belongs to, of all in their order."""
    place = bisect_right(found, line, key=lambda each: each.first) - 1
    return found[place] if place >= 0 and line <= found[place].last else None
