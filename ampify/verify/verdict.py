"""What the ladder found: places, differences, levels, the verdict. Runs nothing and shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ampify.diagnostic import TOOL_CODES, Diagnostic
from ampify.source.text import SourceText, Span

if TYPE_CHECKING:
    from ampify.verify.bench import BenchResult
    from ampify.verify.numerics import NumericsResult

Word = Literal["EQUIVALENT", "PLUMBING-EQUIVALENT", "NOT COMPARABLE", "NOT EQUIVALENT", "CANNOT RUN"]
Status = Literal["holds", "fails", "band", "not run", "not applicable"]
Mode = Literal["convert", "audit", "given"]
Channel = Literal["root", "grads", "params", "buffers", "lr", "values", "order", "ledger", "raises"]

STATUS: Mapping[Word, int] = {
    "EQUIVALENT": 0,
    "PLUMBING-EQUIVALENT": 0,
    "NOT EQUIVALENT": 1,
    "NOT COMPARABLE": 2,
    "CANNOT RUN": 2,
}
"""The exit status that belongs to a word."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of one of the two programs; ``text`` is what stands there."""

    path: str
    line: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference of one channel. ``step`` counts attempts of ``optimizer`` from 1 (backward calls for
    ``root``, values read for ``values``); ``name`` is a parameter or what else is compared."""

    level: str
    channel: Channel
    message: str
    step: int | None = None
    optimizer: int | None = None
    name: str = ""
    reference: str = ""
    candidate: str = ""
    reference_at: Place | None = None
    candidate_at: Place | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """One statement of the ladder and what became of it."""

    name: str
    statement: str
    status: Status
    summary: str = ""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """One arm and how many seconds it took."""

    arm: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that is known in the end; ``reason`` and ``details`` (a traceback) where the ladder could not be climbed."""

    title: str
    word: Word
    mode: Mode | None = None
    levels: tuple[Level, ...] = ()
    reason: str = ""
    details: str = ""
    unverified: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    runs: tuple[Timing, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    numerics: NumericsResult | None = None
    bench: BenchResult | None = None

    @property
    def status(self) -> int:
        """The exit status."""
        return STATUS[self.word]

    def level(self, name: str) -> Level:
        """The level of that name; `KeyError` where the ladder has none."""
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(name)

    @property
    def first(self) -> Difference | None:
        """The difference to begin with: the first one of the lowest level that fails."""
        failed = [level for level in self.levels if level.status == "fails"]
        return next((difference for level in failed for difference in level.differences), None)


def diagnose(code: Literal["AMP901", "AMP902"], message: str, place: Place) -> Diagnostic:
    """A finding of the verifier at a line of a file on disk; at its beginning if the file is not to be read."""
    row = TOOL_CODES[code]
    try:
        source = SourceText(Path(place.path).read_text("utf-8", "replace"))
    except OSError:
        source = SourceText("")
    known = 1 <= place.line <= len(source.line_starts)
    start = source.offset(place.line, 0) if known else 0
    start += len(source.indent(start))
    return Diagnostic(place.path, Span(start, source.line_end(start)), code, row.name, row.severity, message)


def count(number: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
