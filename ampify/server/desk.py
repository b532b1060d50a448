"""Files as they are in an editor: what is found in them, and what each fix makes of them. Knows no protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from ampify import engine
from ampify.config import Lookup, Settings
from ampify.diagnostic import Diagnostic
from ampify.engine import Mode, Report, Run, Wanted
from ampify.inspection import FileReport, Inspection
from ampify.source import files
from ampify.source.document import Document, Place, Undecodable
from ampify.source.edits import splice
from ampify.source.formats import decode
from ampify.source.silence import silence
from ampify.source.text import Span
from ampify.together import Group, gather
from ampify.unit import Change

_MOST = 2000
"""Python files of a workspace; with more, each file is looked at alone."""
CONVERSION = "AMP001"

Paths = tuple[tuple[Path, ...], tuple[Path, ...]]
"""The files of a program, and those around it that are only read."""


@dataclass(frozen=True, slots=True)
class Step:
    """A training step, where it is listed, the lines that its parts stand in, and what is decided on it."""

    path: str
    place: Place
    lines: Mapping[tuple[str, int | None], range]
    """By file, in a notebook by cell."""
    word: str
    reason: str

    def covers(self, path: str, cell: int | None, line: int) -> bool:
        return line in self.lines.get((path, cell), ())


@dataclass(frozen=True)
class Study:
    """A document and the files that are one program with it, at one moment; what is asked for is found out then."""

    document: Document
    group: Group
    settings: Lookup

    @cached_property
    def report(self) -> Report:
        """The findings in every file."""
        return self._done(Run(self.settings))

    @cached_property
    def steps(self) -> list[Step]:
        """The training steps of every file."""
        found: list[Step] = []

        def survey(_document: Document, inspection: Inspection) -> FileReport:
            text = inspection.part.text
            for step, decision in inspection.decisions(text):
                path, place = inspection.place(step.span.start)
                spans = [step.span, *(step.tree.span(act.node) for act in step.acts)]
                found.append(Step(path, place, _lines(inspection, spans), decision.word, decision.reason))
            return FileReport(inspection.path, text, text, part=inspection.part)

        self._done(Run(self.settings), survey)
        return found

    def fixed(self, path: str, code: str, place: Place) -> tuple[Change, ...]:
        """What the fix of one finding changes; nothing where its proof fails."""

        def fix(_document: Document, inspection: Inspection) -> FileReport:
            def wanted(finding: Diagnostic) -> bool:
                return finding.code == code and inspection.place(finding.span.start) == (path, place)

            return inspection.apply(inspection.part.text, wanted)

        return self._done(Run(self.settings), fix).changes

    def silenced(self, path: str, code: str, place: Place) -> tuple[Change, ...]:
        """What changes where a comment hides one finding."""

        def hide(_document: Document, inspection: Inspection) -> FileReport:
            text = inspection.part.text
            here = (d.span.start for d in inspection.look(text).diagnostics if d.code == code)
            start = next((start for start in here if inspection.place(start) == (path, place)), None)
            edits = [] if start is None else silence(text, [(start, code)])
            return FileReport(inspection.path, text, splice(text, edits), part=inspection.part)

        return self._done(Run(self.settings), hide).changes

    def all_fixed(self) -> tuple[Change, ...]:
        """What all fixes change that the settings let be applied."""
        return self._done(Run(self.settings, Mode.DIFF)).changes

    def converted(self, step: Step) -> tuple[Change, ...]:
        """What the conversion of one training step changes, whatever rules are selected."""

        def conversion(path: Path) -> Settings:
            free = {"ignore": (), "per_file_ignores": (), "fixable": None, "unfixable": (), "below": ()}
            return replace(self.settings(path), select=(CONVERSION,), **free)  # type: ignore[arg-type]

        wanted = Wanted(Path(step.path), step.place.line, step.place.cell)
        return self._done(Run(conversion, Mode.DIFF, wanted)).changes

    def _done(self, run: Run, work: engine.Work | None = None) -> Report:
        """The work done on all files together, or on the document alone where one of the others cannot be read."""
        together = engine.check_group(self.group, run, work)
        return together or engine.check_group(Group((self.document,)), run, work) or Report((), (), 0, run.mode)


def _lines(inspection: Inspection, spans: Iterable[Span]) -> dict[tuple[str, int | None], range]:
    """The lines from the first to the last of the places in each file, or in each cell."""
    found: dict[tuple[str, int | None], range] = {}
    for path, place in (inspection.place(at) for span in spans for at in (span.start, span.end)):
        known = found.get((path, place.cell), range(place.line, place.line + 1))
        first, last = min(known.start, place.line), max(known.stop, place.line + 1)
        found[path, place.cell] = range(first, last)
    return found


@dataclass
class Desk:
    """Where files lie open; what is on disk beside them is remembered until `forget`."""

    settings: Lookup = field(default_factory=Lookup)
    _programs: dict[Path, dict[Path, Paths]] = field(default_factory=dict)

    def study(self, document: Document, lying: Mapping[Path, Document], root: Path | None) -> Study:
        """One document, with the files of the workspace ``root`` that are one program with it.

        ``lying`` are the documents that are open; the others are read from disk.
        """
        own, around = self._program(document.path, root)
        at_hand = {**lying, document.path: document}
        found = [at_hand.get(path) or _read(path) for path in (*own, *around)]
        whole = [each for each in found if each is not None]
        if len(whole) < len(found):  # one is gone
            return Study(document, Group((document,)), self.settings)
        return Study(document, Group(tuple(whole[: len(own)]), tuple(whole[len(own) :])), self.settings)

    def forget(self) -> None:
        """Everything on disk may have changed: what is remembered of files and folders is looked up anew."""
        self._programs.clear()
        for name, module in [*sys.modules.items()]:
            if name.startswith("ampify."):
                for member in [*vars(module).values()]:
                    if hasattr(member, "cache_clear"):
                        member.cache_clear()

    def _program(self, path: Path, root: Path | None) -> Paths:
        if root is None or path.suffix != ".py":
            return (path,), ()
        if root not in self._programs:
            self._programs[root] = dict(_programs(root))
        return self._programs[root].get(path, ((path,), ()))


def _programs(root: Path) -> Iterable[tuple[Path, Paths]]:
    """The programs of several files in a folder, by each of their files."""
    python = (path for path in files.find([root], lambda _: None) if path.suffix == ".py")
    paths = [*islice(python, _MOST + 1)]
    if len(paths) > _MOST:
        return
    for group in gather([document for path in paths if (document := _read(path)) is not None]):
        for document in group.documents if len(group.paths) > 1 else ():
            yield document.path, (tuple(group.own), tuple(each.path for each in group.around))


def _read(path: Path) -> Document | None:
    """A file of the workspace; None for one that cannot be read or has nothing to do with mixed precision."""
    try:
        raw = path.read_bytes()
        return decode(path, raw)
    except (OSError, Undecodable):
        return None
