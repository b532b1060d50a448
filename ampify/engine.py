"""The story: read, screen, parse, find, check, fix, prove, write, report. Knows nothing of PyTorch or of output."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from ampify import syntax
from ampify.config import ConfigError, Lookup, Settings, unknown_code
from ampify.diagnostic import TOOL_CODES, Diagnostic
from ampify.inspection import FileReport, Inspection
from ampify.jobs import spread
from ampify.listing import StepReport, steps_in
from ampify.offer import Offer
from ampify.screen import codes, matters, may_matter, of_rules, of_steps
from ampify.shelf import Shelf
from ampify.source import files
from ampify.source.asked import noted
from ampify.source.document import Document, Located, Part, Undecodable, Unwritable
from ampify.source.edits import splice
from ampify.source.formats import decode
from ampify.source.ignores import skips_file
from ampify.source.needles import Screen
from ampify.source.python import PythonDocument
from ampify.source.silence import silence
from ampify.source.text import SourceText
from ampify.together import Group, gather, together
from ampify.unit import Change, Outcome, Result, Unit, sent

if TYPE_CHECKING:
    from ampify.cache import Cache, Memory
    from ampify.rule import Rule

Track = Callable[[Sequence[Path]], Iterable[Path]]
"""Hands the files on one by one, such as to show how many are done."""

Work = Callable[[Document, Inspection], FileReport]
"""What is done with one part of a file that could be read."""


class Mode(Enum):
    """What becomes of the fixes."""

    REPORT = "report"
    DIFF = "diff"
    WRITE = "write"


class Screened(Enum):
    """What decides which files are looked at at all."""

    BY_RULES = "rules"
    BY_STEPS = "steps"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Report:
    """The parts of files there is something to say about, and what could not be read or written."""

    files: tuple[FileReport, ...]
    errors: tuple[str, ...]
    checked: int
    mode: Mode
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    """What else was done, such as that what a killed run had begun is finished."""

    @property
    def status(self) -> int:
        """The exit status."""
        if self.errors:
            return 2
        would_change = self.mode is Mode.DIFF and any(file.before != file.after for file in self.files)
        return int(would_change or any(file.fails for file in self.files))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the only training step that is wanted begins; the line counts in the cell, if there is one."""

    path: Path
    line: int
    cell: int | None = None


@dataclass(frozen=True)
class Run:
    """One call of ampify: settings by file, what becomes of fixes, the only step wanted, errors so far."""

    settings: Callable[[Path], Settings] = field(default_factory=Lookup)
    mode: Mode = Mode.REPORT
    step: Wanted | None = None
    errors: list[str] = field(default_factory=list)
    screen: Screened = Screened.BY_RULES
    ask: Callable[[Offer], bool] | None = None
    """Whether a fix is wanted; None: each is."""
    jobs: int = 1
    """Processes that look at files at once."""

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        from ampify.rule import load

        return tuple(load().values())

    def outline(self, path: Path) -> Inspection:
        """An inspection that asks no rule."""
        return Inspection(str(path), self.settings(path), (), ask=self.ask)

    def inspection(self, path: Path) -> Inspection:
        settings = self.settings(path)
        self._screen(settings, path)  # raises for codes that there are not
        rules = tuple(rule for rule in self.rules if settings.enables(rule.code))
        return Inspection(str(path), settings, rules, ask=self.ask)

    def _files(self, path: Path) -> list[Path]:
        return self.settings.files(path) if isinstance(self.settings, Lookup) else []

    def may_matter(self, path: Path, raw: bytes, *, named: bool) -> bool:
        """Whether there may be something to look at in a file with these bytes; of one that was named by itself, that
        it does not parse is told as well."""
        if named or self.step is not None or self.screen is Screened.NOT:
            return files.matters(raw)
        if self.screen is Screened.BY_STEPS:
            return may_matter(raw, of_steps())
        return may_matter(raw, of_rules()) and may_matter(raw, self._screen(self.settings(path), path))

    def fits(self, path: Path, raw: bytes) -> bool:
        """Whether a file is small enough to be looked at."""
        return len(raw) <= files.largest(path, self.settings(path).largest)

    def matters(self, texts: Iterable[str], settings: Settings, path: Path) -> bool:
        """Whether there may be something to look at in texts that are looked at together."""
        if self.step is not None or self.screen is Screened.NOT:
            return True
        return matters(texts, self._screen(settings, path), settings.target_torch)

    def _screen(self, settings: Settings, path: Path) -> Screen:
        for prefix in sorted(settings.codes):
            if not any(code.startswith(prefix) for code in codes()):
                raise unknown_code(prefix, codes(), self._files(path))
        return of_steps() if self.screen is Screened.BY_STEPS else of_rules(settings)

    def failed(self, path: object, error: Exception) -> None:
        self.errors.append(f"{path}: {getattr(error, 'strerror', None) or error}")


