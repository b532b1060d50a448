"""Markdown: a table of scripts and levels, as for a pull request or a job summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from ampify.verify.report import words
from ampify.verify.verdict import Difference, Verdict


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    out.writelines(line + "\n" for line in _lines(verdicts))


def _lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    names = list(dict.fromkeys(level.name for verdict in verdicts for level in verdict.levels))
    yield "| script | " + "".join(f"{name} | " for name in names) + "verdict |"
    yield "| --- | " + "--- | " * len(names) + "--- |"
    for verdict in verdicts:
        signs = {level.name: words.SIGNS[level.status] for level in verdict.levels}
        cells = [_code(verdict.title), *(signs.get(name, "") for name in names), f"**{verdict.word}**"]
        yield "| " + " | ".join(cells) + " |"
    for verdict in verdicts:
        yield from _details(verdict)


def _details(verdict: Verdict) -> Iterator[str]:
    items = [
        *([_escape(verdict.reason)] if verdict.reason else []),
        *(_difference(difference) for difference in words.differences(verdict)),
        *(f"{head}: {_code(item)}" for head, items in list(words.lists(verdict))[:-1] for item in items),
        *map(_escape, verdict.notes),
    ]
    if items:
        yield ""
        yield f"{_code(verdict.title)}:"
        yield ""
        yield from (f"- {item}" for item in items)


def _difference(difference: Difference) -> str:
    sides = [
        f"{side} {_code(value)}" + (f" at {_code(words.place(where))}" if where else "")
        for side, value, where in words.values(difference)
        if value or where
    ]
    return f"{words.kind(difference)}: {_escape(difference.message)} ({'; '.join(sides)})"


def _code(text: str) -> str:
    """Text between backticks, more of them than it has itself; a bar would end a cell of the table."""
    fence = "`" * next(n for n in range(1, len(text) + 2) if "`" * n not in text)
    return f"{fence}{_escape(text)}{fence}"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
