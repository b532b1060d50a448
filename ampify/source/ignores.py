"""Comments that silence ampify: ``# ampify: ignore[CODE]`` and ``# ampify: skip-file``."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from ampify.source.text import SourceText, Span

_IGNORE = re.compile(r"#\s*ampify:\s*ignore(?:\[(?P<codes>[\w\s,]+)\]|\s*(?=#|$))")
_SKIP_FILE = re.compile(r"#\s*ampify:\s*skip-file\b")


@dataclass(frozen=True, slots=True)
class Ignore:
    """One comment: where it stands, the lines of the statement it belongs to, its codes (none: every code)."""

    span: Span
    lines: range
    codes: tuple[str, ...]

    def hides(self, line: int, code: str) -> bool:
        return line in self.lines and (not self.codes or code in self.codes)


def skips_file(text: str) -> bool:
    return "skip-file" in text and any(_SKIP_FILE.search(c.string) for c, _ in _comments(text))


def find_ignores(text: str) -> tuple[Ignore, ...]:
    """The ignores of a text; in a statement of several lines, the comment may stand on any of them."""
    if "ampify:" not in text:
        return ()
    source = SourceText(text)
    return tuple(ignore for file in source.files for ignore in _ignores(source, file))


def _ignores(source: SourceText, file: Span) -> Iterator[Ignore]:
    above = source.line(file.start) - 1
    for comment, lines in _comments(source[file]):
        if match := _IGNORE.search(comment.string):
            start = source.offset(comment.start[0] + above, comment.start[1])
            codes = tuple(re.findall(r"\w+", (match["codes"] or "").upper()))
            shifted = range(lines.start + above, lines.stop + above)
            yield Ignore(Span(start + match.start(), start + match.end()), shifted, codes)


def _comments(text: str) -> Iterator[tuple[tokenize.TokenInfo, range]]:
    """Each comment with the lines of its statement."""
    waiting: list[tokenize.TokenInfo] = []
    first = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            match token.type:
                case tokenize.COMMENT:
                    waiting.append(token)
                case tokenize.NEWLINE | tokenize.ENDMARKER:
                    lines = range(first or token.start[0], token.start[0] + 1)
                    yield from ((comment, lines) for comment in waiting)
                    waiting, first = [], 0
                case tokenize.NL if not first:
                    yield from ((comment, range(comment.start[0], comment.start[0] + 1)) for comment in waiting)
                    waiting = []
                case tokenize.NL | tokenize.INDENT | tokenize.DEDENT:
                    pass
                case _:
                    first = first or token.start[0]
    except (tokenize.TokenError, SyntaxError):
        return