def check(paths: Iterable[Path], run: Run, track: Track = iter, cache: Cache | None = None) -> Report:
    """Look at every file, and mend what can be mended where the run's mode says so."""
    work = _look if run.mode is Mode.REPORT else _mend
    if cache is None or run.step is not None or run.ask is not None:
        return _report(paths, run, track, work)
    paths = [*paths]
    found = list(files.find(paths, lambda error: None))
    memory = cache.memory(paths, found)
    if (known := memory.run()) is not None and (run.mode is Mode.REPORT or not _fixable(known)):
        return Report(tuple(known), (), len(found), run.mode)
    report = _report(paths, run, track, work, memory)
    if run.mode is Mode.REPORT and not report.errors:
        memory.keep()
    return report


def _fixable(reports: Iterable[FileReport]) -> bool:
    return any(d.fix is not None for report in reports for d in report.diagnostics)


def check_bytes(path: Path, raw: bytes, run: Run) -> tuple[Report, bytes]:
    """The report on source that came from elsewhere, and its bytes after the fixes."""
    work = _look if run.mode is Mode.REPORT else _mend
    outcome = _guarded(path, raw, run, work) if run.may_matter(path, raw, named=True) else Outcome(path, raw, raw)
    return Report(outcome.reports, tuple(run.errors), 1, run.mode, outcome.changes), outcome.new


def check_group(group: Group, run: Run, work: Work | None = None) -> Report | None:
    """The report on documents that need not be as their files are, and what the work would change in them.

    None where there are several, and they cannot be read together.
    """
    work = work or (_look if run.mode is Mode.REPORT else _mend)
    if len(group.paths) > 1:
        outcomes = _visit_together(group, run, work)
    else:
        outcomes = [_shielded(document, run, work) for document in group.documents]
    if outcomes is None:
        return None
    reports = (report for outcome in outcomes for report in outcome.reports)
    changes = (change for outcome in outcomes for change in outcome.changes)
    return Report(tuple(reports), tuple(run.errors), len(outcomes), run.mode, tuple(changes))


def check_text(text: str, settings: Settings, path: str = "example.py") -> list[Diagnostic]:
    """The findings in a text that need not be a file; what goes wrong is raised."""
    return list(_inspection_of_text(settings, path).look(text).diagnostics)


def fix_text(text: str, settings: Settings, path: str = "example.py") -> tuple[str, list[Diagnostic]]:
    """A text after its fixes, and the findings that are left in it."""
    report = _inspection_of_text(settings, path).mend(text)
    return report.after, list(report.diagnostics)


def fix_texts(
    texts: Mapping[Path, str], settings: Callable[[Path], Settings], ask: Callable[[Offer], bool] | None = None
) -> tuple[dict[Path, str], list[Diagnostic]]:
    """The texts of a project after their fixes, and the findings that are left; what does not parse is left alone."""
    run, after, left = Run(settings, ask=ask), dict(texts), list[Diagnostic]()
    for group in gather([PythonDocument(path, text, "utf-8") for path, text in texts.items()]):
        for report in _mended(group, run):
            after[Path(report.path)] = report.after
            left += report.diagnostics
    return after, left


