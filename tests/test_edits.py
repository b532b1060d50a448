"""Texts with positions, and edits of them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampify.source.edits import Applicability, Edit, Fix, choose, splice
from ampify.source.text import SourceText, Span


def edit(start, end, text="X"):
    return Edit(Span(start, end), text)


def fix(*edits, applicability=Applicability.SAFE):
    return Fix("", edits, applicability)


def test_splice():
    assert splice("abcdef", [edit(4, 5, "E"), edit(0, 0, "<"), edit(1, 2, "")]) == "<acdEf"


def test_insertions_at_one_place_keep_their_order():
    assert splice("ab", [edit(1, 1, "1"), edit(1, 1, "2")]) == "a12b"


def test_the_first_of_two_overlapping_fixes_wins():
    first, second, third = fix(edit(0, 3)), fix(edit(2, 4), edit(6, 7)), fix(edit(6, 7))
    assert choose([first, second, third]) == [first, third]


def test_two_fixes_do_not_insert_at_one_place():
    first, second = fix(edit(1, 1)), fix(edit(1, 1))
    assert choose([first, second]) == [first]


def test_an_insertion_beside_a_replacement_fits():
    fixes = [fix(edit(1, 3)), fix(edit(3, 3)), fix(edit(4, 5))]
    assert choose(fixes) == fixes


@pytest.mark.parametrize(("minimum", "count"), [(Applicability.SAFE, 1), (Applicability.UNSAFE, 2)])
def test_applicability(minimum, count):
    fixes = [fix(edit(n, n + 1), applicability=a) for n, a in enumerate(Applicability)]
    assert len(choose(fixes, minimum)) == count


def test_a_fix_without_edits_is_never_chosen():
    assert choose([fix()]) == []


@given(st.text(max_size=40), st.data())
def test_splicing_what_is_there_changes_nothing(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    edits = [edit(a, b, text[a:b]) for a, b in pairwise(cuts)]
    assert splice(text, data.draw(st.permutations(edits))) == text


@given(st.text(alphabet="ab \t\n\r\f\x1c\u2028é", max_size=40), st.data())
def test_lines_and_columns_lead_back(text, data):
    source, offset = SourceText(text), data.draw(st.integers(0, len(text)))
    assert source.offset(source.line(offset), source.column(offset)) == offset
    assert source.line_start(offset) <= offset
    assert len(source.line_starts) == text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


def test_newline_and_indent_of_a_place():
    source = SourceText("if x:\r\n\ty\r\n")
    assert source.newline(8) == "\r\n"
    assert source.indent(8) == "\t"
    assert source.text_of_line(2) == "\ty"
    assert source.text_of_line(9) == ""
    assert SourceText("x").newline(0) == "\n"
