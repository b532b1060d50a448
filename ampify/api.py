"""The Python interface: sources in, findings and sources out; what it returns is made of plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from ampify import engine
from ampify.config import ConfigError, Device, Precision, Settings, parse_codes, parse_torch
from ampify.diagnostic import Diagnostic
from ampify.engine import Mode, Report, Run
from ampify.source.document import Document, Located, Undecodable
from ampify.source.magics import unmask
from ampify.source.python import PythonDocument
from ampify.source.text import Span
from ampify.together import Group
from ampify.verify.verdict import Verdict

AnyPath = str | PathLike[str]


class AmpifyError(ValueError):
    """The work could not be done: an option or a source that cannot be used, or a bug in ampify."""


class Options(TypedDict, total=False):
    """What the options of the command line are called here. No configuration file is read."""

    select: Sequence[str]
    ignore: Sequence[str]
    dtype: Precision
    device: Device
    target_torch: str
    unsafe_fixes: bool
    line_length: int


class VerifyOptions(TypedDict, total=False):
    """The options of `ampify verify`."""

    cwd: Path
    python: str
    steps: int
    seed: int
    timeout: float
    device: Device
    dtype: Precision
    numerics: bool
    bench: bool
    fake_cuda: bool
    synthetic_data: bool
    launch: tuple[str, ...]
    unsafe_fixes: bool


@dataclass(frozen=True, slots=True)
class Position:
    """A place; lines and columns count from 1, in a notebook within the cell, whose number counts from 1 too."""

    line: int
    column: int
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that explains a finding."""

    message: str
    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace what stands from ``start`` to ``end`` by ``text``."""

    start: Position
    end: Position
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that belong together: all are applied, or none."""

    title: str
    applicability: Literal["safe", "unsafe", "manual"]
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing there is to say about a source."""

    code: str
    name: str
    severity: Literal["info", "warning", "error"]
    message: str
    start: Position
    end: Position
    notes: tuple[Note, ...] = ()
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """A source after its fixes: what is left to say about it, and the codes of what was mended, in their order."""

    source: str
    changed: bool
    findings: tuple[Finding, ...]
    fixed: tuple[str, ...]


def check_source(source: str, *, filename: AnyPath = "source.py", **options: Unpack[Options]) -> list[Finding]:
    """The findings in the text of a file, as of `ampify check`.

    The end of ``filename`` says what it is: Python, a notebook, Markdown. Raises `AmpifyError`.
    """
    document = _document(source, filename)
    return list(_findings(_report(document, Run(_settings(options)))))


def convert_source(source: str, *, filename: AnyPath = "source.py", **options: Unpack[Options]) -> Converted:
    """The text of a file after `ampify --fix`: converted and mended, each fix proven. Raises `AmpifyError`."""
    document = _document(source, filename)
    report = _report(document, Run(_settings(options), Mode.DIFF))
    after = _text(document, report, source)
    fixed = tuple(finding.code for file in report.files for finding in file.fixed)
    return Converted(after, after != source, _findings(report), fixed)


def erase_source(source: str, *, filename: AnyPath = "source.py") -> str:
    """The text of a file without mixed precision, as of `ampify erase`. Raises `AmpifyError` where that cannot be."""
    document = _document(source, filename)
    report = _report(document, Run(_settings({}), Mode.DIFF), engine.erasing)
    if findings := _findings(report):
        raise AmpifyError(findings[0].message)
    return _text(document, report, source)


def verify_script(script: AnyPath, args: Sequence[str] = (), **options: Unpack[VerifyOptions]) -> Verdict:
    """Run a script with and without mixed precision, and say level by level what is the same: `ampify verify`.

    This runs the script, several times, in processes of its own. Raises `AmpifyError`.
    """
    from ampify.verify.ladder import climb
    from ampify.verify.project import build

    folder = options.get("cwd", Path.cwd())
    if not (folder / script).is_file():
        raise AmpifyError(f"there is no file `{script}`")
    try:
        return climb(build({"script": Path(script), "args": tuple(args), **options}, folder, None))
    except ConfigError as error:
        raise AmpifyError(str(error)) from None


def _settings(options: Mapping[str, Any]) -> Any:
    values = dict(options)
    if unknown := {*values} - {*Options.__annotations__}:
        raise AmpifyError(f"there is no option `{min(unknown)}`")
    try:
        for name in {"select", "ignore"} & {*values}:
            values[name] = parse_codes(",".join(values[name]))
        if "target_torch" in values:
            values["target_torch"] = parse_torch(values["target_torch"])
        settings = Settings(**values)
    except ConfigError as error:
        raise AmpifyError(str(error)) from None
    return lambda _: settings


def _document(source: str, filename: AnyPath) -> Document:
    from ampify.source import markdown, notebook

    path = Path(filename)
    try:
        match path.suffix:
            case ".ipynb":
                return notebook.decode(path, source.encode())
            case ".md":
                return markdown.decode(path, source.encode())
        return PythonDocument(path, source, "utf-8")
    except (Undecodable, UnicodeEncodeError) as error:
        raise AmpifyError(str(error)) from None


def _report(document: Document, run: Run, work: engine.Work | None = None) -> Report:
    try:
        report = engine.check_group(Group((document,)), run, work)
    except ConfigError as error:
        raise AmpifyError(str(error)) from None
    if report is None or report.errors:
        raise AmpifyError("; ".join(report.errors) if report else "the source cannot be read")
    return report


def _text(document: Document, report: Report, source: str) -> str:
    """The file's text once every part is as the report has it."""
    if all(file.before == file.after for file in report.files):
        return source
    return document.encode([file.after for file in report.files]).decode()


def _findings(report: Report) -> tuple[Finding, ...]:
    return tuple(_finding(file.source, found) for file in report.files for found in file.diagnostics)


def _finding(source: Located, found: Diagnostic) -> Finding:
    notes = tuple(Note(note.message, *_ends(source, note.span)) for note in found.notes)
    severity, fix = found.severity.name.lower(), None
    if found.fix is not None:
        edits = tuple(Edit(*_ends(source, edit.span), unmask(edit.text)) for edit in found.fix.edits)
        fix = Fix(found.fix.title, found.fix.applicability.name.lower(), edits)  # type: ignore[arg-type]
    start, end = _ends(source, found.span)
    return Finding(found.code, found.name, severity, found.message, start, end, notes, fix)  # type: ignore[arg-type]


def _ends(source: Located, span: Span) -> tuple[Position, Position]:
    start, end = (source.place(at) for at in (span.start, span.end))
    return Position(start.line, start.column, start.cell), Position(end.line, end.column, end.cell)