def _mended(group: Group, run: Run) -> list[FileReport]:
    from ampify.syntax.tree import Unreadable

    try:
        inspection = _focused(group, run)
        return [*group.separate(inspection.mend(group.text))]
    except (Unreadable, RecursionError):
        alone = [Group((document,)) for document in group.documents] if len(group.paths) > 1 else []
        return [report for one in alone for report in _mended(one, run)]


def _inspection_of_text(settings: Settings, path: str) -> Inspection:
    return Run(settings=lambda _: settings).inspection(Path(path))


def erase(paths: Iterable[Path], run: Run, track: Track = iter) -> Report:
    """Take mixed precision out of every file."""
    return _report(paths, replace(run, screen=Screened.NOT), track, erasing)


def add_ignores(paths: Iterable[Path], run: Run, reason: str = "", track: Track = iter) -> Report:
    """Hide every finding by a comment; ``fixed`` of each file are those that are hidden."""
    return _report(paths, run, track, lambda _, inspection: _hide(inspection, reason))


def steps(paths: Iterable[Path], run: Run, track: Track = iter) -> tuple[list[StepReport], Report]:
    """Every training step with what is decided on it, and a report on the files that could not be read."""
    rows: list[StepReport] = []

    def list_steps(document: Document, inspection: Inspection) -> FileReport:
        rows.extend(steps_in(inspection))
        return _untouched(document.path, inspection.part)

    report = _report(paths, replace(run, screen=Screened.BY_STEPS), track, list_steps)
    return rows, report


def _look(_document: Document, inspection: Inspection) -> FileReport:
    return inspection.look(inspection.part.text)


def _hide(inspection: Inspection, reason: str) -> FileReport:
    before = inspection.look(inspection.part.text)
    hits = [(found.span.start, found.code) for found in before.diagnostics if found.code not in TOOL_CODES]
    after = inspection.look(splice(before.after, silence(before.after, hits, reason)))
    count = Counter(found.code for found in before.diagnostics) - Counter(found.code for found in after.diagnostics)
    hidden = [found for code in count for found in before.diagnostics if found.code == code][: count.total()]
    return replace(after, before=before.after, fixed=tuple(hidden))


def _mend(document: Document, inspection: Inspection) -> FileReport:
    text = inspection.part.text
    return inspection.look(text) if document.lint_only else inspection.mend(text)


def erasing(document: Document, inspection: Inspection) -> FileReport:
    """The work of `erase`."""
    from ampify.rewrite.erase import EraseFailed, erase_text
    from ampify.syntax.tree import Tree

    part, text = inspection.part, inspection.part.text
    try:
        after = text if document.lint_only else erase_text(text, paths=inspection.paths)
        return FileReport(inspection.path, text, after, part=part)
    except EraseFailed as error:
        Tree(text)  # where it does not even parse, this says so better
        return inspection.unusable(text, "AMP905", f"Mixed precision cannot be taken out: {error}")


def _report(paths: Iterable[Path], run: Run, track: Track, work: Work, memory: Memory | None = None) -> Report:
    paths = [*paths]
    found = list(files.find(paths, lambda error: run.failed(error.filename, error)))
    notes = _settled(found, run)
    named = {path for path in paths if not path.is_dir()}
    shelf = Shelf(found, lambda path, raw: run.may_matter(path, raw, named=path in named), run.fits)
    groups = together(shelf.code) if shelf.acts else {}
    if run.step is not None:
        found = [_wanted_file(found, run.step, groups)]
    units = _units(found, groups, shelf)
    results = list(_results(units, track(found), run, work, memory))
    outcomes = [outcome for result in results for outcome in result.outcomes]
    telling = tuple(report for result in results for report in result.reports)
    changes = tuple(change for outcome in outcomes for change in outcome.changes)
    return Report(telling, tuple(run.errors), len(found), run.mode, changes, notes)


