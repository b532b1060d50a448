"""The story: read, screen, parse, find, check, fix, prove, write, report. Knows nothing of PyTorch or of output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from traceback import extract_tb

from ampify.config import ConfigError, Lookup, Settings
from ampify.diagnostic import TOOL_CODES, Diagnostic
from ampify.inspection import FileReport, Inspection
from ampify.rule import Rule, load
from ampify.source import files
from ampify.source.document import Document, Undecodable
from ampify.source.ignores import skips_file
from ampify.source.python import decode
from ampify.source.text import SourceText

Track = Callable[[Sequence[Path]], Iterable[Path]]
"""Hands the files on one by one, such as to show how many are done."""

Work = Callable[[Document, Inspection], FileReport]
"""What is done with a file that could be read."""


class Mode(Enum):
    """What becomes of the fixes."""

    REPORT = "report"
    DIFF = "diff"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Report:
    """The files there is something to say about, and what could not be read or written."""

    files: tuple[FileReport, ...]
    errors: tuple[str, ...]
    checked: int
    mode: Mode

    @property
    def status(self) -> int:
        """The exit status."""
        if self.errors:
            return 2
        would_change = self.mode is Mode.DIFF and any(file.before != file.after for file in self.files)
        return int(would_change or any(file.fails for file in self.files))


@dataclass(frozen=True, slots=True)
class StepReport:
    """A training step, as `ampify steps` lists it."""

    path: str
    line: int
    where: str
    models: tuple[str, ...]
    optimizers: tuple[str, ...]
    losses: tuple[str, ...]
    scaler: str | None
    decision: str
    code: str | None
    reason: str


@dataclass(frozen=True)
class Run:
    """One call of ampify: settings by file, what becomes of fixes, the only step wanted, errors so far."""

    settings: Callable[[Path], Settings] = field(default_factory=Lookup)
    mode: Mode = Mode.REPORT
    step: tuple[Path, int] | None = None
    errors: list[str] = field(default_factory=list)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(load().values())

    def inspection(self, path: Path) -> Inspection:
        settings = self.settings(path)
        codes = (*TOOL_CODES, *(rule.code for rule in self.rules))
        for prefix in (*settings.select, *settings.ignore):
            if not any(code.startswith(prefix) for code in codes):
                raise ConfigError(f"no code begins with `{prefix}`; `ampify rules` lists them")
        rules = tuple(rule for rule in self.rules if settings.enables(rule.code))
        return Inspection(str(path), settings, rules, self.step[1] if self.step else None)

    def failed(self, path: object, error: Exception) -> None:
        self.errors.append(f"{path}: {getattr(error, 'strerror', None) or error}")


def check(paths: Iterable[Path], run: Run, track: Track = iter) -> Report:
    """Look at every file, and mend what can be mended where the run's mode says so."""
    return _report(paths, run, track, _look if run.mode is Mode.REPORT else _mend)


def check_bytes(path: Path, raw: bytes, run: Run) -> tuple[Report, bytes]:
    """The report on source that came from elsewhere, and its bytes after the fixes."""
    report, new = _guarded(path, raw, run, _look if run.mode is Mode.REPORT else _mend)
    return Report((report,) if report else (), tuple(run.errors), 1, run.mode), new


def check_text(text: str, settings: Settings, path: str = "example.py") -> list[Diagnostic]:
    """The findings in a text that need not be a file; what goes wrong is raised."""
    return list(_inspection_of_text(settings, path).look(text).diagnostics)


def fix_text(text: str, settings: Settings, path: str = "example.py") -> tuple[str, list[Diagnostic]]:
    """A text after its fixes, and the findings that are left in it."""
    report = _inspection_of_text(settings, path).mend(text)
    return report.after, list(report.diagnostics)


def _inspection_of_text(settings: Settings, path: str) -> Inspection:
    return Run(settings=lambda _: settings).inspection(Path(path))


def erase(paths: Iterable[Path], run: Run, track: Track = iter) -> Report:
    """Take mixed precision out of every file."""
    return _report(paths, run, track, _erase)


