"""The comment that silences a finding, put where it counts for the statement."""

from __future__ import annotations

import io
import re
import tokenize

from ampify.source.edits import Edit
from ampify.source.text import SourceText, Span

_CODES = re.compile(r"#\s*ampify:\s*ignore\[[\w\s,]*\w(?P<end>)[\s,]*\]")


def silencing(text: str, offset: int, code: str) -> Edit | None:
    """The edit that hides ``code`` in the statement around ``offset``; None where the text has no such statement."""
    source = SourceText(text)
    file = source.files[source.file(offset)]
    above = source.line(file.start) - 1
    last = _last_line(source[file], source.line(offset) - above)
    if last is None:
        return None
    end = source.line_end(source.offset(last + above, 0))
    line = text[source.offset(last + above, 0) : end]
    if there := _CODES.search(line):
        at = source.offset(last + above, there.start("end"))
        return Edit(Span(at, at), f", {code}")
    return Edit(Span(end, end), f"  # ampify: ignore[{code}]")


def _last_line(text: str, line: int) -> int | None:
    """The last line of the statement, or of the head of the compound statement, that ``line`` belongs to."""
    first = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            if token.type == tokenize.NEWLINE:
                if first <= line <= token.start[0]:
                    return token.start[0]
                first = 0
            elif token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
                first = first or token.start[0]
    except (tokenize.TokenError, SyntaxError):
        pass
    return None