def _settled(found: Sequence[Path], run: Run) -> tuple[str, ...]:
    """What was done about projects of which a killed run has written some files only; it is an error if nothing was."""
    if not (folders := files.journals(found)):
        return ()
    from ampify.source.journal import settle

    told = [*settle(folders, found, write=run.mode is Mode.WRITE)]
    run.errors.extend(f"{each.folder}: {each.message}" for each in told if not each.done)
    return tuple(f"{each.folder}: {each.message}" for each in told if each.done)


def _results(
    units: Sequence[Unit], found: Iterable[Path], run: Run, work: Work, memory: Memory | None
) -> Iterator[Result]:
    """What came of each unit, its fixes written.

    Nothing is written before all is looked at, so that neither the order nor the processes change what is seen; but
    where somebody is asked for each fix, it is written soon after.
    """
    known = {unit.paths[0]: _known(unit, run, memory) for unit in units}
    new = [unit for unit in units if known[unit.paths[0]] is None]
    jobs = run.jobs if work in _SENT and run.ask is None else 1
    plain = replace(run, errors=[])
    with spread(
        partial(_result, run=plain, work=work, owned=syntax.owned), new, [unit.size for unit in new], jobs
    ) as made:
        looked_at = (known[path] or next(made) for path in found if path in known)
        for unit, result in zip(units, looked_at if run.ask else [*looked_at], strict=True):
            run.errors.extend(result.errors)
            if memory is not None and run.mode is Mode.REPORT:
                memory.note(unit, run.settings, result)
            yield result if run.mode is not Mode.WRITE else _written(unit, result, run, work)


def _known(unit: Unit, run: Run, memory: Memory | None) -> Result | None:
    """What is remembered of a unit; None where it may be mended now."""
    result = None if memory is None else memory.result(unit, run.settings)
    return None if result is None or (run.mode is not Mode.REPORT and _fixable(result.reports)) else result


def _units(found: Iterable[Path], groups: Mapping[Path, Group], shelf: Shelf) -> list[Unit]:
    """What is looked at as a whole, by its first file."""
    inside = {path for group in groups.values() for path in group.own[1:]}
    units = []
    for path in found:
        if path not in inside and ((group := groups.get(path)) is not None or shelf.holds(path)):
            own = tuple(group.own) if group else (path,)
            units.append(Unit(own, tuple(shelf.held(each) for each in own), group))
    return units


def _wanted_file(found: Iterable[Path], step: Wanted, groups: Mapping[Path, Group]) -> Path:
    """The file of the only step that is wanted, or the first file of its group."""
    wanted = next((path for path in found if path.resolve() == step.path.resolve()), None)
    if wanted is None:
        raise ConfigError(f"{step.path} is not among the files given")
    return next((first for first, group in groups.items() if wanted in group.own), wanted)


def _result(unit: Unit, run: Run, work: Work, *, owned: bool) -> Result:
    """What comes of a unit, before anything is written; ``owned`` is `syntax.owned` of the process that asks."""
    syntax.owned, run = owned, replace(run, errors=[])
    with noted() as asked:
        whole = None if unit.group is None else _visit_together(unit.group, run, work)
        outcomes = list(_visit_each(unit, run, work)) if whole is None else whole
    syntax.forget()
    return Result(tuple(map(sent, outcomes)), whole is not None, tuple(run.errors), tuple(asked.values()))


def _visit_each(unit: Unit, run: Run, work: Work) -> Iterator[Outcome]:
    """Work on the files of a unit one by one; what goes wrong with one is noted, and the next one has its turn."""
    for path, raw in zip(unit.paths, unit.raws, strict=True):
        if isinstance(raw, OSError):
            run.failed(path, raw)
        elif raw is not None:
            yield _guarded(path, raw, run, work)


