"""Edits of a text that already has edits, as edits of the text before. Knows text only."""

from __future__ import annotations

from collections.abc import Sequence

from ampify.source.edits import Edit, landed, splice
from ampify.source.text import Span


def composed(text: str, first: Sequence[Edit], second: Sequence[Edit]) -> list[Edit]:
    """The edits of ``text`` that do what ``second`` does after ``first``; what touches becomes one edit."""
    old = sorted(first, key=lambda e: e.span)
    pairs = [(span, edit) for edit, span in zip(old, landed(old), strict=True)]
    marks = sorted([span for span, _ in pairs] + [edit.span for edit in second])
    middle, found = splice(text, old), list[Edit]()
    for whole in _clusters(marks):
        before = _original(whole, pairs)
        inner = [e for e in second if e.span in whole]
        local = [Edit(Span(e.span.start - whole.start, e.span.end - whole.start), e.text) for e in inner]
        after = splice(middle[whole.start : whole.end], local)
        if text[before.start : before.end] != after:
            found.append(Edit(before, after))
    return found


def _clusters(spans: Sequence[Span]) -> list[Span]:
    """Spans that touch, joined; the spans come in order."""
    found: list[Span] = []
    for span in spans:
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _original(whole: Span, pairs: Sequence[tuple[Span, Edit]]) -> Span:
    """Where the text of a cluster, which holds each edit whole or not at all, stood before the edits."""
    above = sum(_growth(span, edit) for span, edit in pairs if span.end < whole.start)
    inside = sum(_growth(span, edit) for span, edit in pairs if span in whole)
    return Span(whole.start - above, whole.end - above - inside)


def _growth(span: Span, edit: Edit) -> int:
    return (span.end - span.start) - (edit.span.end - edit.span.start)
