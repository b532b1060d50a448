"""Between ampify's places and texts and those of the protocol, whose columns count what the client has asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path

from lsprotocol import types
from pygls.uris import from_fs_path

from ampify.diagnostic import Diagnostic, Note, Severity
from ampify.source.document import Located
from ampify.source.text import SourceText, Span

_SEVERITIES = {
    Severity.INFO: types.DiagnosticSeverity.Information,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
    Severity.ERROR: types.DiagnosticSeverity.Error,
}
_WIDTHS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def units(text: str, encoding: str) -> int:
    """How long a text is for the client."""
    codec, width = _WIDTHS[encoding]
    return len(text.encode(codec, "surrogatepass")) // width


def position(source: Located, offset: int, encoding: str) -> types.Position:
    """A place in the file, or in its cell."""
    place = source.place(offset)
    line = source.shown(source.line(offset))
    left = place.column - 1 if source.part.left == 0 else source.column(offset)
    return types.Position(place.line - 1, place.column - 1 - left + units(line[:left], encoding))


def extent(source: Located, span: Span, encoding: str) -> types.Range:
    return types.Range(position(source, span.start, encoding), position(source, span.end, encoding))


def diagnostic(source: Located, found: Diagnostic, uri: Callable[[int | None], str], encoding: str) -> types.Diagnostic:
    """A finding; ``uri`` is that of the file, or of one of its cells."""
    return types.Diagnostic(
        range=extent(source, found.span, encoding),
        message=found.message,
        severity=_SEVERITIES[found.severity],
        code=found.code,
        source="ampify",
        tags=[types.DiagnosticTag.Unnecessary] if found.code == "AMP903" else None,
        related_information=[_related(source, note, uri, encoding) for note in found.notes],
    )


def _related(
    source: Located, note: Note, uri: Callable[[int | None], str], encoding: str
) -> types.DiagnosticRelatedInformation:
    if (there := note.elsewhere) is None:
        place = types.Location(uri(source.place(note.span.start).cell), extent(source, note.span, encoding))
    else:
        begin = types.Position(there.start[0] - 1, 0)
        place = types.Location(file_uri(there.path), types.Range(begin, begin))
    return types.DiagnosticRelatedInformation(place, note.message)


def file_uri(path: str) -> str:
    """The URI of a file that need not be open."""
    return from_fs_path(str(Path(path).absolute())) or Path(path).absolute().as_uri()


def text_edits(before: str, after: str, encoding: str) -> list[types.TextEdit]:
    """What makes ``after`` of ``before``, in whole lines."""
    return [*_text_edits(SourceText(before), SourceText(after), encoding)]


def _text_edits(before: SourceText, after: SourceText, encoding: str) -> Iterator[types.TextEdit]:
    old, new = _lines(before), _lines(after)
    for tag, first, last, begin, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            span = types.Range(_line_start(old, first, encoding), _line_start(old, last, encoding))
            yield types.TextEdit(span, "".join(new[begin:end]))


def _lines(source: SourceText) -> list[str]:
    ends = [*source.line_starts[1:], len(source.text)]
    return [source.text[start:end] for start, end in zip(source.line_starts, ends, strict=True)]


def _line_start(lines: list[str], number: int, encoding: str) -> types.Position:
    """The beginning of a line; below the last one, its end."""
    if number < len(lines):
        return types.Position(number, 0)
    return types.Position(len(lines) - 1, units(lines[-1], encoding))
