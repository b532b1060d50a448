"""Comments that are to silence findings: where they go, in statements of several lines too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from ampify.source.edits import Edit
from ampify.source.ignores import Ignore, find_ignores
from ampify.source.magics import RESERVED
from ampify.source.statements import at, statements
from ampify.source.text import SourceText, Span

Hit = tuple[int, str]
"""Where a finding begins, and its code."""


def silence(text: str, hits: Iterable[Hit], reason: str = "") -> list[Edit]:
    """The edits that hide every hit that a comment can hide, with a reason for the reader if one is given."""
    source, found = SourceText(text), defaultdict[int | Ignore, set[str]](set)
    known = [ignore for ignore in find_ignores(text) if ignore.kind == "ignore" and ignore.listed]
    every = [each for file in source.files for each in statements(source, file)]
    for offset, code in hits:
        line = source.line(offset)
        if (statement := at(every, line)) is not None:
            there = next((each for each in known if line in each.lines), None)
            found[there or (line if line in statement.open else statement.last)].add(code)
    return [_edit(source, where, sorted(codes), reason) for where, codes in found.items()]


def is_reason(text: str) -> bool:
    """Whether a text can stand behind the codes of a comment."""
    return re.fullmatch(r"[^#\r\n]*", text) is not None


def _edit(source: SourceText, where: int | Ignore, codes: list[str], reason: str) -> Edit:
    if isinstance(where, Ignore):
        end = where.listed.end if where.listed else where.span.end
        return Edit(Span(end, end), "".join(f", {code}" for code in codes))
    line, start = source.text_of_line(where), source.offset(where, 0)
    mask = RESERVED.search(line)
    stop = mask.start() - 1 if mask else len(line)  # the mask of a magic stays at the end of its line
    comment = f"  # ampify: ignore[{', '.join(codes)}] {reason}".rstrip()
    return Edit(Span(start + len(line[:stop].rstrip()), start + stop), comment)
