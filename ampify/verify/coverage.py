"""Which of the changed statements ran at all: what never ran is not verified, and never passes for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ampify.verify.record import Outcome
from ampify.verify.sources import Sources
from ampify.verify.verdict import Place


def watched(sources: Sources) -> dict[Path, tuple[int, ...]]:
    """The lines to be watched in a run of the candidate."""
    return {path: tuple(sorted({*_lines(heads)})) for path, heads in sources.changed.items()}


def unverified(sources: Sources, outcomes: Iterable[Outcome]) -> tuple[Place, ...]:
    """The changed statements of which no line ran in any of the runs, on any rank."""
    ran: dict[Path, set[int]] = defaultdict(set)
    for outcome in outcomes:
        for record in outcome.records.values():
            for path, lines in record.ran.items():
                ran[path] |= lines
    return tuple(
        sources.place(sources.candidate, str(path), head.start)
        for path, heads in sources.changed.items()
        for head in heads
        if ran[path].isdisjoint(head)
    )


def _lines(heads: Iterable[range]) -> Iterable[int]:
    return (line for head in heads for line in head)