def _visit_together(group: Group, run: Run, work: Work) -> list[Outcome] | None:
    """Work on several files as one text; None: they are to be visited one by one."""
    from ampify.syntax.tree import Unreadable

    first, whole = group.own[0], (*group.documents, *group.around)
    if not run.matters((document.parts[0].text for document in whole), run.settings(first), first):
        return []
    try:
        inspection = _focused(group, run)
        report = work(group.documents[0], inspection)
    except (Unreadable, RecursionError):
        return None
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001
        run.failed(group.own[0], _internal(error))
        return None
    reports = group.separate(report)
    return [_rewritten(document, [one], inspection) for document, one in zip(group.documents, reports, strict=True)]


def _focused(group: Group, run: Run) -> Inspection:
    """What a group is looked at with; of the only step that is wanted, with its line in the whole text."""
    if group.around and not _differentiates(group.alone):
        group = group.alone
    first, *others = map(str, group.paths)
    settings = run.inspection(group.own[0])
    found = replace(settings, path=first, others=tuple(others), owned=len(group.own), part=Part(group.text))
    if run.step is None:
        return found
    source = SourceText(group.text)
    number = [path.resolve() for path in group.own].index(run.step.path.resolve())
    return replace(found, line=source.line(source.files[number].start) + run.step.line - 1)


def _differentiates(group: Group) -> bool:
    """Whether a training step begins in the group: what is around it is read for that alone."""
    from ampify.model.find import differentiates
    from ampify.model.summary import calls_scaler, may_differentiate
    from ampify.syntax.tree import Tree

    if calls_scaler(text := group.text):
        return True
    with warnings.catch_warnings(action="ignore"):
        return may_differentiate(text) and differentiates(Tree(text, [*map(str, group.paths)]))


def _written(unit: Unit, result: Result, run: Run, work: Work) -> Result:
    """Write what has changed; of what cannot be written, tell what is found in it as it is."""
    batches = [result.outcomes] if result.together else [(outcome,) for outcome in result.outcomes]
    return replace(result, outcomes=tuple(each for batch in batches for each in _write(batch, unit, run, work)))


def _write(batch: tuple[Outcome, ...], unit: Unit, run: Run, work: Work) -> Iterable[Outcome]:
    failures = files.write_all([(each.path, each.old, each.new) for each in batch if each.new != each.old])
    for path, error in failures:
        run.failed(path, error)
    if not failures:
        return batch
    if work is not _mend:
        return ()
    reading = replace(run, mode=Mode.REPORT)
    together = _visit_together(unit.group, reading, _look) if unit.group is not None and len(batch) > 1 else None
    return together or [_guarded(each.path, each.old, reading, _look) for each in batch]


def _guarded(path: Path, raw: bytes, run: Run, work: Work) -> Outcome:
    """Work; a bug in one rule must not cost the findings in all other files."""
    try:
        return _treat(path, raw, run, work)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001
        run.failed(path, _internal(error))
        return Outcome(path, raw, raw)


def _treat(path: Path, raw: bytes, run: Run, work: Work) -> Outcome:
    """Do the work on what the bytes say; what cannot be read is a finding."""
    inspection = run.outline(path)
    if len(raw) > (largest := files.largest(path, inspection.settings.largest)):
        message = f"The file is larger than {largest / 1e6:g} MB; `max-file-size` says how large one may be"
        return Outcome(path, raw, raw, (inspection.unusable("", "AMP905", message),))
    try:
        document = decode(path, raw)
    except Undecodable as error:
        return Outcome(path, raw, raw, (inspection.unusable("", error.code, str(error), error.line),))
    return _worked(document, inspection, run, work)


