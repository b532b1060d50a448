"""Edits after edits are edits of the first text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ampify.rewrite.compose import composed
from ampify.source.edits import Edit, splice
from ampify.source.text import Span

CUTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.text("XYZ", max_size=3)), max_size=5)


def _edits(text: str, cuts: list[tuple[int, int, str]]) -> list[Edit]:
    """Edits that do not overlap: how far each begins behind the last one, its length, its text."""
    found: list[Edit] = []
    at = 0
    for gap, length, new in cuts:
        span = Span(at + gap, at + gap + length)
        if span.end > len(text) or (found and found[-1].span == span):
            break
        found.append(Edit(span, new))
        at = span.end
    return found


@given(st.text("abcdef", max_size=20), CUTS, CUTS)
def test_both_give_the_same_text(text: str, one: list[tuple[int, int, str]], two: list[tuple[int, int, str]]):
    first = _edits(text, one)
    middle = splice(text, first)
    second = _edits(middle, two)
    assert splice(text, composed(text, first, second)) == splice(middle, second)


def test_what_stays_apart_stays_apart():
    made = composed("one two three", [Edit(Span(0, 3), "1")], [Edit(Span(6, 11), "3")])
    assert made == [Edit(Span(0, 3), "1"), Edit(Span(8, 13), "3")]
