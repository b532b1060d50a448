"""How the owner of a file writes, for lines that are to look like his: quotation marks, and how long lines get."""

from __future__ import annotations

import libcst as cst

from ampify.syntax.tree import Tree

_WIDEST = 120
_FEW, _SHARE = 5, 100
"""So many lines, and one in so many, may be longer than the others: a long string or comment says nothing of them."""


def quoted(tree: Tree, at: cst.CSTNode, text: str) -> str:
    """``text`` as a string, in the quotation marks that most strings around ``at`` have."""
    span = tree.source.files[tree.source.file(tree.span(at).start)]
    marks = [s.quote for s in tree.all(cst.SimpleString) if span.start <= tree.span(s).start < span.end]
    mark = "'" if marks.count("'") > marks.count('"') else '"'
    return f"{mark}{text}{mark}"


def width(tree: Tree, at: cst.CSTNode, limit: int) -> int:
    """The columns of a line: ``limit``, or more where the file that ``at`` stands in goes beyond it again and again."""
    lines = tree.source[tree.source.files[tree.source.file(tree.span(at).start)]].splitlines()
    lengths = sorted(map(len, lines), reverse=True)
    few = max(_FEW, len(lengths) // _SHARE)
    return max(limit, min(_WIDEST, lengths[few] if few < len(lengths) else 0))
