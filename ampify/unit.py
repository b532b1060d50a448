"""What is looked at as a whole, and what came of it. Both can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ampify.inspection import FileReport
from ampify.rows import parts
from ampify.source.asked import Question
from ampify.source.document import Part
from ampify.together import Group

if TYPE_CHECKING:
    from ampify.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True)
class Unit:
    """One file, or a group of several; ``raws`` are the bytes that were read, None where a file has nothing to be
    looked at alone."""

    paths: tuple[Path, ...]
    raws: tuple[bytes | OSError | None, ...]
    group: Group | None = None

    @property
    def size(self) -> int:
        """Characters of code, about."""
        if self.group is not None:
            return len(self.group.text)
        return sum(len(raw) for raw in self.raws if isinstance(raw, bytes))

    def parts(self, path: str) -> tuple[Part, ...]:
        """What `rows.parts` gives for one of its files, as it was read; raises `KeyError` for another one."""
        raw = dict(zip(map(str, self.paths), self.raws, strict=True))[path]
        if self.group is not None:
            return next(d.parts for d in self.group.documents if str(d.path) == path)
        return parts(Path(path), raw) if isinstance(raw, bytes) else ()


@dataclass(frozen=True, slots=True)
class Change:
    """A page of a file, such as a cell of a notebook, that the fixes change."""

    title: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one file: its bytes before and afterwards, its reports, the pages that change."""

    path: Path
    old: bytes
    new: bytes
    reports: tuple[FileReport, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a unit, what went wrong, and what it asked about other files.

    Files that are ``together`` are all written, or none is.
    """

    outcomes: tuple[Outcome, ...]
    together: bool = False
    errors: tuple[str, ...] = ()
    asked: tuple[Question, ...] = ()

    @property
    def reports(self) -> tuple[FileReport, ...]:
        """Those that say something."""
        every = (report for outcome in self.outcomes for report in outcome.reports)
        return tuple(report for report in every if report.diagnostics or report.before != report.after)


def sent(outcome: Outcome) -> Outcome:
    """An outcome without the proofs of its fixes: they have done their work, and know trees."""
    reports = (replace(r, diagnostics=_bare(r.diagnostics), fixed=_bare(r.fixed)) for r in outcome.reports)
    return replace(outcome, reports=tuple(reports))


def _bare(found: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    return tuple(d if d.fix is None else replace(d, fix=replace(d.fix, proof=None)) for d in found)