def steps(paths: Iterable[Path], run: Run, track: Track = iter) -> tuple[list[StepReport], Report]:
    """Every training step with what is decided on it, and a report on the files that could not be read."""
    rows: list[StepReport] = []

    def list_steps(document: Document, inspection: Inspection) -> FileReport:
        rows.extend(_step_reports(document.text, inspection))
        return FileReport(inspection.path, document.text, document.text)

    report = _report(paths, run, track, list_steps)
    return rows, report


def _look(document: Document, inspection: Inspection) -> FileReport:
    return inspection.look(document.text)


def _mend(document: Document, inspection: Inspection) -> FileReport:
    return inspection.look(document.text) if document.lint_only else inspection.mend(document.text)


def _erase(document: Document, inspection: Inspection) -> FileReport:
    from ampify.rewrite.erase import EraseFailed, erase_text
    from ampify.syntax.tree import Tree

    text = document.text
    try:
        return FileReport(inspection.path, text, text if document.lint_only else erase_text(text))
    except EraseFailed as error:
        Tree(text)  # where it does not even parse, this says so better
        return inspection.unusable(text, "AMP905", f"Mixed precision cannot be taken out: {error}")


def _step_reports(text: str, inspection: Inspection) -> Iterator[StepReport]:
    for step, decision in inspection.decisions(text):
        line = SourceText(text).line(step.span.start)
        yield StepReport(
            inspection.path, line, step.where, step.models, step.optimizers, step.losses, step.scaler,
            decision.word, decision.code, decision.reason,
        )  # fmt: skip


def _report(paths: Iterable[Path], run: Run, track: Track, work: Work) -> Report:
    found = _find(paths, run)
    reports = [report for path in track(found) if (report := _visit(path, run, work))]
    telling = tuple(report for report in reports if report.diagnostics or report.before != report.after)
    return Report(telling, tuple(run.errors), len(found), run.mode)


def _find(paths: Iterable[Path], run: Run) -> list[Path]:
    found = list(files.find(paths, lambda error: run.failed(error.filename, error)))
    if run.step is None:
        return found
    wanted = [path for path in found if path.resolve() == run.step[0].resolve()]
    if not wanted:
        raise ConfigError(f"{run.step[0]} is not among the files given")
    return wanted


def _visit(path: Path, run: Run, work: Work) -> FileReport | None:
    """Read, work, write; what goes wrong with one file is noted, and the next one has its turn."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        run.failed(path, error)
        return None
    report, new = _guarded(path, raw, run, work)
    if new == raw or run.mode is not Mode.WRITE:
        return report
    try:
        files.write(path, raw, new)
    except OSError as error:
        run.failed(path, error)
        report, _ = _guarded(path, raw, replace(run, mode=Mode.REPORT), _look) if work is _mend else (None, raw)
    return report


def _guarded(path: Path, raw: bytes, run: Run, work: Work) -> tuple[FileReport | None, bytes]:
    """Screen and work; a bug in one rule must not cost the findings in all other files."""
    if not files.matters(raw):
        return None, raw
    try:
        return _treat(path, raw, run, work)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001
        run.failed(path, _internal(error))
        return None, raw


def _treat(path: Path, raw: bytes, run: Run, work: Work) -> tuple[FileReport, bytes]:
    """Do the work on what the bytes say; what cannot be read is a finding."""
    inspection = run.inspection(path)
    if len(raw) > files.LARGEST:
        message = f"The file is larger than {files.LARGEST // 1_000_000} MB"
        return inspection.unusable("", "AMP905", message), raw
    try:
        document = decode(path, raw)
    except Undecodable as error:
        return inspection.unusable("", error.code, str(error), error.line), raw
    report = _work(document, inspection, work)
    return report, document.encode(report.after) if report.after != report.before else raw


def _work(document: Document, inspection: Inspection, work: Work) -> FileReport:
    from ampify.syntax.tree import Unreadable

    text = document.text
    if skips_file(text):
        return FileReport(inspection.path, text, text)
    try:
        return work(document, inspection)
    except Unreadable as error:
        return inspection.unusable(text, error.code, str(error), error.line, error.column)
    except RecursionError:
        return inspection.unusable(text, "AMP905", "The file is nested too deeply to be analysed")


def _internal(error: Exception) -> Exception:
    place = extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return RuntimeError(f"ampify failed: {type(error).__name__} at {where}: {error}; please report this as a bug")
