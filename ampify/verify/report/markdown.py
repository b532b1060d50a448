"""Markdown: a table of scripts and levels, as for a pull request or a job summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from ampify.report.markup import code, prose, row
from ampify.verify.report import words
from ampify.verify.verdict import Difference, Verdict


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    out.writelines(line + "\n" for line in _lines(verdicts))


def _lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    names = list(dict.fromkeys(level.name for verdict in verdicts for level in verdict.levels))
    yield row("script", *names, "verdict")
    yield row(*["---"] * (len(names) + 2))
    for verdict in verdicts:
        signs = {level.name: words.SIGNS[level.status] for level in verdict.levels}
        yield row(code(verdict.title), *(signs.get(name, "") for name in names), f"**{verdict.word}**")
    for verdict in verdicts:
        yield from _details(verdict)


def _details(verdict: Verdict) -> Iterator[str]:
    items = [
        *([prose(verdict.reason)] if verdict.reason else []),
        *(_difference(difference) for difference in words.differences(verdict)),
        *(f"{head}: {code(item)}" for head, items in list(words.lists(verdict))[:-1] for item in items),
        *map(prose, verdict.notes),
    ]
    if items:
        yield ""
        yield f"{code(verdict.title)}:"
        yield ""
        yield from (f"- {item}" for item in items)


def _difference(difference: Difference) -> str:
    sides = [
        f"{side} {code(value)}" + (f" at {code(words.place(where))}" if where else "")
        for side, value, where in words.values(difference)
        if value or where
    ]
    return f"{words.kind(difference)}: {prose(difference.message)} ({'; '.join(sides)})"
