"""One program: find, check, fix, prove. Knows nothing of files, nor of what a rule looks for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampify.config import ConfigError, Settings
from ampify.diagnostic import TOOL_CODES, Diagnostic, Severity
from ampify.offer import Offer
from ampify.rule import Rule
from ampify.source.document import Located, Part, Place
from ampify.source.edits import Applicability, Edit, Fix, choose, splice
from ampify.source.ignores import Ignore, find_ignores, removed
from ampify.source.importers import caller_of, importer_of, subclasser_of
from ampify.source.text import SourceText, Span

if TYPE_CHECKING:
    from ampify.model.step import FileModel, TrainingStep
    from ampify.rewrite.migrate import Migration
    from ampify.rewrite.plan import Asked, Decision

ROUNDS = 10
UNUSED = "AMP903"
_Key = tuple[str, int, int]
"""By which a finding is known again in the next round: its code and its span."""
_REPORT = "this is a bug in ampify, please report it together with these lines"


@dataclass(frozen=True, slots=True)
class FileReport:
    """One part of a file: ``diagnostics`` are what is left in ``after``, ``fixed`` what was mended on the way there."""

    path: str
    before: str
    after: str
    diagnostics: tuple[Diagnostic, ...] = ()
    fixed: tuple[Diagnostic, ...] = ()
    level: Severity = Severity.WARNING
    """From which severity on a finding makes the check fail."""
    part: Part = Part("")  # noqa: RUF009 - frozen

    @property
    def source(self) -> Located:
        """``after``, with the places in the file."""
        return Located(self.after, self.part)

    @property
    def fails(self) -> bool:
        return any(d.severity >= self.level for d in self.diagnostics)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one part of a file, or several files, are looked at with.

    ``line`` of the text narrows it to the training step listed there. Of files that are read together, ``others`` are
    the paths of all but the first; those behind the first ``owned`` are there to be understood, not to be changed.
    """

    path: str
    settings: Settings
    rules: tuple[Rule, ...]
    line: int | None = None
    part: Part = Part("")  # noqa: RUF009 - frozen
    others: tuple[str, ...] = ()
    owned: int = 1
    ask: Callable[[Offer], bool] | None = None
    """Whether a fix is wanted; None: each is."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of the text, in their order."""
        return (self.path, *self.others)

    def place(self, offset: int, text: str | None = None) -> tuple[str, Place]:
        """The file that an offset of the part's text, or of what became of it, lies in, and where in it."""
        source = SourceText(self.part.text if text is None else text)
        file = source.files[source.file(offset)]
        return self._path(source, offset), Located(source[file], self.part).place(offset - file.start)

    def look(self, text: str) -> FileReport:
        """The report on a text that stays as it is."""
        return self._report(text, text, self._find(text, self._focus(text)))

    def mend(self, text: str) -> FileReport:
        """The report on a text whose fixes are applied until there are none left."""
        now, focus, fixed, declined = text, self._focus(text), list[Diagnostic](), set[_Key]()
        for _ in range(ROUNDS):
            found = self._find(now, focus)
            chosen, withdrawn = self._chosen(now, _shown(now, found), declined)
            if not chosen:  # what comments hide is judged once all else is done
                found = [*found, *self._unused(now, found)]
                chosen, _ = self._chosen(now, [d for d in found if d.code == UNUSED], declined)
            if not chosen:
                return self._report(text, now, found, fixed, withdrawn)
            fixed += [d for d in found if any(d.fix is fix for fix in chosen)]
            edits = _edits(chosen)
            now, focus = splice(now, edits), None if focus is None else _shifted(focus, edits)
            declined = {(code, _shifted(start, edits), _shifted(end, edits)) for code, start, end in declined}
        found = self._find(text, self._focus(text))
        reason = f"The fixes of this file do not come to an end and were withdrawn; {_REPORT}"
        endless = self.about(text, "AMP904", reason, min(fixed[-1].span.start, len(text)))
        return self._report(text, text, found, (), [endless])

    def apply(self, text: str, wanted: Callable[[Diagnostic], bool]) -> FileReport:
        """The report on a text after the fix of the first finding that is ``wanted``, if its proof holds."""
        found = self._find(text, self._focus(text))
        every = (*_shown(text, found), *self._unused(text, found))
        one = next((d for d in every if d.fix and d.fix.edits and wanted(d)), None)
        if one is None or one.fix is None or self._flaw(text, [one.fix]):
            return self._report(text, text, found)
        return FileReport(self.path, text, splice(text, one.fix.edits), (), (one,), part=self.part)

    def unusable(self, text: str, code: str, message: str, line: int = 1, column: int = 0) -> FileReport:
        """The report on a text of which nothing can be told but that."""
        source = SourceText(text)
        line = min(line, len(source.line_starts))
        start = min(source.offset(line, column), source.line_end(source.offset(line, 0)))
        return self._report(text, text, [], (), [self.about(text, code, message, start)])

    def about(self, text: str, code: str, message: str, start: int, end: int | None = None) -> Diagnostic:
        """A finding about ampify's own work."""
        row = TOOL_CODES[code]
        span = Span(start, min(start + 1, len(text)) if end is None else end)
        return Diagnostic(self._path(SourceText(text), start), span, code, row.name, row.severity, message)

    def _path(self, source: SourceText, offset: int) -> str:
        return self.paths[source.file(offset)] if self.others else self.path

    def _wants(self, code: str, source: SourceText, offset: int) -> bool:
        """Whether findings of a code are wanted in the file there."""
        return self.settings.enables(code, self._path(source, offset))

    def decisions(self, text: str) -> Iterator[tuple[TrainingStep, Decision]]:
        """The training steps, each with what is decided on it."""
        from ampify.model.summary import may_differentiate

        source = SourceText(text)
        with warnings.catch_warnings(action="ignore"):
            if self.line is None and not may_differentiate(text):
                return iter(())
        found = self._decided(self._model(text), self._focus(text))
        return ((step, decision) for step, decision in found if source.file(step.span.start) < self.owned)

    def _model(self, text: str) -> FileModel:
        from ampify.model.find import read
        from ampify.syntax.tree import Tree

        with warnings.catch_warnings(action="ignore"):  # of the compiler, such as invalid escapes
            return read(Tree(text, self.paths), self.settings.target_torch, self.settings.line_length, self.owned)

    def _find(self, text: str, focus: int | None) -> list[Diagnostic]:
        """Every finding, ignored ones too."""
        subjects, source = list(self._subjects(self._model(text), focus)), SourceText(text)
        found = [
            Diagnostic(
                self._path(source, f.span.start),
                f.span,
                rule.code,
                rule.name,
                f.severity or rule.severity,
                f.message,
                f.notes,
                self.settings.fix(rule.code, f.fix),
            )
            for rule in self.rules
            for subject in subjects
            if isinstance(subject, rule.subject)
            for f in rule.check(subject)
            if source.file(f.span.start) < self.owned and self._wants(rule.code, source, f.span.start)
        ]
        return sorted(found, key=lambda d: (d.span, d.code))

    def _subjects(self, model: FileModel, focus: int | None) -> Iterator[Any]:
        from ampify.rewrite.ghosts import Program

        if focus is None:
            yield from (model, Program(model, self._decide), *model.uses, *self._migrations(model))
        for step, decision in self._decided(model, focus):
            if step.framework is None:
                yield step
            if decision.word != "refuse" or not self.part.fragment:  # what an excerpt does not show is no finding
                yield decision

    def _decided(self, model: FileModel, focus: int | None) -> Iterator[tuple[TrainingStep, Decision]]:
        for step in model.steps if focus is None else self._steps_at(model, focus):
            yield step, self._decide(step)

    def _migrations(self, model: FileModel) -> Iterator[Migration]:
        if "apex" not in model.code.tree.source.text:
            return
        from ampify.rewrite.migrate import migrations  # only where there may be Apex

        yield from migrations(model, self._decide, self.owned)

    def _decide(self, step: TrainingStep, asked: Asked | None = None) -> Decision:
        from ampify.rewrite.plan import Asked, decide  # only where there is a step

        elsewhere = self.part.names(step.changed_names | step.changed_classes) or self._importer(step)
        decision = decide(step, self.settings, elsewhere, self.owned, asked or Asked())
        if (unseen := decision.uncalled) is None or self.part.fragment:
            return decision
        caller = caller_of(Path(self._path(SourceText(step.tree.source.text), unseen.span.start)), unseen.uncalled)
        return decision.called_from(caller.name) if caller is not None else decision

    def _importer(self, step: TrainingStep) -> str | None:
        """A file whose calls, or classes, a conversion would have to change too."""
        known = {Path(path).resolve() for path in self.paths}
        for path in map(Path, self.paths):
            if path.suffix not in (".py", ".pyi"):  # nobody imports a notebook or a page
                continue
            importer = importer_of(path, changed, known) if (changed := step.changed_in.get(str(path))) else None
            if importer is None and (classes := step.changed_classes):
                importer = subclasser_of(path, classes, known)
            if importer is not None:
                return importer.name
        return None

    def _steps_at(self, model: FileModel, focus: int) -> list[TrainingStep]:
        around = [step for step in model.steps if step.span.start <= focus < step.span.end]
        if not around:
            source = Located(self.part.text, self.part)
            row = source.place(source.offset(self.line or 1, 0)).row
            raise ConfigError(f"no training step at {self.path}:{row}; `ampify steps` lists them")
        return around

    def _focus(self, text: str) -> int | None:
        """Where the code of the wanted line begins."""
        if self.line is None:
            return None
        source = SourceText(text)
        start = source.offset(self.line, 0)
        return start + len(source.indent(start))

    def _chosen(self, text: str, shown: list[Diagnostic], declined: set[_Key]) -> tuple[list[Fix], list[Diagnostic]]:
        """The fixes that are to go in now, and what is to say of others; those that nobody wants are ``declined``."""
        while True:
            left = [d for d in shown if _key(d) not in declined]
            chosen, withdrawn = self._provable(text, left)
            if not chosen or self.ask is None:
                return chosen, withdrawn
            refused = [fix for fix in chosen if not self.ask(self._offer(text, fix, left))]
            agreed = [d for d in left if any(d.fix is fix for fix in chosen) and d.fix not in refused]
            declined |= {_key(d) for d in left if d.fix in refused}
            if agreed:  # what holds together with others need not hold without them
                return self._provable(text, agreed)[0], withdrawn

    def _offer(self, text: str, fix: Fix, found: list[Diagnostic]) -> Offer:
        finding = next(d for d in found if d.fix is fix)
        path, place = self.place(finding.span.start, text)
        return Offer(finding, f"{path}:{place}", self.paths, text, splice(text, fix.edits))

    def _provable(self, text: str, shown: list[Diagnostic]) -> tuple[list[Fix], list[Diagnostic]]:
        """Fixes that go in together and pass their proof, and what is to say of those that do not pass."""
        minimum = Applicability.UNSAFE if self.settings.unsafe_fixes else Applicability.SAFE
        left, withdrawn = shown, list[Diagnostic]()
        while chosen := choose((d.fix for d in left if d.fix), minimum):
            if self._flaw(text, chosen) is None:
                return chosen, withdrawn
            bad = {id(fix): flaw for fix in chosen if (flaw := self._flaw(text, [fix]))}
            if not bad:  # each holds alone
                return chosen[:1], withdrawn
            withdrawn += [self._withdrawn(text, d, bad[id(d.fix)]) for d in left if id(d.fix) in bad]
            left = [d for d in left if id(d.fix) not in bad]
        return [], withdrawn

    def _flaw(self, text: str, fixes: list[Fix]) -> str | None:
        """Why the fixes must not be written, None if they may."""
        from ampify.rewrite.prove import ProofFailed, prove

        try:
            prove(text, splice(text, _edits(fixes)), fixes, self.paths, self.owned)
        except ProofFailed as failure:
            return str(failure)
        return None

    def _withdrawn(self, text: str, finding: Diagnostic, flaw: str) -> Diagnostic:
        title = finding.fix.title if finding.fix else ""
        message = f"The fix of {finding.code} ({title}) was withdrawn by its proof: {flaw}; {_REPORT}"
        return self.about(text, "AMP904", message, finding.span.start, finding.span.end)

    def _report(
        self,
        before: str,
        after: str,
        found: list[Diagnostic],
        fixed: Iterable[Diagnostic] = (),
        own: Iterable[Diagnostic] = (),
    ) -> FileReport:
        found = [d for d in found if d.code != UNUSED]
        own = (*own, *self._unused(after, found), *self._broken(after))
        own = [d for d in own if self.settings.reports(d.code, d.path)]
        left = tuple(sorted((*_shown(after, found), *own), key=lambda d: (d.span, d.code)))
        level = Severity[self.settings.fail_level.upper()]
        return FileReport(self.path, before, after, left, tuple(fixed), level, self.part)

    def _broken(self, text: str) -> Iterator[Diagnostic]:
        source = Located(text, self.part)
        for broken in self.part.broken:
            line = source.line_at(broken.cell, broken.line)
            yield self.about(text, "AMP900", broken.message, source.offset(line or 1, 0))

    def _unused(self, text: str, found: list[Diagnostic]) -> Iterator[Diagnostic]:
        """AMP903, for those ignores whose rules have all been asked."""
        if self.line is not None:
            return
        source = SourceText(text)
        for ignore in find_ignores(text):
            span, path = ignore.span, self._path(source, ignore.span.start)
            dead = [code for code in ignore.codes or ("",) if self._is_dead(ignore, code, source, found)]
            if dead and source.file(span.start) < self.owned and self.settings.enables(UNUSED, path):
                fix = Fix("Remove it", removed(text, ignore, dead))
                said = self.about(text, UNUSED, _useless(ignore, dead), span.start, span.end)
                yield replace(said, fix=self.settings.fix(UNUSED, fix))

    def _is_dead(self, ignore: Ignore, code: str, source: SourceText, found: list[Diagnostic]) -> bool:
        """Whether nothing is hidden by one code of an ignore, or by one without codes (`""`)."""
        if ignore.kind == "on":
            return True
        if code:
            asked = self._wants(code, source, ignore.span.start)
        else:  # a bare `noqa` may be there for other tools
            asked = ignore.kind != "noqa" and not self.settings.chooses
        near = (d for d in found if not code or d.code == code)
        ranges = [ignore] if ignore.kind == "off" else []  # one that keeps a fix out is of use, too
        return asked and not any(_hidden(source, [ignore], d) or _reaches(source, ranges, d) for d in near)


