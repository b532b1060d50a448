"""What the formats for other programs want to know of a finding."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from ampify.diagnostic import Diagnostic
from ampify.engine import Report
from ampify.source.document import Located, Place
from ampify.source.edits import Edit


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and the text it is about.

    ``fingerprint`` is its own in the whole report, and stays when lines above it come or go; ``fails`` says whether it
    makes the check fail.
    """

    finding: Diagnostic
    source: Located
    fingerprint: str
    fails: bool

    @property
    def path(self) -> str:
        return relative(self.finding.path)

    @property
    def start(self) -> Place:
        return self.source.place(self.finding.span.start)

    @property
    def end(self) -> Place:
        return self.source.place(self.finding.span.end)

    @property
    def message(self) -> str:
        """In a notebook with the place: the lines of its file mean nothing to a person."""
        return self.finding.message if self.start.cell is None else f"{self.start}: {self.finding.message}"

    @property
    def details(self) -> str:
        """The place, the message, the notes and what the fix would do, a line for each."""
        finding, place = self.finding, self.source.place
        lines = [f"{self.path}:{self.start}: {finding.code} {finding.message}"]
        lines += [f"note: {note.message} ({self.path}:{place(note.span.start)})" for note in finding.notes]
        return "\n".join([*lines, f"help: {finding.fix.title}"] if finding.fix else lines)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What the fix replaces in the file itself; a cell, or a block of Markdown, is only a piece of its file."""
        inside = self.start.cell is not None or self.source.part.fragment
        return () if inside or self.finding.fix is None else self.finding.fix.edits


def found(report: Report) -> Iterator[Found]:
    """Every finding that is left."""
    same = Counter[str]()
    for file in report.files:
        source = file.source
        for finding in file.diagnostics:
            line = source.shown(source.line(finding.span.start)).strip()
            key = "\0".join((relative(finding.path), finding.code, line))
            same[key] += 1
            yield Found(finding, source, fingerprint(key, str(same[key])), finding.severity >= file.level)


def fingerprint(*parts: str) -> str:
    """32 hexadecimal digits that stand for the parts."""
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def relative(path: str) -> str:
    """A path as seen from the working directory, with forward slashes; one outside of it stays as it is."""
    pure, here = Path(path), Path.cwd()
    return (pure.relative_to(here) if pure.is_relative_to(here) else pure).as_posix()


def uri(path: str) -> str:
    """A path as a reference that a URI may hold."""
    pure = Path(relative(path))
    return pure.as_uri() if pure.is_absolute() else quote(os.fsencode(pure.as_posix()))
