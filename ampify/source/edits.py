"""Edits of a text, and fixes: edits that belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from ampify.source.text import Span


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``span`` by ``text``; an empty span inserts."""

    span: Span
    text: str


class Applicability(IntEnum):
    """Who may apply a fix: nobody, who asked for unsafe fixes, everybody."""

    MANUAL = 0
    UNSAFE = 1
    SAFE = 2


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that belong together: all are applied, or none."""

    title: str
    edits: tuple[Edit, ...]
    applicability: Applicability = Applicability.SAFE
    proof: object = field(default=None, compare=False)
    """What `rewrite.prove` needs to prove this fix; None: outside the edits' spans nothing may change."""


def splice(text: str, edits: Iterable[Edit]) -> str:
    """``text`` with ``edits`` done; insertions at one place keep their order. The edits must not overlap."""
    pieces: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda e: e.span):
        pieces += text[at : edit.span.start], edit.text
        at = edit.span.end
    return "".join(pieces) + text[at:]


def landed(edits: Iterable[Edit]) -> list[Span]:
    """Where the new text of each edit stands once `splice` has done all of them, in the order given."""
    given = list(edits)
    spans = [edit.span for edit in given]
    shift = 0
    for index in sorted(range(len(given)), key=lambda i: given[i].span):
        edit = given[index]
        start = edit.span.start + shift
        spans[index] = Span(start, start + len(edit.text))
        shift += len(edit.text) - (edit.span.end - edit.span.start)
    return spans


def choose(fixes: Iterable[Fix], minimum: Applicability = Applicability.SAFE) -> list[Fix]:
    """The fixes that can be applied in one go; one that overlaps an earlier one waits for the next round."""
    taken: list[Edit] = []
    chosen: list[Fix] = []
    for fix in fixes:
        fits = not any(_clash(edit, other) for edit in fix.edits for other in taken)
        if fix.edits and fix.applicability >= minimum and fits:
            taken += fix.edits
            chosen.append(fix)
    return chosen


def _clash(a: Edit, b: Edit) -> bool:
    """Two fixes may not touch the same characters, nor insert at one place (their order would be arbitrary)."""
    return a.span.overlaps(b.span) or a.span == b.span