def _useless(ignore: Ignore, dead: list[str]) -> str:
    if ignore.kind == "on":
        return "This `on` ends no range"
    of = f" of {', '.join(f'`{code}`' for code in dead)}" if dead != [""] else ""
    return f"This {'range' if ignore.kind == 'off' else 'ignore'}{of} hides nothing"


def _key(finding: Diagnostic) -> _Key:
    return finding.code, finding.span.start, finding.span.end


def _hidden(source: SourceText, ignores: Iterable[Ignore], finding: Diagnostic) -> bool:
    line = source.line(finding.span.start)
    return any(ignore.hides(line, finding.code) for ignore in ignores)


def _shown(text: str, found: list[Diagnostic]) -> list[Diagnostic]:
    """The findings that no comment hides; a fix that would change a range that is off is none."""
    ignores = find_ignores(text)
    if not ignores:
        return found
    source = SourceText(text)
    ranges = [ignore for ignore in ignores if ignore.kind == "off"]
    shown = [finding for finding in found if not _hidden(source, ignores, finding)]
    return [replace(each, fix=None) if _reaches(source, ranges, each) else each for each in shown]


def _reaches(source: SourceText, ranges: Iterable[Ignore], finding: Diagnostic) -> bool:
    edits = finding.fix.edits if finding.fix else ()
    lines = [source.line(edit.span.start) for edit in edits]
    return any(each.hides(line, finding.code) for each in ranges for line in lines)


def _edits(fixes: Iterable[Fix]) -> list[Edit]:
    return [edit for fix in fixes for edit in fix.edits]


def _shifted(offset: int, edits: Iterable[Edit]) -> int:
    """Where the character at ``offset`` is after ``edits``."""
    return offset + sum(len(e.text) - (e.span.end - e.span.start) for e in edits if e.span.end <= offset)
