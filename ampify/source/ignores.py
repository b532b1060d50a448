"""Comments that silence ampify: on a line, in a range of lines, in a file; and how they are taken out and put in.

``# ampify: ignore[CODE]`` and ``# noqa: CODE`` count for the statement they stand in, the former also for the statement
below it; ``# ampify: off`` counts as far as ``# ampify: on``; ``# ampify: skip-file`` for the whole file.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from ampify.source.codes import current
from ampify.source.edits import Edit
from ampify.source.text import SourceText, Span

Kind = Literal["ignore", "noqa", "off", "on"]

_DIRECTIVE = re.compile(
    r"#\s*ampify:\s*(?:(?P<word>ignore|off|on)\[(?P<codes>[\w\s,]+)\]|(?P<all>ignore(?=\s*(?:#|$))|(?:off|on)(?![\w-])))"
    r"|#\s*(?P<noqa>(?i:noqa))(?:\s*:\s*(?P<listed>[A-Za-z]+\d+(?:(?:\s*,\s*|\s+)[A-Za-z]+\d+)*)|(?![\w:-]))"
)
_KINDS: Mapping[str, Kind] = {"ignore": "ignore", "noqa": "noqa", "off": "off", "on": "on"}
_SKIP_FILE = re.compile(r"#\s*ampify:\s*skip-file\b")
_MAY_HOLD = re.compile(r"#\s*ampify:|#\s*(?i:noqa)\b(?:(?!\s*:)|[^\n]*(?i:AMP))")
_REST = re.compile(r"[^#\r\n]*")
_OWN = "AMP"


@dataclass(frozen=True, slots=True)
class Ignore:
    """One comment, or what there is of it before the next ``#``.

    ``lines`` are those it counts for, ``codes`` are those of ampify (none: every code). ``partner`` is where the ``on``
    of a range stands. An ``on`` counts for no lines; it is one that ends no range.
    """

    span: Span
    lines: range
    codes: tuple[str, ...]
    kind: Kind = "ignore"
    listed: Span | None = None
    """The list of codes as it is written."""
    partner: Span | None = None

    def hides(self, line: int, code: str) -> bool:
        return line in self.lines and (not self.codes or code in self.codes)


@dataclass(frozen=True, slots=True)
class _Comment:
    """A comment, the lines of its statement, and those of the statement below if it stands on a line of its own."""

    start: int
    text: str
    lines: range
    below: range


def skips_file(text: str) -> bool:
    return "skip-file" in text and any(_SKIP_FILE.search(c.text) for c in _comments(text))


@lru_cache(maxsize=8)
def find_ignores(text: str) -> tuple[Ignore, ...]:
    """The ignores of a text; in a statement of several lines, the comment may stand on any of them."""
    if _MAY_HOLD.search(text) is None:
        return ()
    source = SourceText(text)
    return tuple(ignore for file in source.files for ignore in _ignores(source, file))


def _ignores(source: SourceText, file: Span) -> Iterator[Ignore]:
    above, last = source.line(file.start) - 1, source.line(file.end)
    is_open: list[Ignore] = []
    for comment in _comments(source[file]):
        for match in _DIRECTIVE.finditer(comment.text):
            found = _read(match, comment, file.start, above, last)
            if found is None:
                continue
            if found.kind == "off":
                is_open.append(found)
            elif found.kind == "on" and (ended := [each for each in is_open if _ends(found, each)]):
                is_open = [each for each in is_open if each not in ended]
                yield from (_closed(each, found) for each in ended)
            else:
                yield found
    yield from is_open


def _read(match: re.Match[str], comment: _Comment, start: int, above: int, end: int) -> Ignore | None:
    """The ignore that a directive is, in a file of which ``end`` is the last line; None for one for other tools."""
    kind = _KINDS[match["word"] or match["all"] or "noqa"]
    group = "listed" if kind == "noqa" else "codes"
    named = [current(code) for code in re.findall(r"\w+", match[group] or "")]
    codes = tuple(code for code in named if kind != "noqa" or code.startswith(_OWN))
    if named and not codes:
        return None
    at, rest = start + comment.start, _REST.match(comment.text, match.end())
    span = Span(at + match.start(), at + (rest.end() if rest else match.end()))
    listed = Span(at + match.start(group), at + match.end(group)) if named else None
    first, last = comment.lines.start + above, comment.lines.stop + above
    if kind == "off":
        last = end + 1
    elif kind == "on":
        last = first
    elif kind == "ignore" and comment.below:
        last = comment.below.stop + above
    return Ignore(span, range(first, last), codes, kind, listed)


def _ends(end: Ignore, begin: Ignore) -> bool:
    return not end.codes or {*end.codes} == {*begin.codes}


def _closed(begin: Ignore, end: Ignore) -> Ignore:
    return replace(begin, lines=range(begin.lines.start, end.lines.start), partner=end.span)


def removed(text: str, ignore: Ignore, dead: Container[str]) -> tuple[Edit, ...]:
    """What takes the codes ``dead`` out of a comment, and the comment itself where none is left in it."""
    written = text[ignore.listed.start : ignore.listed.end] if ignore.listed else ""
    left = [code for code in re.findall(r"\w+", written) if current(code) not in dead]
    if ignore.listed and left:
        separator = re.search(r"\W+", written)
        return (Edit(ignore.listed, (separator[0] if separator else ", ").join(left)),)
    source = SourceText(text)
    return tuple(_gone(source, span) for span in (ignore.span, ignore.partner) if span)


def _gone(source: SourceText, span: Span) -> Edit:
    """Takes a directive out, with its line if nothing else stands there."""
    start, end = source.line_start(span.start), source.line_end(span.start)
    if source.text[span.end : end].strip():
        return Edit(span, "")
    if before := source.text[start : span.start].rstrip():
        return Edit(Span(start + len(before), end), "")
    newline = re.compile(r"\r\n|\n|\r|").match(source.text, end)
    return Edit(Span(start, newline.end() if newline else end), "")


def _comments(text: str) -> Iterator[_Comment]:
    """Each comment; the end of its text is that of its line."""
    starts = SourceText(text).line_starts
    waiting: list[tokenize.TokenInfo] = []
    above: list[tokenize.TokenInfo] = []
    first = 0

    def told(tokens: list[tokenize.TokenInfo], lines: range | None, below: range) -> Iterator[_Comment]:
        for token in tokens:
            row, column = token.start
            yield _Comment(starts[row - 1] + column, token.string, lines or range(row, row + 1), below)

    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            match token.type:
                case tokenize.COMMENT:
                    waiting.append(token)
                case tokenize.NEWLINE | tokenize.ENDMARKER:
                    lines = range(first or token.start[0], token.start[0] + 1)
                    yield from told(above, None, lines if first else range(0))
                    yield from told(waiting, lines, range(0))
                    waiting, above, first = [], [], 0
                case tokenize.NL if not first:
                    above += waiting
                    waiting = []
                case tokenize.NL | tokenize.INDENT | tokenize.DEDENT:
                    pass
                case _:
                    first = first or token.start[0]
    except (tokenize.TokenError, SyntaxError):
        yield from told(above, None, range(0))