def _shielded(document: Document, run: Run, work: Work) -> Outcome:
    """Screen and work on a document that is at hand; a bug in one rule is an error of the run."""
    if not any(files.matters(part.text.encode("utf-8", "surrogatepass")) for part in document.parts):
        return Outcome(document.path, b"", b"")
    try:
        return _worked(document, run.outline(document.path), run, work)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001
        run.failed(document.path, _internal(error))
        return Outcome(document.path, b"", b"")


def _worked(document: Document, inspection: Inspection, run: Run, work: Work) -> Outcome:
    wanted = _wanted(document, inspection, run.step)
    reports = [_asked(document, part, each, run, work) for part, each in zip(document.parts, wanted, strict=True)]
    return _rewritten(document, reports, inspection)


def _asked(document: Document, part: Part, outline: Inspection | None, run: Run, work: Work) -> FileReport:
    """The report on one part; the rules are asked where they can have something to say."""
    small = outline is not None and len(part.text) <= outline.settings.largest
    if outline is None or (small and not part.broken and not run.matters([part.text], outline.settings, document.path)):
        return _untouched(document.path, part)
    return _work(document, replace(outline, rules=run.inspection(document.path).rules), work)


def _wanted(document: Document, inspection: Inspection, step: Wanted | None) -> list[Inspection | None]:
    """What each part of a file is looked at with; None for one that is skipped, or has not the step wanted."""
    if any(skips_file(part.text) for part in document.parts):
        return [None] * len(document.parts)
    found = [replace(inspection, part=part) for part in document.parts]
    if step is None:
        return [*found]
    lines = [Located(each.part.text, each.part).line_at(step.cell, step.line) for each in found]
    if all(line is None for line in lines):
        place = f"cell {step.cell}:{step.line}" if step.cell else f"line {step.line}"
        raise ConfigError(f"{step.path} has no code at {place}")
    return [replace(each, line=line) if line else None for each, line in zip(found, lines, strict=True)]


def _untouched(path: Path, part: Part) -> FileReport:
    return FileReport(str(path), part.text, part.text, part=part)


def _rewritten(document: Document, reports: Sequence[FileReport], inspection: Inspection) -> Outcome:
    """The outcome of a file; one that would not be read back as what was proven stays as it is."""
    old, new = [report.before for report in reports], [report.after for report in reports]
    raw = document.encode(old)
    if old == new:
        return Outcome(document.path, raw, raw, tuple(reports))
    try:
        pages = zip(document.pages(old), document.pages(new), strict=True)
        changes = tuple(Change(a.title, a.text, b.text) for a, b in pages if a.text != b.text)
        return Outcome(document.path, raw, document.encode(new), tuple(reports), changes)
    except Unwritable as error:
        message = f"The fixes of this file were withdrawn: {error}; this is a bug in ampify, please report it"
        parts = (replace(inspection, part=report.part) for report in reports)
        kept = [each.look(each.part.text) for each in parts]
        return Outcome(document.path, raw, raw, (*kept, inspection.unusable("", "AMP904", message)))


def _work(document: Document, inspection: Inspection, work: Work) -> FileReport:
    from ampify.syntax.tree import Unreadable

    part = inspection.part
    try:
        if len(part.text) > (largest := inspection.settings.largest):
            message = f"Its code is larger than {largest / 1e6:g} MB; `max-file-size` says how large it may be"
            raise Unreadable("AMP905", message)
        return work(document, inspection)
    except Unreadable as error:
        if part.fragment and not inspection.settings.names("AMP900"):
            return _untouched(document.path, part)
        return inspection.unusable(part.text, error.code, str(error), error.line, error.column)
    except RecursionError:
        return inspection.unusable(part.text, "AMP905", "The file is nested too deeply to be analysed")


_SENT = (_look, _mend, erasing)
"""The work that can be sent to other processes."""


def _internal(error: Exception) -> Exception:
    place = extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return RuntimeError(f"ampify failed: {type(error).__name__} at {where}: {error}; please report this as a bug")
