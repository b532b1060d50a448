"""What an editor offers at a place: fixes, ignores, the conversion of a step. Every edit goes through `Study`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsprotocol import types

from ampify.diagnostic import TOOL_CODES, Diagnostic
from ampify.server.desk import Study
from ampify.server.papers import Paper
from ampify.server.protocol import diagnostic, extent
from ampify.source.document import Located, Place
from ampify.source.edits import Applicability
from ampify.unit import Change

FIX_ALL = "source.fixAll.ampify"


@dataclass(frozen=True, slots=True)
class Offer:
    """An action without its edit; ``data`` is what `changes` needs to make one. ``refusal``: why it cannot be done."""

    title: str
    kind: str
    data: Mapping[str, Any]
    diagnostics: list[types.Diagnostic] = field(default_factory=list)
    preferred: bool = False
    refusal: str = ""


def offers(
    study: Study, paper: Paper, asked: types.CodeActionParams, cell: int | None, encoding: str
) -> Iterator[Offer]:
    """The actions for a range of a document, or of one of its cells."""
    only = asked.context.only
    if _wanted(types.CodeActionKind.QuickFix, only):
        for source, found in findings(study, paper, cell):
            if _touches(extent(source, found.span, encoding), asked.range):
                told = diagnostic(source, found, paper.uri_of, encoding)
                yield from _for_finding(source, found, told, together=len(study.group.documents) > 1)
    if _wanted(types.CodeActionKind.RefactorRewrite, only):
        yield from _for_step(study, str(paper.path), cell, asked.range.start.line + 1)
    if only and _wanted(FIX_ALL, only):
        yield Offer("Fix everything that ampify can fix safely", FIX_ALL, {"do": "fix all"})


def changes(study: Study, data: Mapping[str, Any]) -> tuple[Change, ...]:
    """What an action that was offered changes, in the texts as they are now."""
    if data["do"] == "fix all":
        return study.all_fixed()
    path, place = data["path"], Place(data["cell"], data["line"], data["column"])
    match data["do"]:
        case "fix":
            return study.fixed(path, data["code"], place)
        case "ignore":
            return study.silenced(path, data["code"], place)
    steps = (step for step in study.steps if (step.path, step.place) == (path, place))
    return next((study.converted(step) for step in steps), ())


def findings(study: Study, paper: Paper, cell: int | None) -> Iterator[tuple[Located, Diagnostic]]:
    """The findings in a document, or in one of its cells, each with its text."""
    for report in study.report.files:
        source = report.source
        for found in report.diagnostics if report.path == str(paper.path) else ():
            if source.place(found.span.start).cell == cell:
                yield source, found


def _for_finding(source: Located, found: Diagnostic, told: types.Diagnostic, *, together: bool) -> Iterator[Offer]:
    at = {"path": found.path, "code": found.code, **_members(source.place(found.span.start))}
    fix = found.fix
    if fix and fix.applicability is not Applicability.MANUAL and (fix.edits or together):
        safe = fix.applicability is Applicability.SAFE
        title = fix.title if safe else f"{fix.title} (unsafe)"
        yield Offer(title, types.CodeActionKind.QuickFix, {"do": "fix", **at}, [told], preferred=safe)
    if found.code not in TOOL_CODES:
        yield Offer(f"Ignore {found.code} here", types.CodeActionKind.QuickFix, {"do": "ignore", **at}, [told])


def _for_step(study: Study, path: str, cell: int | None, line: int) -> Iterator[Offer]:
    """The conversion of the innermost training step around a line."""
    around = [step for step in study.steps if step.covers(path, cell, line)]
    if not around:
        return
    step = min(around, key=lambda each: len(each.lines[path, cell]))
    title, kind = "Convert this training step to mixed precision", types.CodeActionKind.RefactorRewrite
    data = {"do": "convert", "path": step.path, **_members(step.place)}
    if step.word == "convert":
        yield Offer(title, kind, data)
    elif step.word == "refuse":
        yield Offer(title, kind, data, refusal=step.reason)


def _members(place: Place) -> dict[str, int | None]:
    return {"cell": place.cell, "line": place.line, "column": place.column}


def _touches(span: types.Range, asked: types.Range) -> bool:
    return span.start <= asked.end and asked.start <= span.end


def _wanted(kind: str, only: Any) -> bool:
    """Whether the client asks for this kind of action, or for a wider one."""
    kind = _plain(kind)
    return not only or any(kind == each or kind.startswith(f"{each}.") for each in map(_plain, only))


def _plain(kind: str) -> str:
    return str(getattr(kind, "value", kind))
