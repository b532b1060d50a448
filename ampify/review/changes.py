"""The lines that changed since a revision of git, and the findings that touch them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ampify.config import ConfigError
from ampify.diagnostic import Diagnostic
from ampify.engine import Report
from ampify.inspection import FileReport
from ampify.source.document import Located
from ampify.source.text import Span

_HUNK = re.compile(r"@@ -\d+(?:,(?P<old>\d+))? \+(?P<first>\d+)(?:,(?P<count>\d+))? @@")
_DIFF = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short", "--find-renames", "--no-relative",
         "--unified=0", "--src-prefix=a/", "--dst-prefix=b/")  # fmt: skip
_WHOLE = range(1, 1 << 60)


class _GitFailed(ConfigError):
    """Git ran, and could not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changed lines by file, its real path. Where lines were only taken out, those around the gap count."""

    lines: Mapping[str, tuple[range, ...]]

    def only(self, report: Report) -> Report:
        """The report on what the changes touch."""
        files = (self._narrowed(file) for file in report.files)
        return replace(report, files=tuple(file for file in files if file.diagnostics))

    def _narrowed(self, file: FileReport) -> FileReport:
        return replace(file, diagnostics=tuple(d for d in file.diagnostics if self._touches(file, d)))

    def _touches(self, file: FileReport, finding: Diagnostic) -> bool:
        changed = self.lines.get(os.path.realpath(finding.path), ())
        if not changed or changed[0] == _WHOLE:
            return bool(changed)
        spans = (finding.span, *(note.span for note in finding.notes))
        own = (_lines(file.source, span) for span in spans)
        return any(lines.start < each.stop and each.start < lines.stop for lines in own for each in changed)


def _lines(source: Located, span: Span) -> range:
    """The lines of the file on disk that a span is in."""
    return range(_line(source, span.start), _line(source, max(span.end - 1, span.start)) + 1)


def _line(source: Located, offset: int) -> int:
    place = source.place(offset)
    return place.line if place.cell is None else source.stored(offset)


def since(base: str, paths: Iterable[Path]) -> Changes:
    """What has changed since the commit at which ``base`` and the current branch part, on disk; raises `ConfigError`.

    The repositories are those that ``paths`` lie in.
    """
    lines: dict[str, tuple[range, ...]] = {}
    for top in {_top(path): None for path in paths}:
        commit = _commit(base, top)
        found = _changed(_git(top, *_DIFF, commit))
        untracked = _git(top, "ls-files", "-z", "--others", "--exclude-standard").split("\0")[:-1]
        found |= dict.fromkeys(untracked, (_WHOLE,))
        lines |= {os.path.realpath(top / name): changed for name, changed in found.items()}
    return Changes(lines)


def _changed(patch: str) -> dict[str, tuple[range, ...]]:
    """The new lines of each hunk, by file; of one that only takes lines out, the line above and the one below."""
    found, name, rest = dict[str, tuple[range, ...]](), "", 0
    for line in patch.split("\n"):
        if rest and not line.startswith("\\"):  # a line of a hunk, which may look like anything
            rest -= 1
        elif line.startswith("+++ "):
            name = _unquoted(line[4:].removesuffix("\t")).removeprefix("b/")
        elif hunk := _HUNK.match(line):
            first, count = int(hunk["first"]), int(hunk["count"] or 1)
            rest = count + int(hunk["old"] or 1)
            found[name] = (*found.get(name, ()), range(first, first + (count or 2)))
    return found


def _unquoted(name: str) -> str:
    """A name as git writes it: in quotes, with the escapes of C, where it holds unusual characters."""
    if not name.startswith('"'):
        return name
    return os.fsdecode(bytes(ast.literal_eval("b" + name)))


def _top(path: Path) -> Path:
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel").removesuffix("\n"))
    except _GitFailed:
        raise ConfigError(f"`--diff-base` needs git, and {folder} is not in a repository") from None


def _commit(base: str, top: Path) -> str:
    """The commit to compare with: where both branches part, or ``base`` itself where they have nothing in common."""
    try:
        commit = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}").strip()
    except _GitFailed:
        raise ConfigError(f"`{base}` is not a revision that git knows in {top}") from None
    try:
        return _git(top, "merge-base", commit, "HEAD").strip()
    except _GitFailed:
        return commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "core.quotePath=true", "-c", "diff.noprefix=false", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise ConfigError(f"git cannot be run: {error.strerror}") from None
    if done.returncode:
        raise _GitFailed(f"git {arguments[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return os.fsdecode(done.stdout)
