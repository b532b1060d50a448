"""What a run has found, kept until anything changes that it depends on. One file in JSON: a cache may come from a
stranger, and must not be able to do more than to be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampify import __version__
from ampify.diagnostic import Diagnostic, Note, Severity
from ampify.inspection import FileReport
from ampify.source import importers
from ampify.source.document import Undecodable
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.formats import decode
from ampify.source.text import Span

FOLDER = ".ampify_cache"
_FILE = "runs.json"
_RUNS = 16
"""Runs with different paths or options that are remembered."""
_TICK = 20_000_000
"""Nanoseconds in which two writes can give a file the same time."""
_CONFIGURES = ("ampify.toml", "pyproject.toml", "ruff.toml", ".ruff.toml", "setup.cfg")
_PINS = (("requirements", ".txt"), ("environment", ".yml"), ("environment", ".yaml"))

Stamp = list[int]
"""When a file was written, when it was changed otherwise, how large it is."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache in ``folder``; ``options`` are what a run was asked besides its paths."""

    folder: Path
    options: object
    configs: Callable[[Path], Iterable[Path]] = lambda _: ()
    """The files that configure a file or folder."""

    def recall(self, paths: Sequence[Path], found: Sequence[Path]) -> list[FileReport] | None:
        """What a run on these files has reported; None if there was none, or if anything has changed since."""
        if (run := self._runs().get(self._key(paths))) is None:
            return None
        try:
            if run["files"] != _stamps(found) or run["around"] != self._around(found, run["projects"]):
                return None
            return [_report(row) for row in run["reports"]]
        except (KeyError, TypeError, ValueError, IndexError, OSError, Undecodable):
            return None

    def keep(self, paths: Sequence[Path], found: Sequence[Path], before: Any, reports: Iterable[FileReport]) -> None:
        """Remember a run; ``before`` is what `stamps` gave for its files before they were read."""
        with suppress(OSError, TypeError):
            rows = [_row(report) for report in reports]
            projects = [[str(folder), sorted(suffixes)] for folder, suffixes in sorted(importers.consulted.items())]
            around = self._around(found, projects)
            if None in rows or _is_fresh(before) or _is_fresh(around):
                return
            run = {"files": before, "around": around, "projects": projects, "reports": rows}
            runs = {key: value for key, value in self._runs().items() if key != self._key(paths)}
            self._write(dict([*runs.items(), (self._key(paths), run)][-_RUNS:]))

    def _around(self, found: Sequence[Path], projects: Sequence[Sequence[Any]]) -> dict[str, Stamp | None]:
        first = {path.parent: path for path in found}
        return _around(found, projects) | _stamps(each for path in first.values() for each in self.configs(path))

    def stamps(self, found: Sequence[Path]) -> Any:
        """The state of files before they are read."""
        return _stamps(found)

    def _key(self, paths: Sequence[Path]) -> str:
        asked = [os.getcwd(), [str(path) for path in paths], self.options]  # noqa: PTH109
        return hashlib.blake2b(json.dumps(asked, default=str).encode(), digest_size=16).hexdigest()

    def _runs(self) -> dict[str, Any]:
        try:
            raw = (self.folder / _FILE).read_bytes()
            head, _, body = raw.partition(b"\n")
            if head.decode() != _head(body):
                return {}
            runs = json.loads(body)
        except (OSError, ValueError, RecursionError):
            return {}
        return runs if isinstance(runs, dict) else {}

    def _write(self, runs: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        ignore = self.folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Written by ampify.\n*\n", "utf-8")
        body = json.dumps(runs).encode()
        handle, temporary = tempfile.mkstemp(prefix=_FILE, suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(body).encode() + b"\n" + body)
            os.replace(temporary, self.folder / _FILE)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def home(start: Path) -> Path | None:
    """Where the cache of a project is: beside its configuration or repository, else in ``start``; never at home."""
    start = start.absolute()
    marks = (".git", "ampify.toml", "pyproject.toml")
    root = next((f for f in (start, *start.parents) if any((f / mark).exists() for mark in marks)), start)
    return None if root in (Path.home(), Path(root.anchor)) else root / FOLDER


def clean(folder: Path) -> bool:
    """Remove a cache; whether there was one. A folder that ampify has not made is left alone."""
    if not (folder / _FILE).is_file():
        return False
    shutil.rmtree(folder) if folder.name == FOLDER else (folder / _FILE).unlink()
    return True


# ---------------------------------------------------------------------- what a run depends on


def _head(body: bytes) -> str:
    """Of which program a cache is, and that it is whole."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    return f"ampify {__version__} {sys.hexversion:x} {_program()} {digest}"


def _program() -> str:
    """The state of ampify itself, which changes in a checkout without its version."""
    home = Path(__file__).parent
    folders = [home, home.parent / "rules"] if (home.parent / "rules").is_dir() else []
    newest = [stamp for folder in folders for stamp in _stamps(sorted(folder.rglob("*.[pt][yo]*"))).values()]
    return hashlib.blake2b(json.dumps(newest).encode(), digest_size=8).hexdigest()


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size]


def _stamps(found: Iterable[Path]) -> dict[str, Stamp | None]:
    return {(name := str(path)): _stamp(name) for path in found}


def _around(found: Sequence[Path], projects: Sequence[Sequence[Any]]) -> dict[str, Stamp | None]:
    """The state of what configures the files of a run, and of the projects that were asked for callers."""
    folders = {parent for path in {os.path.dirname(os.path.abspath(p)) for p in found} for parent in _parents(path)}  # noqa: PTH120, PTH100
    stamps = {name: _stamp(name) for folder in sorted(folders) for name in _configuring(folder)}
    for folder, suffixes in projects:
        stamps |= _stamps(importers.code_files(Path(folder), suffixes))
    return stamps


def _parents(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return
        folder = above


def _configuring(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    pins = (n for n in names if any(n.startswith(head) and n.endswith(tail) for head, tail in _PINS))
    return [f"{folder}/{name}" for name in sorted((*pins, *(n for n in names if n in _CONFIGURES)))]


def _is_fresh(stamps: dict[str, Stamp | None]) -> bool:
    """Whether a file may be written once more without a change of its time."""
    newest = max((max(stamp[:2]) for stamp in stamps.values() if stamp is not None), default=0)
    return newest > time.time_ns() - _TICK


# ---------------------------------------------------------------------- reports as JSON


def _row(report: FileReport) -> list[Any] | None:
    """A report without its text, which is in the file; None for one that cannot be kept."""
    parts = decode(Path(report.path), Path(report.path).read_bytes()).parts
    index = next((i for i, part in enumerate(parts) if part == report.part and part.text == report.after), None)
    if index is None or report.fixed or report.before != report.after:
        return None
    return [report.path, index, int(report.level), [_diagnostic_row(d) for d in report.diagnostics]]


def _diagnostic_row(d: Diagnostic) -> list[Any]:
    fix = d.fix and [d.fix.title, [[e.span.start, e.span.end, e.text] for e in d.fix.edits], int(d.fix.applicability)]
    notes = [[note.message, note.span.start, note.span.end] for note in d.notes]
    return [d.path, d.span.start, d.span.end, d.code, d.name, int(d.severity), d.message, notes, fix]


def _report(row: list[Any]) -> FileReport:
    path, index, level, found = row
    part = decode(Path(path), Path(path).read_bytes()).parts[index]
    return FileReport(path, part.text, part.text, tuple(map(_diagnostic, found)), (), Severity(level), part)


def _diagnostic(row: list[Any]) -> Diagnostic:
    path, start, end, code, name, severity, message, notes, fix = row
    told = tuple(Note(text, Span(first, last)) for text, first, last in notes)
    mended = fix and Fix(fix[0], tuple(Edit(Span(a, b), text) for a, b, text in fix[1]), Applicability(fix[2]))
    return Diagnostic(path, Span(start, end), code, name, Severity(severity), message, told, mended)
