"""What ampify has to say about a place in a file; knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from ampify.source.edits import Fix
from ampify.source.text import Span


class Severity(IntEnum):
    """``ERROR`` raises or silently trains wrongly; ``WARNING`` is hazardous; ``INFO`` is advice or a refusal."""

    INFO = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A place in another file; lines and columns count from 1."""

    path: str
    start: tuple[int, int]
    end: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that explains a finding, such as where the optimizer is made.

    Where that is in another file, ``elsewhere`` is the place, ``span`` that of the finding, and the message names it.
    """

    message: str
    span: Span
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding in one file. ``span`` counts code points of the decoded text of the file."""

    path: str
    span: Span
    code: str
    name: str
    severity: Severity
    message: str
    notes: tuple[Note, ...] = ()
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class ToolCode:
    """A finding about ampify's own work, which no rule makes."""

    name: str
    severity: Severity
    meaning: str


TOOL_CODES: Mapping[str, ToolCode] = {
    "AMP900": ToolCode("syntax-error", Severity.ERROR, "The file does not parse"),
    "AMP901": ToolCode("verification-mismatch", Severity.ERROR, "Verification found a difference"),
    "AMP902": ToolCode("could-not-verify", Severity.WARNING, "The program could not be verified"),
    "AMP903": ToolCode("unused-ignore", Severity.INFO, "An ignore comment hides nothing"),
    "AMP904": ToolCode("fix-withdrawn", Severity.WARNING, "A fix did not pass its proof: a bug in ampify"),
    "AMP905": ToolCode("left-alone", Severity.INFO, "The file is too large or too deep, or does not round-trip"),
}
