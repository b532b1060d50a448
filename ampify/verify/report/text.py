"""The report for people: a table of levels, the differences with their lines, what was not verified, notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from ampify.report.paint import Line, paint
from ampify.verify.report import words
from ampify.verify.verdict import Difference, Status, Verdict, Word

_COLOURS: Mapping[Word, str] = {
    "EQUIVALENT": "bold green",
    "PLUMBING-EQUIVALENT": "bold green",
    "NOT COMPARABLE": "bold yellow",
    "NOT EQUIVALENT": "bold red",
    "CANNOT RUN": "bold yellow",
}
_STATUS: Mapping[Status, str] = {"holds": "green", "fails": "bold red", "band": "yellow"}
_SHOWN = 20
"""Unverified lines and touched things that are listed one by one."""


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    paint(_lines(verdicts), out)


def text(verdict: Verdict) -> str:
    """The report on one verdict without colours."""
    return "\n".join("".join(piece for piece, _ in line) for line in _report(verdict))


def _lines(verdicts: Sequence[Verdict]) -> Iterator[Line]:
    for verdict in verdicts:
        yield from _report(verdict)
        yield []
    if len(verdicts) > 1:
        width = max(len(verdict.word) for verdict in verdicts)
        for verdict in verdicts:
            yield [(f"{verdict.word:<{width}}", _COLOURS[verdict.word]), (f"  {verdict.title}", "")]


def _report(verdict: Verdict) -> Iterator[Line]:
    yield [(verdict.title, "bold"), (f": {what}" if (what := words.mode(verdict)) else "", "")]
    yield from _table(verdict)
    for difference in words.differences(verdict):
        yield from _difference(difference)
    for head, items in words.lists(verdict):
        yield from _list(head, items)
    yield [(verdict.word, _COLOURS[verdict.word]), (f": {verdict.reason}" if verdict.reason else "", "")]
    yield from ([("  " + line, "")] for line in verdict.details.splitlines())


def _table(verdict: Verdict) -> Iterator[Line]:
    names = max((len(level.name) for level in verdict.levels), default=0)
    statements = max((len(level.statement) for level in verdict.levels), default=0)
    for level in verdict.levels:
        head = f"  {level.name:<{names}}  {level.statement:<{statements}}  "
        yield [(head, ""), (words.result(level), _STATUS.get(level.status, ""))]


def _difference(difference: Difference) -> Iterator[Line]:
    yield [(f"{words.kind(difference)}: ", "bold red"), (difference.message, "bold")]
    for side, value, where in words.values(difference):
        if not value and not where:
            continue
        yield [(f"  {side}:", "blue"), (f" {value}" if value else "", "")]
        if where:
            yield [("    --> ", "blue"), (words.place(where), "")]
            yield [(f"      | {where.text}", "")]


def _list(head: str, items: list[str]) -> Iterator[Line]:
    if not items:
        return
    yield [(f"{head}:", "bold")]
    yield from ([("  " + item, "")] for item in items[:_SHOWN])
    if (left := len(items) - _SHOWN) > 0:
        yield [(f"  and {left} more", "")]
