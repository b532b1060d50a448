"""Files that are one program for AMP: found, read as one text, and reported on one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ampify.diagnostic import Diagnostic, Elsewhere, Note
from ampify.inspection import FileReport
from ampify.source.document import Document
from ampify.source.edits import Fix
from ampify.source.ignores import skips_file
from ampify.source.text import SEAM, SourceText, Span

if TYPE_CHECKING:
    from ampify.shelf import Modules


@dataclass(frozen=True, slots=True)
class Group:
    """Python files that are understood and changed together; those ``around`` are read only."""

    documents: tuple[Document, ...]
    around: tuple[Document, ...] = ()

    @property
    def own(self) -> list[Path]:
        """The files that may change."""
        return [document.path for document in self.documents]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(document.path for document in (*self.documents, *self.around))

    @property
    def alone(self) -> Group:
        """Without what is around it."""
        return Group(self.documents)

    @property
    def text(self) -> str:
        return SEAM.join(document.parts[0].text for document in (*self.documents, *self.around))

    def separate(self, report: FileReport) -> Iterator[FileReport]:
        """What the report on all of them says about each of its own files."""
        source, old = SourceText(report.after), report.before.split(SEAM)
        for number, document in enumerate(self.documents):
            here = [d for d in report.diagnostics if source.file(d.span.start) == number]
            found = tuple(_local(d, source, number, self.paths) for d in here)
            fixed = tuple(d for d in report.fixed if d.path == str(document.path))
            after, part = source[source.files[number]], document.parts[0]
            yield FileReport(str(document.path), old[number], after, found, fixed, report.level, part)


def gather(documents: Sequence[Document]) -> list[Group]:
    """Every file in one group, in the order given; most are alone in theirs."""
    from ampify.model.project import Project, Summaries
    from ampify.model.summary import summarize

    whole = [d for d in documents if d.path.suffix == ".py" and not skips_file(d.parts[0].text)]
    by_path = {str(d.path.absolute()): d for d in whole}
    summaries = [s for path, d in by_path.items() if (s := summarize(path, d.parts[0].text)) is not None]
    units = Project(Summaries(summaries)).units() if any(s.acts for s in summaries) else []
    groups = {unit.paths[0]: unit for unit in units}
    inside = {path for unit in units for path in unit.paths}
    found = []
    for document in documents:
        path = str(document.path.absolute())
        if (unit := groups.get(path)) is not None:
            found.append(Group(_picked(unit.paths, by_path), _picked(unit.around, by_path)))
        elif path not in inside:
            found.append(Group((document,)))
    return found


def together(modules: Modules) -> dict[Path, Group]:
    """The groups of several files among Python files, by their first one; none but what leads to a step is parsed."""
    from ampify.model.project import Project

    def picked(paths: Iterable[str]) -> tuple[Document, ...]:
        return tuple(map(modules.document, paths))

    units = (unit for unit in Project(modules).units() if len(unit.paths) + len(unit.around) > 1)
    groups = (Group(picked(unit.paths), picked(unit.around)) for unit in units)
    return {group.own[0]: group for group in groups}


def _picked(paths: Iterable[str], documents: dict[str, Document]) -> tuple[Document, ...]:
    return tuple(documents[path] for path in paths)


def _local(found: Diagnostic, source: SourceText, number: int, paths: Sequence[Path]) -> Diagnostic:
    """A finding with places in its own file; what it says of another file is told in words."""
    start = source.files[number].start
    notes = tuple(_note(note, found, source, number, paths) for note in found.notes)
    fix = found.fix and _own(found.fix, source, number)
    return replace(found, span=_shifted(found.span, start), notes=notes, fix=fix)


def _note(note: Note, found: Diagnostic, source: SourceText, number: int, paths: Sequence[Path]) -> Note:
    other = source.file(note.span.start)
    start = source.files[other].start
    if other == number:
        return Note(note.message, _shifted(note.span, start))
    ends = [
        (source.line(at) - source.line(start) + 1, source.column(at) + 1) for at in (note.span.start, note.span.end)
    ]
    there = Elsewhere(str(paths[other]), *ends)
    own = _shifted(found.span, source.files[number].start)
    return Note(f"{note.message} ({paths[other]}:{there.start[0]})", own, there)


def _own(fix: Fix, source: SourceText, number: int) -> Fix:
    """The fix as its file shows it. One that changes other files too has no edits to be applied to this file alone."""
    changed = {source.file(edit.span.start) for edit in fix.edits}
    if changed != {number}:
        return replace(fix, title=f"{fix.title} ({len(changed)} files)", edits=())
    start = source.files[number].start
    return replace(fix, edits=tuple(replace(edit, span=_shifted(edit.span, start)) for edit in fix.edits))


def _shifted(span: Span, start: int) -> Span:
    return Span(span.start - start, span.end - start)
